"""The guard: the fewest tasks that make definition 3 true, by hand, by name, for every method."""

import copy
import dataclasses
import functools
import itertools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from mtlcourse import data, methods, models, runs
from mtlcourse.encoders import size
from mtlcourse.files import seed_everything
from mtlcourse.tasks import Problem, TensorSplit
from mtlcourse.training import evaluate, guard, harmed, procedures, split_losses, train_losses
from tests.interrupted import cut_off
from tests.problems import CELLS, NEEDS_MAPS, ONE_ANSWER, SHALLOW, pixels, small, targets_of
from tests.search.cells.images import images

NAN, INF = math.nan, math.inf
THREE = ("kind", "size", "big")


# --- the choice of tasks ----------------------------------------------------------------------------------------

# Few different values, so that there are ties, and sums that cancel; some that floats cannot add without rounding.
LOSSES = st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.5, 1.0, 1e-17, 1e17, 1e17 + 64]) | st.floats(0, 1e6)


def safe(together, alone, tasks, by):
    """Definition 3 of the losses that are left when `tasks` go back to their single-task losses, exactly."""
    left = [(alone if task in tasks else together)[task] for task in alone]
    if not all(map(math.isfinite, left)):
        return False
    if by == "individual":
        return all(a <= b for a, b in zip(left, alone.values(), strict=True))
    return sum(map(Fraction, left)) <= sum(map(Fraction, alone.values()))


@pytest.mark.parametrize("by", ["individual", "average"])
@given(losses=st.lists(st.tuples(LOSSES | st.sampled_from([NAN, INF]), LOSSES), min_size=1, max_size=6))
@example(losses=[(0.3, 0.1), (0.1, 0.2), (0.2, 0.3)])  # their sums are equal, but not in floats
@example(losses=[(1e17, 0.0), (1.0, 1e17)])  # one too much, which is lost when floats are subtracted
@example(losses=[(2.0, 1.0), (2.0, 1.0), (2.0, 1.0), (0.0, 1.0), (0.0, 1.0)])
@example(losses=[(NAN, 1.0), (INF, 1.0), (0.0, 1.0)])
def test_no_fewer_tasks_would_do(by, losses):
    together = {f"t{i}": loss for i, (loss, _) in enumerate(losses)}
    alone = {f"t{i}": loss for i, (_, loss) in enumerate(losses)}
    found = harmed(together, alone, by)
    enough = [tasks for k in range(len(losses) + 1) for tasks in itertools.combinations(together, k)
              if safe(together, alone, tasks, by)]
    assert tuple(found) in enough and len(found) == len(enough[0])
    assert found == [task for task in together if task in found]  # in their order


def test_equality_keeps_the_model():
    losses = {"a": 0.1, "b": 0.7}
    assert harmed(losses, dict(losses)) == harmed(losses, dict(losses), "average") == []
    assert harmed({**losses, "a": math.nextafter(0.1, 1)}, losses) == ["a"]
    assert harmed({**losses, "a": math.nextafter(0.1, 1)}, losses, "average") == ["a"]


def test_the_average_gives_up_the_largest_excess_and_of_equal_ones_the_first():
    alone = dict.fromkeys("abcd", 1.0)
    assert harmed({"a": 1.5, "b": 2.0, "c": 0.4, "d": 1.0}, alone, "average") == ["b"]
    assert harmed({"a": 1.5, "b": 2.0, "c": 0.4, "d": 1.0}, alone) == ["a", "b"]
    assert harmed({"a": 1.5, "b": 1.5, "c": 0.5, "d": 1.0}, alone, "average") == ["a"]
    assert harmed({"a": 1.5, "b": 1.5, "c": 0.0, "d": 1.0}, alone, "average") == []


def test_a_loss_that_is_no_number_is_an_excess():
    alone = dict.fromkeys("abc", 1.0)
    for by in ("individual", "average"):
        assert harmed({"a": 0.0, "b": NAN, "c": 0.0}, alone, by) == ["b"]
        assert harmed({"a": INF, "b": 1.0, "c": NAN}, alone, by) == ["a", "c"]


@pytest.mark.parametrize("loss", [NAN, INF])
@pytest.mark.parametrize("by", ["individual", "average"])
def test_a_single_task_loss_that_is_no_number_is_no_yardstick(by, loss):
    with pytest.raises(ValueError, match=f"The single-task loss of 'b' is {loss}, and a task can only fall back on"):
        harmed({"a": 1.0, "b": 2.0}, {"a": 1.0, "b": loss}, by)
    with pytest.raises(ValueError, match="The single-task loss of 'b' is missing"):
        harmed({"a": 1.0, "b": 2.0}, {"a": 1.0}, by)


