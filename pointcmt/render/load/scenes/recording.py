"""Recordings: what a source knows about its frames, and how that becomes a scene's `Frame`s."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pointcmt.cameras import pixel_centers
from pointcmt.errors import Reason, ShapeRefused, printable
from pointcmt.render.load.scenes.folder import SceneFolder
from pointcmt.render.load.scenes.images import (
    ColorCamera,
    decode_color,
    decode_depth,
    in_meters,
    labels_at_depth_pixels,
    to_depth_pixels,
)
from pointcmt.render.load.scenes.poses import is_pose
from pointcmt.scenes import Frame, Image

MAX_DEPTH_UNIT = 1.0  # meters per step
_LONGEST = 1000  # of a focal length: times the width or height
_LARGEST = 1 << 20  # pixels of the width or height of images that intrinsics are for
_CENTRAL = 0.4  # of the width or height: how far from the middle a principal point may be
_SKEW = 1e-3  # pixels, of intrinsics; `Camera` has none
_ASPECT = 0.02  # relative difference between the proportions of two images of the same section
_SAMPLED_FRAMES, _STEP = 8, 8  # how many frames, and which pixels of them, show where the floor is

Pixels = tuple[NDArray[np.uint8], NDArray[np.uint16]]  # color [h,w,3], depth [H,W] as stored


@dataclass(frozen=True, eq=False)
class Lens:
    """K [3,3], with pixel centers at + 0.5, in pixels of images of a size (width, height).

    size: None = that of the depth images.
    """

    K: NDArray[np.float64]
    size: tuple[int, int] | None = None

    @classmethod
    def of(
        cls,
        intrinsics: tuple[float, float, float, float],
        size: tuple[int, int] | None = None,
        integer_centers: bool = True,
    ) -> "Lens":
        """Make a lens of fx, fy, cx, cy.

        integer_centers: whether these give the first pixel's center the coordinates (0, 0).
        """
        fx, fy, cx, cy = intrinsics
        half = 0.5 if integer_centers else 0.0
        K = np.array([[fx, 0, cx + half], [0, fy, cy + half], [0, 0, 1]], np.float64)
        return cls(K, size)


@dataclass(frozen=True, eq=False)
class Shot:
    """A frame as recorded. Its pose [4,4] may be invalid.

    name: for messages. read: return what is stored; raises ShapeRefused. lens: None = that of the
    recording. labels: return the class index [h,w] of each place in the color image, in any
    resolution; None if there are no labels; raises ShapeRefused.
    """

    number: int
    camera_to_world: NDArray[np.float64]
    name: str
    read: Callable[[], Pixels]
    lens: Lens | None = None
    labels: Callable[[], NDArray[np.int16]] | None = None


@dataclass(frozen=True, eq=False)
class Recording:
    """Shots and what they have in common.

    lens: of the depth images; None if every shot has its own. depth_unit: meters per step of depth.
    up: the direction [3] that points up in the source's coordinates; None = that of the first
    camera's image. color: None if color images show the same section as depth images. notes: what
    was repaired or left out.
    """

    shots: tuple[Shot, ...]
    lens: Lens | None
    depth_unit: float = 0.001
    up: NDArray[np.float64] | None = None
    color: ColorCamera | None = None
    notes: tuple[str, ...] = ()


def shot_of_files(
    folder: SceneFolder,
    number: int,
    camera_to_world: NDArray[np.float64],
    images: tuple[str, str],
    lens: Lens | None = None,
) -> Shot:
    """Return the shot of two image files, color and depth. Raises ShapeRefused (missing_file)."""
    for name in images:
        folder.add_image(name)
    read = partial(_read_files, folder, *images)
    return Shot(number, camera_to_world, images[1], read, lens)


def _read_files(folder: SceneFolder, color: str, depth: str) -> Pixels:
    raw = decode_depth(folder.read_image(depth), depth)
    return decode_color(folder.read_image(color), color), raw


def frames_of(recording: Recording) -> tuple[tuple[Frame, ...], tuple[str, ...]]:
    """Return the frames with valid poses, in the order of their numbers, and notes.

    Raises ShapeRefused if no pose is valid, and for intrinsics that do not fit the images.
    """
    shots = sorted(recording.shots, key=lambda shot: shot.number)
    tracked = [shot for shot in shots if is_pose(shot.camera_to_world)]
    notes = list(recording.notes)
    if len(tracked) < len(shots):
        what = f"{len(shots) - len(tracked)} of {len(shots)} frames left out"
        notes.append(f"{what}: their poses are not rigid transforms (not tracked)")
    if not tracked:
        reason = Reason.NOT_FINITE if shots else Reason.EMPTY_FILE
        raise ShapeRefused(reason, f"none of {len(shots)} frames has a valid pose")
    if not 0 < recording.depth_unit <= MAX_DEPTH_UNIT:
        what = f"the unit of depth is {recording.depth_unit:g} m; expected more than 0, at most 1"
        raise ShapeRefused(Reason.BAD_SYNTAX, what)
    color, raw = tracked[0].read()
    size = raw.shape[1], raw.shape[0]
    camera = recording.color
    if camera is not None and not _is_plausible(camera.K, (color.shape[1], color.shape[0])):
        camera = None
        what = "the intrinsics of color do not fit the color images"
        notes.append(f"{what}, which are taken to show the same section as the depth images")
    optics = _Optics(size, recording.depth_unit, camera)
    common = None if recording.lens is None else fit(recording.lens, size)
    frames = []
    for shot in tracked:
        K = common if shot.lens is None else fit(shot.lens, size)
        if K is None:
            what = f"{printable(shot.name)} has no intrinsics: give K in scene.json"
            raise ShapeRefused(Reason.BAD_SYNTAX, what)
        read = partial(_read, shot, K, optics)
        frames.append(Frame(shot.number, K, shot.camera_to_world, read))
    return tuple(frames), tuple(notes)


def fit(lens: Lens, size: tuple[int, int]) -> NDArray[np.float64]:
    """Return K [3,3] in pixels of images of another size that show the same section.

    Raises ShapeRefused (bad_syntax) if the intrinsics do not belong to such images: other
    proportions, or a principal point far from the middle.
    """
    old = lens.size or size
    known = max(old) <= _LARGEST and _same_proportions(size, old) and _is_plausible(lens.K, old)
    if not known:
        fx, fy, cx, cy = (f"{lens.K[at]:g}" for at in ((0, 0), (1, 1), (0, 2), (1, 2)))
        what = (
            f"the intrinsics fx {fx}, fy {fy}, cx {cx}, cy {cy} do not fit depth images of "
            f"{size[0]} × {size[1]} pixels: give K in scene.json"
        )
        raise ShapeRefused(Reason.BAD_SYNTAX, what)
    return np.diag([size[0] / old[0], size[1] / old[1], 1.0]) @ lens.K


@dataclass(frozen=True, eq=False)
class _Optics:
    """What turns stored pixels into an `Image`. size: (width, height) of all depth images."""

    size: tuple[int, int]
    depth_unit: float
    color: ColorCamera | None


def _read(shot: Shot, K: NDArray[np.float64], optics: _Optics) -> Image:
    """Return what a frame shows, in the pixels of its depth image.

    Raises ShapeRefused for images that are missing or damaged, or whose sizes do not fit.
    """
    color, raw = shot.read()
    size, own = (raw.shape[1], raw.shape[0]), (color.shape[1], color.shape[0])
    name = printable(shot.name)
    if size != optics.size:
        sizes = [f"{width} × {height}" for width, height in (size, optics.size)]
        what = f"{name} has {sizes[0]} pixels, the first depth image {sizes[1]}"
        raise ShapeRefused(Reason.COUNT_MISMATCH, what)
    if optics.color is None and not _same_proportions(own, size):
        sizes = [f"{width} × {height}" for width, height in (size, own)]
        what = f"the proportions of depth and color differ: {name} has {sizes[0]}, color {sizes[1]}"
        raise ShapeRefused(Reason.COUNT_MISMATCH, what)
    depth = in_meters(raw, optics.depth_unit)
    semantic = None
    if shot.labels is not None:
        labels = shot.labels()
        if not _same_proportions((labels.shape[1], labels.shape[0]), own):
            what = f"the proportions of color and labels differ in the frame of {name}"
            raise ShapeRefused(Reason.COUNT_MISMATCH, what)
        semantic = labels_at_depth_pixels(labels, depth, K, optics.color, own)
    return Image(to_depth_pixels(color, depth, K, optics.color), depth, semantic)


def sample_points(frames: tuple[Frame, ...]) -> NDArray[np.float64]:
    """Return surface points [M,3] of a few evenly spaced frames, in the source's coordinates.

    Raises ShapeRefused (empty_file) if these frames have no depth.
    """
    chosen = np.linspace(0, len(frames) - 1, min(_SAMPLED_FRAMES, len(frames))).round().astype(int)
    found = np.concatenate([_back_projected(frames[index]) for index in chosen])
    if not len(found):
        what = f"none of {len(chosen)} depth images has a measured pixel"
        raise ShapeRefused(Reason.EMPTY_FILE, what)
    return found


def _back_projected(frame: Frame) -> NDArray[np.float64]:
    depth = frame.read().depth
    H, W = depth.shape
    rows = slice(min(_STEP, H) // 2, None, _STEP), slice(min(_STEP, W) // 2, None, _STEP)
    uv, z = pixel_centers(W, H)[rows].reshape(-1, 2), depth[rows].reshape(-1).astype(np.float64)
    uv, z = uv[z > 0], z[z > 0]
    rays = np.column_stack([uv, np.ones(len(uv))]) @ np.linalg.inv(frame.K).T
    pose = frame.camera_to_world
    return (rays * z[:, None]) @ pose[:3, :3].T + pose[:3, 3]


def _same_proportions(size: tuple[int, int], other: tuple[int, int]) -> bool:
    return abs(size[0] * other[1] / (size[1] * other[0]) - 1) <= _ASPECT


def _is_plausible(K: NDArray[np.float64], size: tuple[int, int]) -> bool:
    """Return whether intrinsics may belong to images of a size (width, height)."""
    focal, middle = np.diag(K)[:2] / size, K[:2, 2] / size
    return bool(
        np.isfinite(K).all()
        and ((focal > 0) & (focal < _LONGEST)).all()
        and (abs(middle - 0.5) < _CENTRAL).all()
        and (K[2] == [0, 0, 1]).all()
        and max(abs(K[0, 1]), abs(K[1, 0])) < _SKEW
    )
