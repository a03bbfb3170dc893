"""`rooms`: photographs of furnished rooms that were never built, with exact targets for every pixel.

Imports `files` and `tasks`, its folder's `kinds`, `raycaster`, `registry`, `splits`.
A scene is drawn (`furnish`, `paint`), cast and lit (`render`), and becomes an image with three targets.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int

from ..tasks import Problem, TensorSplit
from .kinds import depth, normals, segmentation
from .raycaster import HEIGHT, WIDTH, Hits, Solids, Vectors, camera, cast, lit, pixel_directions
from .registry import register
from .splits import generator, split_sizes

CLASSES = ("floor", "ceiling", "wall", "cabinet", "table", "picture", "ball")
# The slots of `Solids`: the room itself is slot 0, then come boxes, then balls.
CABINET, CHEST, TABLE_TOP, LEGS, FAR_PICTURE, SIDE_PICTURE, FLOOR_BALL, TABLE_BALL = 1, 2, 3, range(4, 8), 8, 9, 10, 11
SLOT_CLASSES = ("cabinet",) * 2 + ("table",) * 5 + ("picture",) * 2 + ("ball",) * 2  # from slot 1 on
# Surfaces are painted by material: the room has a floor, a ceiling, side and end walls; a solid has one each.
ROOM_MATERIALS = ("floor", "ceiling", "wall", "wall")
MATERIAL_CLASS = np.array([CLASSES.index(name) for name in ROOM_MATERIALS + SLOT_CLASSES])
# Smallest and largest width, height, depth in metres.
ROOM = [3.4, 2.3, 3.8], [5.2, 2.9, 6.2]
THINGS = ([[0.5, 1.0, 0.4], [0.5, 0.4, 0.4], [0.9, 0.5, 0.6], [0.4, 0.4, 0.4]],  # cabinet, chest, table, ball
          [[1.0, 2.0, 0.7], [1.0, 0.9, 0.7], [1.4, 0.8, 0.9], [0.9, 0.9, 0.9]])
CHUNK = 8  # scenes at once: their arrays stay in the processor's cache
NOISE = np.float32(0.02)  # standard deviation of the sensor, of a range of 1
UNDER = -50.0  # metres: where solids lie that a scene does not have


@register("rooms")
def rooms(train: int = 1_000, val: int = 100, test: int = 400, seed: int = 0, with_data: bool = True) -> Problem:
    """Indoor scenes, 3 x 48 x 64 in [0, 1]; tasks `segmentation`, `depth`, `normals` for every pixel.

    A room with cabinets, a table, pictures and balls, seen by a camera that is turned at random, lit by
    a lamp that casts shadows and two that do not, painted and patterned at random (no colour belongs to
    a class), with sensor noise. The three tasks are those of NYUv2 and its relatives, in miniature.

    segmentation: 7 classes, `CLASSES`.  depth: metres along the optical axis (not along the ray).
    normals: unit vectors in the camera frame (x to the right, y up, z towards the viewer), facing the
        camera.  The camera is that of `raycaster.pixel_directions`.
    train, val, test: numbers of scenes, each split from its own random stream.  seed: of all of them.
    Raises ValueError for an empty split.
    """
    sizes = split_sizes(train, val, test)
    splits: dict[str, Any] = dict.fromkeys(sizes)
    if with_data:
        splits = {split: _split(size, generator(seed, f"rooms/{split}")) for split, size in sizes.items()}
    return Problem(
        "rooms", [segmentation("segmentation", len(CLASSES)), depth("depth"), normals("normals")], **splits,
        input_shape=(3, HEIGHT, WIDTH), encoder={"name": "conv", "channels": [16, 32, 32], "strides": [2, 2, 1]},
        training={"fast": {"epochs": 6, "samples": 400, "lr": 5e-3, "batch_size": 16},
                  "full": {"epochs": 24, "samples": 1_000, "lr": 5e-3, "batch_size": 16}})


def _split(number: int, random: np.random.Generator) -> TensorSplit:
    pictures = render(number, random)
    targets = {name: torch.from_numpy(pictures[name]) for name in ("segmentation", "depth", "normals")}
    return TensorSplit(torch.from_numpy(pictures["image"]), targets)


# --- drawing scenes -----------------------------------------------------------------------------------

def furnish(number: int, random: np.random.Generator) -> Solids:
    """Rooms with the floor at y = 0 and the camera's wall at z = 0, furnished from the list `THINGS`."""
    room = random.uniform(*ROOM, (number, 3))
    shape = random.uniform(*THINGS, (number, 4, 3))
    shape[:, 3] = shape[:, 3, :1]  # a ball is as wide as it is high
    angle = random.uniform(-np.pi, np.pi, (number, 4))
    base = _places(room, np.hypot(shape[..., 0], shape[..., 2]) / 2, random)

    slots = 1 + len(SLOT_CLASSES)
    centre, half = np.zeros((2, number, slots, 3))
    turn = np.tile([1.0, 0.0], (number, slots, 1))

    def put(slot: int, thing: int, offset: list, size: list) -> None:
        """Put a part of a thing at `offset` from the thing's place on the floor, along its own axes."""
        along, up, across = (np.broadcast_to(v, number) for v in offset)
        cosine, sine = np.cos(angle[:, thing]), np.sin(angle[:, thing])
        turned = [cosine * along + sine * across, up, cosine * across - sine * along]
        centre[:, slot] = base[:, thing] + np.stack(turned, axis=1)
        half[:, slot] = np.stack([np.broadcast_to(v, number) for v in size], axis=1) / 2
        turn[:, slot] = np.stack([cosine, sine], axis=1)

    half[:, 0], centre[:, 0] = room / 2, room / 2 * [0, 1, -1]
    for slot, thing in ((CABINET, 0), (CHEST, 1), (FLOOR_BALL, 3)):
        put(slot, thing, [0, shape[:, thing, 1] / 2, 0], list(shape[:, thing].T))
    wide, high, deep = shape[:, 2].T
    put(TABLE_TOP, 2, [0, high - 0.04, 0], [wide, 0.08, deep])
    for slot, (right, front) in zip(LEGS, [(-1, -1), (-1, 1), (1, -1), (1, 1)], strict=True):
        put(slot, 2, [right * (wide / 2 - 0.06), high / 2 - 0.04, front * (deep / 2 - 0.06)], [0.1, high - 0.08, 0.1])
    ball = random.uniform(0.24, 0.5, number)
    put(TABLE_BALL, 2, [0, high + ball / 2, 0], [ball, ball, ball])
    _hang(centre, half, turn, room, random)
    _leave_out(centre, random)
    vectors = [np.moveaxis(values, 2, 0).astype(np.float32) for values in (centre, half, turn)]
    return Solids(vectors[0], vectors[1], vectors[2], balls=2)


