"""A ray caster in numpy: what lies behind each pixel, how far away, and which way its surface looks.

Imports numpy only. It knows boxes turned about the vertical axis and balls, inside one big box, the room;
`rooms` furnishes and lights it. Vectors are arrays `(3, scenes, pixels)`, so many scenes are cast at once.

Camera frame: x to the right, y up, z towards the viewer; world frame: y up. A pixel's ray is scaled to
length 1 along the optical axis, so the distance at which it meets a surface is that surface's depth.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

HEIGHT, WIDTH = 48, 64  # pixels
FOCAL = 46.0  # pixels: a field of view of 70 degrees across and 55 up

Scalars = Float32[np.ndarray, "scenes #pixels"]
Vectors = Float32[np.ndarray, "3 scenes #pixels"]


def pixel_directions() -> Float32[np.ndarray, "3 pixels"]:
    """The ray through the middle of every pixel, row by row, in the camera frame with z = -1.

    `depth * pixel_directions()` are the points that a flattened depth map shows.
    """
    row, column = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    ray = np.stack([(column - WIDTH / 2) / FOCAL, (HEIGHT / 2 - row) / FOCAL, np.full(row.shape, -1.0)])
    return ray.reshape(3, -1).astype(np.float32)


def camera(yaw: Float[np.ndarray, "scenes"], pitch: Float[np.ndarray, "scenes"],
           roll: Float[np.ndarray, "scenes"]) -> Float32[np.ndarray, "scenes 3 3"]:
    """Rotations from camera to world, angles in radians: roll about z, then pitch about x, then yaw about y."""
    def about(first: int, second: int, angle: np.ndarray) -> np.ndarray:
        matrix = np.tile(np.eye(3), (len(angle), 1, 1))
        matrix[:, first, first] = matrix[:, second, second] = np.cos(angle)
        matrix[:, second, first], matrix[:, first, second] = np.sin(angle), -np.sin(angle)
        return matrix

    return (about(2, 0, yaw) @ about(1, 2, pitch) @ about(0, 1, roll)).astype(np.float32)


@dataclass
class Solids:
    """The solids of many scenes: slot 0 is the room, seen from inside; then boxes, then balls.

    centre: metres, world frame; a solid that a scene does not have lies under the floor.  half: half the
    edges along the solid's own axes, in metres; the radius three times for a ball.  turn: cosine and
    sine of the angle about the vertical axis.  balls: how many of the last slots are balls.
    """

    centre: Float32[np.ndarray, "3 scenes slots"]
    half: Float32[np.ndarray, "3 scenes slots"]
    turn: Float32[np.ndarray, "2 scenes slots"]
    balls: int

    @property
    def slots(self) -> int:
        return self.centre.shape[2]

    @property
    def first_ball(self) -> int:
        return self.slots - self.balls

    def rows(self, chosen: slice) -> "Solids":
        """The same for some of the scenes."""
        return Solids(self.centre[:, chosen], self.half[:, chosen], self.turn[:, chosen], self.balls)


@dataclass
class Hits:
    """What each pixel sees.

    depth: metres along the optical axis.  slot: which solid.  axis: the solid's own axis across which the
    face lies (no meaning on balls).  normal: unit vector out of the surface, world frame.  local: the
    point in the solid's own frame.
    """

    depth: Float32[np.ndarray, "scenes pixels"]
    slot: Int[np.ndarray, "scenes pixels"]
    axis: Int[np.ndarray, "scenes pixels"]
    normal: Float32[np.ndarray, "3 scenes pixels"]
    local: Float32[np.ndarray, "3 scenes pixels"]


def cast(origin: Vectors, direction: Vectors, solids: Solids) -> Hits:
    """Follow rays from inside the room to the first surface; `direction` need not be normalised."""
    _, depth = _span(origin, direction, solids, 0)  # the room is left, never entered
    slot = np.zeros(depth.shape, dtype=np.intp)
    for number in range(1, solids.slots):
        enter, leave = _span(origin, direction, solids, number)
        nearer = (enter < leave) & (enter > 0) & (enter < depth)
        np.copyto(depth, enter, where=nearer)
        slot[nearer] = number
    return _surface(origin, direction, solids, depth, slot)


def lit(points: Vectors, light: Vectors, solids: Solids) -> Bool[np.ndarray, "scenes pixels"]:
    """True where nothing stands between the points and a point light (the room itself never does)."""
    way = light - points
    free = np.ones(way.shape[1:], dtype=bool)
    for number in range(1, solids.slots):
        enter, leave = _span(points, way, solids, number)
        # A point lies on a solid's surface itself: to leave it within a thousandth of the way is no shadow.
        free &= ~((enter < leave) & (leave > 1e-3) & (enter < 1))
    return free


def _span(origin: Vectors, direction: Vectors, solids: Solids, slot: int) -> tuple[Scalars, Scalars]:
    """Where rays enter and leave one solid, in lengths of `direction`; those that miss it have enter >= leave."""
    start, half = origin - solids.centre[:, :, slot, None], solids.half[:, :, slot, None]
    if slot >= solids.first_ball:
        squared = _dot(direction, direction)
        middle = -_dot(start, direction) / squared  # where the ray comes closest to the centre
        closest = start + middle * direction
        half_chord = np.sqrt(np.maximum(half[0] ** 2 - _dot(closest, closest), 0) / squared)
        return middle - half_chord, middle + half_chord
    turn = solids.turn[:, :, slot, None]
    middle, reach = _between_faces(_to_own(start, turn), _to_own(direction, turn), half)
    return (middle - reach).max(0), (middle + reach).min(0)


def _between_faces(start: Vectors, direction: Vectors, half: Vectors) -> tuple[Vectors, Vectors]:
    """Along each axis, the ray lies between two opposite faces from `middle - reach` to `middle + reach`."""
    inverse = 1 / (direction + np.float32(1e-12))  # finite even for a ray along the faces
    return -start * inverse, np.abs(half * inverse)


def _to_own(vectors: Vectors, turn: Float32[np.ndarray, "2 scenes #pixels"]) -> Vectors:
    """World frame to the frame of solids that are turned by `turn`."""
    (x, y, z), (cosine, sine) = vectors, turn
    return np.stack([cosine * x - sine * z, y, sine * x + cosine * z])


def _dot(a: Vectors, b: Vectors) -> Scalars:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _surface(origin: Vectors, direction: Vectors, solids: Solids, depth: np.ndarray, slot: np.ndarray) -> Hits:
    """Face, normal and local point, from the numbers of the solid that each pixel shows."""
    numbers = np.concatenate([solids.centre, solids.half, solids.turn]).reshape(8, -1)
    shown = np.take(numbers, slot + np.arange(len(slot))[:, None] * solids.slots, axis=1)
    centre, half, turn = shown[:3], shown[3:6], shown[6:]
    start, ahead = _to_own(origin - centre, turn), _to_own(direction, turn)
    local = start + depth * ahead

    # Of a box the last of three faces to be entered is seen; of the room the first to be left.
    middle, reach = _between_faces(start, ahead, half)
    axis = np.argmax(np.where(slot == 0, -middle, middle) - reach, axis=0)
    face = np.where(axis == np.arange(3)[:, None, None], -np.sign(ahead), 0)
    on_ball = slot >= solids.first_ball
    normal = np.where(on_ball, local / np.sqrt(_dot(local, local)), face)
    back = turn * np.array([1, -1], dtype=np.float32)[:, None, None]
    return Hits(depth, slot, axis, _to_own(normal, back), local)
