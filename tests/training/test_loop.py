"""The loops: the same as by hand, resumed to the bit, stopped with a name, evaluated as by brute force."""

import copy
import json
import math
import os
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest
import torch
from torch import nn

from mtlcourse import data, models, safety, strategies
from mtlcourse.files import derived_seed, load_state, save_state, seed_everything
from mtlcourse.metrics import Probe
from mtlcourse.strategies import NonFiniteLoss
from mtlcourse.tasks import Problem, Task, TensorSplit
from mtlcourse.training import OtherTraining, TrainingDiverged, evaluate, fit, hash_data, make_step, pick_device
from mtlcourse.void import has_target, valid_mask
from tests.folders import full_disk
from tests.problems import small

NAMES = ("kind", "size")
QUICK = {"epochs": 3, "batch_size": 16, "lr": 0.05, "progress": False}


def built(kind=models.HPS, problem=None, seed=0):
    seed_everything(seed)
    return kind(problem or small())


def train(problem=None, kind=models.HPS, **changes):
    problem = problem or small()
    return fit(problem, changes.pop("model", None) or built(kind, problem), **{**QUICK, **changes})


def weights(module):
    return {name: tensor.tolist() for name, tensor in module.state_dict().items()}


def outcome(run):
    """All of a run that must not depend on chance, in a form that compares to the bit."""
    return run.history.to_dict("list"), run.metrics, weights(run.model), run.config, run.cost["steps"]


# --- the loop ------------------------------------------------------------------------------------------

def test_fit_is_the_loop_one_would_write_by_hand():
    problem = small()
    run = train(problem)

    model = built()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05, fused=True)
    order = torch.Generator().manual_seed(derived_seed(0, "order"))
    epochs = []
    for _ in range(3):
        model.train()
        sums = dict.fromkeys(NAMES, 0.0)
        for batch in problem.train.batches(16, shuffle=True, generator=order):
            optimizer.zero_grad()
            predictions = model(batch.inputs)
            losses = {t.name: t.loss(predictions[t.name], batch.targets[t.name]).mean() for t in problem.tasks}
            sum(losses.values()).backward()
            optimizer.step()
            for name, loss in losses.items():
                sums[name] += loss.item() * len(batch)
        epochs.append({name: total / 40 for name, total in sums.items()})

    assert weights(run.model) == weights(model)
    history = run.history.query("split == 'train'")
    assert history["value"].tolist() == [epoch[name] for epoch in epochs for name in NAMES]
    assert run.metrics == evaluate(model, problem, "test")


def test_the_history_is_tidy():
    run = train()
    assert list(run.history.columns) == ["stage", "epoch", "split", "task", "name", "value"]
    rows = [(*row,) for row in run.history.drop(columns="value").itertuples(index=False)]
    per_epoch = [("train", "kind", "loss"), ("train", "size", "loss"),
                 ("val", "kind", "accuracy"), ("val", "kind", "loss"),
                 ("val", "size", "mse"), ("val", "size", "r2"), ("val", "size", "loss")]
    assert rows == [("train", epoch, *row) for epoch in (1, 2, 3) for row in per_epoch]
    assert run.stages == ["train"] and run.learned == {}
    assert run.cost["steps"] == 9 and run.cost["seconds"] > 0
    assert run.cost["parameters"] == sum(p.numel() for p in run.model.parameters())
    assert run.config["selected_epoch"] == 3
    assert {key: run.config[key] for key in ("problem", "model", "strategy", "epochs", "lr", "seed", "select")} == {
        "problem": "small", "model": "HPS", "strategy": "ew", "epochs": 3, "lr": 0.05, "seed": 0, "select": "last"}


def test_training_losses_are_means_over_samples():
    problem = small(void=0.4)
    run = train(problem, lr=0.0, epochs=1, batch_size=7)  # nothing is learned, so the model is the same in all steps
    expected = evaluate(run.model, problem, "train")
    for _, row in run.history.query("split == 'train'").iterrows():
        assert row["value"] == pytest.approx(expected[row["task"]]["loss"], rel=1e-5)


