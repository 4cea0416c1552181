"""Cameras as in `transforms.json`, the file of NeRF's synthetic scenes that others have extended.

Its cameras have OpenGL's axes (x right, y up, z backward) and are given as `transform_matrix`, from
the camera to the world; the store's have OpenCV's (docs/conventions.md). Sources: the keys of
instant-ngp (docs/nerf_dataset_tips.md of github.com/NVlabs/instant-ngp) and of nerfstudio
(docs.nerf.studio/quickstart/data_conventions.html). Intrinsics are in pixels, the center of the
first pixel at (0.5, 0.5), as in a store.
"""

import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.cameras import Camera
from pointcmt.datasets.export.shapes import ShapeViews

OPENGL = np.array([1.0, -1.0, -1.0, 1.0])  # OpenCV's axes in OpenGL's: y and z change their signs


def transform_matrices(camera: Camera) -> NDArray[np.float64]:
    """Return camera-to-world matrices [V,4,4] of cameras with OpenGL's axes."""
    matrices = np.zeros_like(camera.world_to_camera)
    matrices[:, :3, :3] = camera.world_to_camera[:, :3, :3].swapaxes(1, 2)
    matrices[:, :3, 3] = camera.center
    matrices[:, 3, 3] = 1
    return matrices * OPENGL + 0.0  # no -0.0


def intrinsics(camera: Camera) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the keys of the whole file and those of each view, which differ only if views do."""
    each = [_intrinsics(camera, view) for view in range(len(camera))]
    size = {"w": camera.width, "h": camera.height}
    lens = {"k1": 0.0, "k2": 0.0, "p1": 0.0, "p2": 0.0}
    if all(own == each[0] for own in each):
        return {**each[0], **size, **lens}, [{} for _ in each]
    return {**size, **lens}, each


def _intrinsics(camera: Camera, view: int) -> dict[str, Any]:
    K = camera.K[view]
    return {
        "camera_angle_x": 2 * math.atan(camera.width / 2 / K[0, 0]),
        "camera_angle_y": 2 * math.atan(camera.height / 2 / K[1, 1]),
        "fl_x": float(K[0, 0]),
        "fl_y": float(K[1, 1]),
        "cx": float(K[0, 2]),
        "cy": float(K[1, 2]),
    }


def facts(shape: ShapeViews) -> dict[str, Any]:
    """Return what is known of a shape, as further keys of the file."""
    return {
        "id": shape.id,
        "class": shape.class_name,
        "label": shape.label,
        "split": shape.split,
        "source_to_world": shape.source_to_world.tolist(),
    }


def encode(table: dict[str, Any]) -> bytes:
    """Encode the file; numbers are written so that reading gives the same float64."""
    return json.dumps(table, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
