"""Export as COLMAP models: `images/` and `sparse/0/`, what Gaussian splatting programs read.

The layout of the files, binary and text, is that of colmap.github.io/format.html. COLMAP's cameras
have the axes and the pixels of a store: x right, y down, z forward, the center of the first pixel
at (0.5, 0.5). Points that at least one view sees have their number in the store + 1 as their id;
their tracks name all views that see them, with `Camera.project` as the position in each image.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.export.images import encode_png
from pointcmt.datasets.export.shapes import ShapeViews

OWN = r"images/\d{3,}\.png|sparse/0/(cameras|images|points3D)\.(bin|txt)"
PINHOLE = 1  # the number of the camera model: fx, fy, cx, cy
ERROR = 0.0  # of reprojection, in pixels: positions are projections


@dataclass(frozen=True, eq=False)
class Model:
    """A reconstruction in COLMAP's terms. Letters: C cameras, V images, N points, M seen points.

    Ids of cameras, images and points count from 1.
    """

    size: tuple[int, int]  # width, height
    params: NDArray[np.float64]  # [C,4]: fx, fy, cx, cy
    camera_ids: NDArray[np.int64]  # [V]
    names: list[str]  # [V]
    quaternions: NDArray[np.float64]  # [V,4]: w, x, y, z; world to camera
    translations: NDArray[np.float64]  # [V,3]
    keypoints: list[NDArray[np.float64]]  # [V] of [n,2]
    keypoint_ids: list[NDArray[np.int64]]  # [V] of [n]: point ids
    point_ids: NDArray[np.int64]  # [M]
    points: NDArray[np.float64]  # [M,3]
    colors: NDArray[np.uint8]  # [M,3]
    tracks: list[NDArray[np.int64]]  # [M] of [n,2]: image id, number of its keypoint


def files(shape: ShapeViews, text: bool = False) -> dict[str, bytes]:
    """Return the files of a shape by name. text: the model's as text instead of binary."""
    found = {
        f"images/{name}.png": encode_png(shape.rgb[view])
        for view, name in enumerate(shape.view_names())
    }
    model = model_of(shape)
    kinds = {"cameras": (_cameras_text, _cameras), "images": (_images_text, _images)}
    kinds["points3D"] = (_points_text, _points)
    for name, (as_text, as_binary) in kinds.items():
        if text:
            found[f"sparse/0/{name}.txt"] = "\n".join([*as_text(model), ""]).encode()
        else:
            found[f"sparse/0/{name}.bin"] = b"".join(as_binary(model))
    return found


def model_of(shape: ShapeViews) -> Model:
    """Return a shape that has correspondences as a model."""
    assert shape.visible is not None
    camera, visible = shape.camera, shape.visible
    lens = camera.K[:, [0, 1, 0, 1], [0, 1, 2, 2]]
    params, camera_ids = np.unique(lens, axis=0, return_inverse=True)
    uv, _ = camera.project(shape.points)
    place = np.cumsum(visible, axis=1) - 1  # [V,N]: numbers of the keypoints in their image
    seen = np.flatnonzero(visible.any(axis=0))
    viewers = [np.flatnonzero(visible[:, point]) for point in seen]
    return Model(
        size=(camera.width, camera.height),
        params=params,
        camera_ids=camera_ids.reshape(-1) + 1,
        names=[f"{name}.png" for name in shape.view_names()],
        quaternions=np.stack([quaternion(pose[:3, :3]) for pose in camera.world_to_camera]),
        translations=camera.world_to_camera[:, :3, 3],
        keypoints=[uv[view, visible[view]] for view in range(len(uv))],
        keypoint_ids=[np.flatnonzero(row) + 1 for row in visible],
        point_ids=seen + 1,
        points=shape.points[seen].astype(np.float64),
        colors=shape.colors[seen],
        tracks=[
            np.stack([views + 1, place[views, point]], axis=1)
            for point, views in zip(seen, viewers, strict=True)
        ],
    )


