"""CoNAL: conflicts are noticed while searching, weights are random while retraining."""

import dataclasses

import pytest
import torch

from mtlcourse import data, methods, models
from mtlcourse.files import seed_everything
from mtlcourse.search.sharing import conal as module
from mtlcourse.search.sharing.branches import Supernet
from mtlcourse.strategies import Chain, Strategy, make
from mtlcourse.training import fit
from tests.problems import small
from tests.strategies.nets import NAMES

TRAINING = {"fast": {"epochs": 2, "batch_size": 10, "lr": 0.02}}
ENCODER = {"name": "mlp", "widths": [6, 5, 5]}


def problem(names=NAMES, **options):
    return dataclasses.replace(small(names, **options), training=TRAINING, encoder=ENCODER)


def run(name="conal", **options):
    return methods.run(name, options.pop("problem", problem()), progress=False, **options)


# --- the search ------------------------------------------------------------------------------------------

def test_the_weights_of_the_search_are_learned_under_conflict_noticing(monkeypatch):
    """Each step of the lower level, replayed: modules from the first conflict on stand still, private ones do not."""
    seen, inner = [], module.search

    def watched(problem, model, strategy, setting, **arguments):
        assert type(strategy).__name__ == "ConflictNoticing" and not strategy.zero_is_a_step and strategy.first == 1
        state = {}

        def before(*_):
            state["shared"] = [[p.detach().clone() for p in group] for group in model.shared_modules()]
            state["own"] = [p.detach().clone() for t in NAMES for p in model.private[t].parameters()]

        def after(step):
            stood = [all(torch.equal(p, q) for p, q in zip(group, old, strict=True))
                     for group, old in zip(model.shared_modules(), state["shared"], strict=True)]
            own = [p for t in NAMES for p in model.private[t].parameters()]
            moved = [not torch.equal(p, q) for p, q in zip(own, state["own"], strict=True)]
            seen.append((stood, all(moved)))

        model.register_forward_pre_hook(before)
        model.after_step = after
        return inner(problem, model, strategy, setting, **arguments)

    monkeypatch.setattr(module, "search", watched)
    run()
    assert len(seen) == 4  # two epochs of two steps
    for stood, moved in seen:
        assert moved and stood == sorted(stood)  # once a module stands still all later ones do
    assert len({tuple(stood) for stood, _ in seen}) > 1


def test_the_history_has_a_conflict_map():
    history = run().history
    rows = history[history["name"].str.startswith("conflict ") & (history["task"] != "shared")]
    assert set(rows["stage"]) == {"search"} and set(rows["epoch"]) == {1, 2}
    assert set(rows["task"]) == {"module_1", "module_2", "module_3"}
    assert set(rows["name"]) == {"conflict kind-size", "conflict kind-big", "conflict size-big"}
    assert rows["value"].between(0, 1).all()
    without = run("conal(notice=False)").history
    assert not without["name"].str.startswith("conflict ").any()


@pytest.mark.parametrize("problem_name", ["relatedness", "rooms(train=16, val=6, test=6)",
                                          "multidigits(train=40, val=20, test=20)"])
@pytest.mark.parametrize("name", ["dsmtl-al", "conal", "conal-pro", "conal+cagrad"])
def test_it_runs_by_name_on_every_offline_problem(problem_name, name):
    result = run(name, problem=problem_name, budget="smoke")
    assert result.history["value"].notna().all() and isinstance(result.model, models.Tree)
    points = result.learned["points"]
    part = methods.parse_part(problem_name).name
    assert set(points) == set(data.describe(part).task_names)
    name = f"tree(points={points}, gate={'projected' if name == 'dsmtl-al' else None})"
    if "-pro" not in result.config["method"]:
        assert methods.count_parameters(name, part) == result.cost["parameters"]


@pytest.mark.parametrize("option", ["notice=False", "pure=False, notice=False", "splitting=False",
                                    "random_weights=False", "single_level=True", "order=second",
                                    "splitting=False, pure=False, notice=False"])
