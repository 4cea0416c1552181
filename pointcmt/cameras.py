"""Cameras and rigs. OpenCV axes, pixels centered at (column + 0.5, row + 0.5), depth along z.

The conventions are those of docs/conventions.md: the world is right-handed with +Z up, a camera
looks along its +z with x to the right and y down, and surfaces lie in the unit sphere.
"""

import math
import os
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pointcmt.errors import UsageError, nearest
from pointcmt.files import read_regular

FOV = 40.0  # degrees; with DISTANCE the unit sphere fills 97 % of the image
DISTANCE = 3.0  # 1 / sin(FOV / 2) = 2.92 would touch the border


@dataclass(frozen=True, eq=False)
class Camera:
    """One pinhole camera, or a batch of cameras along leading axes.

    K: [..., 3, 3] f64, pixels, no skew. world_to_camera: [..., 4, 4] f64, rigid.
    width, height: pixels.

    >>> camera = pc.find_rig("ortho6").cameras(64)
    >>> uv, depth = camera[0].project([[0, 0, 0.5]])
    >>> uv.round(1).tolist(), depth.round(1).tolist()
    ([[32.0, 17.3]], [3.0])
    """

    K: NDArray[np.float64]
    world_to_camera: NDArray[np.float64]
    width: int
    height: int

    def __getitem__(self, index: Any) -> "Camera":
        return Camera(self.K[index], self.world_to_camera[index], self.width, self.height)

    def __len__(self) -> int:
        if self.K.ndim < 3:
            raise TypeError("a single camera has no length")
        return len(self.K)

    @property
    def center(self) -> NDArray[np.float64]:
        """Position of the camera in the world, [..., 3]."""
        rotation, translation = self.world_to_camera[..., :3, :3], self.world_to_camera[..., :3, 3]
        return -(translation[..., None, :] @ rotation)[..., 0, :]

    def project(self, points: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Project world points [..., N, 3] to pixel coordinates [..., N, 2] and depth [..., N].

        The pixel that contains a point is `floor(uv)` as (column, row). Points in the plane of the
        camera have no image: their coordinates are not finite. Behind it, depth is negative.
        """
        projection = self.K @ self.world_to_camera[..., :3, :]
        image = np.asarray(points, np.float64) @ projection[..., :3].swapaxes(-1, -2)
        image += projection[..., None, :, 3]
        depth = image[..., 2]  # the last row of K is 0, 0, 1
        with np.errstate(divide="ignore", invalid="ignore"):
            return image[..., :2] / depth[..., None], depth

    def unproject(self, uv: ArrayLike, depth: ArrayLike) -> NDArray[np.float64]:
        """Unproject pixel coordinates [..., N, 2] and depth [..., N] to the world, [..., N, 3]."""
        uv, depth = np.asarray(uv, np.float64), np.asarray(depth, np.float64)
        pixels = np.concatenate([uv, np.ones_like(uv[..., :1])], axis=-1)
        local = pixels @ np.linalg.inv(self.K).swapaxes(-1, -2) * depth[..., None]
        rotation, translation = self.world_to_camera[..., :3, :3], self.world_to_camera[..., :3, 3]
        return (local - translation[..., None, :]) @ rotation


def pixel_centers(width: int, height: int) -> NDArray[np.float64]:
    """Return (u, v) of every pixel's center, [height, width, 2]."""
    v, u = np.mgrid[0:height, 0:width] + 0.5
    return np.stack([u, v], axis=-1)


@dataclass(frozen=True)
class View:
    """One camera of a rig. Positions are in units of the shape's bounding radius.

    up: the direction that points up in the image. fov: degrees, across the image.

    >>> pc.View(position=(0, -3, 0)).fov
    40.0
    """

    position: tuple[float, float, float]
    target: tuple[float, float, float] = (0.0, 0.0, 0.0)
    up: tuple[float, float, float] = (0.0, 0.0, 1.0)
    fov: float = FOV


@dataclass(frozen=True)
class Rig:
    """Named views, the same for every shape of every class (a per-class rig leaks the label).

    >>> rig = pc.Rig("two", (pc.View((0, -3, 0)), pc.View((3, 0, 1))))
    >>> len(rig.cameras(64))
    2
    """

    name: str
    views: tuple[View, ...]

    def cameras(self, size: int) -> Camera:
        """Return the rig's cameras for square images of `size` pixels, batched [V]."""
        K = np.stack([_intrinsics(view.fov, size) for view in self.views])
        pose = np.stack([look_at(view.position, view.target, view.up) for view in self.views])
        return Camera(K, pose, size, size)


def look_at(position: ArrayLike, target: ArrayLike, up: ArrayLike) -> NDArray[np.float64]:
    """Return `world_to_camera` [4,4] of a camera at `position` that looks at `target`.

    If the camera looks along `up`, the image's up direction is +Y (+X if `up` is +Y).

    Raises UsageError if position and target are the same point.
    """
    position, target = np.asarray(position, np.float64), np.asarray(target, np.float64)
    forward = target - position
    length = np.linalg.norm(forward)
    if not np.isfinite(length) or length < 1e-9:
        raise UsageError(
            f"a camera at {position.tolist()} cannot look at its own position",
            fix="move the view's position or its target",
        )
    forward = forward / length
    for candidate in (np.asarray(up, np.float64), np.array([0.0, 1, 0]), np.array([1.0, 0, 0])):
        right = np.cross(forward, candidate)
        if np.linalg.norm(right) > 1e-6 * np.linalg.norm(candidate):
            break
    right = right / np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = -rotation @ position
    return pose


def on_sphere(azimuth: float, elevation: float, distance: float = DISTANCE) -> View:
    """Return a view from azimuth (degrees from +X toward +Y) and elevation (degrees above XY)."""
    a, e = math.radians(azimuth), math.radians(elevation)
    position = (
        distance * math.cos(e) * math.cos(a),
        distance * math.cos(e) * math.sin(a),
        distance * math.sin(e),
    )
    return View(position)


def _circle12() -> list[View]:
    return [on_sphere(30.0 * i, 30.0) for i in range(12)]


def _dodeca20() -> list[View]:
    phi = (1 + math.sqrt(5)) / 2
    corners: list[tuple[float, float, float]]
    corners = [(x, y, z) for z in (-1, 1) for y in (-1, 1) for x in (-1, 1)]
    for a in (-1 / phi, 1 / phi):
        for b in (-phi, phi):
            corners += [(0, a, b), (a, b, 0), (b, 0, a)]
    directions = np.array(corners, np.float64) / math.sqrt(3)
    return [View(tuple((DISTANCE * d).tolist())) for d in directions]


def _ortho6() -> list[View]:
    front_back_left_right = [on_sphere(azimuth, 0.0) for azimuth in (-90, 90, 180, 0)]
    top_bottom = [View((0.0, 0.0, z), up=(0.0, 1.0, 0.0)) for z in (DISTANCE, -DISTANCE)]
    return front_back_left_right + top_bottom


def _simpleview6() -> list[View]:
    around = [on_sphere(90.0 * i, 0.0, 1.4).position for i in range(4)]
    return [View(position, fov=90.0) for position in (*around, (0.0, 0.0, 1.4), (0.0, 0.0, -1.4))]


def _mvnet12() -> list[View]:
    ring = [on_sphere(45.0 * i, 20.0) for i in range(8)]
    above = [on_sphere(azimuth, 60.0) for azimuth in (0, 180)]
    below = [on_sphere(azimuth, -20.0) for azimuth in (90, 270)]
    return ring + above + below


def _fibonacci(count: int) -> list[View]:
    golden = 180.0 * (3 - math.sqrt(5))
    heights = [1 - (2 * i + 1) / count for i in range(count)]
    return [on_sphere(golden * i, math.degrees(math.asin(z))) for i, z in enumerate(heights)]


RIGS: dict[str, Callable[[], list[View]]] = {
    "circle12": _circle12,  # 12 azimuths every 30°, elevation 30°: MVCNN's rig
    "dodeca20": _dodeca20,  # the 20 vertices of a dodecahedron: RotationNet's and PointCMT's
    "ortho6": _ortho6,  # front (-Y), back, left (-X), right, top, bottom; perspective
    "mvnet12": _mvnet12,  # 8 at 20°, 2 at 60°, 2 at -20°
    "simpleview6": _simpleview6,  # 4 around, top, bottom; near, wide FOV: SimpleView's, for clouds
}
MAX_VIEWS = 1024
MAX_FILE = 256 << 10  # bytes of a rig file


def find_rig(name: str) -> Rig:
    """Return a rig by name (one of RIGS, or `fibonacciN`) or from a TOML file.

    Raises UsageError for an unknown name (suggesting the nearest) or a file that is not a rig.

    >>> len(pc.find_rig("dodeca20").views), len(pc.find_rig("fibonacci7").views)
    (20, 7)
    """
    if name.endswith(".toml"):
        return read_rig(Path(os.path.expanduser(name)))
    if name in RIGS:
        return Rig(name, tuple(RIGS[name]()))
    count = name.removeprefix("fibonacci")
    if name.startswith("fibonacci") and count.isascii() and count.isdecimal():
        if not 1 <= int(count) <= MAX_VIEWS:
            raise UsageError(
                f"a rig must have 1 to {MAX_VIEWS} views, not {count}", where=f"--rig {name}"
            )
        return Rig(name, tuple(_fibonacci(int(count))))
    known = [*RIGS, "fibonacci12"]
    raise UsageError(
        f"unknown rig '{name}'",
        where="--rig",
        fix=nearest(name, known) + " (fibonacciN for any N), or the path of a .toml file",
    )


def read_rig(path: Path) -> Rig:
    """Read a rig from TOML: `[[views]]` with azimuth and elevation, or position; see docs/rigs.md.

    Raises UsageError naming the invalid key.
    """
    try:
        data = read_regular(path, MAX_FILE)
        _refuse_long_keys(data)
        table = tomllib.loads(data.decode())
    except FileNotFoundError:
        raise UsageError("no such rig file", where=str(path)) from None
    except (OSError, ValueError, RecursionError) as error:  # ValueError: decoding or TOML errors
        raise UsageError(f"this rig file cannot be read: {error}", where=str(path)) from None
    defaults = {key: value for key, value in table.items() if key not in ("name", "views")}
    views = table.get("views")
    if not isinstance(views, list) or not 1 <= len(views) <= MAX_VIEWS:
        raise UsageError(f"a rig file must have 1 to {MAX_VIEWS} [[views]] tables", where=str(path))
    made = []
    for number, view in enumerate(views):
        where = f"{path}, view {number}"
        if not isinstance(view, dict):
            raise UsageError("a view must be a table of keys and values", where=where)
        given = defaults.keys() - (_ON_SPHERE if "position" in view else ())
        made.append(_view_from_table({key: defaults[key] for key in given} | view, where))
    rig = Rig(str(table.get("name", path.stem)), tuple(made))
    rig.cameras(64)  # refuses views that look at their own position
    return rig


def _refuse_long_keys(data: bytes) -> None:
    """Raise ValueError for keys with many parts, on which tomllib takes quadratic time.

    Rigs have no dotted keys at all.
    """
    if b'"""' in data or b"'''" in data:  # could hide a key from the search below
        raise ValueError("multi-line strings are not supported")
    dots = 0
    for piece in _TOML_PIECES.finditer(data):
        dots += piece[0] == b"."
        if piece.lastgroup == "other":
            dots = 0
        if dots > MAX_DOTS:
            raise ValueError(f"a key with more than {MAX_DOTS} parts")


MAX_DOTS = 16
_TOML_PIECES = re.compile(
    rb"""
    (?P<string>"(?:\\.|[^"\\\n])*+"?|'[^'\n]*+'?)
    |(?P<word>[\w\ \t-]++)|(?P<dot>\.)|(?P<other>\#[^\n]*+|.)
    """,
    re.DOTALL | re.VERBOSE,
)
_ON_SPHERE = ("azimuth", "elevation", "distance")
_VIEW_KEYS = (*_ON_SPHERE, "position", "target", "up", "fov")


def _view_from_table(table: dict[str, Any], where: str) -> View:
    for key in table:
        if key not in _VIEW_KEYS:
            raise UsageError(f"unknown key '{key}'", where=where, fix=nearest(key, _VIEW_KEYS))
    target = _triple(table, "target", (0.0, 0.0, 0.0), where)
    if "position" in table:
        for key in _ON_SPHERE:
            if key in table:
                raise UsageError(f"'position' and '{key}' cannot be combined", where=where)
        position = _triple(table, "position", (0.0, 0.0, 0.0), where)
    else:
        distance = _number(table, "distance", DISTANCE, where)
        if distance <= 0:
            raise UsageError("'distance' must be greater than 0", where=where)
        azimuth = _number(table, "azimuth", 0.0, where)
        offset = on_sphere(azimuth, _number(table, "elevation", 0.0, where), distance).position
        position = (target[0] + offset[0], target[1] + offset[1], target[2] + offset[2])
    fov = _number(table, "fov", FOV, where)
    if not 1 <= fov <= 170:
        raise UsageError("'fov' must be from 1 to 170 degrees", where=where)
    up = _triple(table, "up", (0.0, 0.0, 1.0), where)
    if np.linalg.norm(up) == 0:
        raise UsageError("'up' must not be the zero vector", where=where)
    return View(position, target, up, fov)


def _number(table: dict[str, Any], key: str, default: float, where: str) -> float:
    value = table.get(key, default)
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, OverflowError):  # not a number, or an integer of hundreds of digits
        number = math.nan
    if not math.isfinite(number):
        shown = "a number this large" if isinstance(value, int) else repr(value)
        raise UsageError(f"'{key}' must be a finite number, not {shown}", where=where)
    return number


def _triple(
    table: dict[str, Any], key: str, default: tuple[float, float, float], where: str
) -> tuple[float, float, float]:
    value = table.get(key, default)
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise UsageError(f"'{key}' must be three numbers, not {value!r}", where=where)
    x, y, z = (_number({key: part}, key, 0.0, where) for part in value)
    return (x, y, z)


def _intrinsics(fov: float, size: int) -> NDArray[np.float64]:
    focal = 0.5 * size / math.tan(math.radians(fov) / 2)
    return np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]], np.float64)