def _places(room: np.ndarray, reach: Float[np.ndarray, "scenes things"],
            random: np.random.Generator) -> Float[np.ndarray, "scenes things 3"]:
    """A place on the floor for each thing, inside the walls; a grid of 3 x 2 keeps most of them apart."""
    cells = random.permuted(np.tile(np.arange(6), (len(room), 1)), axis=1)[:, : reach.shape[1]]
    column, row = cells % 3 - 1, cells // 3
    width, length = room[:, :1], room[:, 2:]
    x = width * (column / 3 + random.uniform(-0.06, 0.06, reach.shape))
    z = -length * (0.42 + 0.36 * row + random.uniform(-0.05, 0.05, reach.shape))
    x = np.clip(x, reach - width / 2, width / 2 - reach)
    return np.stack([x, np.zeros_like(x), np.maximum(z, reach - length)], axis=2)


def _hang(centre: np.ndarray, half: np.ndarray, turn: np.ndarray, room: np.ndarray,
          random: np.random.Generator) -> None:
    """Two pictures: on the far wall, and on the left or the right one."""
    number, thick = len(room), 0.02
    for slot in (FAR_PICTURE, SIDE_PICTURE):
        half[:, slot] = random.uniform([0.35, 0.25, thick], [0.9, 0.55, thick], (number, 3))
        centre[:, slot, 1] = random.uniform(1.3, 1.6, number)
    centre[:, FAR_PICTURE, 0] = room[:, 0] * random.uniform(-0.25, 0.25, number)
    centre[:, FAR_PICTURE, 2] = thick - room[:, 2]
    centre[:, SIDE_PICTURE, 0] = random.choice([-1, 1], number) * (room[:, 0] / 2 - thick)
    centre[:, SIDE_PICTURE, 2] = -room[:, 2] * random.uniform(0.45, 0.75, number)
    turn[:, SIDE_PICTURE] = [0, 1]  # a quarter turn