# --- by hand ----------------------------------------------------------------------------------------------------

@functools.cache
def shifted():
    """A problem and two sets of networks whose losses stand in a known order, by biases and targets that are far off.

    In training the model is far worse at `size`, a little worse at `big`, and much better at `kind`, but not by as
    much as it is worse at `size`. In validation it is by far better at `size`.
    """
    problem = small(THREE, train=64)
    problem.val.targets["size"] = problem.val.targets["size"] + 100
    seed_everything(0)
    model, alone = models.HPS(problem), models.STL(problem)
    with torch.no_grad():
        model.heads["size"].bias += 100
        model.heads["big"].bias += 5
        alone.heads["kind"].bias[0] += 30
    return problem, model, alone


@pytest.mark.parametrize(("by", "split", "expected"), [
    ("individual", "train", ["size", "big"]), ("average", "train", ["size"]),
    ("individual", "val", ["big"]), ("average", "val", [])])
def test_the_result_is_safe_on_the_split_that_was_compared_on(by, split, expected):
    problem, model, alone = shifted()
    before, apart = (split_losses(network, problem, split) for network in (model, alone))
    fallback = guard(model, alone, problem, by=by, split=split)
    after = split_losses(fallback, problem, split)
    assert fallback.guarded == expected
    assert after == {task: (apart if task in expected else before)[task] for task in THREE}
    assert safe(after, apart, (), by)


def test_losses_are_compared_in_evaluation_mode():
    problem = small(THREE, train=60, dropout=0.5)
    seed_everything(0)
    model, alone = models.HPS(problem).train(), models.STL(problem).train()
    assert guard(model, alone, problem).guarded == harmed(train_losses(model, problem), train_losses(alone, problem))
    assert model.training and alone.training


def test_a_task_whose_loss_is_no_number_falls_back():
    problem, model, alone = shifted()
    broken = copy.deepcopy(model)
    broken.heads["big"].weight.data.fill_(NAN)
    for by in ("individual", "average"):
        fallback = guard(broken, alone, problem, by=by)
        assert "big" in fallback.guarded and all(map(math.isfinite, train_losses(fallback, problem).values()))
    with pytest.raises(ValueError, match="The single-task loss of 'big' is nan"):
        broken = copy.deepcopy(alone)
        broken.heads["big"].weight.data.fill_(NAN)
        guard(model, broken, problem)


@pytest.mark.parametrize(("options", "message"), [
    ({"by": "each"}, "guard='each' is no rule: use 'individual', no task's loss above its single-task loss, or 'avera"),
    ({"split": "test"}, "on the split 'train' or 'val', not on 'test'"), ({"split": "all"}, "not on 'all'"),
])
def test_rules_and_splits_that_cannot_be(options, message):
    problem, model, alone = shifted()
    with pytest.raises(ValueError, match=message):
        guard(model, alone, problem, **options)


def test_a_closed_gate_is_a_fallback_where_private_networks_are_the_single_task_networks():
    problem = small(THREE, train=256)
    options = {"seed": 3, "budget": "fast(epochs=6)", "progress": False, "lr": 0.05}
    for by in ("individual", "average"):
        closed = methods.run(f"dsmtl-il(guard={by})", problem, **options)
        free = methods.run("dsmtl-il", problem, **options)
        fallback = guard(free.model, methods.run("stl", problem, **options).model, problem, by=by)
        assert closed.learned["guarded"] == fallback.guarded
        assert closed.metrics == evaluate(fallback, problem) and closed.train_losses == train_losses(fallback, problem)
        assert size(fallback) <= size(closed.model)


# --- by name, for every method ------------------------------------------------------------------------------------

def one_answer() -> Problem:
    def split(samples, seed):
        x = torch.randn(samples, 4, generator=torch.Generator().manual_seed(seed))
        return TensorSplit(x, {"big": targets_of(x)["big"], "first": x[:, :1] * x[:, 1:2]})

    return Problem("one answer", [data.binary("big"), data.regression("first")], *(
        split(samples, seed) for seed, samples in enumerate((300, 40, 40))), (4,), {"name": "mlp", "widths": [6, 5]})


def problem_for(name: str) -> Problem:
    if name in CELLS:
        return images()
    if name in NEEDS_MAPS:
        return pixels(12)
    problem = one_answer() if name in ONE_ANSWER else small(THREE, train=300)
    return dataclasses.replace(problem, encoder={"name": "mlp", "widths": [6, 6]})  # of which AdaShare can skip some


