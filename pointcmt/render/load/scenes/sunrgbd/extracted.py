"""Load a frame of SUN RGB-D from VoteNet's extraction (sunrgbd/matlab/extract_rgbd_data_v2.m).

- `depth/NNNNNN.mat`: `instance` [N,6], a point per pixel with a depth: x, y, z and a color (0..1).
- `calib/NNNNNN.txt`: Rtilt, then K, each column by column, as MATLAB writes matrices.
- `label_v1/NNNNNN.txt` (`label` for version 2): class, 2D box, center, coeffs and heading per box.
"""

from functools import partial
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.sources.matlab.mat import parse_mat
from pointcmt.datasets.sources.sunrgbd import LABEL_FOLDERS
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.readers.points import MAX_POINTS
from pointcmt.render.load.scenes.folder import MAX_IMAGE, SceneFolder
from pointcmt.render.load.scenes.images import decode_color
from pointcmt.render.load.scenes.sunrgbd.frame import RawBox, make_frame, one_frame
from pointcmt.scenes import Image, SceneData, ScenePoints

MAX_TEXT = 1 << 20  # bytes of a label or a calibration
_OFF_CENTER = 0.05  # pixels that a point may be from the center of its pixel, by rounding


def load_extracted(folder: SceneFolder, source: str, version: int) -> SceneData:
    """Return a scene of one frame. source: its depth file. version: of the boxes, 1 or 2.

    Raises ShapeRefused, also if the points do not lie at the centers of pixels: then the matrices
    are not those of these points.
    """
    base, _, name = source.rpartition("depth/")
    number = name.removesuffix(".mat")
    color_name = f"{base}image/{number}.jpg"
    calib_name, label_name = (
        f"{base}{part}/{number}.txt" for part in ("calib", LABEL_FOLDERS[version])
    )
    parts = {
        each: folder.read(each, most)
        for each, most in (
            (source, MAX_IMAGE),
            (color_name, MAX_IMAGE),
            (calib_name, MAX_TEXT),
        )
    }
    label = _read_label(folder, label_name)
    tilt, K = parse_calibration(parts[calib_name].decode("utf-8", "replace"), calib_name)
    raw = parse_labels(label.decode("utf-8", "replace"), label_name)
    frame = make_frame(K, tilt, partial(_read_image, folder, color_name, source, calib_name))
    points = _parse_points(parts[source], source)
    height, width, _ = decode_color(parts[color_name], color_name).shape
    _pixels(points.points, K, tilt, (height, width), source)
    digest = sha256(b"\0".join([*parts.values(), label]))
    return one_frame(frame, points, raw, digest.hexdigest())


def parse_calibration(text: str, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (Rtilt [3,3], K [3,3]) of a calibration. Raises ShapeRefused (bad_syntax)."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    try:
        tilt, K = (np.array(words, np.float64).reshape(3, 3, order="F") for words in lines)
    except ValueError as error:
        what = f"{name} is not two lines of nine numbers"
        raise ShapeRefused(Reason.BAD_SYNTAX, what) from error
    return tilt, K


def parse_labels(text: str, name: str) -> list[RawBox]:
    """Return the boxes of a label file. Raises ShapeRefused (bad_syntax) with file and line."""
    boxes = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            values = [float(word) for word in words[1:]]
        except ValueError:
            values = []
        if len(values) != 12:
            what = f"{name}, line {number}: it is not a class and 12 numbers"
            raise ShapeRefused(Reason.BAD_SYNTAX, what)
        boxes.append(
            RawBox(words[0], tuple(values[4:7]), tuple(values[7:10]), tuple(values[10:12]))
        )
    return boxes


def _read_label(folder: SceneFolder, name: str) -> bytes:
    """Return the content of a label file, which is empty for a frame without boxes."""
    path = folder.inside(name)
    if path.is_file() and not path.stat().st_size:
        return b""
    return folder.read(name, MAX_TEXT)


def _parse_points(data: bytes, name: str) -> ScenePoints:
    try:
        table = parse_mat(data).get("instance")
    except ShapeRefused as refused:
        raise ShapeRefused(refused.reason, f"{name}: {refused.detail}") from refused
    if not isinstance(table, np.ndarray) or table.ndim != 2 or table.shape[1] != 6:
        raise ShapeRefused(Reason.BAD_SYNTAX, f"{name} has no array 'instance' of 6 columns")
    if not len(table):
        raise ShapeRefused(Reason.EMPTY_FILE, f"{name} has no points")
    if len(table) > MAX_POINTS:
        what = f"{name} has {len(table)} points, more than the maximum of {MAX_POINTS}"
        raise ShapeRefused(Reason.TOO_LARGE, what)
    if not np.isfinite(table).all():
        raise ShapeRefused(Reason.NOT_FINITE, f"{name} has points that are not finite")
    color = table[:, 3:]
    if color.min() < 0 or color.max() > 1:
        raise ShapeRefused(Reason.BAD_SYNTAX, f"{name} has colors outside 0 to 1")
    return ScenePoints(
        np.ascontiguousarray(table[:, :3], np.float64), np.rint(color * 255).astype(np.uint8)
    )


def _pixels(
    points: NDArray[np.float64],
    K: NDArray[np.float64],
    tilt: NDArray[np.float64],
    size: tuple[int, int],
    name: str,
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Return (row, column, depth) of each point, all [N]. K counts pixels from 1."""
    across, depth, up = (points @ tilt).T  # the inverse of a rotation is its transpose
    if not depth.min() > 0:
        raise ShapeRefused(Reason.BAD_SYNTAX, f"{name} has points behind the camera")
    columns = K[0, 0] * across / depth + K[0, 2] - 1
    rows = K[1, 1] * -up / depth + K[1, 2] - 1
    found = []
    for values, count in ((rows, size[0]), (columns, size[1])):
        nearest = np.rint(values)
        off = np.abs(values - nearest).max()
        if off > _OFF_CENTER or nearest.min() < 0 or nearest.max() >= count:
            what = f"the points of {name} do not fit its calibration and its image"
            raise ShapeRefused(Reason.BAD_SYNTAX, what)
        found.append(nearest.astype(np.intp))
    return found[0], found[1], depth


def _read_image(folder: SceneFolder, color_name: str, source: str, calib_name: str) -> Image:
    """Return a frame's image, with the depth of the points at their pixels."""
    color = decode_color(folder.read_image(color_name), color_name)
    calibration = folder.read(calib_name, MAX_TEXT).decode("utf-8", "replace")
    tilt, K = parse_calibration(calibration, calib_name)
    points = _parse_points(folder.read_image(source), source).points
    rows, columns, own = _pixels(points, K, tilt, color.shape[:2], source)
    depth = np.zeros(color.shape[:2], np.float32)
    depth[rows, columns] = own
    return Image(color, depth)
