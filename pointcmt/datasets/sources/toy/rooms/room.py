"""`make_room`: one furnished room with its labels, boxes, camera path and light."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointcmt.cameras import Camera
from pointcmt.datasets.sources.toy.rooms import clutter, structure
from pointcmt.datasets.sources.toy.rooms.arranging import ROOM_TYPES, furnish
from pointcmt.datasets.sources.toy.rooms.blocks import Plan
from pointcmt.datasets.sources.toy.rooms.decorating import decorate, fill_openings, hang_curtains
from pointcmt.datasets.sources.toy.rooms.layout import Layout
from pointcmt.datasets.sources.toy.rooms.path import walk
from pointcmt.datasets.sources.toy.rooms.piece import (
    BOX_CLASSES,
    CLASSES,
    Floats,
    Placed,
    RoomDice,
    turn,
)
from pointcmt.datasets.sources.toy.rooms.shell import (
    PARTS,
    Wall,
    build_shell,
    choose_openings,
    draw_outline,
    walls_of,
)
from pointcmt.shapes import Mesh

VERSION = 2  # part of every seed; raise it whenever a room changes
DECIMALS = 6
WITHOUT_INSTANCE = ("shell", "floor", "ceiling", "wall")


@dataclass(frozen=True, eq=False)
class Room:
    """One room in meters, +Z up, its floor at z = 0 (up to a tilt of 0.5°). F faces, K boxes.

    mesh: everything, with materials and textures. face_semantic [F] i16: indices into CLASSES.
    face_instance [F] i32: -1 for floor, ceiling and walls, else the object, an index into
    instance_semantic [I] i16. boxes [K,7] f32: center, full sizes and yaw, counter-clockwise from
    +X, of whole objects in their own frames; the box's own +X axis is the object's front, so dx is
    its depth and dy its width. box_label [K] i16: indices into BOX_CLASSES. box_instance [K] i32.
    cameras: 48 along a closed loop, for images of 320 × 240 pixels (`resize_cameras` for others).
    sun [3]: unit direction to the sun, which shines through a window if there is one. kind: the
    type of room, a name in ROOM_TYPES. outline [S,2]: of the floor, counter-clockwise, in the
    room's own frame, where the floor is z = 0 and most walls run along x or y; height: of the
    ceiling there. room_to_world [4,4]: from that frame to that of everything else, rigid.
    """

    mesh: Mesh
    face_semantic: NDArray[np.int16]
    face_instance: NDArray[np.int32]
    instance_semantic: NDArray[np.int16]
    boxes: NDArray[np.float32]
    box_label: NDArray[np.int16]
    box_instance: NDArray[np.int32]
    cameras: Camera
    sun: Floats
    kind: str
    outline: Floats
    height: float
    room_to_world: Floats


def make_room(seed: int) -> Room:
    """Return the room with this number: the same arrays, byte for byte, on every call."""
    attempt = 0
    while True:
        room = _try_room(RoomDice(f"toyrooms {VERSION} {seed} {attempt}"))
        if room is not None:
            return room
        attempt += 1


def _try_room(dice: RoomDice) -> Room | None:
    """Furnish one room; None if too little space is left for a camera."""
    outline = draw_outline(dice)
    height = round(dice.between(2.3, 3.2), 3)
    plan, walls = Plan(outline, height), walls_of(outline)
    holes = choose_openings(dice, walls, height)
    shell = build_shell(dice, plan, walls, holes)
    layout = Layout(dice, plan, walls)
    fixed = [shell, *fill_openings(layout, holes)]
    fixed += structure.add_beams(dice, plan)
    fixed += hang_curtains(layout, holes)
    for step in structure.add_platform(dice, plan, walls):
        fixed.append(step)
        layout.platform = step.block
        plan.add(step.block, solid=False)
    fixed += structure.add_columns(dice, plan, walls)
    fixed += structure.add_rug(dice, plan)
    kind = dice.pick(tuple(ROOM_TYPES))
    furnish(layout, kind, _area(outline))
    fixed += decorate(layout)
    clutter.scatter(layout)
    items = [*fixed, *layout.items]
    targets = [item for item in items if item.piece.semantic not in (*WITHOUT_INSTANCE, "column")]
    cameras = walk(dice, plan, targets)
    if cameras is None:
        return None
    lit = [hole.wall for hole in holes if hole.kind == "window"] or walls
    return _assemble(dice, plan, items, cameras, kind, _sun(dice, lit))


def _area(outline: Floats) -> float:
    x, y = outline.T
    return 0.5 * abs(float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()))


def _sun(dice: RoomDice, walls: list[Wall]) -> Floats:
    """Return the direction to the sun: outside one of these walls, 20° to 55° high."""
    azimuth = dice.pick(walls).degrees - 90.0 + dice.between(-40.0, 40.0)
    rise = math.radians(dice.between(20.0, 55.0))
    level = turn(azimuth)[:, 0] * math.cos(rise)
    return level + np.array([0.0, 0.0, math.sin(rise)])


def _assemble(
    dice: RoomDice, plan: Plan, items: list[Placed], cameras: Camera, kind: str, sun: Floats
) -> Room:
    """Join all objects to one mesh with labels, and turn everything from the room to the world."""
    yaw, tilt = _turns(dice)
    to_world = np.eye(4)
    to_world[:3, :3] = np.round(turn(yaw) @ tilt, 12)
    instances = [item for item in items if item.piece.semantic not in WITHOUT_INSTANCE]
    number = {id(item): index for index, item in enumerate(instances)}
    instance = np.array([number.get(id(item), -1) for item in items], np.int32)
    semantic = [_semantic(item) for item in items]
    counts = [len(item.piece.mesh.faces) for item in items]
    boxed = [item for item in instances if item.piece.semantic in BOX_CLASSES]
    boxes = np.array([item.box() for item in boxed]).reshape(-1, 7)
    boxes[:, :3] = boxes[:, :3] @ to_world[:3, :3].T
    boxes[:, 6] = (boxes[:, 6] + math.radians(yaw) + math.pi) % (2 * math.pi) - math.pi
    poses = np.asarray(cameras.world_to_camera @ np.linalg.inv(to_world), np.float64).round(12)
    names = [item.piece.semantic for item in instances]
    return Room(
        mesh=_join(items, to_world),
        face_semantic=np.concatenate(semantic),
        face_instance=np.repeat(instance, counts),
        instance_semantic=np.array([CLASSES.index(name) for name in names], np.int16),
        boxes=np.round(boxes, DECIMALS).astype(np.float32),
        box_label=np.array([BOX_CLASSES.index(i.piece.semantic) for i in boxed], np.int16),
        box_instance=np.array([number[id(item)] for item in boxed], np.int32),
        cameras=Camera(cameras.K, poses, cameras.width, cameras.height),
        sun=np.round(to_world[:3, :3] @ sun, 12),
        kind=kind,
        outline=plan.outline,
        height=plan.height,
        room_to_world=to_world,
    )


def _turns(dice: RoomDice) -> tuple[float, Floats]:
    """Draw the room's yaw in degrees, within ±5° for 30 % of rooms, and a tilt of up to 0.5°."""
    yaw = dice.between(-5.0, 5.0) if dice.chance(0.3) else dice.between(-180.0, 180.0)
    axis, angle = dice.between(0.0, 360.0), math.radians(dice.between(0.0, 0.5))
    cos, sin = math.cos(angle), math.sin(angle)
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])
    return yaw, turn(axis) @ about_x @ turn(-axis)


