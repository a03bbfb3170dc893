"""CoNAL-Pro: every task ends in exactly one branch, and no stage holds more than the scheme needs."""

import dataclasses
import itertools

import pytest
import torch

from mtlcourse import methods
from mtlcourse.files import seed_everything
from mtlcourse.models import Tree
from mtlcourse.search.sharing import conal_pro as module
from mtlcourse.search.sharing.conal_pro import ProgressiveSupernet, groups_of, subgroups_of
from mtlcourse.strategies import Engine, make
from mtlcourse.tasks import mean_losses
from tests.problems import small
from tests.strategies.nets import NAMES

TRAINING = {"fast": {"epochs": 1, "batch_size": 10, "lr": 0.02}}
ENCODER = {"name": "mlp", "widths": [6, 5, 5, 4]}  # P = 5
P = 5


def problem(names=NAMES, **options):
    return dataclasses.replace(small(names, **options), training=TRAINING, encoder=ENCODER)


def decided(points, monkeypatch, name="conal-pro"):
    """A run in which each task leaves at a point that was chosen beforehand; what each stage was like."""
    seen, inner = [], module.search

    def search(problem, net, strategy, setting, stage, **arguments):
        seen.append({"tasks": list(net.task_names), "held": sum(len(list(net.private[t])) for t in net.private)
                     + len(net.shared), "weights": sum(p.numel() for p in net.parameters()), "rule": strategy,
                     "shared": [id(part) for part in net.shared], "private": {
                         t: [id(part) for part in parts] for t, parts in net.private.items()},
                     "candidates": list(net.candidates), "stage": stage})
        result = inner(problem, net, strategy, setting, stage, **arguments)
        for task, beta in net.beta.items():
            beta.data = torch.tensor([0.0, 1.0] if points[task] == P - len(seen) + 1 else [1.0, 0.0])
        return result

    with monkeypatch.context() as patch:
        patch.setattr(module, "search", search)
        return methods.run(name, problem(), progress=False), seen


@pytest.mark.parametrize("points", [dict(zip(NAMES, ps, strict=True)) for ps in [
    (5, 5, 5), (1, 1, 1), (5, 1, 3), (4, 4, 2), (2, 2, 1), (3, 5, 3), (1, 4, 1), (2, 3, 4), (1, 2, 2)]], ids=str)
def test_every_way_of_leaving_ends_in_the_tree_it_says(points, monkeypatch):
    run, seen = decided(points, monkeypatch)
    assert run.learned["points"] == points
    assert sorted(sum(run.learned["subgroups"], [])) == sorted(NAMES)  # each task in exactly one branch
    assert run.learned["subgroups"] == subgroups_of(points)
    for stage, labels in enumerate(run.model.groups(), start=1):
        for one, other in itertools.combinations(NAMES, 2):
            both_in_trunk = stage < min(points[one], points[other])
            together = both_in_trunk or points[one] == points[other] != 1
            assert (labels[one] == labels[other]) == together
    stages = min(P - 1, P - min(points.values()) + 1)
    assert len(seen) == stages and run.stages == [f"search_{k}" for k in range(1, stages + 1)] + ["retrain"]
    for k, at in enumerate(seen, start=1):
        staying = [task for task in NAMES if points[task] <= P - k + 1]
        assert at["tasks"] == staying and at["candidates"] == [P - k, P]
        assert at["held"] == run.learned["modules"][k - 1] == P - 1 + k * len(staying)
        assert at["held"] <= (P - 1) * (1 + len(NAMES))
        assert at["rule"].first == P - k


def test_each_stage_opens_one_shared_module_and_one_for_each_task_that_stays(monkeypatch):
    _, seen = decided({"kind": 5, "size": 3, "big": 1}, monkeypatch)
    for k, (before, after) in enumerate(itertools.pairwise(seen), start=2):
        kept = [one == other for one, other in zip(before["shared"], after["shared"], strict=True)]
        assert kept == [number != P - k + 1 for number in range(1, P)]  # the module that the others leave with
        for task in after["tasks"]:
            assert after["private"][task][1:] == before["private"][task]
            assert len(after["private"][task]) == k


