"""The data of one shape or scene on the page."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.export.shapes import point_colors
from pointcmt.datasets.store.schema import SCENES, pack_visible
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.view.packing import image_uri, pack, pack_normals, pack_points

MOST_POINTS = 20_000  # of a scene: its first ones, which are an even sample


def spread_views(count: int, most: int) -> list[int]:
    """Return at most `most` of `count` views, spread evenly."""
    return [int(view) for view in np.linspace(0, count - 1, min(most, count)).round()]


def shape_data(store: ViewStore, shape: int, matched: bool, most_views: int) -> dict[str, Any]:
    """Return what the page needs of a rendered shape, JSON-able.

    matched: whether it has correspondences. most_views: of a shape with more, views spread evenly
    are taken. Raises DamageError if data is lost or damaged.
    """
    is_scene = store.schema.kind == SCENES
    count = store.counts(shape)["view_count"] if is_scene else store.schema.views
    views = spread_views(count, most_views)
    stored = store.read("points", shape)
    points = stored[:MOST_POINTS]
    camera = store.camera(shape)[views]
    data: dict[str, Any] = {
        "views": views,
        "stored_views": count,
        "stored_points": len(stored),
        "K": camera.K.reshape(-1, 9).tolist(),
        "world_to_camera": camera.world_to_camera.reshape(-1, 16).tolist(),
        "points": pack_points(points),
        "normals": pack_normals(store.read("normals", shape)[:MOST_POINTS]),
        "images": {"rgb": _images(store, "rgb", shape, views)},
        "depth": pack(store.read("depth", shape)[views], smooth=True),
        "visible": None,
    }
    visible = store.visible(shape)[views][:, :MOST_POINTS] if matched else None
    if visible is not None:
        data["visible"] = pack(pack_visible(visible))
    for layer in store.schema.layers:
        data["images"][layer] = _images(store, layer, shape, views)
    more = _scene_data(store, shape, views) if is_scene else _object_data(store, shape, views)
    if visible is not None and not is_scene:
        pixels = store.read("rgb", shape)[views], store.read("face_index", shape)[views]
        faces = store.read("point_face", shape)
        more["color"] = pack(point_colors(points, faces, visible, camera, pixels).T)
    return {**data, **more}


def _object_data(store: ViewStore, shape: int, views: list[int]) -> dict[str, Any]:
    data = {
        "ids": pack(store.read("face_index", shape)[views], smooth=True),
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
        data["ids"] = pack(store.read("instance_image", scene)[views], smooth=True)
        labels = store.read("semantic_image", scene)[views].astype(np.int32)
        data["labels"] = pack(labels, smooth=True)
        for name in ("semantic", "instance"):
            data[name] = pack(store.read(name, scene)[:MOST_POINTS].astype(np.int32))
    if store.schema.boxes:
        data["boxes"] = store.read("boxes", scene).astype(float).tolist()
        data["box_label"] = store.read("box_label", scene).tolist()
    return data


def _images(store: ViewStore, name: str, shape: int, views: list[int]) -> list[str]:
    images: NDArray[np.uint8] = store.read(name, shape)[views]
    return [image_uri(image, lossless=store.schema.kind != SCENES) for image in images]
