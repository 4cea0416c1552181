"""Load frames of SUN RGB-D, with their points and boxes, from the release."""

import math
from collections.abc import Iterable
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.sources.matlab.mat import Structs
from pointcmt.datasets.sources.sunrgbd import (
    META,
    find_meta,
    find_release,
    frame_folder,
    path_in_release,
    read_meta,
)
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.files import refusals
from pointcmt.render.load.scenes.folder import MAX_IMAGE, SceneFolder
from pointcmt.render.load.scenes.images import decode_color, decode_depth
from pointcmt.render.load.scenes.sunrgbd.extracted import load_extracted
from pointcmt.render.load.scenes.sunrgbd.frame import (
    RawBox,
    back_project,
    make_frame,
    one_frame,
)
from pointcmt.scenes import Image, SceneData

MAX_DEPTH = 8.0  # meters; the toolbox sets greater depths to it


def load_sunrgbd(
    record: ShapeRecord, root: Path, version: int = 1, follow_links: bool = False
) -> SceneData:
    """Return a scene of one frame, with a point per pixel that has a depth.

    record: of `list_sunrgbd`. version: of the boxes, 1 or 2. Boxes of the ten classes, in the order
    of the dataset; their instances are unknown. The release's list of frames is kept for the next
    call. Raises ShapeRefused for data that is missing, damaged or of another layout.
    """
    folder = SceneFolder(root, root, follow_links)
    with refusals(root / record.source):
        if record.source.endswith(".mat"):
            return load_extracted(folder, record.source, version)
        return _load_released(folder, record, version)


def _load_released(folder: SceneFolder, record: ShapeRecord, version: int) -> SceneData:
    place, meta = find_release(folder.path), find_meta(folder.path, version)
    if place is None or not meta:
        raise ShapeRefused(Reason.MISSING_FILE, f"{META[version]} or the images are missing")
    status = folder.inside(meta).stat()
    frames = _read_list(folder.inside(meta), status.st_mtime_ns, status.st_size)
    row = int(record.id) - 1 if record.id.isdecimal() else -1
    if not 0 <= row < len(frames):
        raise ShapeRefused(Reason.MISSING_FILE, f"the list has no frame {record.id}")
    if f"{place}/{frame_folder(frames, row)}".removeprefix("/") != record.source:
        what = f"frame {record.id} of the list has another folder"
        raise ShapeRefused(Reason.SOURCE_CHANGED, what)
    color_name, depth_name = (
        f"{place}/{path_in_release(frames.get(row, name))}".removeprefix("/")
        for name in ("rgbpath", "depthpath")
    )
    K, tilt = _matrix(frames, row, "K"), _matrix(frames, row, "Rtilt")
    raw = list(_raw_boxes(frames.get(row, "groundtruth3DBB")))
    for name in (color_name, depth_name):
        folder.read(name, MAX_IMAGE)
    digest = sha256(repr((folder.digest(), K.tolist(), tilt.tolist(), raw)).encode())
    frame = make_frame(K, tilt, partial(_read_image, folder, color_name, depth_name))
    return one_frame(frame, back_project(frame, frame.read()), raw, digest.hexdigest())


@lru_cache(maxsize=1)
def _read_list(path: Path, changed: int, size: int) -> Structs:
    """Return the list of frames, which takes a second to read. changed, size: of the file."""
    return read_meta(path)


def _raw_boxes(boxes: object) -> Iterable[RawBox]:
    """Yield the boxes of a frame of the list; a frame without any has an empty array."""
    if not isinstance(boxes, Structs):
        return
    for row in range(len(boxes)):
        center, coeffs, heading = (
            _numbers(boxes.get(row, name), count)
            for name, count in (("centroid", 3), ("coeffs", 3), ("orientation", 2))
        )
        yield RawBox(str(boxes.get(row, "classname")), center, coeffs, heading)


def _numbers(value: object, count: int) -> tuple[float, ...]:
    """Return the first numbers of an array; NaN, if it has fewer, so that the box is left out."""
    if not isinstance(value, np.ndarray) or value.size < count:
        return (math.nan,) * count
    return tuple(value.ravel()[:count].astype(np.float64).tolist())


def _matrix(frames: Structs, row: int, name: str) -> NDArray[np.float64]:
    value = frames.get(row, name)
    if not isinstance(value, np.ndarray) or value.shape != (3, 3):
        raise ShapeRefused(Reason.BAD_SYNTAX, f"{name} of the frame is not a 3 × 3 matrix")
    return value.astype(np.float64)


def _read_image(folder: SceneFolder, color_name: str, depth_name: str) -> Image:
    """Return a frame's image. Raises ShapeRefused if its files are damaged or do not fit.

    The bits of the stored depth are rotated by three (PrincetonVision/SUN3Dsfm depthRead.m).
    """
    color = decode_color(folder.read_image(color_name), color_name)
    stored = decode_depth(folder.read_image(depth_name), depth_name)
    if stored.shape != color.shape[:2]:
        what = f"{color_name} has {color.shape[:2]} pixels, its depth {stored.shape}"
        raise ShapeRefused(Reason.COUNT_MISMATCH, what)
    millimeters = (stored >> np.uint16(3)) | (stored << np.uint16(13))
    depth = np.minimum(millimeters / np.float32(1000), np.float32(MAX_DEPTH))
    return Image(color, depth.astype(np.float32))
