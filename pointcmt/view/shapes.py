"""The data of one shape or scene on the page."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.export.shapes import point_colors
from pointcmt.datasets.store.schema import SCENES, pack_visible
from pointcmt.datasets.store.storage import REPAIR
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import DamageError
from pointcmt.view.overlay import Overlay
from pointcmt.view.packing import image_uri, pack, pack_normals, pack_points

MOST_POINTS = 20_000  # of a scene: its first ones, which are an even sample


def spread_views(count: int, most: int) -> list[int]:
    """Return at most `most` of `count` views, spread evenly."""
    return [int(view) for view in np.linspace(0, count - 1, min(most, count)).round()]


def shape_data(
    store: ViewStore, shape: int, matched: bool, most_views: int, overlay: Overlay | None = None
) -> dict[str, Any]:
    """Return what the page needs of a rendered shape, JSON-able.

    matched: whether it has correspondences. most_views: of a shape with more, views spread evenly
    are taken. overlay: of a run. Raises DamageError if data is lost or damaged.
    """
    is_scene = store.schema.kind == SCENES
    count = store.counts(shape)["view_count"] if is_scene else store.schema.views
    views = spread_views(count, most_views)
    stored = _finite(store, "points", shape)
    points = stored[:MOST_POINTS]
    data: dict[str, Any] = {
        "views": views,
        "stored_views": count,
        "stored_points": len(stored),
        "K": _finite(store, "K", shape)[views].reshape(-1, 9).tolist(),
        "world_to_camera": _finite(store, "world_to_camera", shape)[views].reshape(-1, 16).tolist(),
        "points": pack_points(points),
        "normals": pack_normals(_finite(store, "normals", shape)[:MOST_POINTS]),
        "images": {name: _images(store, name, shape, views) for name in _image_names(store)},
        "depth": pack(_of_views(store, "depth", shape, views), smooth=True),
        "visible": None,
    }
    if matched:
        visible = store.visible(shape)[views][:, :MOST_POINTS]
        data["visible"] = pack(pack_visible(visible))
    more = _scene_data(store, shape, views) if is_scene else _object_data(store, shape, views)
    if matched and not is_scene:
        camera, faces = store.camera(shape)[views], store.read("point_face", shape)
        pixels = store.read("rgb", shape)[views], store.read("face_index", shape)[views]
        colors = point_colors(points.astype(np.float32), faces, visible, camera, pixels)
        more["color"] = pack(colors.T)
    return {**data, **more, **(overlay.data(shape, views) if overlay else {})}


def _object_data(store: ViewStore, shape: int, views: list[int]) -> dict[str, Any]:
    data = {
        "ids": pack(_of_views(store, "face_index", shape, views), smooth=True),
        "point_face": pack(store.read("point_face", shape)),
    }
    if "part" in store.specs:
        data["part"] = pack(store.read("part", shape))
    return data


def _scene_data(store: ViewStore, scene: int, views: list[int]) -> dict[str, Any]:
    data: dict[str, Any] = {
        "color": pack(store.read("color", scene)[:MOST_POINTS].T),
        "frame": store.read("frame", scene)[views].tolist(),
    }
    if store.schema.labels:
        for key, name in (("ids", "instance_image"), ("labels", "semantic_image")):
            image = _of_views(store, name, scene, views).astype(np.int32)
            data[key] = pack(image, smooth=True)
        for name in ("semantic", "instance"):
            data[name] = pack(store.read(name, scene)[:MOST_POINTS].astype(np.int32))
    if store.schema.boxes:
        data["boxes"] = _finite(store, "boxes", scene).tolist()
        data["box_label"] = store.read("box_label", scene).tolist()
    return data


def _image_names(store: ViewStore) -> tuple[str, ...]:
    return ("rgb", *store.schema.layers)


def _images(store: ViewStore, name: str, shape: int, views: list[int]) -> list[str]:
    lossless = store.schema.kind != SCENES
    return [image_uri(image, lossless) for image in _of_views(store, name, shape, views)]


def _of_views(store: ViewStore, name: str, shape: int, views: list[int]) -> NDArray[Any]:
    """Return an array's values for some views, [v, ...]; a scene may have thousands of others."""
    if not views:
        return store.read(name, shape)
    return np.stack([store.read(name, shape, view) for view in views])


def _finite(store: ViewStore, name: str, shape: int) -> NDArray[np.float64]:
    """Return an array's values as float64. Raises DamageError if one is not finite."""
    values = store.read(name, shape).astype(np.float64)
    if not np.all(np.isfinite(values)):
        where = f"{store.path}, {name} of {store.shapes[shape].id}"
        raise DamageError("stored values are not finite", where=where, fix=REPAIR)
    return values
