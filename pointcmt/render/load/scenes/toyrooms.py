"""Toy rooms as scenes: the frames that a depth camera would take in them, drawn by the renderer."""

from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from pointcmt.cameras import Camera, find_rig
from pointcmt.datasets.sources.toy.rooms.room import Room, make_room
from pointcmt.datasets.sources.toy.rooms.sensor import sample_sensor
from pointcmt.datasets.sources.toyrooms import number_of
from pointcmt.datasets.store.schema import ShapeRecord, digest
from pointcmt.render.config import RenderConfig
from pointcmt.render.draw.cpu import draw_views
from pointcmt.render.draw.raycaster import RayCaster
from pointcmt.render.draw.shading import KEY_IN_WORLD
from pointcmt.scenes import Boxes, Frame, Image, SceneData
from pointcmt.shapes import UnitMesh

FRAMES = 32  # of the 48 along the path
PICTURES = 2  # version of how rooms are drawn, part of their hash: 2 has no headlight


def load_toyroom(record: ShapeRecord, seed: int = 0) -> SceneData:
    """Return a room with FRAMES frames of 320 × 240 pixels, all drawn when the first is read.

    Color and labels are exact, depth is what a depth camera would measure (`sample_sensor`) with
    noise that depends on the seed, the room and the frame. The mesh comes with it, so that what
    frames see is tested by rays. Raises ShapeRefused.
    """
    number = number_of(record)
    room = make_room(number)
    drawn = _Drawn(room, (seed, number))
    poses = np.linalg.inv(drawn.cameras.world_to_camera)
    frames = tuple(
        Frame(at, drawn.cameras.K[i], poses[i], partial(drawn.image, i))
        for i, at in enumerate(drawn.numbers)
    )
    mesh = room.mesh
    parts = (mesh.vertices, mesh.faces, drawn.cameras.K)
    sha256 = digest(bytes([PICTURES]) + b"".join(part.tobytes() for part in parts))
    return SceneData(
        frames,
        boxes=Boxes(room.boxes, room.box_label, room.box_instance),
        mesh=mesh,
        face_instance=room.face_instance,
        sha256=sha256,
    )


class _Drawn:
    """The frames of a room, drawn once. seed: of the depth camera's noise."""

    def __init__(self, room: Room, seed: tuple[int, ...]) -> None:
        self.room, self.seed = room, seed
        count = len(room.cameras)
        self.numbers = [int(i) for i in np.linspace(0, count, FRAMES, endpoint=False)]
        self.cameras = room.cameras[np.array(self.numbers)]

    def image(self, index: int) -> Image:
        """Return what a frame shows; class 0 and up everywhere, since rooms are closed."""
        rgb, depth, face = (array[index] for array in self._views)
        room, hit = self.room, face >= 0
        measured = sample_sensor(depth, self.cameras[index], (*self.seed, index))
        semantic = np.where(hit, room.face_semantic[face], -1).astype(np.int16)
        instance = np.where(hit, room.face_instance[face], -1).astype(np.int32)
        return Image(rgb, measured, semantic, instance)

    @cached_property
    def _views(
        self,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int32]]:
        """Color, depth in meters and faces of all frames.

        The renderer draws square images of meshes in the unit sphere: rows of the square that
        belong to no frame are cut off.
        """
        unit, poses, scale = self._in_unit_sphere()
        cameras = self.cameras
        K, above = cameras.K.copy(), (cameras.width - cameras.height) // 2
        K[:, 1, 2] += above
        square = Camera(K, poses, cameras.width, cameras.width)
        config = RenderConfig(find_rig("ortho6"), cameras.width, light="world")
        views = draw_views(RayCaster(unit), square, config)
        rows = slice(above, above + cameras.height)
        depth = views.depth[:, rows] * np.float32(1 / scale)
        return views.rgb[:, rows], depth, views.face_index[:, rows]

    def _in_unit_sphere(self) -> tuple[UnitMesh, NDArray[np.float64], float]:
        """Return the room and the poses [V,4,4] of its cameras for the renderer, and the scale.

        The room is also turned, so that its sun is where the renderer's light is fixed.
        """
        mesh = self.room.mesh
        scale = 1 / float(np.linalg.norm(mesh.vertices, axis=1).max())
        turn = _rotation(self.room.sun, np.array(KEY_IN_WORLD))
        poses = self.cameras.world_to_camera.copy()
        poses[:, :3, :3] @= turn.T
        poses[:, :3, 3] *= scale
        return UnitMesh.of(mesh, scale * mesh.vertices @ turn.T), poses, scale


def _rotation(start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the smallest rotation [3,3] that turns one unit vector into another.

    Rodrigues' formula; the vectors must not be opposite.
    """
    x, y, z = np.cross(start, end).tolist()
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation: NDArray[np.float64] = np.eye(3) + cross + cross @ cross / (1 + start @ end)
    return rotation