def test_equal_seeds_give_equal_runs():
    assert outcome(train(small(dropout=0.3))) == outcome(train(small(dropout=0.3)))
    assert weights(train().model) != weights(train(seed=1).model)


@pytest.mark.parametrize("void", [0.0, 0.4])
def test_single_task_learning_of_two_tasks_is_two_trainings(void):
    both = small(void=void)
    together = train(both, models.STL)
    for name in NAMES:
        task = [t for t in both.tasks if t.name == name]
        parts = {split: TensorSplit(getattr(both, split).inputs, {name: getattr(both, split).targets[name]})
                 for split in ("train", "val", "test")}
        alone = train(replace(both, tasks=task, **parts), models.STL)
        assert weights(together.model.private[name]) == weights(alone.model.private[name])
        assert weights(together.model.heads[name]) == weights(alone.model.heads[name])
        assert together.metrics[name] == alone.metrics[name]


def test_learning_happens():
    run = train(epochs=30)
    losses = run.history.query("split == 'val' and name == 'loss' and task == 'kind'")["value"].tolist()
    assert losses[-1] < 0.5 * losses[0]


def test_tasks_with_own_inputs_train_for_the_length_of_the_longest():
    run = train(small(own=True), epochs=2)
    assert run.cost["steps"] == 2 * math.ceil(40 / 16)
    assert set(run.history.query("split == 'train'")["task"]) == set(NAMES)


def test_the_models_hook_hears_of_each_epoch():
    class Listening(models.HPS):
        def on_epoch_end(self, epoch, mean_losses):
            self.heard = [*getattr(self, "heard", []), (epoch, mean_losses)]

    run = train(kind=Listening)
    assert [epoch for epoch, _ in run.model.heard] == [1, 2, 3]
    losses = run.history.query("split == 'train'")["value"].tolist()
    assert [value for _, means in run.model.heard for value in means.values()] == losses


class Countdown:
    """A step object as a search or a staged procedure would bring."""

    def __init__(self, model):
        self.optimizers = [torch.optim.SGD(model.parameters(), lr=1.0)]
        self.calls, self.epochs = 0, []

    def __call__(self, batch):
        self.calls += 1
        for optimizer in self.optimizers:
            optimizer.step()
        return {"kind": float(self.calls), "size": 1.0}

    def on_epoch_end(self, epoch, mean_losses):
        self.epochs.append((epoch, mean_losses))

    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls = state["calls"]


def test_a_step_object_takes_the_place_of_the_usual_step(tmp_path):
    model = built()
    before, step = weights(model), Countdown(model)
    run = train(model=model, step=step, batch_size=10, schedule="cosine", checkpoint=tmp_path / "state")
    assert step.calls == 12 == run.cost["steps"] and weights(run.model) == before
    assert step.epochs == [(epoch, {"kind": mean, "size": 1.0}) for epoch, mean in ((1, 2.5), (2, 6.5), (3, 10.5))]
    assert run.history.query("split == 'train' and task == 'kind'")["value"].tolist() == [2.5, 6.5, 10.5]
    assert step.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.0)
    again = Countdown(built())
    train(step=again, batch_size=10, schedule="cosine", checkpoint=tmp_path / "state")
    assert again.calls == 12 and again.epochs == []


def test_learning_rates_follow_the_schedule():
    seen = []

    class Watching(models.HPS):
        def after_step(self, step):
            seen.append(step)

    rates = []

    def schedule(optimizer):
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.1)
        rates.append(scheduler)
        return scheduler

    train(kind=Watching, schedule=schedule)
    assert rates[0].get_last_lr() == pytest.approx([0.05 * 0.1**3])
    flat, cosine = train(lr=0.05), train(lr=0.05, schedule="cosine")
    assert weights(flat.model) != weights(cosine.model)
    assert seen == list(range(1, 10))


def test_bfloat16_trains_and_is_told_apart():
    half = train(precision="bfloat16", epochs=20)
    assert half.metrics["kind"]["loss"] < 0.8
    assert weights(half.model) != weights(train(epochs=20).model)
    assert {p.dtype for p in half.model.parameters()} == {torch.float32}


