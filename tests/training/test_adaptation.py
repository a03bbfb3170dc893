"""Adapting: nothing that trains or selects moves with a target label, and a training goes on where it was cut off."""

import dataclasses

import pytest
import torch

from mtlcourse import data, methods, training
from mtlcourse.models import Aligned
from mtlcourse.tasks import Batch
from mtlcourse.training import AdaptationStep, Setting, adaptation, aligning, criteria
from tests import domains

NAMES = methods.names(domains=True)
SELECTS = ("last", "source", "entropy", "importance", "best-val")


def run(name: str, problem: data.DomainProblem | None = None, **options: object) -> training.Run:
    return methods.run(name, problem or domains.problem(), progress=False, **options)


def weights(result: training.Run) -> dict[str, torch.Tensor]:
    return result.model.state_dict()


@pytest.mark.parametrize("name", NAMES)
def test_poisoned_target_labels_change_no_weight_and_no_selection(name):
    for select in SELECTS if name == "pc" else ("entropy",):
        clean, poisoned = (run(f"{name}(select={select})", domains.problem(["there", "beyond"], poisoned=poison))
                           for poison in (False, True))
        assert clean.metrics["there"] != poisoned.metrics["there"]  # they count
        assert clean.config["selected_epoch"] == poisoned.config["selected_epoch"]
        for key, value in weights(clean).items():
            assert torch.equal(value, weights(poisoned)[key]), key
        first, second = (result.history[result.history["split"] != "oracle"] for result in (clean, poisoned))
        assert first.reset_index(drop=True).equals(second.reset_index(drop=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_training_that_is_cut_off_ends_as_if_it_was_not(name, tmp_path, monkeypatch):
    problem, select = domains.problem(["there", "beyond"]), "entropy"
    whole = run(f"{name}(select={select})", problem, seed=3)
    calls, step = [], AdaptationStep.__call__

    def pull_the_plug(self, batch):
        calls.append(batch)
        if len(calls) == 11:  # in the third of four epochs
            raise KeyboardInterrupt
        return step(self, batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(AdaptationStep, "__call__", pull_the_plug)
        run(f"{name}(select={select})", problem, seed=3, checkpoint=tmp_path / "state")
    resumed = run(f"{name}(select={select})", problem, seed=3, checkpoint=tmp_path / "state")
    assert whole.history.equals(resumed.history) and whole.metrics == resumed.metrics
    for key, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[key]), key


def built(seed: int = 0) -> tuple[data.DomainProblem, Aligned]:
    torch.manual_seed(seed)
    problem = domains.problem(["there", "beyond"])
    return problem, Aligned(problem.view)


def test_a_step_minimises_the_sum_of_what_the_objective_says():
    problem, model = built()
    model.bottleneck[-1].p = 0.0
    step = AdaptationStep(problem.view, model, aligning.Aligning(aligning.negative_pc, 0.5), batch_size=16, lr=0.1,
                          updates=4, optimizer="sgd")
    batch = next(problem.train.batches(16))
    other = built()[1]
    other.load_state_dict(model.state_dict())
    other.bottleneck[-1].p = 0.0
    targets = {name: adaptation.Stream(split, training.adaptation.derived_seed(0, f"target.{name}")).next(16)
               for name, split in problem.view.targets.items()}
    look = other.look(torch.cat([batch.inputs, *targets.values()]))
    risk = torch.nn.functional.cross_entropy(look.logits[:16], batch.targets["here"])
    correlations = [aligning.distances.population_correlation(look.features[:16], look.features[16 * k : 16 * (k + 1)])
                    for k in (1, 2)]
    (risk - 0.5 * (correlations[0] + correlations[1]) / 2).backward()
    assert step(batch) == {"here": pytest.approx(risk.item())}
    assert step.means()["alignment"] == pytest.approx(-0.25 * sum(correlations).item())
    for (name, after), before in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.allclose(after, before - 0.1 * before.grad, atol=1e-6), name


def test_source_only_draws_no_target():
    problem, model = built()
    step = AdaptationStep(problem.view, model, aligning.SourceOnly(), batch_size=16, lr=0.1, updates=4)
    assert step.streams == {}
    step(next(problem.train.batches(16)))
    assert set(step.means()) == {"risk"}


def test_a_stream_shows_every_input_equally_often():
    stream = adaptation.Stream(data.Unlabelled(torch.arange(5.0)[:, None]), seed=0)
    drawn = torch.cat([stream.next(4) for _ in range(5)]).flatten()
    assert torch.bincount(drawn.long()).tolist() == [4] * 5
    assert sorted(drawn[:5].tolist()) == sorted(drawn[5:10].tolist()) == [0, 1, 2, 3, 4]
    small = adaptation.Stream(data.Unlabelled(torch.arange(2.0)[:, None]), seed=0)
    assert torch.bincount(small.next(6).flatten().long()).tolist() == [3, 3]  # a domain smaller than a batch


def test_parameters_that_a_step_does_not_reach_are_not_moved():
    """As of a network of which an epoch uses a part: momentum and decay leave the others alone."""
    problem, model = built()
    model.unused = torch.nn.Linear(2, 2)
    before = model.unused.weight.clone()
    step = AdaptationStep(problem.view, model, aligning.SourceOnly(), batch_size=16, lr=0.1, updates=4,
                          optimizer="nesterov", weight_decay=0.1)
    for batch in problem.train.batches(16):
        step(batch)
    assert torch.equal(model.unused.weight, before)


def test_batches_of_one_are_refused():
    with pytest.raises(ValueError, match="batch_size=1: a distance between domains"):
        run("pc", budget="fast(batch_size=1)")


def test_a_last_batch_that_is_not_full_is_left_out():
    problem = domains.problem()
    assert run("pc", problem, budget="fast(batch_size=24)").cost["steps"] == 4 * (64 // 24)
    assert run("pc", problem, budget="fast(batch_size=100)").cost["steps"] == 4  # unless there is no other


@pytest.mark.parametrize("weight", ["-1", "True", "many", "1e400"])
def test_a_weight_is_a_number_from_zero(weight):
    with pytest.raises(ValueError, match="is no number from 0 upwards"):
        run(f"pc(weight={weight})")


# --- selecting ------------------------------------------------------------------------------------------

def test_what_is_selected_is_the_best_by_its_rule():
    problem = domains.problem(["there", "beyond"])
    by = {"source": ("here", "loss"), "entropy": ("there", "entropy"), "importance": ("there", "importance")}
    for select, (_, name) in by.items():
        result = run(f"pc(select={select})", problem, seed=1)
        rows = result.history[(result.history["split"] == "val") & (result.history["name"] == name)]
        if select == "source":
            rows = rows[rows["task"] == "here"]
        else:
            rows = rows[rows["task"] != "here"]
        assert result.config["selected_epoch"] == rows.groupby("epoch")["value"].mean().idxmin(), select
    assert run("pc", problem, seed=1).config["selected_epoch"] == 4


def test_the_oracle_is_shown_and_never_used():
    with pytest.raises(ValueError, match="select=oracle would choose by the target's test labels"):
        run("pc(select=oracle)")
    result = run("pc", seed=2)
    oracle = result.history[result.history["split"] == "oracle"]
    accuracy = oracle[oracle["name"] == "accuracy"].set_index("epoch")["value"]
    assert list(accuracy.index) == [1, 2, 3, 4]
    assert result.learned["oracle"] == {"there": {"epoch": accuracy.idxmax(), "accuracy": accuracy.max()}}
    assert accuracy[4] == result.metrics["there"]["accuracy"]  # of the model that was kept, and judged
    with pytest.raises(ValueError, match="Unknown rule to select by 'entrophy'. Known: entropy"):
        run("pc(select=entrophy)")


def test_entropy_and_importance_are_what_they_say():
    logits = torch.tensor([[0.0, 0.0], [50.0, 0.0]])
    assert criteria.entropy(logits) == pytest.approx(torch.log(torch.tensor(2.0)).item() / 2)
    generator = torch.Generator().manual_seed(0)
    source, target = torch.randn(4000, 1, generator=generator), torch.randn(4000, 1, generator=generator) + 1
    held = torch.randn(4000, 1, generator=generator)
    # the ratio of N(1, 1) to N(0, 1) is exp(x - 1/2): the risk of the loss x is then the mean of the target, 1
    assert criteria.importance_risk(held, held.flatten(), source, target) == pytest.approx(1, abs=0.15)
    assert criteria.importance_risk(held, held.flatten(), source, source) == pytest.approx(held.mean().item(), abs=0.02)
    twice = torch.cat([target, target])
    assert criteria.importance_risk(held, held.flatten(), source, twice) == pytest.approx(1, abs=0.15)


# --- kinds ----------------------------------------------------------------------------------------------

def test_methods_and_problems_of_different_kinds_are_refused():
    with pytest.raises(ValueError, match="'hps' is a method for a multi-task problem, and 'clouds' is a problem of"):
        methods.run("hps", domains.problem())
    with pytest.raises(ValueError, match="'pc' is a method for a problem of several domains, and 'relat"):
        methods.run("pc", "relatedness")
    with pytest.raises(ValueError, match="'pc' is a method for a problem of several domains"):
        methods.count_parameters("pc", "relatedness")
    with pytest.raises(ValueError, match=r"names a strategy, and 'pc' has one task.*'pc\(weight=0.1\)'"):
        methods.parse("pc+pcgrad")
    with pytest.raises(ValueError, match="'pc' takes no guard"):
        methods.run("pc(guard=individual)", domains.problem())
    with pytest.raises(methods.UnknownOption, match="'pc' does not take these options"):
        methods.run("pc(lambda_=1)", domains.problem())
    assert not set(methods.names()) & set(NAMES) and {"source-only", "pc"} <= set(NAMES)


def test_one_network_answers_for_all_targets():
    problem = domains.problem(["there", "beyond"])
    result = run("source-only", problem)
    assert set(result.metrics) == {"there", "beyond"}
    for name, target in problem.targets.items():
        predicted = result.model.eval()(target.test.inputs)["here"].argmax(1)
        assert result.metrics[name]["accuracy"] == (predicted == target.test.targets[name]).double().mean().item()
    source = result.history[(result.history["split"] == "test") & (result.history["task"] == "here")]
    assert set(source["name"]) == {"accuracy", "loss"}


def test_the_model_tells_what_it_cannot_be():
    view = domains.problem().view
    for options, message in (({"bottleneck": 0}, "bottleneck=0 is no width"), ({"dropout": 1}, "dropout=1 is no rate")):
        with pytest.raises(ValueError, match=message):
            Aligned(view, **options)
    model = Aligned(view, bottleneck=5)
    assert model.look(torch.zeros(4, 6)).features.shape == (4, 5)
    with pytest.raises(ValueError, match="Unknown task 'there'. Known: here"):
        model(torch.zeros(4, 6), ["there"])


def test_a_procedure_gets_no_label(monkeypatch):
    """All that a procedure holds is the view, a builder and the setting."""
    got = {}

    def spy(view, build, strategy, setting: Setting) -> training.Run:
        got.update(view=view, model=build(view))
        return training.adapt(view, got["model"], aligning.SourceOnly(), setting)

    methods.register("spy", Aligned, spy, domains=True)
    run("spy")
    assert isinstance(got["view"], data.DomainView)
    assert isinstance(next(got["view"].targets["there"].batches(2)), torch.Tensor)  # inputs, and no `Batch`
    assert not isinstance(next(got["view"].targets["there"].batches(2)), Batch)
    assert dataclasses.is_dataclass(got["view"])
