"""What two processes do, against one; `test_distributed` starts it with torchrun: one start for all checks.

Each check is a function of `total` and a folder that both processes can write to. All is in float64, where a wrong
factor cannot hide behind the optimiser: Adam hides it down to 1e-8 of float32's resolution.
"""

import contextlib
import functools
import shutil
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mtlcourse import bench, methods, models, runs, strategies
from mtlcourse.data import binary
from mtlcourse.files import seed_everything
from mtlcourse.strategies import NonFiniteLoss
from mtlcourse.tasks import TensorSplit
from mtlcourse.training import StrategyStep, fit, make_step
from mtlcourse.training.distributed import processes
from tests.problems import CELLS, NEEDS_MAPS, SHALLOW, doubled, pixels, small
from tests.strategies.nets import Normed

TRAIN, BATCH = 41, 8  # an odd number of samples, and a last batch of one
TASKS = ("kind", "size", "big")


def problem(own: bool = False, names: tuple[str, ...] = TASKS, void: float = 0.8):
    encoder = {"name": "mlp", "widths": [6, 6]}  # equally wide, as AdaShare needs it
    return replace(doubled(small(names, train=TRAIN, void=void, own=own)), encoder=encoder)


def problem_for(method: str):
    if method in NEEDS_MAPS:
        return doubled(pixels(23))
    if method in SHALLOW:
        data = problem(names=("big",), void=0.0)  # and another task with one answer
        splits = {name: TensorSplit(part.inputs, {**part.targets, "large": (part.inputs[:, 0] > 0).long()})
                  for name, part in (("train", data.train), ("val", data.val), ("test", data.test))}
        return replace(data, tasks=[*data.tasks, binary("large")], **splits)
    return problem(names=("kind", "big") if method.startswith("srdml") else TASKS)


def numbers(run) -> torch.Tensor:
    """Everything that a training has come to, as one vector."""
    told = [value for values in run.metrics.values() for value in values.values()]
    told += [*run.train_losses.values(), *run.history["value"].tolist(), run.cost["steps"], run.cost["samples"]]
    rows = [torch.from_numpy(x).flatten() for named in run.samples.rows.values() for x in named.values()]
    weights = [tensor.detach().double().flatten() for tensor in run.model.state_dict().values()]
    return torch.cat([torch.tensor(told, dtype=torch.float64).nan_to_num(7.0), *rows, *weights])


def close(what: str, one: torch.Tensor, two: torch.Tensor, tolerance: float) -> None:
    assert one.shape == two.shape, f"{what}: other rows"
    error = ((one - two).abs() / one.abs().clamp_min(1)).max().item()
    assert error < tolerance, f"{what}: differs by {error:.1e}"


def same(what: str, one: torch.Tensor, two: torch.Tensor, total, tolerance: float = 1e-10) -> None:
    """Raise unless two processes have come to what one did, and both to the same, to the bit."""
    first = two.clone()
    total.same([first])
    assert first.equal(two), f"{what}: replicas differ"
    close(what, one, two, tolerance)


def trained(name: str, at: str, own: bool = False, build=models.HPS, **options):
    data = problem(own)
    seed_everything(0)
    return numbers(fit(data, build(data), name, at=at, epochs=2, batch_size=BATCH, progress=False, **options))


def run(method: str, **options):
    budget = f"fast(epochs=2, batch_size={BATCH})"
    method = "auxilearn(held_out=0.5)" if method == "auxilearn" else method  # or it would have too few labels to see
    return numbers(methods.run(method, problem_for(method), budget=budget, progress=False, **options))


# What one process comes to is what several checks compare with.
alone, run_alone = functools.cache(trained), functools.cache(run)


def cut_methods():
    """Every method whose batches may come in shares: cells have batch norms."""
    return [name for name in methods.names() if name not in CELLS]


def combinations():
    """Every strategy at every place where a batch may come in shares."""
    for name in strategies.names():
        yield name, "parameters"
        if strategies.make(name).needs not in ("module_grams", "gradients"):
            yield name, "features"


def every_strategy(total, folder: Path) -> None:
    for own in (False, True):
        for name, at in combinations():
            what = f"{name} at {at}, own={own}"
            same(what, alone(name, at, own), trained(name, at, own, total=total), total)