def test_the_device_is_found():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device() == torch.device("cuda" if torch.cuda.is_available() else "cpu")


# --- going on after a crash ---------------------------------------------------------------------------------

class Killed(BaseException):
    """As if the process had been killed."""


class Mortal(models.HPS):
    """Dies in its nth step, if `after` is set."""

    after = None

    def after_step(self, step):
        if step == self.after:
            raise Killed


SETTINGS = {
    "plain": {}, "sgd": {"optimizer": "sgd"}, "best-val": {"select": "best-val"}, "cosine": {"schedule": "cosine"},
    "bfloat16": {"precision": "bfloat16"}, "random weights": {"strategy": "rlw"}, "dwa": {"strategy": "dwa"},
    "all": {"select": "best-val", "schedule": "cosine", "precision": "bfloat16", "optimizer": "adamw",
            "weight_decay": 0.1},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("problem", [small(dropout=0.3, void=0.3), small(own=True)], ids=["dropout", "own inputs"])
def test_a_killed_training_ends_as_if_nothing_had_happened(tmp_path, problem, settings):
    whole = train(problem, Mortal, epochs=5, **settings)
    for death in (8, 14):  # in the middle of epoch 3, and again in epoch 5; an epoch has three steps
        model = built(Mortal, problem)
        model.after = death
        with pytest.raises(Killed):
            train(problem, model=model, epochs=5, checkpoint=tmp_path / "state", **settings)
    resumed = train(problem, model=built(Mortal, problem, seed=9), epochs=5, checkpoint=tmp_path / "state", **settings)
    assert outcome(resumed) == outcome(whole)


def test_a_finished_training_is_not_trained_again(tmp_path):
    first = train(checkpoint=tmp_path / "state")
    model = built(Mortal, seed=5)
    model.after = 10  # the step after the last
    assert outcome(train(model=built(seed=5), checkpoint=tmp_path / "state")) == outcome(first)


def test_a_training_may_be_made_longer_where_the_schedule_does_not_depend_on_it(tmp_path):
    train(epochs=2, checkpoint=tmp_path / "state")
    longer = train(epochs=4, checkpoint=tmp_path / "state")
    assert outcome(longer) == outcome(train(epochs=4))
    train(epochs=2, schedule="cosine", checkpoint=tmp_path / "cosine")
    with pytest.raises(ValueError, match="belongs to another training, with {'epochs': 2}"):
        train(epochs=4, schedule="cosine", checkpoint=tmp_path / "cosine")


def test_a_checkpoint_of_another_training_is_refused_and_kept(tmp_path):
    train(checkpoint=tmp_path / "state")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    message = r"state.json belongs to another training, with {'lr': 0.05, 'seed': 0}.*Use another path, or resume=False"
    with pytest.raises(ValueError, match=message):
        train(checkpoint=tmp_path / "state", lr=0.1, seed=2)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_checkpoint_of_a_model_of_another_form_is_refused(tmp_path):
    train(checkpoint=tmp_path / "state")
    wider = models.HPS(small(), {"name": "mlp", "widths": [9]})
    with pytest.raises(ValueError, match="belongs to a model of another form. Use another path(.|\n)*size mismatch"):
        train(model=wider, checkpoint=tmp_path / "state")


def test_a_checkpoint_of_another_layout_is_refused(tmp_path):
    """The history is saved as one text; a list of dictionaries took most of a long training's time."""
    train(checkpoint=tmp_path / "state")
    state = load_state(tmp_path / "state")
    assert json.loads(state["history"])[0]["epoch"] == 1
    save_state(tmp_path / "state", state | {"history": json.loads(state["history"])})
    with pytest.raises(ValueError, match="belongs to another training"):
        train(checkpoint=tmp_path / "state")


def test_without_resume_a_training_starts_afresh(tmp_path):
    train(checkpoint=tmp_path / "state", lr=0.1)
    run = train(checkpoint=tmp_path / "state", resume=False)
    assert outcome(run) == outcome(train())
    assert len(list(tmp_path.iterdir())) == 2  # one JSON and one safetensors file


def test_a_full_disk_stops_the_training_and_keeps_the_last_checkpoint(tmp_path):
    train(epochs=1, checkpoint=tmp_path / "state")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with full_disk(), pytest.raises(OSError, match="could not write .*unchanged"):
        train(epochs=2, checkpoint=tmp_path / "state")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert outcome(train(epochs=2, checkpoint=tmp_path / "state")) == outcome(train(epochs=2))


def test_the_test_split_is_looked_at_once_at_the_end():
    problem, looks = small(), []

    class Secret(TensorSplit):
        def batches(self, *args, **kwargs):
            looks.append(len(seen))
            return super().batches(*args, **kwargs)

    seen = []

    class Watching(models.HPS):
        def after_step(self, step):
            seen.append(step)

    secret = replace(problem, test=Secret(problem.test.inputs, problem.test.targets))
    train(secret, Watching, select="best-val")
    assert looks == [9]  # after the ninth step, the last


# --- what does not go well ----------------------------------------------------------------------------------

class Poisoned:
    """A loss that turns bad at its nth call."""

    def __init__(self, task, at, value):
        self.task, self.at, self.value, self.calls = task, at, value, 0

    def __call__(self, prediction, target):
        self.calls += 1
        losses = self.task.loss(prediction, target)
        return losses * self.value if self.calls == self.at else losses


def poisoned(at, value=math.nan):
    problem = small()
    kind, size = problem.tasks
    bad = Task("size", Poisoned(size, at, value), size.metrics, 2, kind="regression")
    return replace(problem, tasks=[kind, bad])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_the_run_with_task_step_and_checkpoint(tmp_path, value):
    # In an epoch three training steps and one validation call the loss: the eleventh call is step 3 of epoch 3.
    with pytest.raises(TrainingDiverged) as caught:
        train(poisoned(11, value), checkpoint=tmp_path / "state", epochs=5)
    assert str(caught.value) == (
        f"The loss of task 'size' is {value} in step 3 of epoch 3. Try a smaller learning rate (it is 0.05) or check "
        f"the task's targets. Last good checkpoint: {tmp_path / 'state'}.json, after epoch 2.")
    assert isinstance(caught.value.__cause__, NonFiniteLoss)
    assert outcome(train(epochs=2, checkpoint=tmp_path / "state")) == outcome(train(epochs=2))


@pytest.mark.parametrize("at, where", [(1, "in step 1 of epoch 1"), (4, "in the validation after epoch 1")])
def test_without_checkpoint_the_message_says_so(at, where):
    with pytest.raises(TrainingDiverged, match=f"'size' is nan {where}.*Last good checkpoint: none"):
        train(poisoned(at))


def test_a_step_object_that_does_not_check_is_checked():
    class Broken(Countdown):
        def __call__(self, batch):
            return {"kind": 1.0, "size": math.nan if self.optimizers and super().__call__(batch)["kind"] > 4 else 1.0}

    with pytest.raises(TrainingDiverged, match="'size' is nan in step 2 of epoch 2"):
        train(step=Broken(built()))


@pytest.mark.parametrize("changes, message", [
    ({"epochs": 0}, "epochs is 0; it must be at least 1"), ({"epochs": True}, "epochs is True; it must be at least 1"),
    ({"batch_size": True}, "batch_size is True; it must be at least 1, a whole number"),
    ({"save_every": True}, "save_every is True, and must be at least 1, a whole number of steps"),
    ({"accumulate": True}, "accumulate is True, and must be at least 1"),
    ({"schedule": "linear"}, "Unknown schedule 'linear'. Known: inverse, cosine. Or give a function of an optim"),
    ({"optimizer": "lion"}, "Unknown optimizer 'lion'"), ({"strategy": "hps"}, "Unknown strategy 'hps'"),
    ({"precision": "half"}, "precision='half' is not known"), ({"at": "gates"}, "at='gates' is not known"),
    ({"batch_size": 0}, "batch_size is 0"),
])
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        train(**changes)


def test_a_description_without_data_cannot_be_trained_or_evaluated():
    description = replace(small(), train=None, val=None, test=None)
    for attempt in (lambda: train(description), lambda: evaluate(built(), description)):
        with pytest.raises(ValueError, match="'small' is a description without data; load it with data.load"):
            attempt()


def test_batches_of_another_kind_of_split_are_checked_when_they_come():
    class Wrong(TensorSplit):
        def batches(self, *args, **kwargs):
            for batch in super().batches(*args, **kwargs):
                yield replace(batch, targets={"kind": batch.targets["kind"] + 7})

        def to(self, device):
            return self

    problem = small()
    with pytest.raises(ValueError, match="Problem 'small', first training batch: Task 'kind': labels run from 7"):
        train(replace(problem, train=Wrong(problem.train.inputs, problem.train.targets)))


# --- evaluation -----------------------------------------------------------------------------------------------

def by_brute_force(model, problem, split):
    """Every sample by itself; the losses and metrics over all of them at once."""
    model = copy.deepcopy(model).eval()
    part = getattr(problem, split)
    scores = {}
    for task in problem.tasks:
        x = part.inputs if part.shared else part.inputs[task.name]
        y = part.targets[task.name]
        with torch.no_grad():
            predictions = torch.cat([model(row[None], [task.name])[task.name] for row in x])
        pairs = zip(predictions, y, strict=True)
        losses = [task.loss(p[None], t[None]).item() for p, t in pairs if has_target(t[None])]
        scores[task.name] = {"loss": sum(losses) / len(losses)}
        valid = valid_mask(y)
        if task.kind == "classification":
            scores[task.name]["accuracy"] = (predictions.argmax(1) == y)[valid].double().mean().item()
        else:
            scores[task.name]["mse"] = (predictions.double() - y.double())[valid].square().mean().item()
    return scores


@pytest.mark.parametrize("void", [0.0, 0.5])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("batch_size", [5, 512])
def test_evaluation_is_what_brute_force_finds(void, own, batch_size):
    problem, split = small(void=void, own=own, dropout=0.5), "val"
    model = built(problem=problem)
    scores = evaluate(model, problem, split, batch_size)
    for name, expected in by_brute_force(model, problem, split).items():
        assert {key: scores[name][key] for key in expected} == pytest.approx(expected, rel=1e-5)
    assert list(scores["kind"]) == ["accuracy", "loss"] and list(scores["size"]) == ["mse", "r2", "loss"]


def test_evaluation_leaves_every_module_in_its_mode():
    model = built()
    model.shared.stages[0].eval()  # as a frozen batch norm would be
    modes = [module.training for module in model.modules()]
    evaluate(model, small())
    assert [module.training for module in model.modules()] == modes
    model.eval()
    evaluate(model, small())
    assert not any(module.training for module in model.modules())
    model.train()

    def fail(*args):
        raise RuntimeError("stop")

    model.forward = fail
    with pytest.raises(RuntimeError, match="stop"):
        evaluate(model, small())
    assert model.training


def test_evaluation_leaves_no_gradients_and_no_weights_changed():
    model = built()
    before = weights(model)
    evaluate(model, small())
    assert weights(model) == before and all(p.grad is None for p in model.parameters())


def test_probes_are_run_on_the_test_split_only():
    def probe(model, problem):
        assert not model.training
        return {"kind": {"robustness": 0.25}}

    problem = replace(small(), probes={"attack": Probe(probe, {"robustness": False})})
    model = built()
    assert evaluate(model, problem, "test")["kind"]["robustness"] == 0.25
    assert "robustness" not in evaluate(model, problem, "val")["kind"]
    run = train(problem, epochs=1)
    assert run.metrics["kind"]["robustness"] == 0.25 and "robustness" not in set(run.history["name"])
    assert run.higher_is_better["kind"] == {"accuracy": True, "robustness": False}


@pytest.mark.parametrize(("values", "message"), [
    ({"kind": {"size": 1.0}}, "Probe 'attack' gives 'size', of which it has not said whether more is better"),
    ({"kind": {"accuracy": 1.0}}, "gives 'accuracy', and task 'kind' has a measure of that name already"),
    ({"kind": {"loss": 1.0}}, "gives 'loss', and task 'kind' has a measure of that name"),
    ({"kinds": {"robustness": 1.0}}, "Probe 'attack' speaks of Unknown task 'kinds'"),
])
def test_a_probe_gives_what_it_announced(values, message):
    probe = Probe(lambda model, problem: values, {"robustness": True, "accuracy": True, "loss": True})
    with pytest.raises(ValueError, match=message):
        evaluate(built(), replace(small(), probes={"attack": probe}))


def test_a_report_compares_what_probes_give_by_their_direction():
    def runs(shift: float) -> list:
        probe = Probe(lambda model, problem: {"kind": {"weight": 2.0 - shift}}, {"weight": False})
        return [train(replace(small(), probes={"size": probe}), epochs=1, seed=seed) for seed in range(3)]

    frame = safety.report({"hps": runs(0.5)}, baseline=runs(0.0)).to_frame().set_index("metric")
    assert frame.loc["weight", "difference"] == 0.5 and "accuracy" in frame.index


def test_what_is_outside_is_part_of_the_training_and_of_the_test_data(tmp_path):
    def problem(seed: int) -> Problem:
        generator = torch.Generator().manual_seed(seed)
        return replace(small(), outside={name: torch.randn(7, 4, generator=generator) for name in ("upper", "test")})

    train(problem(0), epochs=1, checkpoint=tmp_path / "state")
    train(problem(0), epochs=2, checkpoint=tmp_path / "state")
    with pytest.raises(OtherTraining, match="outside"):
        train(problem(1), epochs=2, checkpoint=tmp_path / "state")
    assert hash_data(problem(0)) == hash_data(problem(0)) != hash_data(problem(1)) != hash_data(small())
    assert hash_data(problem(0), "val") == hash_data(small(), "val")
    seen = []
    probe = Probe(lambda model, problem: seen.append(problem.outside["test"].shape) or {}, {})
    train(replace(problem(0), probes={"look": probe}), epochs=1)
    assert seen == [(7, 4)]


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split='validation' is not known; use 'train', 'val' or 'test'"):
        evaluate(built(), small(), "validation")


def test_a_dense_problem_with_a_batch_norm_trains():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(12, 3, 8, 8, generator=generator)
    split = TensorSplit(images, {"parts": (images[:, 0] > 0.5).long(), "far": images[:, 1:2]})
    problem = Problem("pictures", [data.segmentation("parts", 2), data.depth("far")], split, split, split, (3, 8, 8),
                      {"name": "conv"})
    stages = [nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())]
    run = train(problem, model=models.HPS(problem, stages), epochs=2)
    assert run.model.shared.stages[0][1].num_batches_tracked == 2
    assert set(run.metrics) == {"parts", "far"}


