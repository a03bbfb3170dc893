"""DSMTL-AL: what each level learns, what is retrained, and that nothing of the search leaks into it."""

import dataclasses

import pytest
import torch

from mtlcourse import methods, models
from mtlcourse.files import seed_everything
from mtlcourse.search.sharing import dsmtl_al
from mtlcourse.search.sharing.branches import Supernet
from mtlcourse.search.sharing.dsmtl_al import LearnedWeighting
from mtlcourse.strategies import make
from mtlcourse.tasks import Problem, TensorSplit, mean_losses
from mtlcourse.training import fit
from mtlcourse.training.state import State
from mtlcourse.training.updates import make_step
from tests.problems import TASKS, small
from tests.strategies.nets import NAMES

TRAINING = {"fast": {"epochs": 2, "batch_size": 10, "lr": 0.02}}


def problem(**options):
    return dataclasses.replace(small(NAMES, **options), training=TRAINING)


def run(name="dsmtl-al", **options):
    return methods.run(name, options.pop("problem", problem()), progress=False, **options)


def same(one, other):
    return all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


# --- learned weights --------------------------------------------------------------------------------------

def test_learned_weights_are_a_softmax_and_their_objective_knows_it():
    weighting = LearnedWeighting(3)
    step = make_step(problem().tasks, Supernet(problem()), weighting)
    weighting.logits.data = torch.tensor([0.0, 1.0, -1.0], dtype=torch.float64)
    batch = next(problem().train.batches(10))
    losses = torch.stack(list(mean_losses(problem().tasks, step.model(batch.inputs), batch).values())).detach()
    w = 3 * torch.softmax(weighting.logits.detach(), 0)
    weights = weighting.weights(losses.double())
    torch.testing.assert_close(weights.shared, w)
    torch.testing.assert_close(weights.heads, w)
    value = weighting.objective(step)(batch)
    torch.testing.assert_close(value, (w.float() * losses).sum())
    found, = torch.autograd.grad(value, weighting.logits)
    torch.testing.assert_close(found, w / 3 * (3 * losses.double() - (w * losses).sum()))
    assert sum(weighting.learned().values()) == pytest.approx(1.0)
    absent = weighting.weights(losses.double(), None, torch.tensor([True, False, True]))
    assert absent.shared.sum().item() == pytest.approx(2.0) and absent.shared[1] == 0


def test_first_order_moves_weight_to_the_smallest_loss_whatever_its_unit():
    """The same problem with one target ten times as large (its square loss a hundred times): all weight leaves it."""
    plain = problem()
    scaled = dataclasses.replace(plain, **{
        name: TensorSplit(split.inputs, {**split.targets, "size": 10 * split.targets["size"]})
        for name, split in (("train", plain.train), ("val", plain.val), ("test", plain.test))})
    before, after = (run("dsmtl-al(architecture_lr=0.3)", problem=p).learned["weights"] for p in (plain, scaled))
    assert after["size"] < 0.2 < before["size"] + 0.2 and after["size"] < before["size"]
    assert max(after, key=after.get) != "size"


# --- the procedure ----------------------------------------------------------------------------------------

def test_search_then_retrain_from_scratch_on_everything(monkeypatch):
    trained = []
    inner = fit

    def watched(problem, model, strategy, **arguments):
        trained.append((type(model), len(problem.train), type(strategy).__name__, arguments.get("step") is not None,
                        {name: p.clone() for name, p in model.state_dict().items()}))
        return inner(problem, model, strategy, **arguments)

    monkeypatch.setattr("mtlcourse.training.procedures.fit", watched)
    result = run(seed=4)
    (net, half, *_, first), (tree, whole, strategy, step, start) = trained
    assert (net, half, tree, whole) == (Supernet, 20, models.Tree, 40)
    assert (strategy, step) == ("LearnedWeighting", False) and trained[0][3]
    seed_everything(4)
    fresh = models.Tree(problem(), points=result.learned["points"], gate="projected")
    assert all(torch.equal(start[name], value) for name, value in fresh.state_dict().items())
    assert result.stages == ["search", "retrain"] and isinstance(result.model, models.Tree)


def test_what_was_learned_and_both_qualities_are_reported():
    result = run()
    assert set(result.learned) == {"points", "weights", "gate", "alpha"} and result.learned["gate"] == "projected"
    assert result.learned["alpha"] == result.model.alphas()
    assert set(result.learned["alpha"]) == {t for t, p in result.learned["points"].items() if p < 3}
    rows = result.history.groupby(["stage", "split"])["name"].agg(set)
    assert {"beta_1", "beta_2", "beta_3", "loss"} <= rows["search", "train"] and "loss" in rows["search", "test"]
    assert set(result.history[result.history["stage"] == "retrain"]["split"]) == {"train", "val"}
    relaxed = result.history.query("stage == 'search' and split == 'test' and name == 'loss'")
    assert set(relaxed["task"]) == set(NAMES) and set(relaxed["epoch"]) == {2}
    assert result.metrics["kind"]["loss"] != relaxed.set_index("task")["value"]["kind"]
    assert result.cost["steps"] == 2 * 2 + 2 * 4