def _semantic(item: Placed) -> NDArray[np.int16]:
    """Return the class of every face; the shell is labeled by its parts."""
    mesh = item.piece.mesh
    if item.piece.semantic != "shell":
        return np.full(len(mesh.faces), CLASSES.index(item.piece.semantic), np.int16)
    labels = np.array([CLASSES.index(part) for part in PARTS], np.int16)
    return labels[mesh.face_part]


def _join(items: list[Placed], to_world: Floats) -> Mesh:
    """Return one mesh of all objects, in the world."""
    meshes = [item.piece.mesh for item in items]
    first = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    paints = np.cumsum([0, *(len(mesh.materials) for mesh in meshes)])
    vertices = np.concatenate([item.to_room(item.piece.mesh.vertices) for item in items])
    return Mesh(
        vertices=np.round(vertices @ to_world[:3, :3].T + 1e-9, DECIMALS) + 0.0,
        faces=np.concatenate([m.faces + i for m, i in zip(meshes, first, strict=False)]),
        materials=[material for mesh in meshes for material in mesh.materials],
        face_material=np.concatenate(
            [m.face_material + i for m, i in zip(meshes, paints, strict=False)]
        ),
        uv=np.concatenate([_uv(mesh) for mesh in meshes]),
    )


def _uv(mesh: Mesh) -> NDArray[np.float32]:
    return np.zeros((len(mesh.faces), 3, 2), np.float32) if mesh.uv is None else mesh.uv