# --- compilation ----------------------------------------------------------------------------------------------

def test_a_compiled_model_learns_the_same(tmp_path):
    """In a process of its own: the checks of shapes cannot be compiled."""
    script = """
        import torch
        from mtlcourse import models
        from mtlcourse.files import seed_everything
        from mtlcourse.training import fit
        from tests.problems import small
        runs = []
        for compile in (False, "aot_eager"):
            seed_everything(0)
            runs.append(fit(small(), models.HPS(small()), epochs=2, batch_size=20, compile=compile, progress=False))
        for a, b in zip(runs[0].model.parameters(), runs[1].model.parameters(), strict=True):
            torch.testing.assert_close(a, b)
        assert list(runs[1].model.state_dict()) == list(runs[0].model.state_dict())
        assert runs[1].model.exits.keys() == {"kind", "size"}
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
        """
    environment = {**os.environ, "JAXTYPING_DISABLE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_checkpoint_tells_the_options_of_a_strategy(tmp_path):
    def go(strategy):
        seed_everything(0)
        problem = small()
        return fit(problem, models.HPS(problem), strategy, epochs=1, checkpoint=tmp_path / "state", progress=False)

    go(strategies.make("bmtl", T=5.0))
    go(strategies.make("bmtl", T=5.0))
    with pytest.raises(ValueError, match="another training"):
        go(strategies.make("bmtl", T=50.0))


# --- data that a model refuses ------------------------------------------------------------------------------

def normed(samples):
    problem = small(train=samples)
    return problem, models.HPS(problem, [nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU())])


