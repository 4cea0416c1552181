"""Which boxes of a scene are stored: those whose instances the frames show well enough."""

import numpy as np
from numpy.typing import NDArray

from pointcmt.cameras import Camera
from pointcmt.geometry import sample_surface
from pointcmt.render.scenes.visibility import Surface
from pointcmt.scenes import Boxes, SceneData, ScenePoints
from pointcmt.shapes import Mesh

FEWEST_POINTS = 50  # fused points on an instance
LEAST_SEEN = 0.15  # share of an instance's surface that some frame sees
SAMPLES = 400  # places on an instance's surface


def seen_boxes(
    scene: SceneData, points: ScenePoints, surface: Surface | None, cameras: Camera
) -> Boxes:
    """Return the boxes of a scene whose points are fused, without those that are hardly seen.

    A box is kept if at least FEWEST_POINTS of the points belong to its instance and, where the
    mesh says which of its faces do (`SceneData.face_instance`), if frames see at least LEAST_SEEN
    of its surface. surface: of the mesh. cameras [V]: of the frames, in the world.
    """
    found, kept = scene.boxes, np.ones(len(scene.boxes), np.bool_)
    if points.instance is not None:
        numbers, counts = np.unique(points.instance, return_counts=True)
        kept = np.isin(found.instance, numbers[counts >= FEWEST_POINTS])
    if scene.mesh is not None and scene.face_instance is not None and surface is not None:
        instances = found.instance[kept]
        places = [_samples(scene.mesh, scene.face_instance, each) for each in instances]
        seen = _seen(places, scene.source_to_world, surface, cameras)
        kept[kept] = np.mean(seen, axis=1) >= LEAST_SEEN
    return Boxes(found.boxes[kept], found.label[kept], found.instance[kept])


def boxes_in_world(boxes: NDArray[np.float32], pose: NDArray[np.float64]) -> NDArray[np.float32]:
    """Move boxes [K,7] by a pose that keeps +Z up, or nearly so."""
    moved = boxes.astype(np.float64)
    moved[:, :3] = moved[:, :3] @ pose[:3, :3].T + pose[:3, 3]
    yaw = moved[:, 6] + np.arctan2(pose[1, 0], pose[0, 0])
    moved[:, 6] = (yaw + np.pi) % (2 * np.pi) - np.pi
    return moved.astype(np.float32)


def _samples(
    mesh: Mesh, face_instance: NDArray[np.int32], instance: np.int32
) -> NDArray[np.float64]:
    """Return SAMPLES places on an instance, evenly by area, the same ones every time."""
    vertices, faces = np.unique(mesh.faces[face_instance == instance], return_inverse=True)
    own = Mesh(mesh.vertices[vertices], faces.reshape(-1, 3))
    return sample_surface(own, SAMPLES, np.random.default_rng(int(instance)))[0]


def _seen(
    places: list[NDArray[np.float64]],
    to_world: NDArray[np.float64],
    surface: Surface,
    cameras: Camera,
) -> NDArray[np.bool_]:
    """Return which places [n,3] of each of K instances any camera sees, [K,n]."""
    points = np.reshape(places, (-1, 3)) @ to_world[:3, :3].T + to_world[:3, 3]
    seen = np.zeros(len(points), np.bool_)
    for K, pose in zip(cameras.K, cameras.world_to_camera, strict=True):
        size = (cameras.height, cameras.width)
        seen |= surface.seen(points.astype(np.float32), K, pose, size)
    return seen.reshape(len(places), SAMPLES)
