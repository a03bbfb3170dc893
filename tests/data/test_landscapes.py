"""Landscapes: formulas against plain Python, gradients against differences, fronts against brute force."""

import math

import numpy as np
import pytest
import torch

from mtlcourse import data

ALL = data.landscapes()


def plain(name, x, y):
    """Both losses, written once more with the math module."""
    def log(z):
        return math.log(max(abs(z), 5e-6))

    if name == "valleys":
        return 20 * log(0.5 * x + math.tanh(y)), 25 * log(0.5 * x - math.tanh(y) + 2)
    if name == "cliff":
        a, b = max(math.tanh(0.5 * y), 0.0), max(math.tanh(-0.5 * y), 0.0)
        valleys = log(0.5 * (-x - 7) - math.tanh(-y)) + 6, log(0.5 * (-x + 3) + math.tanh(-y) + 2) + 6
        bowls = [((x - side) ** 2 + 0.1 * (y + 8) ** 2) / 10 - 20 for side in (7, -7)]
        return tuple(a * valley + b * bowl for valley, bowl in zip(valleys, bowls, strict=True))
    if name == "bowls":
        return ((x - 2) ** 2 + 25 * (y - 2) ** 2) / 2, (25 * (x + 2) ** 2 + (y + 2) ** 2) / 2
    return ((x - 2) ** 2 + y**2) / 2, 50 * ((x + 2) ** 2 + y**2)


def somewhere(landscape, points, seed=0):
    low, high = torch.tensor(landscape.window, dtype=torch.float64).T
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(points, 2, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", ALL)
def test_losses_are_the_formulas(name):
    points = somewhere(ALL[name], 50)
    expected = [plain(name, *point) for point in points.tolist()]
    np.testing.assert_allclose(ALL[name].losses(points).numpy(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ALL)
def test_gradients_are_differences(name):
    landscape, h = ALL[name], 1e-6
    points = somewhere(landscape, 20, seed=1)
    rows = landscape.gradients(points)
    for axis in (0, 1):
        step = torch.zeros(2, dtype=torch.float64)
        step[axis] = h
        expected = (landscape.losses(points + step) - landscape.losses(points - step)) / (2 * h)
        torch.testing.assert_close(rows[..., axis], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_no_point_of_the_plane_is_better_than_the_front(name):
    landscape = ALL[name]
    losses = landscape.losses(somewhere(landscape, 20_000, seed=2))
    for best in landscape.losses(landscape.front):
        assert not (losses < best - 1e-9).all(-1).any()


@pytest.mark.parametrize("name", ["cliff", "bowls", "loud"])
def test_gradients_on_the_front_cancel(name):
    landscape = ALL[name]
    G = landscape.gradients(landscape.front[1:-1])
    opposite = torch.nn.functional.cosine_similarity(G[:, 0], G[:, 1], dim=-1)
    torch.testing.assert_close(opposite, -torch.ones_like(opposite), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_room(name):
    landscape = ALL[name]
    assert landscape.room(landscape.front).max() <= 1e-9
    start = torch.tensor(landscape.starts, dtype=torch.float64)
    room = landscape.room(start)
    assert (room > 0.1).all()
    gains = landscape.losses(start)[:, None] - landscape.losses(landscape.front)
    for at, offered in zip(gains.tolist(), room.tolist(), strict=True):
        assert offered == pytest.approx(max(min(pair) for pair in at))


def test_valleys_meet_at_the_floor_of_both():
    front = ALL["valleys"].losses(ALL["valleys"].front)[0]
    torch.testing.assert_close(front, math.log(5e-6) * torch.tensor([20.0, 25.0], dtype=torch.float64))


@pytest.mark.parametrize("x, y, inside", [(-2.0, 6.5, True), (-2.000004, 20.0, True), (-1.999995, 9.0, True),
                                          (-2.0, 6.0, False), (-1.9999, 8.0, False)])
def test_the_front_of_valleys_is_a_strip_and_its_point_stands_for_it(x, y, inside):
    landscape = ALL["valleys"]
    losses = landscape.losses(torch.tensor([x, y], dtype=torch.float64))
    assert torch.allclose(losses, landscape.losses(landscape.front)[0], atol=1e-9, rtol=0) == inside


def test_starts_and_front_lie_in_the_window():
    for landscape in ALL.values():
        low, high = torch.tensor(landscape.window, dtype=torch.float64).T
        for points in (torch.tensor(landscape.starts, dtype=torch.float64), landscape.front):
            assert ((points >= low) & (points <= high)).all()