def test_what_goes_on_goes_on_as_it_is_and_what_is_new_starts_fresh():
    seed_everything(0)
    net = ProgressiveSupernet(problem())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1.0)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    seed_everything(0)
    staying = dataclasses.replace(problem(), tasks=[task for task in problem().tasks if task.name != "size"])
    net.advance(staying)
    fresh = net.new_encoder("shared")
    after = dict(net.named_parameters())
    assert torch.equal(after["shared.3.0.weight"], fresh.stages[3][0].weight)
    assert torch.equal(after["shared.2.0.weight"], before["shared.2.0.weight"])
    assert torch.equal(after["private.kind.1.0.weight"], before["private.kind.0.0.weight"])
    assert torch.equal(after["private.kind.0.0.weight"], net.new_encoder("private.kind").stages[2][0].weight)
    assert torch.equal(after["heads.big.weight"], before["heads.big.weight"])
    assert not any("size" in name for name in after) and not net.beta["kind"].any()
    assert net.task_names == ["kind", "big"] and net.modules_held() == 4 + 2 * 2


def test_only_the_module_in_question_and_those_behind_it_notice():
    """The stage's rule leaves earlier modules alone, also when tasks conflict there."""
    net = ProgressiveSupernet(problem())
    net.advance(problem())
    assert net.in_question() == 3
    gram = torch.ones(4, 2, 2, dtype=torch.float64)
    gram[0, 0, 1] = gram[0, 1, 0] = gram[3, 0, 1] = gram[3, 1, 0] = -1.0
    rule = make("notice", first=net.in_question()).bind(["a", "b"])
    assert rule.weights(torch.ones(2, dtype=torch.float64), gram).shared[:, 0].tolist() == [1, 1, 1, 0]


def test_stages_without_parameters_are_not_counted():
    modules = [torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 6), torch.nn.Linear(6, 5)]
    net = ProgressiveSupernet(problem(), modules)
    assert net.in_question() == 3 == len(net.shared_modules())
    net.advance(problem())
    assert net.in_question() == 2 and net.candidates == [3, 5]


def test_a_single_task_that_is_left_goes_on_alone(monkeypatch):
    run, seen = decided({"kind": 5, "size": 5, "big": 1}, monkeypatch)
    assert [at["tasks"] for at in seen] == [list(NAMES), ["big"], ["big"], ["big"]]
    assert run.learned["subgroups"] == [["kind", "size"], ["big"]]


def test_it_trains_the_engine_way_at_every_stage():
    net = ProgressiveSupernet(problem())
    for _ in range(P - 2):
        batch = next(problem().train.batches(10))
        losses = mean_losses(net.tasks, net(batch.inputs), batch)
        Engine(net, "notice").backward(losses)
        assert all(p.grad is not None for t in NAMES for p in net.task_parameters(t))
        net.zero_grad()
        net.advance(problem())
    assert net.candidates == [1, 5]


def test_probabilities_have_the_branch_points_own_numbers():
    run = methods.run("conal-pro(notice=False)", problem(), progress=False)
    rows = run.history[run.history["name"].str.startswith("beta_")]
    for stage, part in rows.groupby("stage"):
        k = int(stage.removeprefix("search_"))
        assert set(part["name"]) == {f"beta_{P - k}", f"beta_{P - k + 1}"}
    assert set(run.history[run.history["split"] == "test"]["stage"]) == set(run.stages[:-1])


@pytest.mark.parametrize("option", ["", "(notice=False)", "(random_weights=False)", "(single_level=True)", "+pcgrad"])
def test_every_option_runs(option):
    run = methods.run(f"conal-pro{option}", problem(), progress=False)
    assert run.history["value"].notna().all() and isinstance(run.model, Tree)
    assert run.cost["steps"] == (len(run.stages) - 1) * 2 + 4


def test_groups_and_subgroups():
    points = {"a": 3, "b": 2, "c": 2, "d": 1, "e": 1}
    assert subgroups_of(points) == [["a"], ["b", "c"], ["d"], ["e"]]
    first, second = groups_of(points, 3)
    assert len(set(first.values())) == 3 and first["a"] == first["b"] == first["c"]
    assert len(set(second.values())) == 4 and second["b"] == second["c"]