def every_method(total, folder: Path) -> None:
    for name in (*cut_methods(), "tnrmtl+pcgrad", "dmtrl+notice", "rotograd(rotate=3)+uw", "ltb(order=exact)",
                 "bmtas(order=second)", "srdml(relation=alone)+mgda"):
        same(name, run_alone(name), run(name, total=total), total)


def accumulated(total, folder: Path) -> None:
    """As many parts as 3 in one process, and as 5 in the other.

    Every strategy comes at each place with 3 and with 5, and once with shared and once with own inputs: in turn, for
    what a number of parts changes, it changes for all strategies alike (see also the tests of `Batch.parts`). Shallow
    methods take no steps that could have parts.
    """
    k = (3, 5)[total.rank]
    for turn, (name, at) in enumerate(combinations()):
        own = (turn + total.rank) % 2 == 1
        one, several = alone(name, at, own), trained(name, at, own, accumulate=k)
        close(f"{name} at {at}, own={own} in {k}", one, several, 1e-9)
    for name in (*(name for name in cut_methods() if name not in SHALLOW), "tnrmtl+notice", "rotograd+pcgrad"):
        close(f"{name} in {k}", run_alone(name), run(name, accumulate=k), 1e-9)


def parts_and_processes(total, folder: Path) -> None:
    for name, at in (("ew", "parameters"), ("pcgrad", "parameters"), ("mgda", "features"), ("famo", "parameters")):
        same(f"{name} in 2 x 2", alone(name, at, False), trained(name, at, accumulate=2, total=total), total, 1e-9)


def scaled(total, folder: Path) -> None:
    """A scale of 2^12 changes nothing; an overflow in one process has both leave out the step, and halve the scale."""
    for name, at in list(combinations())[total.rank :: 2]:  # each process half of them, which needs no other
        data = problem()
        seed_everything(0)
        step = make_step(data.tasks, model := models.HPS(data), name, at=at)
        step.engine.scale = 2.0**12
        run = fit(data, model, name, at=at, epochs=2, batch_size=BATCH, progress=False, step=step)
        close(f"{name} at {at}, scaled", alone(name, at, False), numbers(run), 1e-12)
    for name, at in (("ew", "parameters"), ("uw", "features"), ("pcgrad", "parameters"), ("mgda", "features")):
        step, batches = step_of(name, at, total, scaling=True)
        for number, batch in enumerate(batches):
            before = [parameter.detach().clone() for parameter in step.model.parameters()]
            hook = None
            if number == 2 and total.rank == 1:
                hook = step.model.shared.stages[0][0].weight.register_hook(lambda gradient: gradient * float("inf"))
            step(batch)
            if hook:
                hook.remove()
            still = all(map(torch.equal, before, step.model.parameters()))
            assert step.left_out == still == (number == 2), f"{name} at {at}: step {number} of process {total.rank}"
            assert step.engine.scale == (2.0**16 if number < 2 else 2.0**15)
        step.good = 1_999
        step(batch)
        assert step.engine.scale == 2.0**16


def step_of(name: str, at: str, total, scaling: bool = False, build=models.HPS):
    """A step, and its share of batches that have all tasks."""
    data = problem(void=0.0)
    seed_everything(0)
    made = make_step(data.tasks, build(data), name, at=at, total=total)
    step = StrategyStep(data.tasks, made.model, made.engine, made.optimizer, scaling=scaling)
    return step, list(data.train.batches(BATCH, share=(total.rank, total.size)))[:5]