def quaternion(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a rotation [3,3] as a unit quaternion (w, x, y, z) with w ≥ 0.

    Shepperd's method: the largest of the four components is computed first, from the diagonal,
    so that nothing is divided by a small number.
    """
    R = rotation
    trace = np.trace(R)
    squares = np.array([trace, *(2 * np.diag(R) - trace)])  # 4 q² - 1 of each component
    largest = int(np.argmax(squares))
    x, y, z = R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]
    xy, xz, yz = R[0, 1] + R[1, 0], R[0, 2] + R[2, 0], R[1, 2] + R[2, 1]
    own = squares[largest] + 1
    rows = [[own, x, y, z], [x, own, xy, xz], [y, xy, own, yz], [z, xz, yz, own]]
    q = np.array(rows[largest], np.float64)
    q /= np.linalg.norm(q)
    return -q if q[0] < 0 else q


# Binary files: little-endian, without padding.


def _cameras(model: Model) -> Iterator[bytes]:
    yield struct.pack("<Q", len(model.params))
    for number, params in enumerate(model.params, 1):
        yield struct.pack("<iiQQ4d", number, PINHOLE, *model.size, *params)


def _images(model: Model) -> Iterator[bytes]:
    layout = np.dtype([("xy", "<f8", 2), ("point", "<i8")])
    yield struct.pack("<Q", len(model.names))
    for view, name in enumerate(model.names):
        pose = (*model.quaternions[view], *model.translations[view])
        yield struct.pack("<I7dI", view + 1, *pose, model.camera_ids[view])
        keypoints = np.empty(len(model.keypoints[view]), layout)
        keypoints["xy"], keypoints["point"] = model.keypoints[view], model.keypoint_ids[view]
        yield name.encode() + b"\0" + struct.pack("<Q", len(keypoints)) + keypoints.tobytes()


def _points(model: Model) -> Iterator[bytes]:
    yield struct.pack("<Q", len(model.points))
    for number, xyz, color, track in zip(
        model.point_ids, model.points, model.colors, model.tracks, strict=True
    ):
        yield struct.pack("<Q3d3BdQ", number, *xyz, *color, ERROR, len(track))
        yield track.astype("<u4").tobytes()


# Text files. Numbers are written so that reading gives the same float64.


def _cameras_text(model: Model) -> Iterator[str]:
    yield "# Camera list with one line of data per camera:"
    yield "#   CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"
    yield f"# Number of cameras: {len(model.params)}"
    for number, params in enumerate(model.params, 1):
        yield _line(number, "PINHOLE", *model.size, *params.tolist())


def _images_text(model: Model) -> Iterator[str]:
    count = sum(map(len, model.keypoints)) / len(model.keypoints)
    yield "# Image list with two lines of data per image:"
    yield "#   IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME"
    yield "#   POINTS2D[] as (X, Y, POINT3D_ID)"
    yield f"# Number of images: {len(model.names)}, mean observations per image: {count}"
    for view, name in enumerate(model.names):
        pose = [*model.quaternions[view].tolist(), *model.translations[view].tolist()]
        yield _line(view + 1, *pose, model.camera_ids[view], name)
        keypoints = model.keypoints[view].tolist(), model.keypoint_ids[view].tolist()
        yield " ".join(_line(*xy, point) for xy, point in zip(*keypoints, strict=True))


def _points_text(model: Model) -> Iterator[str]:
    count = sum(map(len, model.tracks)) / max(1, len(model.tracks))
    yield "# 3D point list with one line of data per point:"
    yield "#   POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)"
    yield f"# Number of points: {len(model.points)}, mean track length: {count}"
    for number, xyz, color, track in zip(
        model.point_ids, model.points, model.colors, model.tracks, strict=True
    ):
        yield _line(number, *xyz.tolist(), *color, ERROR, *track.reshape(-1))


def _line(*values: object) -> str:
    return " ".join(map(str, values))