def _leave_out(centre: np.ndarray, random: np.random.Generator) -> None:
    """Most scenes lack something; what stands on a table goes with it."""
    groups = [[CABINET], [CHEST], [FAR_PICTURE], [SIDE_PICTURE], [FLOOR_BALL], [TABLE_TOP, *LEGS], [TABLE_BALL]]
    there = random.random((len(centre), len(groups))) < 0.8
    there[:, -1] &= there[:, -2]
    for present, slots in zip(there.T, groups, strict=True):
        for slot in slots:
            centre[~present, slot, 1] = UNDER


def paint(number: int, random: np.random.Generator) -> Float32[np.ndarray, "12 scenes materials"]:
    """How surfaces look: two colours, mixed by a pattern of waves along the solid's own axes.

    Of the twelve numbers of a material three are the first colour in [0, 1], three the second, three the
    waves' frequencies in radians a metre, three their phases. All classes draw from one distribution,
    so that none is known by its colour.
    """
    shape = (number, len(MATERIAL_CLASS), 3)
    grey = random.uniform(0.3, 0.95, (*shape[:2], 1))
    first = np.clip(grey + random.normal(0, 0.1, shape), 0.05, 1)
    second = np.clip(first * random.uniform(0.6, 1.0, (*shape[:2], 1)) + random.normal(0, 0.05, shape), 0.02, 1)
    frequency = 2 * np.pi / random.uniform(0.2, 1.0, shape) * (random.random(shape) < 0.45)  # plain, stripes, checks
    phase = random.uniform(0, 2 * np.pi, shape) * (frequency > 0)
    look = np.concatenate([first, second, frequency, phase], axis=2)
    for leg in LEGS:  # a table is made of one wood
        look[:, _solid_material(leg)] = look[:, _solid_material(TABLE_TOP)]
    return np.moveaxis(look, 2, 0).astype(np.float32)


# --- from scenes to pictures ----------------------------------------------------------------------------

