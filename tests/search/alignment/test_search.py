"""One configuration an epoch, one network: what is trained, rewarded and kept, and what an interruption costs."""

import copy
import functools

import pytest
import torch

from mtlcourse import methods
from mtlcourse.search.alignment import AlignmentNetwork, Fixed, SearchStep
from mtlcourse.search.alignment.objectives import NAMES, LogisticByWidth
from mtlcourse.tasks import Batch
from mtlcourse.training import Setting, make_adaptation_step
from mtlcourse.training.aligning import DISTANCES, Aligning, SourceOnly
from tests.domains import problem

run = functools.partial(methods.run, problem=problem(), progress=False)


def epochs_of(run, name: str, task: str = "search") -> list[float]:
    history = run.history
    return history[(history["task"] == task) & (history["name"] == name) & (history["split"] == "train")][
        "value"].tolist()


def watched(monkeypatch) -> list[int]:
    """The numbers of the configurations that a network is put into, as they come."""
    taken, take = [], AlignmentNetwork.take

    def noted(net, configuration):
        take(net, configuration)
        taken.append(net.space.number(net.configuration))
    monkeypatch.setattr(AlignmentNetwork, "take", noted)
    return taken


@pytest.mark.parametrize("name", ["aas", "aaspc", *(f"aas(distance={name}, weight=0.01)" for name in NAMES),
                                  "aaspc(tied=True, cells=2)", "aaspc(reward=held-out, extra=2)",
                                  "aaspc(reward=classified)"])
def test_a_search_says_what_it_found(name: str):
    result = run(name)
    space = result.model.space
    assert result.learned["configuration"] == space[result.learned["number"]] == result.model.configuration
    assert result.learned["picked"][-1] == result.learned["number"]
    assert len(result.learned["picked"]) == len(result.learned["rewards"]) == len(result.learned["entropy"]) == 4
    assert result.stages == ["train"] and 0 <= result.metrics["there"]["accuracy"] <= 1


@pytest.mark.parametrize("name", ["aas", "aaspc"])
def test_what_is_found_has_learned_the_task(name: str):
    result = run(f"{name}(cells=1, weight=0.1)", budget="fast(epochs=30)")
    assert result.metrics["there"]["accuracy"] > 0.6


@pytest.mark.parametrize("controller", ["reinforce", "random"])
def test_one_configuration_an_epoch(controller: str, monkeypatch):
    taken = watched(monkeypatch)
    result = run(f"aaspc(controller={controller})")
    assert taken.pop(0) == 0  # in which a network begins
    assert taken == result.learned["picked"] and len(taken) == 4 and len(set(taken)) > 2


def test_the_reward_is_minus_the_loss_of_the_epoch():
    result = run("aaspc(weight=0.3)")
    risk, alignment = (epochs_of(result, name, "objective") for name in ("risk", "alignment"))
    assert result.learned["rewards"] == pytest.approx([-a - b for a, b in zip(risk, alignment, strict=True)])
    assert epochs_of(run("aas"), "alignment", "objective") == []


def test_lots_do_not_hear_of_rewards_and_reinforce_does():
    by_lot = [run(f"aaspc(controller=random, weight={weight})").learned["picked"] for weight in (0.1, 3.0)]
    assert by_lot[0] == by_lot[1]
    moved = run("aaspc(controller_lr=0.5)").learned
    assert moved["entropy"][0] == pytest.approx(run("aaspc").learned["entropy"][0])
    assert moved["entropy"][-1] < moved["entropy"][0]


def test_fixed_searches_nothing():
    result = run("aaspc(controller=fixed, configuration=1234)")
    assert set(result.learned["picked"]) == {1234} and set(result.learned["entropy"]) == {0.0}
    chosen = result.learned["configuration"]
    assert run(f"aaspc(controller=fixed, configuration={chosen})").metrics == result.metrics
    assert set(run("aaspc(controller=fixed, cells=1)").learned["picked"]) == {0}


def test_the_best_by_reward_comes_with_its_weights():
    last, best = (run(f"aaspc(controller=random, keep={keep})") for keep in ("last", "best"))
    assert last.learned["rewards"] == best.learned["rewards"]
    epoch = best.learned["rewards"].index(max(best.learned["rewards"]))
    assert best.config["selected_epoch"] == epoch + 1 and best.learned["number"] == best.learned["picked"][epoch]
    assert best.learned["configuration"] == best.model.configuration
    assert last.config["selected_epoch"] == 4


