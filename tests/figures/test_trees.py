"""What the figures of learned architectures show is what was learned."""

import dataclasses

import pandas as pd
import pytest

from mtlcourse import methods
from mtlcourse.figures import trees
from mtlcourse.models import Tree
from mtlcourse.training import Run
from tests.problems import small
from tests.strategies.nets import NAMES

TRAINING = {"fast": {"epochs": 2, "batch_size": 10, "lr": 0.02}}


def problem():
    return dataclasses.replace(small(NAMES), training=TRAINING, encoder={"name": "mlp", "widths": [6, 5, 4]})


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def boxes(figure):
    return [(round(box.get_x(), 2), round(box.get_y(), 2), box.get_facecolor()[:3])
            for box in figure.axes[0].patches]


def test_a_tree_shows_modules_branch_points_and_tasks():
    tree = Tree(problem(), points={"kind": 1, "size": 3, "big": 4})
    figure = trees.tree(tree)
    assert set(NAMES) < set(texts(figure)) and sorted(t for t in texts(figure) if t.isdigit()) == ["1", "3", "4"]
    drawn = boxes(figure)
    assert len(drawn) == sum(len(parts) for parts in tree.parts) == 3 + 1 + 3
    colours = {colour for *_, colour in drawn}
    assert len(colours) == 3  # shared, kind's own, size's own
    assert sum(x < 1 for x, *_ in drawn) == 2 and sum(x > 2 for x, *_ in drawn) == 3


@pytest.mark.parametrize("points", [{"kind": 1, "size": 3, "big": 4}, {"kind": 1, "size": 3, "big": 3}])
def test_gates_are_dashed_and_f_s_is_there_whole(points):
    tree = Tree(problem(), points=points, gate="projected")
    figure = trees.tree(tree)
    dashed = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert len(dashed) == len(tree.gates) == sum(r"$\alpha$ = 0.50" in text for text in texts(figure))
    assert len(boxes(figure)) == sum(len(parts) for parts in tree.parts)


def test_groups_are_drawn_without_a_model():
    groups = [dict(a=0, b=0, c=1, d=1), dict(a=0, b=1, c=2, d=2)]
    figure = trees.tree(groups)
    assert len(boxes(figure)) == 2 + 3
    assert not any(t.isdigit() for t in texts(figure))  # there is no trunk to leave
    heights = {t.get_text(): t.get_position()[1] for t in figure.axes[0].texts if t.get_text() in "abcd"}
    assert sorted(heights, key=heights.get, reverse=True) == list("abcd")
    crossed = trees.tree([dict(a=0, b=1, c=0, d=1)])
    heights = {t.get_text(): t.get_position()[1] for t in crossed.axes[0].texts if t.get_text() in "abcd"}
    assert sorted(heights, key=heights.get, reverse=True) == list("acbd")  # groups side by side


def test_numbers_stand_where_tasks_leave_the_trunk():
    """With subgroups, too: tasks that leave together part again behind their modules, which is no branch point."""
    points = {"kind": 3, "size": 4, "big": 3}
    groups = [dict.fromkeys(NAMES, "f_S")] * 2 + [{"kind": "left at 3", "size": "f_S", "big": "left at 3"}]
    tree = Tree(problem(), groups=groups)
    run = Run(pd.DataFrame(), {}, tree, {}, learned={"points": points})
    figure = trees.tree(run)
    assert sorted(t for t in texts(figure) if t.isdigit()) == ["3", "4"]
    places = {t.get_text(): t.get_position() for t in figure.axes[0].texts}
    assert 2 < places["3"][0] < 3 and places["4"][0] > 3 and abs(places["4"][1] - places["size"][1]) < 0.1
    alone = trees.tree([{"kind": "own", "size": "shared", "big": "shared"}] * 2)
    assert sorted(t for t in texts(alone) if t.isdigit()) == ["1", "3", "3"]
    assert not any(t.isdigit() for t in texts(trees.tree(tree)))  # groups alone do not say it


def test_branch_probabilities_and_conflicts_over_the_epochs_of_a_search():
    run = methods.run("conal", problem(), progress=False)
    figure = trees.branch_probabilities(run)
    assert [axis.get_title() for axis in figure.axes] == list(NAMES)
    history = run.history
    for axis, task in zip(figure.axes, NAMES, strict=True):
        for p, line in enumerate(axis.lines, start=1):
            rows = history[(history["task"] == task) & (history["name"] == f"beta_{p}")]
            assert list(line.get_ydata()) == list(rows["value"]) and list(line.get_xdata()) == [1, 2]
    figure = trees.conflict_map(history)
    axis = next(axis for axis in figure.axes if axis.get_title() == "kind and big")
    rows = history[(history["name"] == "conflict kind-big") & (history["task"] == "module_2")]
    assert axis.images[0].get_array()[1].tolist() == list(rows["value"])
    assert axis.images[0].get_array().shape == (3, 2)
    assert isinstance(trees.tree(run), type(figure))


def test_stages_of_a_progressive_search_follow_one_another():
    run = methods.run("conal-pro", problem(), progress=False)
    stages = len(run.stages) - 1
    figure = trees.branch_probabilities(run)
    ends = max(max(line.get_xdata()) for axis in figure.axes for line in axis.lines if line.get_marker() == "o")
    assert stages > 1 and ends <= 2 * stages
    dotted = [line for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    assert len(dotted) == stages - 1
    trees.conflict_map(run)


def test_a_history_without_a_search_is_told():
    history = pd.DataFrame([{"stage": "train", "epoch": 1, "split": "val", "task": "a", "name": "loss", "value": 1.0}])
    for draw in (trees.branch_probabilities, trees.conflict_map):
        with pytest.raises(ValueError, match="The history has no rows"):
            draw(history)


def test_a_supernet_shows_every_branch_as_thick_as_it_is_probable():
    rows = {"a": {1: 0.7, 2: 0.3, 3: 0.0}, "b": {1: 0.1, 2: 0.2, 3: 0.7}, "c": {1: 0.2, 2: 0.2, 3: 0.6}}
    figure = trees.supernet(rows)
    assert len(boxes(figure)) == 2 + 3 * 2 and len({colour for *_, colour in boxes(figure)}) == 4
    assert {"a", "b", "c", "p = 1", "p = 2", "p = 3"} < set(texts(figure))
    branches = [line for line in figure.axes[0].lines if str(line.get_color()).startswith("C")]
    assert len(branches) == 3 * 3 - 1  # one has no probability
    widths = {}
    for line in branches:
        widths.setdefault(line.get_color(), []).append(line.get_linewidth())
    assert widths["C0"][0] > widths["C0"][1] and widths["C1"] == sorted(widths["C1"])


def test_a_supernet_needs_all_branch_points():
    with pytest.raises(ValueError, match="1 to P"):
        trees.supernet({"a": {1: 0.5, 2: 0.5}, "b": {2: 1.0}})
