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
from pointcmt.scenes import Boxes, Frame, Image, SceneData
from pointcmt.shapes import UnitMesh

FRAMES = 32  # of the 48 along the path


def load_toyroom(record: ShapeRecord) -> SceneData:
    """Return a room with FRAMES frames of 320 × 240 pixels, all drawn when the first is read.

    Color and labels are exact, depth is what a depth camera would measure (`sample_sensor`). The
    mesh comes with it, so that what frames see is tested by rays. Raises ShapeRefused.
    """
    number = number_of(record)
    room = make_room(number)
    drawn = _Drawn(room, number)
    poses = np.linalg.inv(drawn.cameras.world_to_camera)
    frames = tuple(
        Frame(at, drawn.cameras.K[i], poses[i], partial(drawn.image, i))
        for i, at in enumerate(drawn.numbers)
    )
    mesh = room.mesh
    sha256 = digest(mesh.vertices.tobytes() + mesh.faces.tobytes() + drawn.cameras.K.tobytes())
    return SceneData(
        frames,
        boxes=Boxes(room.boxes, room.box_label, room.box_instance),
        mesh=mesh,
        sha256=sha256,
    )


class _Drawn:
    """The frames of a room, drawn once."""

    def __init__(self, room: Room, number: int) -> None:
        self.room, self.number = room, number
        count = len(room.cameras)
        self.numbers = [int(i) for i in np.linspace(0, count, FRAMES, endpoint=False)]
        self.cameras = room.cameras[np.array(self.numbers)]

    def image(self, index: int) -> Image:
        """Return what a frame shows; class 0 and up everywhere, since rooms are closed."""
        rgb, depth, face = (array[index] for array in self._views)
        room, hit = self.room, face >= 0
        measured = sample_sensor(depth, self.cameras[index], self.number * 1000 + index)
        semantic = np.where(hit, room.face_semantic[face], -1).astype(np.int16)
        instance = np.where(hit, room.face_instance[face], -1).astype(np.int32)
        return Image(rgb, measured, semantic, instance)

    @cached_property
    def _views(
        self,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int32]]:
        """Color, depth in meters and faces of all frames.

        The renderer draws square images of meshes in the unit sphere: the room and the cameras are
        scaled into it, and the rows of the square that belong to no frame are cut off.
        """
        mesh, cameras = self.room.mesh, self.cameras
        radius = float(np.linalg.norm(mesh.vertices, axis=1).max())
        unit = UnitMesh.of(mesh, mesh.vertices / radius)
        pose = cameras.world_to_camera.copy()
        pose[:, :3, 3] /= radius
        K, above = cameras.K.copy(), (cameras.width - cameras.height) // 2
        K[:, 1, 2] += above
        square = Camera(K, pose, cameras.width, cameras.width)
        config = RenderConfig(find_rig("ortho6"), cameras.width, light="world")
        views = draw_views(RayCaster(unit), square, config)
        rows = slice(above, above + cameras.height)
        depth = views.depth[:, rows] * np.float32(radius)
        return views.rgb[:, rows], depth, views.face_index[:, rows]
