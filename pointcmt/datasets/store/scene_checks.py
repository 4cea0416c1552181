"""What `verify` checks of the contents of a scene."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.cameras import Camera
from pointcmt.datasets.store.schema import COUNTS, Schema, array_specs, unpack_visible

Arrays = dict[str, NDArray[Any]]
TOLERANCE = 1e-9  # of cameras, which are computed in float64
UNIT = 1e-3  # of normals, which may be means


def check_scene(schema: Schema, names: dict[str, int], arrays: Arrays, done: bool) -> Iterator[str]:
    """Yield what is inconsistent in a scene's arrays, without axis 0.

    names: how many semantic classes and box classes there are, as "semantic" and "box_label".
    """
    counts = {axis: int(arrays[name]) for axis, name in COUNTS.items() if name in arrays}
    rooms = {"view": schema.views, "point": schema.points, "byte": schema.points}
    rooms["box"] = schema.boxes
    for axis, count in counts.items():
        if not 0 <= count <= (rooms[axis] if done else 0):
            yield f"{COUNTS[axis]} is {count}, but the row has room for {rooms[axis]}"
            return
    if done and not counts["point"]:
        yield "the scene has no points"
    yield from _behind_counts(schema, arrays, counts)
    yield from _cameras(schema, arrays, counts["view"])
    yield from _labels(names, arrays, counts)
    if "boxes" in arrays:
        yield from _boxes(arrays, counts)
    yield from _points(schema, arrays, counts)


def _behind_counts(schema: Schema, arrays: Arrays, counts: dict[str, int]) -> Iterator[str]:
    """Check that everything behind the counts is the fill value, or an identity camera."""
    specs = array_specs(schema)
    for name, array in arrays.items():
        axes = [axis for axis in specs[name].axes if axis in counts]
        for axis in axes:
            count = -(-counts[axis] // 8) if axis == "byte" else counts[axis]
            rest = np.moveaxis(array, specs[name].axes.index(axis), 0)[count:]
            fill: Any = specs[name].fill
            if name in ("K", "world_to_camera"):
                fill = np.eye(array.shape[-1])
            if np.any(rest != fill):
                yield f"{name} is not empty behind {COUNTS[axis]}"
                break


def _cameras(schema: Schema, arrays: Arrays, views: int) -> Iterator[str]:
    K, pose = arrays["K"][:views], arrays["world_to_camera"][:views]
    turns = np.concatenate([pose[:, :3, :3], arrays["source_to_world"][None, :3, :3]])
    skew = np.abs(turns @ turns.swapaxes(1, 2) - np.eye(3)).max(initial=0)
    rows = np.concatenate([pose[:, 3], arrays["source_to_world"][None, 3]])
    mirrored = np.any(np.linalg.det(turns) < 0)
    # Poses of recordings are rotations to a thousandth.
    if not skew < 2e-3 or mirrored or np.any(rows != [0, 0, 0, 1]):
        yield "a camera or source_to_world is not a rigid transform"
    skewed = np.any(K[:, [0, 1, 2, 2], [1, 0, 0, 1]] != 0) or np.any(K[:, 2, 2] != 1)
    if skewed or np.any(K[:, [0, 1], [0, 1]] <= 0):
        yield "K does not describe a pinhole camera without skew"
    if np.any(np.diff(arrays["frame"][:views]) <= 0):
        yield "the frames are not in order"


def _labels(names: dict[str, int], arrays: Arrays, counts: dict[str, int]) -> Iterator[str]:
    limits = {"semantic": "semantic", "semantic_image": "semantic", "box_label": "box_label"}
    for name, kind in limits.items():
        if name in arrays and arrays[name].size:
            low, high = int(arrays[name].min()), int(arrays[name].max())
            if low < -1 or high >= names[kind]:
                yield f"{name} ranges from {low} to {high}, but there are {names[kind]} classes"
    if "box_label" in arrays and np.any(arrays["box_label"][: counts["box"]] < 0):
        yield "a box has no class"


def _boxes(arrays: Arrays, counts: dict[str, int]) -> Iterator[str]:
    boxes = arrays["boxes"][: counts["box"]]
    if not np.all(np.isfinite(boxes)) or np.any(boxes[:, 3:6] <= 0):
        yield "a box has no volume"
    owners = arrays["box_instance"][: counts["box"]]
    if "instance" in arrays:
        present = np.unique(arrays["instance"][: counts["point"]])
        if not np.all(np.isin(owners[owners >= 0], present)):
            yield "a box belongs to an instance without points"


def _points(schema: Schema, arrays: Arrays, counts: dict[str, int]) -> Iterator[str]:
    points = arrays["points"][: counts["point"]]
    length = np.linalg.norm(arrays["normals"][: counts["point"]], axis=1)
    if not np.all(np.isfinite(points)):
        yield "points are not finite"
        return
    if not np.all((np.abs(length - 1) <= UNIT) | (length == 0)):
        yield "normals are not unit vectors"
    if "visible" not in arrays:
        return
    visible = unpack_visible(arrays["visible"], schema.points)[: counts["view"]]
    if np.any(visible[:, counts["point"] :]):
        yield "padding bits after the last point are set"
    (height, width), views = schema.image, range(counts["view"])
    camera = Camera(arrays["K"], arrays["world_to_camera"], width, height)
    for view in views:  # one at a time: there may be millions of points
        seen = points[visible[view, : counts["point"]]]
        uv, depth = camera[view].project(seen)
        if not np.all((uv >= 0) & (uv <= [width, height])) or np.any(depth <= 0):
            yield f"points are marked visible outside the image of view {view}"
