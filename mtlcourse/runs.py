"""What one run leaves on disk, and tables over many runs.

Imports `data`, `files`, `methods`, `rebuilding`, `safety`, `tasks`, `training`. One run is one folder, named by the
hash of its canonical configuration: `run.json`, `history.csv`, `model.safetensors`, and `samples.safetensors`, what the
trained model did on every sample of the test split. A folder is there whole or not at all.
"""

import contextlib
import functools
import json
import math
import os
import re
import shutil
import tempfile
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from . import __version__, data
from .files import alone, config_hash, printed, write_json, writing
from .methods import budget_arguments, canonical, parse_part
from .rebuilding import rebuild
from .safety import half_width
from .safety.trained import falling, trained
from .tasks import Problem
from .training import Run, Samples, Scores, directions, hash_data

MINOR = ".".join(__version__.split(".")[:2])
COLUMNS = ["problem", "method", "seed", "budget", "lr", "task", "metric", "value", "validation", "higher_is_better",
           "train_loss", "falling", "parameters", "steps", "samples", "epochs", "seconds", "test_data", "version",
           "capability", "configuration"]
SAMPLES = "samples.safetensors"
TUNED = "tuned.json"  # in the folder of runs: {name of a run: what it was a try for}


def configuration(problem: str, method: str, seed: int, budget: str = "fast",
                  lr: float | None = None) -> dict[str, Any]:
    """The canonical configuration of a run: names spelled the one way, all settings, the package's minor version.

    Settings are what the budget means for the problem, and its encoder: when a default changes, so does the
    name of the run, and no old result passes for a new one.
    """
    data.introduce(problem)
    part = parse_part(problem)
    budget = str(parse_part(budget))
    return {"problem": str(part), "method": canonical(method), "seed": seed, "budget": budget, "lr": lr,
            "settings": json.loads(settings(str(part), budget)), "version": MINOR}


@functools.lru_cache
def settings(problem: str, budget: str) -> str:
    """What the budget means for the problem, and its encoder and options, as JSON; remembered, for sweeps ask often."""
    part = parse_part(problem)
    description = data.describe(part.name, **part.options)
    content = {"encoder": description.encoder, "options": description.options, **budget_arguments(description, budget)}
    return json.dumps(content, default=functools.partial(_no_data, problem))


def _no_data(problem: str, thing: Any) -> Any:
    """Raise ValueError: `thing` cannot be stored in a run's configuration, nor found by another process."""
    raise ValueError(f"Problem {problem!r} has {type(thing).__name__} in its encoder, options or settings, which a "
                     "run's configuration cannot store and another process cannot find. Name what is your own by its "
                     "address: write a function that returns the encoder's modules, and give encoder={'name': "
                     "'package.module:function'}, called as function(input_shape, **options); a head's function "
                     "likewise, 'head': 'package.module:function'. Modules in memory are for models and training.fit.")


def folder_of(config: dict[str, Any], root: str | Path) -> Path:
    """Where the run with this configuration lies, or will lie, under `root`."""
    return Path(root) / config_hash(config)


def exists(config: dict[str, Any], root: str | Path) -> bool:
    """True if the run with this configuration is there, finished."""
    return (folder_of(config, root) / "run.json").exists()


