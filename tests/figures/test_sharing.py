"""The figure of what a model shares says what its routes say, and draws lines where data really go."""

from dataclasses import replace

import pytest
import torch
from matplotlib import rc_context
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from mtlcourse import data, methods, models
from mtlcourse.figures.sharing import SHARED, boxes, sharing
from mtlcourse.files import seed_everything
from tests.problems import ONE_ANSWER, small

ROOMS = data.describe("rooms")  # three tasks, three stages
TASKS = ("segmentation", "depth", "normals")


def built(name: str, problem=ROOMS) -> models.MTLModel:
    seed_everything(0)
    return methods.build(name, problem)


def rectangles(axis) -> list[Rectangle]:
    return [patch for patch in axis.patches if isinstance(patch, Rectangle)]


def colours(axis) -> list[tuple]:
    return [to_rgb(patch.get_facecolor()) for patch in rectangles(axis)]


def yes_or_no(name: str):
    """Three questions an image, for models that do not answer for each pixel."""
    return replace(ROOMS, tasks=[data.binary(task) for task in TASKS]) if name in ONE_ANSWER else ROOMS


@pytest.mark.parametrize("name", methods.names())
def test_boxes_hold_what_the_routes_hold_and_hang_together(name: str):
    model = built(name, yes_or_no(name))
    found = boxes(model)
    for task in model.task_names:
        on_route = {id(p): p.numel() for module in model.route(task) for p in module.parameters()}
        assert sum(box.parameters for box in found if task in box.tasks) == sum(on_route.values())
        if all(p.requires_grad for p in model.parameters()):
            own = sum(p.numel() for p in model.task_parameters(task))
            assert sum(box.parameters for box in found if box.tasks == (task,)) == own
    assert all(found[source].depth < box.depth for box in found for source in box.sources)
    heads = [number for number, box in enumerate(found) if box.label == "heads"]
    assert len(heads) == 3 and all(found[number].sources for number in heads)
    taken = {source for box in found for source in box.sources}
    assert taken | set(heads) == set(range(len(found))), "a module that nothing takes from"


def test_hard_sharing_is_a_trunk():
    found = boxes(built("hps"))
    assert [(box.label, box.tasks, box.depth, box.sources) for box in found] == [
        ("shared", TASKS, 1, ()), ("shared", TASKS, 2, (0,)), ("shared", TASKS, 3, (1,)),
        *(("heads", (task,), 4, (2,)) for task in TASKS)]


def test_each_mixer_takes_from_all_encoders():
    found = boxes(built("cross-stitch"))
    assert [len(box.sources) for box in found if box.label == "mixers"] == [3] * 9
    assert [box.tasks for box in found if len(box.tasks) < 3] == [(task,) for task in TASKS] * 2  # last mixers, heads


def test_gates_stand_right_before_what_takes_from_them():
    assert {(box.depth, box.sources) for box in boxes(built("mmoe")) if box.label == "gates"} == {(3, ())}


def test_a_module_stands_as_late_as_what_takes_from_it_allows():
    depths = [(box.label, box.depth) for box in boxes(built("mtan")) if box.label in ("shared", "carry")]
    assert sorted(depths) == [("carry", 3), ("carry", 5), ("shared", 1), ("shared", 3), ("shared", 5)]


def test_a_module_that_sees_two_others_has_a_line_from_each():
    found = boxes(built("mtan"))
    second = [box for box in found if box.label == "attention"][3]
    assert {found[source].label for source in second.sources} == {"shared", "carry"}


def test_the_figure_has_a_box_a_module_in_the_colours_of_its_tasks():
    drawn = {name: built(name) for name in ("stl", "hps", "ple")}
    figure = sharing(drawn)
    assert [axis.get_title() for axis in figure.axes] == [*drawn, ""]
    for axis, model in zip(figure.axes, drawn.values(), strict=False):
        found = boxes(model)
        assert [text.get_text() for text in axis.texts] == [box.label for box in found]
        assert [colour == to_rgb(SHARED) for colour in colours(axis)] == [
            len(box.tasks) == 3 for box in found]
        assert len(axis.lines) == sum(len(box.sources) for box in found)
        places = {(round(patch.get_x(), 3), round(patch.get_y(), 3)) for patch in rectangles(axis)}
        assert len(places) == len(found)
        low, high = axis.get_ylim()
        assert all(low < patch.get_y() < high - patch.get_height() for patch in rectangles(axis))
    first = colours(figure.axes[0])
    assert len(set(first)) == 3 and first[:3] == first[3:6]


def test_labels_fit_into_their_boxes_and_boxes_hide_lines():
    with rc_context({"figure.constrained_layout.use": True}):  # as `figures.setup` has it
        figure = sharing({name: built(name) for name in ("mtan", "tsn")})
    figure.draw_without_rendering()
    for axis in figure.axes:
        for text, patch in zip(axis.texts, rectangles(axis), strict=True):
            inner, outer = text.get_window_extent(), patch.get_window_extent()
            assert outer.x0 < inner.x0 and inner.x1 < outer.x1 and outer.y0 < inner.y0 and inner.y1 < outer.y1
            assert patch.get_facecolor()[3] == 1.0 and text.get_fontsize() >= 7
        assert all(line.get_zorder() < patch.get_zorder() for line in axis.lines for patch in rectangles(axis))


def test_stages_of_one_row_are_in_a_row():
    axis = sharing({"mtan": built("mtan", data.describe("multidigits"))}).axes[0]
    places = {text.get_position() for text in axis.texts if text.get_text() == "shared"}
    assert len(places) > 1 and len({y for _, y in places}) == 1
    tops = [(patch.get_x(), patch.get_y()) for patch in rectangles(axis)]
    for line in axis.lines:  # from its beginning to its turn a line runs along a row, and through no box there
        (start, turn), (y, level) = line.get_xdata()[:2], line.get_ydata()[:2]
        assert y == level and not any(start < x and x + 0.8 < turn and low < y < low + 0.7 for x, low in tops)


def test_what_some_tasks_share_is_striped():
    model = models.Tree(ROOMS, groups=[{"segmentation": "a", "depth": "b", "normals": "a"}] * 3)
    assert [box.tasks for box in boxes(model) if box.depth == 1] == [("segmentation", "normals"), ("depth",)]
    axis = sharing({"tree": model}).axes[0]
    own = {box.tasks[0]: colour for box, colour in zip(boxes(model)[-3:], colours(axis)[-3:], strict=True)}
    assert colours(axis)[:3] == [own["segmentation"], own["normals"], own["depth"]]


def test_one_task_alone_has_its_colour():
    axis = sharing({"hps": models.HPS(small(("kind",)))}).axes[0]
    assert to_rgb(SHARED) not in colours(axis)


def test_looking_leaves_the_model_as_it_was():
    model = built("rotograd").train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    boxes(model)
    assert model.training and not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_data_of_another_precision_than_the_model_do_not_matter():
    model = models.HPS(small(("kind",)))
    model.input_dtype = torch.float64
    assert [box.tasks for box in boxes(model)] == [box.tasks for box in boxes(models.HPS(small(("kind",))))]
