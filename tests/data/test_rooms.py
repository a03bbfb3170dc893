"""`rooms`: the targets agree with each other, with the geometry, and with the scenes they were cast from."""

import numpy as np
import pytest
import torch

from mtlcourse import data
from mtlcourse.data import rooms
from mtlcourse.data.raycaster import FOCAL, HEIGHT, WIDTH, camera, cast, lit, pixel_directions

SCENES = 60


@pytest.fixture(scope="module")
def pictures():
    return rooms.render(SCENES, np.random.default_rng(3))


@pytest.fixture(scope="module")
def points(pictures):
    """What each pixel shows, in metres in the camera frame, from the depth alone: (scenes, 3, 48, 64)."""
    depth = pictures["depth"][:, 0].astype(np.float64)
    column, row = np.arange(WIDTH) + 0.5 - WIDTH / 2, np.arange(HEIGHT) + 0.5 - HEIGHT / 2
    return np.stack([depth * column / FOCAL, -depth * row[:, None] / FOCAL, -depth], axis=1)


def test_normals_are_unit_vectors_that_face_the_camera(pictures, points):
    normals = pictures["normals"].astype(np.float64)
    np.testing.assert_allclose((normals**2).sum(1), 1, atol=1e-5)
    assert ((normals * points).sum(1) < 1e-3).all()


def test_depth_and_normals_agree_by_finite_differences(pictures, points):
    normals, solid = pictures["normals"].astype(np.float64), pictures["solid"]
    right, down = points[:, :, :-1, 1:] - points[:, :, :-1, :-1], points[:, :, 1:, :-1] - points[:, :, :-1, :-1]
    measured = np.cross(down, right, axis=1)
    measured /= np.linalg.norm(measured, axis=1, keepdims=True)
    corner = normals[:, :, :-1, :-1]
    cosine = (measured * corner).sum(1)

    same_solid = (solid[:, :-1, :-1] == solid[:, :-1, 1:]) & (solid[:, :-1, :-1] == solid[:, 1:, :-1])
    one_face = same_solid & (np.abs(corner - normals[:, :, :-1, 1:]).max(1) < 1e-6) \
        & (np.abs(corner - normals[:, :, 1:, :-1]).max(1) < 1e-6)
    assert one_face.mean() > 0.7
    assert cosine[one_face].min() > 1 - 1e-6  # planes: exact up to rounding

    on_ball = same_solid & (pictures["segmentation"][:, :-1, :-1] == rooms.CLASSES.index("ball"))
    assert on_ball.sum() > 1_000
    assert np.median(cosine[on_ball]) > 0.98  # curved: a pixel's width off


def test_every_class_occurs_with_its_own_shape(pictures):
    segmentation, normals = pictures["segmentation"], pictures["normals"]
    counts = np.bincount(segmentation.ravel(), minlength=7)
    assert len(counts) == len(rooms.CLASSES) == 7
    assert (counts / counts.sum() > 0.005).all()
    # The camera is nearly upright: floors look up, ceilings down, walls and pictures sideways.
    up = {name: normals[:, 1][segmentation == number] for number, name in enumerate(rooms.CLASSES)}
    assert up["floor"].min() > 0.8 and up["ceiling"].max() < -0.8
    assert np.abs(up["wall"]).max() < 0.5 and np.median(np.abs(up["picture"])) < 0.4


def test_no_class_is_known_by_its_colour(pictures):
    """A classifier that sees one pixel's colour is hardly better than one that always says 'wall'."""
    from sklearn.neighbors import KNeighborsClassifier

    colours = pictures["image"].transpose(0, 2, 3, 1).reshape(-1, 3)
    labels = pictures["segmentation"].ravel()
    half = len(labels) // 2
    rows = np.random.default_rng(0).permutation(half)[:4_000]
    guess = KNeighborsClassifier(25).fit(colours[rows], labels[rows]).predict(colours[half:][rows])
    most_common = np.bincount(labels[half:][rows]).max() / len(rows)
    assert (guess == labels[half:][rows]).mean() < most_common + 0.1


def test_nothing_stands_between_the_camera_and_what_it_sees():
    """Brute force: walk along rays and ask at every step whether the point lies in some solid."""
    random = np.random.default_rng(5)
    solids = rooms.furnish(20, random)
    eye, turned = rooms._cameras(solids, random)
    direction = np.moveaxis(turned @ pixel_directions()[:, ::37], 1, 0)
    hits = cast(eye[..., None], direction, solids)

    def occupied(points):
        """Whether points (3, scenes, pixels) lie in each solid: (slots, scenes, pixels); slot 0: outside the room."""
        relative = points[..., None] - solids.centre[:, :, None, :]
        cosine, sine = solids.turn[:, :, None, :]
        own = np.stack([cosine * relative[0] - sine * relative[2], relative[1],
                        sine * relative[0] + cosine * relative[2]])
        half = solids.half[:, :, None, :]
        inside = (np.abs(own) < half).all(0)
        inside[..., solids.first_ball:] = ((own**2).sum(0) < half[0] ** 2)[..., solids.first_ball:]
        inside[..., 0] = ~inside[..., 0]
        return np.moveaxis(inside, -1, 0)

    for share in np.linspace(0.01, 0.999, 120):
        assert not occupied(eye[..., None] + share * hits.depth * direction).any()
    behind = occupied(eye[..., None] + (hits.depth + 1e-3) * direction)
    shown = np.take_along_axis(behind, hits.slot[None], axis=0)[0]
    assert shown.mean() > 0.999  # a ray can graze an edge by less than a millimetre


