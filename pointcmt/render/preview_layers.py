"""Layers of views as images: depth in shades, a color for each face, instance or class."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.store.schema import SCENES
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import UsageError, nearest
from pointcmt.render.preview_scenes import frames_with_labels, palette

NEAR, FAR = 40, 220  # gray levels


def layer_names(store: ViewStore) -> tuple[str, ...]:
    """Return the layers that can be shown, the first being the default."""
    if store.schema.kind == SCENES:
        return ("rgb", "depth", *(("labels", "ids") if store.schema.labels else ()))
    return ("rgb", "depth", "ids", *store.schema.layers)


def require_layer(store: ViewStore, layer: str) -> None:
    """Raise UsageError for a layer that the store does not have."""
    known = layer_names(store)
    if layer not in known:
        raise UsageError(
            f"this store has no layer '{layer}'", where="--layer", fix=nearest(layer, known)
        )


def layer_images(store: ViewStore, shape: int, views: list[int], layer: str) -> NDArray[np.uint8]:
    """Return views of a layer as images [V,H,W,3]. The frames of scenes are tinted by class.

    Depth is dark where it is near and light where it is far, within all of these views.
    """
    is_scene = store.schema.kind == SCENES
    if layer == "rgb" and is_scene:
        return frames_with_labels(store, shape, views)
    if layer == "depth":
        return shade_depth(_read(store, "depth", shape, views))
    if layer == "ids":
        name = "instance_image" if is_scene else "face_index"
        return color_ids(_read(store, name, shape, views))
    if layer == "labels":
        labels = _read(store, "semantic_image", shape, views)
        return palette(store)[labels]
    return _read(store, layer, shape, views)


def shade_depth(depth: NDArray[Any]) -> NDArray[np.uint8]:
    """Return depth [...] as gray images [...,3]: near is dark, far is light, 0 is white."""
    shown = depth > 0
    gray = np.full(depth.shape, 255, np.uint8)
    if shown.any():
        near, far = float(depth[shown].min()), float(depth[shown].max())
        share = (depth[shown] - near) / max(far - near, 1e-9)
        gray[shown] = (NEAR + (FAR - NEAR) * share).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=-1)


def color_ids(ids: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Return ids [...] as images [...,3], each id in a color of its own; -1 is white."""
    colors = np.random.default_rng(3).integers(60, 235, (int(ids.max()) + 2, 3), np.uint8)
    colors[-1] = 255
    return colors[ids]


def _read(store: ViewStore, name: str, shape: int, views: list[int]) -> NDArray[Any]:
    return np.stack([store.read(name, shape, view) for view in views])
