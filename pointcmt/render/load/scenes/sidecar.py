"""`scene.json` beside frames: what a user knows about a recording that its files do not say.

It overrides what the layout implies: `{"depth_unit": 0.001, "up": "z", "K": [525, 525, 319.5,
239.5], "trajectory": "trajectory.log"}`, each of them optional.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointcmt.errors import Reason, ShapeRefused, nearest, printable
from pointcmt.render.load.scenes.folder import SceneFolder
from pointcmt.render.load.scenes.ground import AXES
from pointcmt.render.load.scenes.recording import MAX_DEPTH_UNIT

NAME = "scene.json"
CAMERA = "camera"  # up axis: that of the first camera's image
_KEYS = ("depth_unit", "up", "K", "trajectory")
_DISTORTION = ("distortion", "k1", "k2", "k3", "p1", "p2", "dist_coeffs")


@dataclass(frozen=True)
class Sidecar:
    """What the user says about a recording; None = as the layout has it.

    depth_unit: meters per step of the depth images. up: an axis of AXES, or "camera". intrinsics:
    fx, fy, cx, cy of the depth images, with the layout's convention for pixel centers. trajectory:
    the file of poses, for Redwood's layout.
    """

    depth_unit: float | None = None
    up: str | None = None
    intrinsics: tuple[float, float, float, float] | None = None
    trajectory: str | None = None

    def up_axis(self, default: str) -> NDArray[np.float64] | None:
        """Return the up axis [3], by default that of the layout; None for that of the camera."""
        name = self.up or default
        return None if name == CAMERA else np.array(AXES[name])


def read_sidecar(folder: SceneFolder) -> Sidecar:
    """Return what `scene.json` says, nothing if there is none.

    Raises ShapeRefused (bad_syntax) for unknown keys, invalid values, and for distorted lenses.
    """
    if not folder.has(NAME):
        return Sidecar()
    table = folder.json(NAME)
    if not isinstance(table, dict):
        raise _invalid("must be a JSON object")
    for key in table:
        if key in _DISTORTION:
            raise _invalid(f"'{key}': undistort the images first; lens distortion is not supported")
        if key not in _KEYS:
            raise _invalid(f"unknown key '{printable(key)}'; {nearest(key, _KEYS)}")
    K = table.get("K")
    if K is not None and not (isinstance(K, list) and len(K) == 4):
        raise _invalid("'K' must be a list of four numbers: fx, fy, cx, cy")
    unit = None if "depth_unit" not in table else number(table["depth_unit"], f"{NAME}: depth_unit")
    if unit is not None and not 0 < unit <= MAX_DEPTH_UNIT:
        raise _invalid("'depth_unit' must be meters per step, such as 0.001, at most 1")
    up = table.get("up")
    if up is not None and up not in (*AXES, CAMERA):
        raise _invalid(f"'up' must be one of {', '.join((*AXES, CAMERA))}")
    trajectory = table.get("trajectory")
    if trajectory is not None and not isinstance(trajectory, str):
        raise _invalid("'trajectory' must be the name of a file")
    intrinsics = None
    if K is not None:
        fx, fy, cx, cy = (number(value, f"{NAME}: K") for value in K)
        intrinsics = (fx, fy, cx, cy)
    return Sidecar(unit, up, intrinsics, trajectory)


def number(value: object, name: str) -> float:
    """Return a finite number of a JSON file. Raises ShapeRefused (bad_syntax)."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            found = float(value)
        except OverflowError:  # an integer of hundreds of digits
            found = math.inf
        if math.isfinite(found):
            return found
    what = f"{printable(name)} must be a finite number, not {printable(repr(value)[:200])}"
    raise ShapeRefused(Reason.BAD_SYNTAX, what)


def optional(table: Mapping[str, object], key: str, default: float, name: str) -> float:
    """Return a finite number of a JSON object; the default if it lacks the key."""
    return number(table[key], f"{name}: {key}") if key in table else default


def _invalid(what: str) -> ShapeRefused:
    return ShapeRefused(Reason.BAD_SYNTAX, f"{NAME}: {what}")