def with_options(name: str, **options) -> str:
    """The method with these options; a shallow one with one strength, for a path of them takes long, cells small."""
    return str(methods.Part(name, options | ({"strength": 0.1} if name in SHALLOW else CELLS.get(name, {}))))


@pytest.mark.parametrize("name", [name for name in methods.names() if name != "dsmtl-il"])
def test_every_method_takes_a_guard(name):
    problem, options = problem_for(name), {"seed": 2, "budget": "smoke", "progress": False}
    free, alone = (methods.run(other, problem, **options) for other in (with_options(name), "stl"))
    run = methods.run(with_options(name, guard="individual"), problem, **options)
    guarded = run.learned.pop("guarded")
    assert isinstance(run.model, models.Fallback) and run.learned == free.learned
    assert guarded == run.model.guarded == harmed(free.train_losses, alone.train_losses)
    expected = {task: alone if task in guarded else free for task in problem.task_names}
    assert run.metrics == {task: best.metrics[task] for task, best in expected.items()}
    assert run.train_losses == {task: best.train_losses[task] for task, best in expected.items()}
    inputs = next(problem.test.batches(100)).inputs
    with torch.no_grad():
        answers = run.model(inputs)
        assert all(torch.equal(answers[task], best.model.eval()(inputs)[task]) for task, best in expected.items())
    assert run.stages == ["alone", *free.stages, "guard"] == list(dict.fromkeys(run.history["stage"]))
    for stage, other in (("alone", alone), (free.stages[-1], free)):
        columns = ["epoch", "split", "task", "name", "value"]
        rows = other.history[other.history["stage"] == other.stages[-1]]
        found = run.history[run.history["stage"] == stage]
        assert found[columns].reset_index(drop=True).equals(rows[columns].reset_index(drop=True))
    assert {key: run.cost[key] for key in ("steps", "samples")} == {
        key: free.cost[key] + alone.cost[key] for key in ("steps", "samples")}
    assert run.cost["parameters"] == size(run.model)
    assert runs.validation(run) == evaluate(run.model, problem, "val")


@pytest.mark.parametrize("name", ["hps(guard=average)+pcgrad", "stl-wide(guard=individual)", "dsmtl-il(guard=average)",
                                  "conal(guard=average, guard_split=val, notice=False)+mgda",
                                  "mmoe(experts=2, epochs=2, guard=individual, select=best-val)+dwa+cagrad"])
def test_a_guard_goes_with_all_that_a_name_can_say(name):
    problem, options = small(THREE, train=256), {"seed": 4, "budget": "smoke", "progress": False}
    part, *strategies = methods.parse(name)
    by, split = part.options["guard"], part.options.pop("guard_split", "train")
    plain = "+".join(map(str, [dataclasses.replace(part, options={
        key: value for key, value in part.options.items() if key != "guard"}), *strategies]))
    training = methods.Part("stl", {key: value for key, value in part.options.items() if key in methods.TRAINING})
    free, alone = (methods.run(other, problem, **options).model for other in (plain, str(training)))
    run = methods.run(name, problem, **options)
    assert run.config["method"] == methods.canonical(name)
    before, apart = (split_losses(network, problem, split) for network in (free, alone))
    assert run.learned["guarded"] == harmed(before, apart, by)
    assert safe(split_losses(run.model, problem, split), apart, (), by)


def test_single_task_networks_have_the_encoder_that_the_name_gives(monkeypatch):
    monkeypatch.setattr(procedures, "harmed", lambda together, alone, by: list(together))
    run = methods.run("hps(encoder={'name': 'mlp', 'widths': [9]}, guard=individual)", small(), budget="smoke",
                      progress=False)
    assert run.model.model is None and {encoder.out_shape for encoder in run.model.alone.private.values()} == {(9,)}


def test_no_guard_may_be_said_too():
    problem, options = small(), {"budget": "smoke", "progress": False}
    run = methods.run("hps(guard=False)", problem, **options)
    assert type(run.model) is models.HPS and run.stages == ["train"] and "guarded" not in run.learned


@pytest.mark.parametrize(("name", "message"), [
    ("hps(guard=perhaps)", "guard='perhaps' is no rule: use 'individual'"),
    ("hps(guard=True)", "guard=True is no rule"), ("mtan(guard=None)", "guard=None is no rule"),
    ("hps(guard=0)", "guard=0 is no rule"),
    ("conal(guard=[individual])+pcgrad", "Cannot read the options"), ("ltb(guard=())", r"guard=\(\) is no rule"),
    ("hps(guard=average, guard_split=test)", "on the split 'train' or 'val', not on 'test'"),
    ("hps(guard_split=val)", "guard_split='val' says where a guard compares losses, and there is none"),
    ("hps(guard=False, guard_split=val)", "there is none: add guard=individual"),
    ("hps(gaurd=individual)", "Method 'hps' does not take these options"),
    ("hps(guard=individual, gate=sigmoid)", "Method 'hps' does not take these options"),
])
def test_guards_in_names_are_checked_before_anything_is_trained(name, message, monkeypatch):
    trained = []
    monkeypatch.setattr(methods.Setting, "fit", lambda *arguments, **options: trained.append(arguments))
    with pytest.raises(ValueError, match=message):
        methods.run(name, small(), budget="smoke", progress=False)
    with pytest.raises(ValueError, match=message):
        methods.count_parameters(name, "multidigits")
    assert trained == []