def test_every_ablation_runs(option):
    result = run(f"conal({option})")
    assert result.history["value"].notna().all()
    assert ("groups" in result.learned) == ("pure" in option)
    conflicts = result.history[result.history["name"].str.startswith("conflict ")]["task"]
    if option == "splitting=False":  # one module, and all or nothing
        assert set(result.learned["points"].values()) <= {1, 4} and set(conflicts) == {"shared", "module_1"}


def test_inputs_and_labels_of_their_own():
    for options in ({"own": True}, {"void": 0.3}):
        for name in ("conal", "conal-pro", "dsmtl-al", "conal(pure=False, notice=False)"):
            assert run(name, problem=problem(**options)).history["value"].notna().all()


@pytest.mark.parametrize("name", ["dsmtl-al", "conal", "conal(pure=False, notice=False)", "conal-pro"])
def test_half_precision(name):
    assert run(name, budget="smoke", precision="bfloat16").history["value"].notna().all()


def test_noticing_needs_pure_modules():
    with pytest.raises(ValueError, match=r"needs purely-specific modules.*conal\(pure=False, notice=False\)"):
        run("conal(pure=False)")
    with pytest.raises(ValueError, match="notice='no' is neither True nor False"):
        run("conal(notice=no)")
    with pytest.raises(ValueError, match="does not take these options"):
        run("conal(gate=fixed)")


# --- retraining ----------------------------------------------------------------------------------------------

def test_uniform_weights_are_as_printed_but_for_their_sum():
    weighting = make("rlw", distribution="uniform").bind(list("abcd"), torch.Generator().manual_seed(0))
    losses = torch.ones(4, dtype=torch.float64)
    draws = torch.stack([weighting.weights(losses).shared for _ in range(4000)])
    torch.testing.assert_close(draws.sum(1), torch.full((4000,), 4.0, dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    u = 1 - torch.rand(4, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(draws[0], 4 * u / u.sum())
    assert (draws > 0).all() and (draws.mean(0) - 1).abs().max() < 0.03
    # Normalised uniforms spread less than the softmax of normals: their largest is below half more often.
    assert draws.std() < torch.stack([make("rlw").bind(list("abcd"), generator).weights(losses).shared
                                      for _ in range(400)]).std()
    some = weighting.weights(losses, None, torch.tensor([True, False, True, False]))
    assert some.shared.sum().item() == pytest.approx(2.0) and some.shared[1] == 0
    with pytest.raises(ValueError, match="Unknown distribution 'beta'"):
        make("rlw", distribution="beta")


@pytest.mark.parametrize(("name", "strategy"), [
    ("conal", lambda: make("rlw", distribution="uniform")), ("conal(random_weights=False)", lambda: make("ew")),
    ("conal+pcgrad", lambda: Chain(make("rlw", distribution="uniform"), make("pcgrad"))),
    ("conal(random_weights=False)+pcgrad", lambda: make("pcgrad")), ("conal+dwa", lambda: make("dwa")),
    ("conal+uw+pcgrad", lambda: Chain(make("uw"), make("pcgrad"))),
])
def test_retraining_is_a_fit_of_the_learned_tree_from_scratch(name, strategy):
    result = run(name, seed=1)
    seed_everything(1)
    tree = models.Tree(problem(), points=result.learned["points"])
    by_hand = fit(problem(), tree, strategy(), **TRAINING["fast"], seed=1, progress=False)
    assert all(torch.equal(p, q) for p, q in zip(tree.parameters(), result.model.parameters(), strict=True))
    assert by_hand.metrics == result.metrics


def test_retraining_is_not_touched_by_the_search(monkeypatch):
    """Whatever the search does, the same points give the same retrained model."""
    first = run()
    monkeypatch.setattr(module, "search", _lucky_guess(first.learned["points"], module.search))
    second = run("conal(order=second)")
    assert second.learned == first.learned
    assert all(torch.equal(p, q) for p, q in zip(first.model.parameters(), second.model.parameters(), strict=True))


def _lucky_guess(points, inner):
    def search(problem, model: Supernet, strategy: Strategy, setting, **arguments):
        result = inner(problem, model, strategy, setting, **arguments)
        torch.rand(17)
        for task, p in points.items():
            model.beta[task].data.zero_()[p - 1] = 1.0
        return result
    return search
