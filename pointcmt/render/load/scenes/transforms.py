"""Recordings in `transforms.json`, as nerfstudio and instant-ngp write and read it.

Poses are camera-to-world with OpenGL's camera axes (x right, y up, z backward). The center of the
first pixel is (0.5, 0.5), as here: nerfstudio's Cameras.get_image_coords has the offset 0.5, as
does COLMAP, which most of these files come from.
"""

from collections.abc import Mapping
from math import tan
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.sources.frames import TRANSFORMS
from pointcmt.errors import Reason, ShapeRefused, printable
from pointcmt.render.load.scenes.folder import SceneFolder
from pointcmt.render.load.scenes.poses import as_matrix
from pointcmt.render.load.scenes.recording import Lens, Recording, Shot, shot_of_files
from pointcmt.render.load.scenes.sidecar import Sidecar, number, optional

_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
_PINHOLE = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE")
_UNITS = ("depth_unit_scale_factor", "integer_depth_scale")  # nerfstudio's option, instant-ngp's
_MILLIMETERS = 0.001  # nerfstudio's default
_OPENGL = np.array([1.0, -1.0, -1.0, 1.0])  # signs of OpenCV's camera axes in OpenGL's

Table = Mapping[str, object]


def transforms(folder: SceneFolder, sidecar: Sidecar) -> Recording:
    """Read the frames of transforms.json that have a `depth_file_path`. Raises ShapeRefused.

    Translations are divided by `applied_scale`, so that they are in the unit of the depth images.
    """
    table = folder.json(TRANSFORMS)
    frames = table.get("frames") if isinstance(table, dict) else None
    if not isinstance(table, dict) or not isinstance(frames, list):
        raise _invalid("must have a list of frames")
    scale = optional(table, "applied_scale", 1.0, TRANSFORMS)
    if scale <= 0:
        raise _invalid("applied_scale must be greater than 0")
    shots, without = [], 0
    for index, frame in enumerate(frames):
        where = f"{TRANSFORMS}, frame {index}"
        if not isinstance(frame, dict):
            raise _invalid(f"frame {index} must be an object")
        if frame.get("depth_file_path") is None:
            without += 1
        else:
            shots.append(_shot(folder, index, {**table, **frame}, scale, where, sidecar))
    if not shots:
        what = f"none of the {len(frames)} frames of {TRANSFORMS} has a depth_file_path"
        raise ShapeRefused(Reason.MISSING_FILE, what)
    unit = next((number(table[key], key) for key in _UNITS if key in table), _MILLIMETERS)
    notes = (f"{without} frames left out: they have no depth_file_path",) if without else ()
    unit = sidecar.depth_unit or unit
    return Recording(tuple(shots), None, unit, sidecar.up_axis("z"), notes=notes)


def _shot(
    folder: SceneFolder, index: int, frame: Table, scale: float, where: str, sidecar: Sidecar
) -> Shot:
    """Return a frame; `frame` has the file's common values where it has none of its own."""
    pose = _pose(frame.get("transform_matrix"), where)
    with np.errstate(over="ignore"):
        pose[:3, 3] /= scale
    color, depth = (_name(frame.get(key), where) for key in ("file_path", "depth_file_path"))
    if not PurePosixPath(color).suffix and not folder.has(color):
        color += ".png"  # as instant-ngp does
    if sidecar.intrinsics is not None:
        lens = Lens.of(sidecar.intrinsics, integer_centers=False)
    else:
        lens = _lens(frame, where)
    return shot_of_files(folder, index, pose * _OPENGL, (color, depth), lens)


def _lens(frame: Table, where: str) -> Lens:
    """Return the lens of a frame. Raises ShapeRefused for distortion and missing values."""
    model = frame.get("camera_model", "OPENCV")
    if model not in _PINHOLE:
        raise _invalid(f"the camera model {printable(str(model)[:100])} is not supported")
    if any(optional(frame, key, 0.0, where) for key in _DISTORTION):
        raise _invalid("lens distortion is not supported: undistort the images first")
    size = optional(frame, "w", 0, where), optional(frame, "h", 0, where)
    if min(size) < 1:
        raise _invalid("w and h must be the size of the color images")
    width, height = round(size[0]), round(size[1])
    if "fl_x" in frame:
        fx = optional(frame, "fl_x", 0, where)
    elif "camera_angle_x" in frame:
        fx = width / 2 / max(tan(optional(frame, "camera_angle_x", 0, where) / 2), 1e-9)
    else:
        raise _invalid("fl_x or camera_angle_x is missing")
    fy = optional(frame, "fl_y", fx, where)
    cx, cy = optional(frame, "cx", width / 2, where), optional(frame, "cy", height / 2, where)
    return Lens.of((fx, fy, cx, cy), (width, height), integer_centers=False)


def _pose(value: object, where: str) -> NDArray[np.float64]:
    rows = value if isinstance(value, list) else []
    numbers = [each for row in rows for each in (row if isinstance(row, list) else [row])]
    return as_matrix([number(each, f"{where}: transform_matrix") for each in numbers], where)


def _name(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise ShapeRefused(Reason.BAD_SYNTAX, f"{where}: names of images must be texts")
    return value.replace("\\", "/")


def _invalid(what: str) -> ShapeRefused:
    return ShapeRefused(Reason.BAD_SYNTAX, f"{TRANSFORMS}: {what}")