def test_retraining_uses_the_learned_weights_or_what_is_asked_for():
    points = run().learned["points"]
    weights = LearnedWeighting(3)
    learned = run("dsmtl-al(architecture_lr=0.5)")
    weights.logits.data = torch.tensor(list(learned.learned["weights"].values()), dtype=torch.float64).log()
    cases = {"dsmtl-al(architecture_lr=0.5)": weights, "dsmtl-al(weighting=False)": make("ew"),
             "dsmtl-al+pcgrad": make("pcgrad"), "dsmtl-al+ew": make("ew")}
    for name, strategy in cases.items():
        result = run(name)
        seed_everything(0)
        tree = models.Tree(problem(), points=result.learned["points"], gate="projected")
        fit(problem(), tree, strategy, **TRAINING["fast"], progress=False)
        for one, other in zip(tree.parameters(), result.model.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert points == run("dsmtl-al+pcgrad").learned["points"], "the search does not know the strategy of retraining"


@pytest.mark.parametrize("option", ["gate=sigmoid", "gate=fixed", "gate=None", "single_level=True", "order=second",
                                    "order=exact", "splitting=False", "gate=None, pure=False"])
def test_every_ablation_runs(option):
    result = run(f"dsmtl-al({option})")
    assert result.history["value"].notna().all()
    if option == "gate=fixed":
        assert all(alpha == 0.5 for alpha in result.learned["alpha"].values())
    if "gate=None" in option:
        assert result.learned["alpha"] == {}
    if option == "splitting=False":
        assert set(result.learned["points"].values()) <= {1, 3}
    assert ("groups" in result.learned) == ("pure" in option)


# --- the bilevel search finds what is right ---------------------------------------------------------------

def test_a_shared_encoder_that_cannot_learn_is_left():
    """With f_S frozen at zero only private modules are of use: every task's probability of sharing falls."""
    net = Supernet(problem())
    for parameter in net.shared.parameters():
        parameter.data.zero_()
        parameter.requires_grad_(False)
    setting = methods.Setting(0, None, {"epochs": 15, "batch_size": 10, "lr": 0.02, "progress": False})
    dsmtl_al.search(problem(), net, make("ew"), setting, upper=net.architecture_parameters(), architecture_lr=0.1)
    assert net.points() == dict.fromkeys(NAMES, 1)
    assert all(row[1] > 0.6 for row in net.probabilities().values())


# --- reproducible, resumable ------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["dsmtl-al", "conal", "conal-pro"])
@pytest.mark.parametrize("saves", [1, 2, 3])
def test_a_search_that_was_cut_off_ends_as_if_nothing_had_happened(name, saves, tmp_path, monkeypatch):
    whole = run(name, seed=2)
    assert same(whole.model, run(name, seed=2).model), "reproducible"
    kept = State.save
    count = 0

    def save_and_die(state):
        nonlocal count
        kept(state)
        count += 1
        if count == saves:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(State, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            run(name, seed=2, checkpoint=tmp_path / "state")
    resumed = run(name, seed=2, checkpoint=tmp_path / "state")
    assert same(whole.model, resumed.model) and whole.learned == resumed.learned
    assert whole.history.equals(resumed.history) and whole.metrics == resumed.metrics


# --- what is refused --------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "message"), [
    ("dsmtl-al(gate=open)", "Unknown gate 'open'"), ("dsmtl-al(weighting=3)", "weighting=3 is neither True nor False"),
    ("dsmtl-al(single_level=yes)", "single_level='yes' is neither"), ("dsmtl-al(order=third)", "Unknown order 'third'"),
    ("dsmtl-al(pure=False)", "without pure modules"),
])
def test_options_that_make_no_sense_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        run(name)


def test_a_half_without_labels_of_a_task_is_refused():
    split = small(("kind", "size")).train
    targets = {**split.targets, "size": split.targets["size"].clone()}
    targets["size"][1:] = float("nan")  # a single labelled sample cannot be in both halves
    lonely = Problem("lonely", TASKS[:2], TensorSplit(split.inputs, targets), split, split, (4,),
                     {"name": "mlp", "widths": [6, 5]})
    with pytest.raises(ValueError, match="no label"):
        run(problem=dataclasses.replace(lonely, training=TRAINING))
