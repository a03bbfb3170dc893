"""The picture of three rules draws what the rules do."""

import math

import pytest
import torch

from mtlcourse import figures, strategies

PAIRS = {"unequal": [[2.0, 0.0], [-1.0, 1.0]], "turned": [[-0.3, -0.4], [0.1, 1.0]],
         "agreeing": [[1.0, 0.0], [1.0, 0.9]]}


@pytest.fixture(params=PAIRS)
def g(request):
    return torch.tensor(PAIRS[request.param], dtype=torch.float64)


def tips(axis):
    """`{name: tip}` of the arrows of a panel: each name is written near the tip that it points to."""
    return {text.get_text(): torch.tensor(text.xy, dtype=torch.float64) for text in axis.texts if text.get_text()}


def test_arrows_end_where_the_rules_say(g):
    project, shorten, surround = figures.directions.three_rules(g, c=0.3).axes
    for axis in (project, shorten, surround):
        for name, gradient in zip(("g1", "g2"), g, strict=True):
            torch.testing.assert_close(tips(axis)[name], gradient)
    torch.testing.assert_close(tips(project)["d"], strategies.combine("pcgrad", g))
    torch.testing.assert_close(tips(shorten)["d"], strategies.combine("mgda", g) / 2)
    torch.testing.assert_close(tips(surround)["d"], strategies.combine(strategies.make("cagrad", c=0.3), g) / 2)


def test_constructions_meet_in_the_directions(g):
    project, shorten, surround = figures.directions.three_rules(g, c=0.3).axes
    changed = tips(project)
    torch.testing.assert_close(changed["g1'"] + changed["g2'"], changed["d"])
    assert changed["g1'"] @ g[1] >= -1e-12
    d, (one, two) = tips(shorten)["d"], g
    assert abs((d - one)[0] * (two - one)[1] - (d - one)[1] * (two - one)[0]) < 1e-9  # on the segment's line
    ball = next(patch for patch in surround.patches if hasattr(patch, "radius"))
    assert (tips(surround)["d"] - g.mean(0)).norm().item() == pytest.approx(ball.radius)


def test_the_wedge_holds_the_directions_that_harm_nobody(g):
    wedge = next(patch for patch in figures.directions.three_rules(g).axes[0].patches if hasattr(patch, "theta1"))
    for degree in range(0, 360, 7):
        d = torch.tensor([math.cos(math.radians(degree)), math.sin(math.radians(degree))], dtype=torch.float64)
        inside = (degree - wedge.theta1) % 360 < (wedge.theta2 - wedge.theta1) % 360
        assert inside == bool((g @ d > 0).all())


def test_parts_draw_on_any_panel(g):
    figure, ((axis,),) = figures.panels(1, 1)
    figures.directions.harmless(axis, g)
    figures.directions.arrow(axis, g[1], figures.directions.RESULT, "mine")
    whole = figures.directions.three_rules(g).axes[0]
    assert [patch.theta1 for patch in axis.patches] == [patch.theta1 for patch in whole.patches]
    torch.testing.assert_close(tips(axis)["mine"], g[1])


def test_panels_share_their_scale_and_show_the_origin(g):
    limits = {(axis.get_xlim(), axis.get_ylim()) for axis in figures.directions.three_rules(g).axes}
    ((x, y),) = limits
    assert x[0] < 0 < x[1] and y[0] < 0 < y[1]


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"have shape \(3, 2\); the picture shows two"):
        figures.directions.three_rules(torch.zeros(3, 2))