def step(reward: str = "epoch", extra: int = 0, controller=None, objective=None, clip=None) -> SearchStep:
    torch.manual_seed(0)
    view = problem().view
    model = AlignmentNetwork(view)
    return make_adaptation_step(view, model, objective or Aligning(DISTANCES["pc"]),
                                Setting(0, None, {**view.source.training["fast"], "clip": clip}), SearchStep,
                                reward=reward, extra=extra,
                                controller=controller or Fixed(model.space.picks(model.space[0])))


def batch() -> Batch:
    return next(problem().view.source.train.batches(16))


def test_an_epoch_moves_the_weights_of_its_configuration_alone():
    one = step()
    before = copy.deepcopy(dict(one.model.named_parameters()))
    one(batch())
    used = {id(p) for module in one.model.running() for p in module.parameters()}
    for name, parameter in one.model.named_parameters():
        assert torch.equal(parameter, before[name]) != (id(parameter) in used), name


@pytest.mark.parametrize("tied", [False, True])
def test_an_opponent_for_each_width(tied: bool):
    model = AlignmentNetwork(problem().view, tied=tied)
    model.take(7)
    objective = LogisticByWidth(problem().view, model)
    assert list(objective.of_width) == ["8", "4", "2", "1"] and model.configuration == model.space[7]
    losses = {}
    for size in ("same", "half"):
        model.take(model.space[0] | {"size_0": size})
        losses[size] = objective(model, batch(), {"there": problem().view.targets["there"].inputs[:16]})
    assert set(losses["same"]) == {"risk", "alignment", "opponent"}


def test_an_opponent_can_be_measured_at_the_classifier():
    result = run("aas(distance=a-distance, controller=fixed, configuration=2)")  # aligned: 8 wide
    ends = result.learned["configuration"]
    assert (ends["size_2"], ends["align"], ends["classify"]) == ("same", "cell_0", "cell_2")
    narrow = ends | {"size_2": "half"}
    measured = run(f"aas(distance=a-distance, controller=fixed, configuration={narrow})").learned["measured"]
    assert measured["held_out"] != measured["classified"]


def test_an_opponents_loss_is_no_part_of_the_reward():
    result = run("aas(distance=a-distance)")
    risk, alignment = (epochs_of(result, name, "objective") for name in ("risk", "alignment"))
    assert result.learned["rewards"] == pytest.approx([-a - b for a, b in zip(risk, alignment, strict=True)])


@pytest.mark.parametrize("clip", [None, 1e-3])
def test_long_gradients_are_shortened(clip):
    one = step(clip=clip)
    before = copy.deepcopy(one.model.state_dict())
    one(batch())
    norm = torch.stack([p.grad.norm() for p in one.model.parameters() if p.grad is not None]).norm().item()
    assert norm == pytest.approx(clip, rel=1e-3) if clip else norm > 0.01
    assert any(not torch.equal(value, before[name]) for name, value in one.model.named_parameters())


@pytest.mark.parametrize("objective", [None, SourceOnly()])
def test_a_held_out_reward_changes_nothing_and_is_the_same_again(objective):
    one = step("held-out", objective=objective)
    one(batch())
    before = copy.deepcopy(one.model.state_dict())
    first, mode = one.measured("held-out"), [module.training for module in one.model.modules()]
    assert one.measured("held-out") == first and mode == [module.training for module in one.model.modules()]
    assert all(torch.equal(value, before[name]) for name, value in one.model.state_dict().items())


def test_a_held_out_reward_is_minus_the_loss_on_what_is_held_out():
    one, view = step("held-out"), problem().view
    one.model.take(0)
    for norm in one.model.modules():
        if isinstance(norm, torch.nn.Dropout):
            norm.p = 0.0
    parts = []
    for rows in (torch.arange(16), torch.arange(16, 24)):
        targets = {"there": view.held_out["there"].inputs[rows]}
        held = next(view.source.val.subset(rows).batches(16))
        parts.append(sum(one.objective(one.model, held, targets).values()))
    assert one.measured("held-out") == pytest.approx(-sum(parts).item() / 2, rel=1e-5)


