"""One rendered shape with everything that an export may hold, and the colors of its points."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.cameras import Camera
from pointcmt.datasets.store.schema import RENDER, stage_of
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.srgb import to_linear, to_srgb

UNSEEN = 128  # the gray of points of a shape that no view shows
CHUNK = 1 << 22  # distances between points that are held at a time


@dataclass(frozen=True, eq=False)
class ShapeViews:
    """A shape of a store. Letters: V views, H W pixels, N points.

    label: -1 = unknown. depth: u16, in steps of depth_scale, 0 = background. face_index: -1 =
    background. layers: further images by name. visible: None if the store lacks correspondences.
    part: None if the store has no part labels.
    """

    id: str
    class_name: str | None
    label: int
    split: str
    source_to_world: NDArray[np.float64]  # [4,4]
    camera: Camera  # [V]
    rgb: NDArray[np.uint8]  # [V,H,W,3]
    depth: NDArray[np.uint16]  # [V,H,W]
    depth_scale: float
    face_index: NDArray[np.int32]  # [V,H,W]
    layers: dict[str, NDArray[np.uint8]]  # [V,H,W,3] each
    points: NDArray[np.float32]  # [N,3]
    normals: NDArray[np.float32]  # [N,3]
    point_face: NDArray[np.int32]  # [N]
    visible: NDArray[np.bool_] | None  # [V,N]
    part: NDArray[np.uint8] | None  # [N]

    def view_names(self) -> list[str]:
        """Return a name for each view; their order as texts is that of the views."""
        views = len(self.rgb)
        return [str(view).zfill(max(3, len(str(views - 1)))) for view in range(views)]

    @cached_property
    def colors(self) -> NDArray[np.uint8]:
        """The sRGB colors of the points, [N,3]: see `point_colors`. Needs `visible`."""
        assert self.visible is not None
        pixels = self.rgb, self.face_index
        return point_colors(self.points, self.point_face, self.visible, self.camera, pixels)


def read_shape(store: ViewStore, index: int, visible: bool) -> ShapeViews:
    """Read a shape that is rendered. visible: whether it has correspondences.

    Raises DamageError if data is lost or damaged, StoreError if it cannot be read.
    """
    record, schema = store.shapes[index], store.schema
    read: dict[str, NDArray[Any]] = {
        name: store.read(name, index) for name in store.specs if _is_read(name)
    }
    return ShapeViews(
        id=record.id,
        class_name=record.class_name,
        label=int(store.labels[index]),
        split=record.split,
        source_to_world=read["source_to_world"],
        camera=store.camera(index),
        rgb=read["rgb"],
        depth=read["depth"],
        depth_scale=schema.depth_scale,
        face_index=read["face_index"],
        layers={name: read[name] for name in schema.layers},
        points=read["points"],
        normals=read["normals"],
        point_face=read["point_face"],
        visible=store.visible(index) if visible else None,
        part=read.get("part"),
    )


def _is_read(name: str) -> bool:
    return stage_of(name) == RENDER and name not in ("label", "split", "status")


def point_colors(
    points: NDArray[np.float32],
    point_face: NDArray[np.int32],
    visible: NDArray[np.bool_],
    camera: Camera,
    pixels: tuple[NDArray[np.uint8], NDArray[np.int32]],
) -> NDArray[np.uint8]:
    """Return the colors of points [N,3] from the views that see them (visible [V,N]): [N,3] sRGB.

    pixels: rgb [V,H,W,3] and face_index [V,H,W]. A point takes the mean, in linear light, of the
    pixels that contain it: in views whose pixel shows the point's own face at its center; if there
    is none, in those whose pixel shows any surface. A point without such a view takes the color of
    the nearest point that has one.
    """
    rgb, face_index = pixels
    uv, _ = camera.project(points)
    view, point = np.nonzero(visible)
    limits = np.array([camera.width - 1, camera.height - 1])
    column, row = np.clip(np.floor(uv[view, point]), 0, limits).astype(np.int64).T
    shown = face_index[view, row, column]
    own = np.zeros(len(points), bool)
    own[point[shown == point_face[point]]] = True
    used = np.where(own[point], shown == point_face[point], shown >= 0)
    view, point, row, column = view[used], point[used], row[used], column[used]
    total = np.zeros((len(points), 3))
    np.add.at(total, point, to_linear(rgb[view, row, column] / 255))
    count = np.bincount(point, minlength=len(points))
    mean = total / np.maximum(count, 1)[:, None]
    colors = np.rint(255 * np.clip(to_srgb(mean), 0, 1)).astype(np.uint8)
    return _fill_unseen(points, colors, count > 0)


def _fill_unseen(
    points: NDArray[np.float32], colors: NDArray[np.uint8], seen: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Give each point that is not seen the color of the nearest one that is."""
    unseen, sources = np.flatnonzero(~seen), np.flatnonzero(seen)
    if not len(sources):
        return np.full_like(colors, UNSEEN)
    places = points[sources].astype(np.float64)
    step = max(1, CHUNK // len(sources))
    for start in range(0, len(unseen), step):
        some = unseen[start : start + step]
        offsets = points[some, None].astype(np.float64) - places
        colors[some] = colors[sources[np.argmin(np.sum(offsets**2, axis=-1), axis=1)]]
    return colors