def save(run: Run, problem: Problem | data.DomainProblem, config: dict[str, Any], root: str | Path) -> Path:
    """Write a finished run under `root` and return its folder; a run that is there already is left alone.

    Raises OSError when the disk refuses; then nothing of the run is left behind and all else untouched.
    """
    from safetensors.torch import save_file

    root, target = Path(root), folder_of(config, root)
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in run.model.state_dict().items()}
    content = {"config": config, "training": run.config, "metrics": run.metrics, "directions": directions(problem),
               "validation": validation(run), "train_losses": run.train_losses, "learned": run.learned,
               "cost": run.cost, "stages": run.stages,
               "test_data": run.test_data if isinstance(problem, data.DomainProblem) else hash_data(problem),
               **trained(run), "falling": falling(run), "capability": capability()}
    with writing(target):
        root.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=root, prefix=".run-"))
        try:
            save_file(weights, temporary / "model.safetensors")
            run.history.to_csv(temporary / "history.csv", index=False)
            if run.samples is not None:
                run.samples.save(temporary / SAMPLES)
            (temporary / "run.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            os.chmod(temporary, 0o755)  # mkdtemp makes folders that only their owner can read
            try:
                os.replace(temporary, target)
            except OSError:
                if not exists(config, root):  # another process may have been quicker
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target


def validation(run: Run) -> Scores:
    """The trained model's scores on the validation split, as the history has them.

    A target domain has no validation labels: in the place of its scores stand those of the source.
    """
    rows = run.history[(run.history["split"] == "val") & (run.history["stage"] == run.stages[-1])]
    rows = rows[rows["epoch"] == run.config.get("selected_epoch", rows["epoch"].max())]
    scores = {task: dict(zip(group["name"], group["value"], strict=True)) for task, group in rows.groupby("task")}
    if "source" in run.config:
        scores |= {domain: {**scores[run.config["source"]], **scores.get(domain, {})} for domain in run.metrics}
    return scores


def capability() -> str:
    """The instructions that this machine's arithmetic uses, on which the last digits depend, such as "AVX2"."""
    return torch.backends.cpu.get_cpu_capability()


def load(folder: str | Path, model: nn.Module | bool = True) -> Run:
    """Read the run in `folder`, with its trained model in evaluation mode, ready to predict.

    model: True: the model is made again from the run's configuration and what it learned, see `rebuilding`; False:
        `Run.model` is None and no weights are read; a module of the right architecture: they are loaded into it, which
        is the way for a problem that lives in memory only.
    Raises FileNotFoundError if there is no run, ValueError if another minor version wrote it, or if its model cannot be
    made again.
    """
    folder = Path(folder)
    content = read(folder)
    made = _trained_model(folder, content) if model is True else model or None
    if isinstance(model, nn.Module):
        model.load_state_dict(weights_of(folder))
        model.eval()
    with _whole(folder / "history.csv"):
        history = pd.read_csv(folder / "history.csv")
    return Run(history, content["metrics"], made, {**content["config"], **content["training"]}, content["learned"],
               content["cost"], content["stages"], content["train_losses"], content["directions"],
               content["test_data"], load_samples(folder))


def weights_of(folder: str | Path) -> dict[str, torch.Tensor]:
    """The state of the model in `folder`. Raises ValueError, naming the file, for one that is cut off."""
    from safetensors.torch import load_file

    path = Path(folder) / "model.safetensors"
    with _whole(path):
        return load_file(path)


def _trained_model(folder: Path, content: Mapping[str, Any]) -> nn.Module:
    """The run's model made again, with its weights. Raises ValueError that says what else there is."""
    weights = weights_of(folder)
    try:
        model = rebuild(content["config"], content["learned"])
        model.load_state_dict(weights)
    except (ValueError, TypeError, KeyError, RuntimeError, ImportError) as error:
        config, reason = content["config"], textwrap.shorten(str(error), 400, placeholder=" ...")  # torch's may be long
        raise ValueError(f"The model of the run in {folder} ({config['method']!r} on {config['problem']!r}) cannot be "
                         f"made again: {reason} A run's model is made from the names in its configuration; for a "
                         "problem or network that lives in memory only, give the untrained model, "
                         "load(folder, model=...). load(folder, model=False) reads all but the model.") from error
    return model


def load_samples(folder: str | Path) -> Samples | None:
    """What the model of the run in `folder` did on every test sample; None for a run that has not kept it.

    Raises ValueError, naming the file, for one that is cut off.
    """
    path = Path(folder) / SAMPLES
    if not path.exists():
        return None
    with _whole(path):
        return Samples.load(path)


def read(folder: Path, name: str = "run.json") -> dict[str, Any]:
    """What `run.json` says, or another file that keeps a run's configuration; raises as `load` does."""
    path = folder / name
    if not path.exists():
        raise FileNotFoundError(f"There is no run in {folder}: {path.name} is missing.")
    with _whole(path):
        content = json.loads(path.read_text(encoding="utf-8"))
        written = content["config"]["version"]
    if written != MINOR:
        raise ValueError(f"The run in {folder} was written by mtlcourse {written}, and this is {MINOR}: results of "
                         "different versions are not compared. Run it again in a new folder, or install that version.")
    return content


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Inside, `path` is read; a file that is cut off, or is something else, is told by its name."""
    from safetensors import SafetensorError

    try:
        yield
    except (ValueError, KeyError, TypeError, SafetensorError) as error:  # those of JSON, UTF-8 and CSV are ValueErrors
        raise ValueError(f"{path} is cut off, or no file of a run ({error}). Delete the folder {path.parent} and run "
                         "the same sweep again: it makes what is missing.") from error


def belong_together(configs: Iterable[dict[str, Any]], family: str, root: str | Path) -> None:
    """Remember under `root` that the runs with these configurations are tries for one method, called `family`.

    Of these only the best on validation counts, see `selected`. The runs' own names and contents do not change.
    """
    Path(root).mkdir(parents=True, exist_ok=True)
    with alone(Path(root) / f".{TUNED}.lock"):
        write_json(Path(root) / TUNED, {**_tuned(root), **{config_hash(config): family for config in configs}})


def _tuned(root: str | Path) -> dict[str, str]:
    path = Path(root) / TUNED
    if not path.exists():
        return {}
    with _whole(path):
        return json.loads(path.read_text(encoding="utf-8"))


def table(root: str | Path, configs: Iterable[dict[str, Any]] | None = None) -> pd.DataFrame:
    """All runs under `root` (or those of `configs`) as one tidy table, one row a metric.

    value: on the test split.  validation: the same metric on the validation split, NaN for probes; of a target domain,
        which has no validation labels, that on the source's.
    train_loss: the task's mean loss on the whole training split, the same in all rows of the task.
    falling: see `trained.falling`, the same in all rows of the task.
    parameters, steps, samples and epochs (of all stages), seconds (of training), test_data (hash of the test split),
    version, capability (of the machine) and configuration (its hash) are the run's, the same in all its rows.
    Where weights were tuned there is a column tuned: the method that a run was a try for, as "hps+fixed"; else empty.
    What a run did not note is NaN.
    Raises ValueError for a run that cannot be read, naming the file.
    """
    folders = ([folder_of(config, root) for config in configs] if configs is not None
               else sorted(path.parent for path in Path(root).glob("[!.]*/run.json")))  # ".run-": cut off
    rows = []
    for folder in folders:
        content = read(folder)
        config = content["config"]
        rows += [{**{key: config[key] for key in COLUMNS[:5]}, "task": task, "metric": name, "value": value,
                  "validation": content["validation"].get(task, {}).get(name, math.nan),
                  "higher_is_better": content["directions"].get(task, {}).get(name, False),
                  "train_loss": content["train_losses"].get(task, math.nan),
                  "falling": content.get("falling", {}).get(task, math.nan),
                  **{key: content["cost"][key] for key in ("parameters", "seconds")},
                  **{key: content.get(key, math.nan) for key in ("steps", "samples", "epochs", "capability")},
                  "test_data": content["test_data"], "version": config["version"], "configuration": folder.name}
                 for task, values in content["metrics"].items() for name, value in values.items()]
    result, tuned = pd.DataFrame(rows, columns=COLUMNS), _tuned(root)
    if tuned:
        result["tuned"] = result["configuration"].map(tuned).fillna("")
    return result


def selected(runs: pd.DataFrame) -> pd.DataFrame:
    """Of a grid of learning rates, and of tuned weights, each method's best only, chosen on validation, never on test.

    Score of a choice: the mean over tasks of the mean over their metrics of the relative change of the validation
    value, averaged over seeds, against its mean over all choices. One with which a seed is missing that others
    have (the run diverged) cannot win against one without a hole.
    runs: as `table` gives it; tables without a choice come back as they are.
    """
    runs = runs.reset_index(drop=True)
    lost = []
    for _, group in runs.assign(family=families(runs), lr=runs["lr"].fillna(0.0)).groupby(  # 0: the problem's own
            ["problem", "budget", "family"], dropna=False):
        choices = pd.MultiIndex.from_frame(group[["method", "lr"]])
        if choices.nunique() > 1:
            lost += list(group.index[choices != _best(group)])
    return runs.drop(index=lost)


def families(runs: pd.DataFrame) -> pd.Series:
    """For each row the method that its run was a try for, as "hps+fixed", or else its own."""
    if "tuned" not in runs:
        return runs["method"]
    return runs["tuned"].fillna("").where(lambda name: name != "", runs["method"])


def _best(group: pd.DataFrame) -> tuple[str, float]:
    """The method and learning rate of the best choice."""
    rows = group[group["metric"] != "loss"]
    seeds = rows.groupby(["method", "lr"])["seed"].nunique()
    means = rows.pivot_table(index=["method", "lr"], columns=["task", "metric"], values="validation")
    means = means.dropna(axis="columns")
    sign = rows.groupby(["task", "metric"])["higher_is_better"].first().map({True: 1.0, False: -1.0})
    average = means.mean()
    changes = (means - average) / average.abs().where(average != 0) * sign
    scores = changes.T.groupby(level="task").mean().mean()
    return scores[seeds == seeds.max()].idxmax()


def tuning(best: pd.DataFrame, tried: pd.DataFrame) -> list[str]:
    """A sentence for each method whose weights were tuned: which were chosen, as in `best`, among those `tried`."""
    if "tuned" not in tried:
        return []
    notes = []
    tried = tried[tried["tuned"] != ""]
    for (problem, budget, family), group in tried.groupby(["problem", "budget", "tuned"], sort=False):
        mine = best[(families(best) == family) & (best["problem"] == problem) & (best["budget"] == budget)]
        weights, count = re.findall(r"fixed\((.*?)\)", mine["method"].iloc[0]), group["method"].nunique()
        notes.append(f"Weights of {family} on {problem}, chosen on validation among {count}, each with the same seeds: "
                     f"{', '.join(weights) or 'one each'}. That took {count} trainings where another row took one.")
    return notes


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds and 95% t-interval of each metric: one row for problem, method, budget, lr, task, metric.

    half_width: the interval is mean +- half_width; NaN with one seed, which decides nothing.
    """
    keys = ["problem", "budget", "lr", "method", "task", "metric"]
    groups = runs.groupby(keys, sort=False, dropna=False)["value"]
    result = groups.agg(mean="mean", seeds="count").reset_index()
    result["half_width"] = [half_width(values) for _, values in groups]
    return result


def show(summarised: pd.DataFrame) -> str:
    """A summary as text: one line a metric, one column a method, "mean +- half width"."""
    cells = summarised.assign(
        cell=[printed("{:.4f}", mean) + ("" if math.isnan(half) else f" +- {half:.4f}")
              for mean, half in zip(summarised["mean"], summarised["half_width"], strict=True)],
        column=[method if pd.isna(lr) else f"{method} lr={lr:g}"
                for method, lr in zip(summarised["method"], summarised["lr"], strict=True)])
    texts = []
    for (problem, budget), group in cells.groupby(["problem", "budget"], sort=False):
        wide = group.pivot_table(index=["task", "metric"], columns="column", values="cell", aggfunc="first", sort=False)
        texts.append(f"{problem} ({budget})\n{wide.rename_axis(columns=None).to_string()}")
    return "\n\n".join(texts)