def test_shadows_by_brute_force():
    """A point is lit exactly if no ray from the lamp meets a solid before it gets there."""
    random = np.random.default_rng(6)
    solids = rooms.furnish(20, random)
    eye, turned = rooms._cameras(solids, random)
    direction = np.moveaxis(turned @ pixel_directions()[:, ::37], 1, 0)
    hits = cast(eye[..., None], direction, solids)
    points = eye[..., None] + hits.depth * direction
    lamp = rooms._lamps(solids, random)[1, :3, :, None]
    faces_lamp = ((lamp - points) * hits.normal).sum(0) > 0.01
    free = lit(points, lamp, solids)
    seen = cast(lamp, points - lamp, solids).depth > 1 - 1e-3  # from the other end, by other code
    assert (free == seen)[faces_lamp].mean() > 0.999
    assert 0.05 < (~free[faces_lamp]).mean() < 0.6


def test_furniture_stands_on_the_floor_and_inside_the_walls():
    solids = rooms.furnish(300, np.random.default_rng(1))
    room, centre, half = 2 * solids.half[..., :1], solids.centre[..., 1:], solids.half[..., 1:]
    there = centre[1] > 0
    assert 0.75 < there.mean() < 0.85
    cosine, sine = np.abs(solids.turn[..., 1:])
    wide, deep = cosine * half[0] + sine * half[2], sine * half[0] + cosine * half[2]  # of the upright bounding box
    close = 1e-4
    assert (np.abs(centre[0]) + wide <= room[0] / 2 + close)[there].all()
    assert (deep - centre[2] <= room[2] + close)[there].all() and (centre[2] + deep < -0.2)[there].all()
    below, above = centre[1] - half[1], centre[1] + half[1]
    assert (below > -close)[there].all() and (above <= room[1] + close)[there].all()
    on_floor = [slot - 1 for slot in (rooms.CABINET, rooms.CHEST, *rooms.LEGS, rooms.FLOOR_BALL)]
    np.testing.assert_allclose(below[:, on_floor][there[:, on_floor]], 0, atol=close)
    on_table = there[:, rooms.TABLE_BALL - 1]
    table_top = above[:, rooms.TABLE_TOP - 1]
    np.testing.assert_allclose(below[on_table, rooms.TABLE_BALL - 1], table_top[on_table], atol=close)
    np.testing.assert_allclose(above[:, rooms.LEGS[0] - 1], above[:, rooms.LEGS[-1] - 1], atol=close)


def test_camera_angles():
    quarter, zero = np.array([np.pi / 2]), np.zeros(1)
    ahead, right = np.array([0, 0, -1]), np.array([1, 0, 0])
    np.testing.assert_allclose(camera(quarter, zero, zero)[0] @ ahead, [-1, 0, 0], atol=1e-6)  # turn left
    np.testing.assert_allclose(camera(zero, quarter, zero)[0] @ ahead, [0, 1, 0], atol=1e-6)  # look up
    np.testing.assert_allclose(camera(zero, zero, quarter)[0] @ right, [0, 1, 0], atol=1e-6)  # lean left


def test_problem():
    problem = data.load("rooms", train=20, val=9, test=10)
    train = problem.train
    assert problem.input_shape == (3, 48, 64) and problem.task_names == ["segmentation", "depth", "normals"]
    assert {name: (tuple(y.shape), y.dtype) for name, y in train.targets.items()} == {
        "segmentation": ((20, 48, 64), torch.int64),
        "depth": ((20, 1, 48, 64), torch.float32),
        "normals": ((20, 3, 48, 64), torch.float32),
    }
    assert train.inputs.dtype == torch.float32 and train.inputs.min() >= 0 and train.inputs.max() <= 1
    assert 0.2 < train.inputs.mean() < 0.7
    assert 0.1 < train.targets["depth"].min() and train.targets["depth"].max() < 9


def test_no_scene_is_in_two_splits():
    problem = data.load("rooms", train=40, val=40, test=40)
    depths = torch.cat([split.targets["depth"].flatten(1) for split in (problem.train, problem.val, problem.test)])
    distances = torch.cdist(depths, depths) + 1e9 * torch.eye(120)
    assert distances.min() > 1