def test_a_single_sample_left_over_under_batch_norm_has_its_sentence_and_its_way_out():
    problem, model = normed(33)
    with pytest.raises(ValueError, match="single sample.*drop_last=True"):
        train(problem, model=model)
    run = train(problem, model=model, drop_last=True)
    assert run.cost["steps"] == 3 * 2 and run.cost["samples"] == 3 * 32 and run.config["drop_last"]
    with pytest.raises(ValueError, match="drop_last=True leaves nothing of 33 training samples in batches of 64"):
        train(problem, model=model, drop_last=True, batch_size=64)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.uint8])
def test_inputs_of_another_dtype_are_told_what_to_become(dtype):
    problem = small()
    model = models.HPS(problem)
    for part in (problem.train, problem.val, problem.test):
        part.inputs = part.inputs.to(dtype)
    with pytest.raises(TypeError, match=rf"inputs are {dtype} and the model computes in torch.float32: convert"):
        train(problem, model=model)
    with pytest.raises(TypeError, match="convert"):
        evaluate(model, problem)


def test_an_embedding_may_come_first():
    words = torch.randint(0, 10, (40, 5), generator=torch.Generator().manual_seed(0))
    split = TensorSplit(words, {"big": (words[:, 0] > 5).long()})
    problem = Problem("words", [data.binary("big")], split, split, split, (5,), {"name": "mlp"})
    stages = [nn.Sequential(nn.Embedding(10, 3), nn.Flatten()), nn.Linear(15, 4)]
    for kind in (models.HPS, models.STL, models.DSMTL, models.CrossStitch, models.Tree):
        assert kind(replace(problem, train=None, val=None, test=None), stages).heads  # a description says it too
        assert train(problem, model=kind(problem, stages), epochs=1).metrics["big"]
    with pytest.raises(TypeError, match="inputs are torch.int64 .*convert"):
        train(problem, model=models.HPS(problem, [nn.Linear(5, 3)]))
    with pytest.raises(ValueError, match="To look samples up, give whole numbers"):
        models.HPS(small(), stages)