def render(number: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Images, targets and, for those who want to check them, the index of the solid each pixel shows.

    Returns `image` (scenes, 3, 48, 64), `segmentation` (scenes, 48, 64), `depth` (scenes, 1, 48, 64),
    `normals` (scenes, 3, 48, 64), `solid` (scenes, 48, 64).
    """
    solids, look = furnish(number, random), paint(number, random)
    eye, turned = _cameras(solids, random)
    lamps = _lamps(solids, random)
    parts = []
    for start in range(0, number, CHUNK):
        rows = slice(start, start + CHUNK)
        parts.append(_render(solids.rows(rows), look[:, rows], eye[:, rows], turned[rows], lamps[..., rows], random))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _cameras(solids: Solids, random: np.random.Generator) -> tuple[
        Float32[np.ndarray, "3 scenes"], Float32[np.ndarray, "scenes 3 3"]]:
    """Where the cameras stand, and how they are turned: towards the middle of the room, more or less."""
    width, _, length = 2 * solids.half[..., 0]
    number = len(width)
    eye = np.stack([width * random.uniform(-0.3, 0.3, number), random.uniform(1.1, 1.8, number),
                    np.full(number, -0.15)])
    yaw = np.arctan2(eye[0], length / 2) + random.normal(0, 0.25, number)
    turned = camera(yaw, random.uniform(-0.35, 0.12, number), random.normal(0, 0.05, number))
    return eye.astype(np.float32), turned


def _lamps(solids: Solids, random: np.random.Generator) -> Float32[np.ndarray, "4 6 scenes"]:
    """Four lights: place (metres) and colour times power. The first is everywhere, the second casts shadows."""
    room = 2 * solids.half[..., 0]
    number = room.shape[1]
    place = random.uniform([[-0.4], [0.75], [-0.9]], [[0.4], [0.95], [-0.1]], (4, 3, number)) * room
    power = random.uniform([[[0.3]], [[0.5]], [[0.1]], [[0.1]]], [[[0.55]], [[1.0]], [[0.4]], [[0.4]]], (4, 1, number))
    colour = random.uniform(0.8, 1.0, (4, 3, number)) * power
    return np.concatenate([place, colour], axis=1).astype(np.float32)


def _render(solids: Solids, look: np.ndarray, eye: np.ndarray, turned: np.ndarray, lamps: np.ndarray,
            random: np.random.Generator) -> dict[str, np.ndarray]:
    origin, direction = eye[..., None], np.ascontiguousarray(np.moveaxis(turned @ pixel_directions(), 1, 0))
    hits = cast(origin, direction, solids)
    material = _material(hits)
    image = _albedo(hits, material, look) * _light(origin + hits.depth * direction, hits.normal, lamps, solids)
    image += NOISE * random.standard_normal(image.shape, dtype=np.float32)
    normal = turned.transpose(0, 2, 1) @ hits.normal.transpose(1, 0, 2)  # from world to camera
    pixels = (-1, HEIGHT, WIDTH)
    return {
        "image": np.clip(image, 0, 1).transpose(1, 0, 2).reshape(-1, 3, HEIGHT, WIDTH),
        "segmentation": MATERIAL_CLASS[material].reshape(pixels),
        "depth": hits.depth.reshape(-1, 1, HEIGHT, WIDTH),
        "normals": normal.reshape(-1, 3, HEIGHT, WIDTH),
        "solid": hits.slot.reshape(pixels),
    }


def _solid_material(slot: int | np.ndarray) -> int | np.ndarray:
    """Index into `MATERIAL_CLASS` of a solid, or of many."""
    return slot - 1 + len(ROOM_MATERIALS)


def _material(hits: Hits) -> Int[np.ndarray, "scenes pixels"]:
    """Index into `MATERIAL_CLASS` of what each pixel shows."""
    room = np.where(hits.axis == 1, np.where(hits.normal[1] > 0, 0, 1), np.where(hits.axis == 0, 2, 3))
    return np.where(hits.slot == 0, room, _solid_material(hits.slot))


def _albedo(hits: Hits, material: np.ndarray, look: np.ndarray) -> Float32[np.ndarray, "3 scenes pixels"]:
    """The colours of the surfaces in white light."""
    scene = np.arange(len(material))[:, None]
    own = np.take(look.reshape(12, -1), material + scene * len(MATERIAL_CLASS), axis=1)
    first, second, frequency, phase = own.reshape(4, 3, *material.shape)
    waves = np.cos(frequency * hits.local + phase).prod(0)
    share = (np.clip(4 * waves, -1, 1) + 1) / 2
    return first * share + second * (1 - share)


def _light(points: Vectors, normal: Vectors, lamps: np.ndarray, solids: Solids) -> Vectors:
    """What reaches the surfaces: light from everywhere, though not alike from all sides, and from three lamps."""
    place, colour = lamps[:, :3, :, None], lamps[:, 3:, :, None]
    light = colour[0] * (1 + np.float32(0.15) * (normal[0] + normal[1]))
    for number in (1, 2, 3):
        way = place[number] - points
        squared = (way * way).sum(0)
        strength = np.maximum((way * normal).sum(0), 0) / (np.sqrt(squared) * (1 + squared / 16))
        if number == 1:
            strength *= lit(points, place[number], solids)
        light += colour[number] * strength
    return light