def told_alike(total, folder: Path) -> None:
    """A NaN in one share stops both, naming the task; and what the processes do not have in common is refused."""
    for name, at in (("ew", "parameters"), ("pcgrad", "parameters"), ("mgda", "features")):
        step, batches = step_of(name, at, total)
        if total.rank == 1:
            batches[0].targets["size"][0, 0] = float("inf")
        with pytest.raises(NonFiniteLoss, match="The loss of task 'size' is inf"):
            step(batches[0])
    data = problem()
    for what, options in (("settings", {"seed": total.rank}), ("model", {})):
        seed_everything(total.rank)
        with pytest.raises(ValueError, match=f"1 of 2 processes have another {what} than the first"):
            fit(data, models.HPS(data), epochs=1, batch_size=BATCH, progress=False, total=total, **options)
    seed_everything(0)
    data.train.inputs[total.rank] += total.rank
    with pytest.raises(ValueError, match="1 of 2 processes have another data than the first"):
        fit(data, models.HPS(data), epochs=1, batch_size=BATCH, progress=False, total=total)
    with pytest.raises(ValueError, match="number of processes is 2, and must be"):
        fit(data, models.HPS(data), epochs=1, batch_size=1, progress=False, total=total)
    with pytest.raises(ValueError, match="GradientSignDropout decides on the entries of"):
        fit(data, models.HPS(data), "graddrop", at="features", epochs=1, batch_size=BATCH, progress=False, total=total)
    with pytest.raises(ValueError, match="batch norm .*, whose statistics of a share"):
        fit(data, Normed(data), epochs=1, batch_size=BATCH, progress=False, total=total)
    with pytest.raises(ValueError, match="monotone combination"):
        methods.run("auxilearn(combination=monotone)", problem(void=0.0), budget="smoke", progress=False, total=total)


def bytes_a_step(total, folder: Path) -> None:
    for name, at in (("ew", "parameters"), ("pcgrad", "parameters"), ("mgda", "features")):
        step, batches = step_of(name, at, total)
        step(batches[0])  # in the first they agree on what losses reach
        before = total.bytes
        step(batches[1])
        m, model = len(step.tasks), step.model
        everything = sum(p.numel() for p in model.parameters())
        shared = sum(p.numel() for p in model.shared_parameters())
        sent = {"ew": everything, "pcgrad": m * shared + everything - shared, "mgda": everything + m * m}[name]
        assert total.bytes - before == 8 * (sent + m), f"{name} at {at}: {total.bytes - before} bytes"


def resumed(total, folder: Path) -> None:
    """A training goes on inside an epoch to the bit, and with another number of processes."""
    def cut_off(update: int, checkpoint: Path, **options) -> dict:
        class Cut(models.HPS):
            def after_step(self, step: int) -> None:
                if step == update:
                    raise KeyboardInterrupt

        Cut.__name__ = "HPS"
        options = {"checkpoint": checkpoint, "save_every": 2, "diagnostics": True, **options}
        with contextlib.suppress(KeyboardInterrupt):
            trained("pcgrad", "parameters", build=Cut, **options)
        total.same([torch.zeros(1)])  # the first has written
        return options

    whole = trained("pcgrad", "parameters", diagnostics=True)
    both = trained("pcgrad", "parameters", diagnostics=True, total=total)
    for update in (3, 6, 9):  # of two epochs of six steps
        options = cut_off(update, folder / f"alone-{update}-{total.rank}" / "state")
        assert trained("pcgrad", "parameters", **options).equal(whole), f"cut off in step {update}, in one process"
        options = cut_off(update, folder / f"both-{update}" / "state", total=total)
        other = shutil.copytree(folder / f"both-{update}", folder / f"one-{update}-{total.rank}")
        total.same([torch.zeros(1)])
        assert trained("pcgrad", "parameters", **options).equal(both), f"cut off in step {update}, in two processes"
        one = trained("pcgrad", "parameters", checkpoint=other / "state", diagnostics=True)
        close(f"cut off in step {update}, then in one process", whole, one, 1e-6)


def stored(total, folder: Path) -> None:
    """A run lies where one process would have put it, once."""
    torch.set_default_dtype(torch.float32)  # that of the problem's data; the last check of all
    config = runs.configuration("relatedness", "hps", 0, "smoke")
    for _ in range(2):
        bench.one_run(config, str(folder / "runs"), "cpu", "float32", None, total)
    total.same([torch.zeros(1)])
    assert [path.name for path in (folder / "runs").glob("[!.]*")] == [runs.folder_of(config, "").name]


CHECKS = [every_strategy, every_method, accumulated, parts_and_processes, scaled, told_alike, bytes_a_step, resumed,
          stored]


def main(folder: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    with processes("cpu") as (total, _):
        for check in CHECKS:
            if names and check.__name__ not in names:
                continue
            began = time.perf_counter()
            try:
                check(total, folder)
            except Exception:
                print(f"FAILED {check.__name__} in process {total.rank}\n{traceback.format_exc()}", flush=True)
                raise SystemExit(1) from None
            if total.rank == 0:
                print(f"passed {check.__name__} in {time.perf_counter() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