def test_a_procedure_of_ones_own_takes_a_guard_or_has_its_own():
    def plain(problem, build, strategy, setting):
        return setting.fit(problem, build(problem), strategy)

    def own(problem, build, strategy, setting, *, guard="mine"):
        run = setting.fit(problem, build(problem), strategy)
        run.learned = {"guard": guard}
        return run

    methods.register("plain", models.HPS, plain)
    methods.register("own", models.HPS, own)
    options = {"budget": "smoke", "progress": False}
    assert "guarded" in methods.run("plain(guard=average)", small(), **options).learned
    assert methods.run("own(guard=bird)", small(), **options).learned == {"guard": "bird"}
    with pytest.raises(ValueError, match="there is none"):
        methods.run("own(guard=bird, guard_split=val)", small(), **options)


def test_chance_in_a_model_of_ones_own_is_what_it_would_be_without_a_guard():
    def noisy(problem):
        model = models.HPS(problem)
        model.noise = torch.nn.Parameter(torch.rand(3), requires_grad=False)  # drawn in the open, in no part's name
        return model

    methods.register("noisy", noisy)
    problem = small(THREE, train=256, dropout=0.3)  # so that training single-task networks draws too
    free, run = (methods.run(name, problem, budget="smoke", progress=False).model
                 for name in ("noisy", "noisy(guard=average)"))
    assert torch.equal(run.model.noise, free.noise)


def test_a_guard_is_not_counted_before_it_is_known_what_falls_back():
    for name in ("hps", "dsmtl-jl", "conal"):
        assert methods.count_parameters(f"{name}(guard=individual)", "multidigits") == methods.count_parameters(
            name, "multidigits")
    problem = small(THREE)
    bound = size(methods.build("hps", problem)) + size(methods.build("stl", problem))
    for k in range(4):
        for tasks in itertools.combinations(THREE, k):
            assert size(models.Fallback(methods.build("hps", problem), methods.build("stl", problem), tasks)) < bound


# --- what lies on disk ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "kind"), [
    ("hps(guard=individual)+rlw", models.STL), ("hps(guard=individual)+rlw", models.HPS),
    ("conal(guard=average)", models.STL), ("conal(guard=average)", models.Tree)])
def test_what_was_cut_off_in_any_stage_ends_as_if_nothing_had_happened(name, kind, tmp_path, monkeypatch):
    problem, options = small(THREE, train=300), {"seed": 2, "budget": "fast(epochs=4)", "progress": False}
    whole = methods.run(name, problem, **options)
    calls = cut_off(kind, monkeypatch, at=8)  # three steps an epoch: in the third epoch of the stage
    with pytest.raises(KeyboardInterrupt):
        methods.run(name, problem, checkpoint=tmp_path / "state", **options)
    again = methods.run(name, problem, checkpoint=tmp_path / "state", **options)
    assert len(calls) == 8 + 4 * 3 - 6  # two epochs were kept
    assert whole.learned == again.learned and whole.metrics == again.metrics and whole.history.equals(again.history)
    state, other = whole.model.state_dict(), again.model.state_dict()
    assert set(state) == set(other) and all(torch.equal(state[key], other[key]) for key in state)
    assert {key: whole.cost[key] for key in ("steps", "samples", "parameters")} == {
        key: again.cost[key] for key in ("steps", "samples", "parameters")}


def test_a_guarded_run_is_stored_and_read(tmp_path):
    name, problem = "hps(guard=individual)", "multidigits(train=300, val=40, test=40)"
    config = runs.configuration(problem, name, 0, "smoke")
    loaded = methods.load_problem(problem)
    run = methods.run(name, loaded, budget="smoke", progress=False)
    folder = runs.save(run, loaded, config, tmp_path)
    back = runs.load(folder)
    assert isinstance(back.model, models.Fallback) and back.model.guarded == run.learned["guarded"]
    assert back.learned == run.learned and back.stages == ["alone", "train", "guard"]
    assert evaluate(back.model, loaded) == run.metrics