def test_the_classified_reward_looks_where_the_classifier_does():
    one, net = step("classified"), step().model.space
    beside = net[0] | {"input_1": "backbone", "align": "cell_0", "classify": "cell_1"}
    on_it = beside | {"align": "cell_1"}
    rewards = {}
    for name, configuration in (("beside", beside), ("on_it", on_it)):
        one.model.take(configuration)
        rewards[name] = {kind: one.measured(kind) for kind in ("held-out", "classified")}
    assert rewards["beside"]["classified"] == rewards["on_it"]["classified"] == rewards["on_it"]["held-out"]
    assert rewards["beside"]["held-out"] != rewards["beside"]["classified"] and not one.model.at_classifier


class Counting(Fixed):
    """Notes what it hears."""

    def __init__(self, picks):
        super().__init__(picks)
        self.heard = []

    def pick(self):
        return [(pick + len(self.heard)) % 2 for pick in self.picks]

    def learn(self, picks, reward):
        self.heard.append((picks, reward))


def test_extra_updates_see_other_configurations_and_leave_the_trained_one():
    controller = Counting([0] * 10)
    one = step("held-out", extra=2, controller=controller)
    one(batch())
    one.on_epoch_end(1, {})
    assert [picks[0] for picks, _ in controller.heard] == [0, 1, 0]
    assert one.model.space.picks(one.model.configuration) == [0] * 10
    assert one.reward == controller.heard[0][1] == controller.heard[2][1] != controller.heard[1][1]


@pytest.mark.parametrize("name", ["aaspc", "aaspc(controller=random, keep=best)", "aaspc(reward=held-out, extra=1)"])
def test_a_search_that_was_cut_off_ends_as_if_nothing_had_happened(name: str, tmp_path, monkeypatch):
    whole = run(name, checkpoint=tmp_path / "whole")
    with monkeypatch.context() as patch:
        calls = cut_off_in_the_third_epoch(patch)
        with pytest.raises(KeyboardInterrupt):
            run(name, checkpoint=tmp_path / "cut")
        again = run(name, checkpoint=tmp_path / "cut")
    assert len(calls) < 2 * 16
    assert again.learned == whole.learned and again.metrics == whole.metrics
    assert all(torch.equal(value, again.model.state_dict()[key]) for key, value in whole.model.state_dict().items())


def cut_off_in_the_third_epoch(patch) -> list[int]:
    calls, call = [], SearchStep.__call__

    def pull_the_plug(one, given):
        calls.append(1)
        if len(calls) == 11:
            raise KeyboardInterrupt
        return call(one, given)
    patch.setattr(SearchStep, "__call__", pull_the_plug)
    return calls


def test_labels_of_the_target_change_nothing():
    clean, poisoned = (methods.run("aaspc(reward=held-out, extra=1, keep=best)", problem(poisoned=wrong),
                                   progress=False) for wrong in (False, True))
    learned = [{key: value for key, value in result.learned.items() if key != "oracle"} for result in (clean, poisoned)]
    assert learned[0] == learned[1]
    assert all(torch.equal(value, poisoned.model.state_dict()[key]) for key, value in clean.model.state_dict().items())
    assert clean.metrics != poisoned.metrics


@pytest.mark.parametrize(("name", "message"), [
    ("aaspc(cells=0)", "number of cells"), ("aaspc(controller=luck)", "random"), ("aaspc(reward=train)", "held-out"),
    ("aaspc(keep=all)", "last"), ("aaspc(configuration=3)", "controller=fixed"), ("aas(distance=pcc)", "pc"),
    ("aaspc(controller=fixed, configuration=7776)", "7775"), ("aaspc(extra=1)", "reward=held-out"),
    ("aaspc(extra=-1, reward=held-out)", "extra"), ("aaspc(keep=best, select=entropy)", "one of them"),
    ("aaspc(clip=True)", "clip"), ("aaspc(weight=-1)", "weight"), ("aaspc(clip=0)", "clip"),
    ("aaspc(controller_lr=-1)", "controller")])
def test_what_does_not_fit_is_refused(name: str, message: str):
    with pytest.raises(ValueError, match=message):
        run(name)
