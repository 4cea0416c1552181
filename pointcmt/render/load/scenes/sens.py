"""ScanNet's .sens files, version 4: a header, then per frame a pose and compressed images.

The format follows SensReader/c++/sensorData.h and SensReader/python/SensorData.py of
github.com/ScanNet/ScanNet; all numbers are little endian. An index is read once; the images of a
frame are read when needed, so that a file of gigabytes takes no memory.
"""

import hashlib
import os
import struct
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from pointcmt.errors import Reason, ShapeRefused, printable
from pointcmt.files import open_regular
from pointcmt.render.load.scenes.folder import MAX_IMAGE
from pointcmt.render.load.scenes.images import MAX_PIXELS, decode_color
from pointcmt.render.load.scenes.recording import Pixels, Shot

VERSION = 4
MAX_FRAMES = 200_000  # an hour and a half; the longest scan has a tenth of it
MAX_NAME = 1 << 12  # bytes of the sensor's name
_MATRICES = struct.Struct("<64f")  # intrinsics and extrinsics of color, then of depth
_CODECS_AND_SIZES = struct.Struct("<2i4IfQ")
_FRAME = struct.Struct("<16f4Q")  # pose, two timestamps, sizes of the color and depth payloads
_RAW, _PNG, _JPEG = 0, 1, 2  # codecs of color
_ZLIB, _OCCI = 1, 2  # codecs of depth, beside _RAW


@dataclass(frozen=True, eq=False)
class SensHeader:
    """Matrices [4,4] as stored (integer pixel centers), codecs, sizes, steps of depth per meter."""

    intrinsic_color: NDArray[np.float64]
    extrinsic_color: NDArray[np.float64]
    intrinsic_depth: NDArray[np.float64]
    extrinsic_depth: NDArray[np.float64]
    color_codec: int
    depth_codec: int
    color_size: tuple[int, int]
    depth_size: tuple[int, int]
    depth_shift: float


def read_sens(path: Path) -> tuple[SensHeader, tuple[Shot, ...], str]:
    """Return the header, the shots, and the SHA-256 of everything except the images.

    The digest covers the sizes of the images. Raises ShapeRefused: missing_file, unreadable_file,
    unknown_format, bad_syntax, truncated, too_large.
    """
    try:
        with open_regular(path) as file:
            return _read(file, path)
    except FileNotFoundError as error:
        raise ShapeRefused(Reason.MISSING_FILE, f"{path.name} not found") from error
    except OSError as error:
        raise ShapeRefused(Reason.UNREADABLE_FILE, f"{path.name}: {error}") from error


def _read(file: BinaryIO, path: Path) -> tuple[SensHeader, tuple[Shot, ...], str]:
    size = os.fstat(file.fileno()).st_size
    digest = hashlib.sha256()

    def take(count: int) -> bytes:
        data = file.read(count)
        if len(data) < count:
            what = f"{path.name} ends within its data ({size} bytes): download it again"
            raise ShapeRefused(Reason.TRUNCATED, what)
        digest.update(data)
        return data

    (version,) = struct.unpack("<I", take(4))
    if version != VERSION:
        what = f"{path.name} is not a .sens file of version {VERSION} (found {version})"
        raise ShapeRefused(Reason.UNKNOWN_FORMAT, what)
    (length,) = struct.unpack("<Q", take(8))
    if length > MAX_NAME:
        what = f"{path.name}: a sensor's name of {length} bytes"
        raise ShapeRefused(Reason.BAD_SYNTAX, what)
    take(length)
    matrices = np.reshape(_MATRICES.unpack(take(_MATRICES.size)), (4, 4, 4)).astype(np.float64)
    *values, shift, count = _CODECS_AND_SIZES.unpack(take(_CODECS_AND_SIZES.size))
    header = SensHeader(
        intrinsic_color=matrices[0],
        extrinsic_color=matrices[1],
        intrinsic_depth=matrices[2],
        extrinsic_depth=matrices[3],
        color_codec=values[0],
        depth_codec=values[1],
        color_size=(values[2], values[3]),
        depth_size=(values[4], values[5]),
        depth_shift=shift,
    )
    _check(header, count, size, path.name)
    shots = []
    for number in range(count):
        *pose, _, _, color_bytes, depth_bytes = _FRAME.unpack(take(_FRAME.size))
        at = file.tell()
        if at + color_bytes + depth_bytes > size:
            what = f"{path.name} ends within frame {number} of {count}: download it again"
            raise ShapeRefused(Reason.TRUNCATED, what)
        if max(color_bytes, depth_bytes) > MAX_IMAGE:
            what = f"{path.name}: frame {number} has an image of {MAX_IMAGE >> 20} MiB or more"
            raise ShapeRefused(Reason.TOO_LARGE, what)
        file.seek(color_bytes + depth_bytes, os.SEEK_CUR)
        read = partial(_images, path, header, at, (color_bytes, depth_bytes))
        matrix = np.reshape(pose, (4, 4)).astype(np.float64)
        shots.append(Shot(number, matrix, f"{path.name}, frame {number}", read))
    return header, tuple(shots), digest.hexdigest()