def test_a_loop_in_two_halves_is_the_loop_of_fit():
    run = train(small(), strategy="gradnorm", lr=0.05)
    problem, model = small(), built()
    seed_everything(0)
    step = make_step(list(NAMES), model, "gradnorm", lr=0.05)
    order = torch.Generator().manual_seed(derived_seed(0, "order"))
    for _ in range(3):
        for batch in problem.train.batches(16, shuffle=True, generator=order):
            predictions = model(batch.inputs)
            step.backward({t.name: t.loss(predictions[t.name], batch.targets[t.name]).mean() for t in problem.tasks})
            step.update()
        means = step.end_epoch()
    assert weights(run.model) == weights(model) and set(means) == set(NAMES) and step.epoch == 3


def test_a_loop_of_ones_own_is_told_what_is_missing():
    step = make_step(small().tasks, built(), "famo")
    with pytest.raises(RuntimeError, match="call that first"):
        step.update()
    losses = step.losses(next(iter(small().train.batches(8))))[0]
    step.backward(losses)
    with pytest.raises(ValueError, match="once more after the update: give update\\(again=function\\)"):
        step.update()
    step.update(again=lambda: losses)
    assert step.engine.strategy.steps.tolist() == [1, 1]
    with pytest.raises(RuntimeError, match="call that first"):
        step.update(again=lambda: losses)
    with pytest.raises(ValueError, match="tasks given are .*'else'.*those of the model"):
        make_step(["kind", "else"], built())
