"""MTL-NAS: edges by hand, both ends of the gates, and the entropy that decides them."""

import pytest
import torch

from mtlcourse import methods, models
from mtlcourse.files import seed_everything
from mtlcourse.search.sharing.mtl_nas import MTLNAS, Fused, Fusion
from mtlcourse.tasks import Problem
from tests.problems import pixels, small

THREE = ("kind", "size", "big")


def fresh(kind, problem: Problem, **options):
    seed_everything(3)
    return kind(problem, **options).double()


@pytest.mark.parametrize("problem", [small, pixels])
def test_without_edges_it_is_single_task_learning_to_the_bit(problem):
    problem = problem()
    alone, model = fresh(models.STL, problem), fresh(Fused, problem, edges=[])
    x = problem.test.inputs.double()
    assert all(torch.equal(alone(x)[task], model(x)[task]) for task in problem.task_names)
    assert not model.fusions and not model.shared_parameters()


def test_edges_by_hand():
    problem = small()
    edges = [("kind", 1, "size", 1), ("size", 2, "kind", 1), ("size", 2, "kind", 2)]
    model = fresh(Fused, problem, edges=edges)
    x = problem.test.inputs.double()
    f, g = model.private["kind"].stages, model.private["size"].stages
    into_kind, into_size = model.fusions["kind-1"], model.fusions["size-2"]
    a1, b1 = f[0](x), g[0](x)
    a2 = f[1](into_kind.own * a1 + b1 @ into_kind.maps[0].T)
    b2 = g[1](b1)
    found = model(x)
    torch.testing.assert_close(found["kind"], model.heads["kind"](a2), rtol=1e-12, atol=1e-12)
    fused = into_size.own * b2 + a1 @ into_size.maps[0].T + a2 @ into_size.maps[1].T
    torch.testing.assert_close(found["size"], model.heads["size"](fused), rtol=1e-12, atol=1e-12)
    assert set(model.fusions) == {"kind-1", "size-2"}
    for task in ("kind", "size"):  # asked alone, a task is told the same
        assert torch.equal(model(x, [task])[task], found[task])


def test_fusions_start_near_the_own_features():
    fusion = Fusion((3,), [(3,), (5,)])
    own, equal, longer = torch.randn(4, 3), torch.randn(4, 3), torch.randn(4, 5)
    torch.testing.assert_close(fusion(own, [equal, longer], None), 0.9 * own + 0.05 * equal + 0.05 * longer[:, :3])


def test_maps_are_brought_to_size():
    maps, small_map, vector = torch.randn(2, 4, 6, 8), torch.randn(2, 3, 3, 4), torch.randn(2, 5)
    to_map = Fusion((3, 3, 4), [(4, 6, 8)])
    expected = 0.9 * small_map + 0.1 * torch.nn.functional.avg_pool2d(maps, 2)[:, :3]
    torch.testing.assert_close(to_map(small_map, [maps], None), expected)
    to_vector = Fusion((5,), [(4, 6, 8)])
    expected = 0.9 * vector + 0.1 * torch.nn.functional.pad(maps.mean((2, 3)), (0, 1))
    torch.testing.assert_close(to_vector(vector, [maps], None), expected)


def test_all_edges():
    model = Fused(small(THREE))  # two modules: one source each in the first, two in the second, of either other task
    assert len(model.edges) == 3 * 2 * (1 + 2)
    assert ("kind", 2, "big", 1) in model.edges and ("kind", 1, "big", 2) not in model.edges


@pytest.mark.parametrize("problem", [small, pixels])
def test_certain_gates_are_the_model_that_is_found(problem):
    problem = problem()
    x = problem.test.inputs.double()
    model = fresh(MTLNAS, problem)
    torch.manual_seed(0)
    with torch.no_grad():
        model.logits.copy_(1e4 * torch.randn(len(model.edges)).sign())
    found = model.discrete(problem).double()
    assert 0 < len(found.edges) < len(model.edges) and found.edges == model.found_edges()
    state = model.state_dict()
    for key, fusion in found.fusions.items():  # the supernet's maps, of the edges that are left
        t, s = key.split("-")
        all_sources = [edge for edge in model.edges if edge[:2] == (t, int(s))]
        for number, edge in enumerate(edge for edge in found.edges if edge[:2] == (t, int(s))):
            state[f"fusions.{key}.maps.{number}"] = model.fusions[key].maps[all_sources.index(edge)]
        assert fusion.own is not None
    found.load_state_dict({key: state[key] for key in found.state_dict()})
    with torch.no_grad():
        for key, fusion in model.fusions.items():
            if key not in found.fusions:
                fusion.own.fill_(1.0)
    for task, prediction in model(x).items():
        torch.testing.assert_close(prediction, found(x)[task], rtol=1e-9, atol=1e-9)


def test_gates_are_half_open_at_first():
    problem = small()
    model, whole = fresh(MTLNAS, problem), fresh(Fused, problem)
    with torch.no_grad():
        for fusion in whole.fusions.values():
            for W in fusion.maps:
                W.mul_(0.5)
    x = problem.test.inputs.double()
    assert all(torch.allclose(model(x)[task], whole(x)[task]) for task in problem.task_names)


def test_the_entropy():
    model = fresh(MTLNAS, small(), entropy=3)
    with torch.no_grad():
        model.logits.normal_(std=3.0)
    expected = torch.distributions.Bernoulli(logits=model.logits).entropy().mean()
    torch.testing.assert_close(model.mean_entropy(), expected)
    model.prepare(5, 0)
    for epoch, share in enumerate([0, 0.25, 0.5, 0.75, 1, 1]):
        model.on_epoch_end(epoch, {})
        torch.testing.assert_close(model.regularizer(), 3 * share * expected)
    with torch.no_grad():
        model.logits.fill_(60.0)
    assert model.mean_entropy() < 1e-9 and model.mean_entropy().isfinite()


def test_entropy_makes_gates_decide(monkeypatch):
    monkeypatch.setitem(methods.BUDGETS, "fast", {"epochs": 15})
    spread = {}
    for entropy in (0, 10):
        run = methods.run(f"mtl-nas(entropy={entropy})", small(), budget="fast", lr=0.08, progress=False)
        last = run.history[(run.history["epoch"] == 15) & run.history["name"].str.startswith("edge_")]["value"]
        spread[entropy] = (last - 0.5).abs().min()
    assert spread[10] > 0.3 > spread[0]


@pytest.mark.parametrize(("edge", "message"), [
    (("kind", 1, "bag", 1), "Unknown task 'bag'.*those of another problem"),
    (("kind", 1, "size", 2), "is no edge; give .task, module, other task, its module."),
    (("kind", 1, "kind", 1), "is no edge"), (("kind", 3, "size", 1), "is no edge"), (("kind", 1), "is no edge"),
])
def test_edges_that_cannot_be(edge: tuple, message: str):
    with pytest.raises(ValueError, match=message):
        Fused(small(), edges=[edge])