def _check(header: SensHeader, count: int, size: int, name: str) -> None:
    """Refuse a header whose sizes are impossible, and codecs that cannot be read."""
    name = printable(name)
    if header.depth_codec == _OCCI:
        what = (
            f"{name} has depth in the OCCI codec, which is not supported: export its frames with "
            "ScanNet's SensReader (c++) into color, depth, pose and intrinsic, and move it away"
        )
        raise ShapeRefused(Reason.UNKNOWN_FORMAT, what)
    if header.color_codec not in (_RAW, _PNG, _JPEG) or header.depth_codec not in (_RAW, _ZLIB):
        what = f"{name} has unknown codecs: color {header.color_codec}, depth {header.depth_codec}"
        raise ShapeRefused(Reason.UNKNOWN_FORMAT, what)
    for width, height in (header.color_size, header.depth_size):
        if not 0 < width * height <= MAX_PIXELS:
            what = f"{name} has images of {width} × {height} pixels"
            raise ShapeRefused(Reason.TOO_LARGE if width and height else Reason.BAD_SYNTAX, what)
    if not (np.isfinite(header.depth_shift) and header.depth_shift > 0):
        raise ShapeRefused(Reason.BAD_SYNTAX, f"{name}: the depth shift is {header.depth_shift:g}")
    if count > MAX_FRAMES:
        raise ShapeRefused(Reason.TOO_LARGE, f"{name} declares {count} frames")
    if count * _FRAME.size > size:
        what = f"{name} declares {count} frames, but has {size} bytes: download it again"
        raise ShapeRefused(Reason.TRUNCATED, what)


def _images(path: Path, header: SensHeader, at: int, sizes: tuple[int, int]) -> Pixels:
    """Return color [h,w,3] and depth [H,W] of the frame whose payloads begin at `at`."""
    try:
        with open_regular(path) as file:
            file.seek(at)
            color, depth = (file.read(size) for size in sizes)
    except OSError as error:
        raise ShapeRefused(Reason.UNREADABLE_FILE, f"{path.name}: {error}") from error
    name = f"{path.name}, byte {at}"
    return _color(color, header, name), _depth(depth, header, name)


def _color(data: bytes, header: SensHeader, name: str) -> NDArray[np.uint8]:
    width, height = header.color_size
    if header.color_codec == _RAW:
        _require(len(data), 3 * width * height, name)
        return np.frombuffer(data, np.uint8).reshape(height, width, 3)
    color = decode_color(data, name)
    _require(color.size, 3 * width * height, name)
    return color


def _depth(data: bytes, header: SensHeader, name: str) -> NDArray[np.uint16]:
    width, height = header.depth_size
    wanted = 2 * width * height
    if header.depth_codec == _ZLIB:
        try:
            data = zlib.decompressobj().decompress(data, wanted + 1)  # no more is allocated
        except zlib.error as error:
            raise ShapeRefused(Reason.BAD_SYNTAX, f"{name}: depth: {error}") from error
    _require(len(data), wanted, name)
    return np.frombuffer(data, "<u2").astype(np.uint16).reshape(height, width)


def _require(found: int, wanted: int, name: str) -> None:
    if found != wanted:
        what = f"{name}: an image of {found} bytes decoded, {wanted} expected"
        raise ShapeRefused(Reason.COUNT_MISMATCH, what)
