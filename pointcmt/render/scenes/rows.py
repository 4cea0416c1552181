"""One scene as the rows of a store: its frames, its points in voxel order, what sees what."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.cameras import Camera
from pointcmt.datasets.store.schema import Schema, array_specs, blank, pack_visible
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.scenes.boxes import boxes_in_world, seen_boxes
from pointcmt.render.scenes.config import DEPTH_STEP, SceneConfig
from pointcmt.render.scenes.frames import Shown, choose_frames, quantized, resized
from pointcmt.render.scenes.fusion import View, fuse
from pointcmt.render.scenes.order import voxel_order
from pointcmt.render.scenes.smoothing import smoothed
from pointcmt.render.scenes.visibility import Surface, seen_by_depth
from pointcmt.scenes import Frame, SceneData, ScenePoints

OF_PLAN = ("label", "split", "status")  # arrays that do not depend on the scene's content


@dataclass(frozen=True, eq=False)
class Row:
    """One scene without axis 0, padded to the schema. points: how many the source had."""

    arrays: dict[str, NDArray[Any]]
    points: int
    notes: tuple[str, ...]


def make_row(scene: SceneData, schema: Schema, config: SceneConfig, threads: int = 1) -> Row:
    """Make a scene's row. Raises ShapeRefused for a scene that shows nothing."""
    notes = list(scene.notes)
    shown, refused = choose_frames(scene.frames, config)
    if refused and not shown:
        raise refused[0]
    if refused:
        notes.append(f"{len(refused)} frames cannot be read: {refused[0].detail}")
    if len(shown) < len(scene.frames):
        notes.append(f"{len(shown)} of {len(scene.frames)} frames are used")
    views = [_in_world(each, scene, config) for each in shown]
    if scene.points is None:
        points = fuse([smoothed(view) for view in views], config.voxel)
    else:
        points = _moved(scene.points, scene.source_to_world)
    if not len(points):
        raise ShapeRefused(Reason.NO_AREA, "no frame has any depth")
    places = points.points.astype(np.float32)
    order = voxel_order(places)[: schema.points]
    if len(order) < len(points):
        notes.append(f"{len(order)} of {len(points)} points are used: the store has no room")
    arrays = _padding(schema)
    _put_points(arrays, points, places, order)
    _put_views(arrays, [each.frame for each in shown], views)
    surface = None
    if scene.mesh is not None and views:
        surface = Surface(scene.mesh, scene.source_to_world, threads)
    _put_visible(arrays, len(views), places[order], surface)
    if schema.boxes:
        notes += _put_boxes(arrays, scene, points, surface)
    arrays["source_to_world"][:] = scene.source_to_world
    return Row(arrays, len(points), tuple(notes))


def _padding(schema: Schema) -> dict[str, NDArray[Any]]:
    """Return a row in which nothing is used: fill values, and cameras that are the identity.

    Without what the plan and the outcome say.
    """
    specs = {n: spec for n, spec in array_specs(schema).items() if n not in OF_PLAN}
    arrays = {name: blank(spec, 1).reshape(spec.shape) for name, spec in specs.items()}
    for name, size in (("K", 3), ("world_to_camera", 4)):
        arrays[name][:] = np.eye(size)
    return arrays


def _in_world(shown: Shown, scene: SceneData, config: SceneConfig) -> View:
    image, K = resized(shown.image, shown.frame.K, config.height, config.width)
    return View(K, scene.source_to_world @ shown.frame.camera_to_world, image)


def _moved(points: ScenePoints, pose: NDArray[np.float64]) -> ScenePoints:
    """Return the points in the world."""
    normals = points.normals
    if normals is not None:
        normals = (normals @ pose[:3, :3].T).astype(np.float32)
    places = points.points @ pose[:3, :3].T + pose[:3, 3]
    return ScenePoints(places, points.color, normals, points.semantic, points.instance)


def _put_points(
    arrays: dict[str, NDArray[Any]],
    points: ScenePoints,
    places: NDArray[np.float32],
    order: NDArray[np.int64],
) -> None:
    count = len(order)
    arrays["points"][:count] = places[order]
    arrays["point_count"][...] = count
    for name in ("normals", "color", "semantic", "instance"):
        values = getattr(points, name)
        if values is not None and name in arrays:
            arrays[name][:count] = values[order]


def _put_views(arrays: dict[str, NDArray[Any]], frames: list[Frame], views: list[View]) -> None:
    arrays["view_count"][...] = len(views)
    for index, (frame, view) in enumerate(zip(frames, views, strict=True)):
        image = view.image
        arrays["rgb"][index] = image.color
        arrays["depth"][index] = quantized(image.depth)
        arrays["K"][index] = view.K
        arrays["world_to_camera"][index] = np.linalg.inv(view.camera_to_world)
        arrays["frame"][index] = frame.number
        for name, labels in (
            ("semantic_image", image.semantic),
            ("instance_image", image.instance),
        ):
            if labels is not None and name in arrays:
                arrays[name][index] = labels


def _put_visible(
    arrays: dict[str, NDArray[Any]],
    views: int,
    points: NDArray[np.float32],
    surface: Surface | None,
) -> None:
    """Test the points against what is stored: cameras as float64, depth in steps."""
    for index in range(views):
        K, pose = arrays["K"][index], arrays["world_to_camera"][index]
        if surface is not None:
            seen = surface.seen(points, K, pose, arrays["depth"].shape[1:])
        else:
            depth = arrays["depth"][index] * np.float32(DEPTH_STEP)
            seen = seen_by_depth(points, K, pose, depth)
        packed = pack_visible(seen)
        arrays["visible"][index, : len(packed)] = packed


def _put_boxes(
    arrays: dict[str, NDArray[Any]],
    scene: SceneData,
    points: ScenePoints,
    surface: Surface | None,
) -> list[str]:
    """Put the boxes, moved into the world; return notes on those that are left out."""
    found, notes = scene.boxes, []
    if scene.points is None:
        views, size = int(arrays["view_count"]), arrays["depth"].shape[1:]
        cameras = Camera(arrays["K"][:views], arrays["world_to_camera"][:views], size[1], size[0])
        found = seen_boxes(scene, points, surface, cameras)
        if len(found) < len(scene.boxes):
            hidden = len(scene.boxes) - len(found)
            notes.append(
                "1 box is left out: the frames hardly show its instance"
                if hidden == 1
                else f"{hidden} boxes are left out: the frames hardly show their instances"
            )
    count = min(len(found), len(arrays["boxes"]))
    if count < len(found):
        notes.append(f"{count} of {len(found)} boxes are used: the store has no room")
    arrays["box_count"][...] = count
    arrays["boxes"][:count] = boxes_in_world(found.boxes[:count], scene.source_to_world)
    arrays["box_label"][:count] = found.label[:count]
    arrays["box_instance"][:count] = found.instance[:count]
    return notes
