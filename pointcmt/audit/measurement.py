"""What the audit measures of one shape or scene. Each is read once, and only numbers are kept."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointcmt.audit.descriptors import Descriptor, describe_points
from pointcmt.audit.silhouettes import differs, framing, is_inside, touched_border
from pointcmt.datasets.store.schema import SCENES
from pointcmt.datasets.store.view_store import ViewStore

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

FINE, EMPTY, DARK, BRIGHT, CROPPED = range(5)  # states of a view
BLACK, WHITE = 16, 245  # of 255: a pixel is this dark, or bright, in all channels
NEARLY_ALL = 0.95  # of the pixels that show something: the view is dark, or bright
FEW_OUTSIDE = 0.01  # of the points may project outside of an image
LITTLE_BORDER = 0.01  # of the image's border may be covered
ROOM = 2  # pixels around the projected points, within which a border is not touched by them


@dataclass(frozen=True)
class Measured:
    """The numbers of one shape with V views.

    views: states [V]. scale: the radius about the origin, and the center of the bounding box [4].
    framing: see `silhouettes.framing`, the median over the views that are fine [10]. seen: shares
    of the points that at least one and at least two views see; None without correspondences.
    """

    shape: int
    views: NDArray[np.uint8]
    scale: Floats
    framing: Floats
    seen: tuple[float, float] | None
    descriptor: Descriptor | None


def measure(store: ViewStore, shape: int, matched: bool) -> Measured:
    """Measure a rendered shape or scene. matched: whether it has correspondences.

    Raises DamageError if data is lost or damaged.
    """
    seen = _seen(store.visible(shape)) if matched else None
    if store.schema.kind == SCENES:
        rgb, depth = store.read("rgb", shape), store.read("depth", shape)
        views = _states_of_frames(rgb, depth > 0)
        return Measured(shape, views, np.zeros(4), np.zeros(10), seen, None)
    rgb, covered = store.read("rgb", shape), store.read("depth", shape) > 0
    background = store.attributes["render"].get("background")
    drawn = covered if background is None else differs(rgb, background)
    points = store.read("points", shape).astype(np.float64)
    uv, _ = store.camera(shape).project(points)
    views = _states(rgb, covered, drawn, uv)
    fine = framing(covered, drawn, uv)[views == FINE]
    return Measured(
        shape=shape,
        views=views,
        scale=_scale(points),
        framing=np.median(fine, axis=0) if len(fine) else np.zeros(10),
        seen=seen,
        descriptor=describe_points(points),
    )


def _states(rgb: NDArray[np.uint8], covered: Bools, drawn: Bools, uv: Floats) -> NDArray[np.uint8]:
    """Return the state of each view of an object, [V]; of several faults, the first one."""
    H, W = covered.shape[1:]
    inside = is_inside(uv, (H, W))
    outside = 1 - inside.mean(axis=1) > FEW_OUTSIDE
    # Points within the image, but pixels at its border: it is a part of another image.
    room = np.all((uv >= ROOM) & (uv <= (W - ROOM, H - ROOM)), axis=(1, 2))
    border = touched_border(covered) > LITTLE_BORDER
    dark, bright = (_share(which, covered) for which in _extremes(rgb))
    states = np.full(len(rgb), FINE, np.uint8)
    states[outside | (border & room)] = CROPPED
    states[bright >= NEARLY_ALL] = BRIGHT
    states[dark >= NEARLY_ALL] = DARK
    states[~covered.any(axis=(1, 2)) | ~drawn.any(axis=(1, 2))] = EMPTY
    return states


def _states_of_frames(rgb: NDArray[np.uint8], measured: Bools) -> NDArray[np.uint8]:
    """Return the state of each frame of a scene, [V]: they fill the image, and are not cropped."""
    flat = rgb.reshape(len(rgb), -1, 3)
    uniform = np.all(flat == flat[:, :1], axis=(1, 2))
    dark, bright = (which.mean(axis=(1, 2)) for which in _extremes(rgb))
    states = np.full(len(rgb), FINE, np.uint8)
    states[bright >= NEARLY_ALL] = BRIGHT
    states[dark >= NEARLY_ALL] = DARK
    states[uniform | ~measured.any(axis=(1, 2))] = EMPTY
    return states


def _extremes(rgb: NDArray[np.uint8]) -> tuple[Bools, Bools]:
    """Return which pixels [V,H,W] are nearly black, and which nearly white."""
    return np.all(rgb <= BLACK, axis=-1), np.all(rgb >= WHITE, axis=-1)


def _share(which: Bools, among: Bools) -> Floats:
    """Return the share of some pixels among others, [V]; 0 if there are none of these."""
    return (which & among).sum(axis=(1, 2)) / np.maximum(among.sum(axis=(1, 2)), 1)


def _scale(points: Floats) -> Floats:
    low, high = points.min(axis=0), points.max(axis=0)
    return np.array([np.linalg.norm(points, axis=1).max(), *(low + high) / 2])


def _seen(visible: Bools) -> tuple[float, float]:
    """Return the shares of points that at least one and at least two views see."""
    views = visible.sum(axis=0)
    return float(np.mean(views >= 1)), float(np.mean(views >= 2))
