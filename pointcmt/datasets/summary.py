"""Summarize a store as facts and as text."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.store.features import FRESH, list_features, open_features
from pointcmt.datasets.store.schema import CORRESPONDENCES, DONE, FAILED, PENDING, SCENES, SPLITS
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import MOST_DETAIL, printable
from pointcmt.input_frame import AS_STORED, InputFrame, frame_of

NOTES_SHOWN = 12


def summarize(path: str | Path) -> dict[str, Any]:
    """Return JSON-able facts about a store. Raises StoreError if there is no store."""
    store = ViewStore.open(path)
    schema, failures = store.schema, store.failures()
    status, notes = np.full(schema.shapes, PENDING), []
    for shape, table in store.ended():
        status[shape] = DONE if table["status"] == "done" else FAILED
        notes += [{"id": table["id"], "note": note} for note in table["notes"]]
    matched = sum(len(schema.shapes_of(shard)) for shard in store.committed(CORRESPONDENCES))
    unmatched = len(failures) - int(np.sum(status == FAILED))
    classes = {}
    for label, name in enumerate(store.class_names):
        mine = store.labels == label
        if np.any(mine):
            counts = np.bincount(store.splits[mine], minlength=len(SPLITS))
            classes[name] = dict(zip(SPLITS, counts.tolist(), strict=True))
    facts = {
        "path": store.path,
        "dataset": store.attributes["source"]["name"],
        "license": store.attributes["source"]["licence"],
        "shapes": schema.shapes,
        "done": int(np.sum(status == DONE)),
        "failed": int(np.sum(status == FAILED)),
        "pending": int(np.sum((status != DONE) & (status != FAILED))),
        "views": schema.views,
        "rig": store.attributes["render"].get("rig", {}).get("name", "frames"),
        "size": schema.size,
        "points": schema.points,
        "frame": AS_STORED.as_json(),
        "input": stated.as_json() if (stated := frame_of(store.attributes)) else None,
        "correspondences": matched - unmatched,
        "features": [_features(store, key, status == DONE) for key in list_features(store)],
        "classes": classes,
        "bytes": store.storage.size(),
        "codec": schema.codec,
        "failures": [{"id": o.id, "reason": o.reason, "detail": o.detail} for o in failures],
        "notes": notes,
    }
    if schema.kind == SCENES:
        del facts["frame"], facts["input"]
        return {**facts, **_of_scenes(store, status == DONE)}
    return facts


def _of_scenes(store: ViewStore, done: NDArray[np.bool_]) -> dict[str, Any]:
    """Return facts about the scenes of a store: what their rows hold, not what they have room for.

    views, points, boxes: of all scenes together.
    """
    counts = {name: 0 for name in ("view_count", "point_count", "box_count") if name in store.specs}
    for shard in store.committed():
        shapes = store.schema.shapes_of(shard)
        for name in counts:
            counts[name] += int(store.read(name, slice(shapes.start, shapes.stop)).sum())
    return {
        "kind": SCENES,
        "size": list(store.schema.image),
        "views": counts["view_count"],
        "points": counts["point_count"],
        "boxes": counts.get("box_count", 0),
        "semantic_names": store.semantic_names,
        "box_names": store.box_names,
    }


def _features(store: ViewStore, key: str, done: NDArray[np.bool_]) -> dict[str, Any]:
    """Return facts about the cached features of one teacher, and how many shapes have them."""
    features = open_features(store, key)
    if features is None:  # only its commits remain: `verify` reports it
        return {"key": key, "width": 0, "shapes": 0}
    fresh = [shard for shard, state in features.states().items() if state == FRESH]
    shapes = sum(int(np.sum(done[list(store.schema.shapes_of(shard))])) for shard in fresh)
    return {**features.facts, "key": key, "width": features.width, "shapes": shapes}


def _dimensions(facts: dict[str, Any]) -> list[str]:
    """Return the lines on images and points."""
    if facts.get("kind") != SCENES:
        return [
            f"  views    {facts['views']} ({facts['rig']}) of {facts['size']}² pixels",
            f"  points   {facts['points']:,}; correspondences of "
            f"{facts['correspondences']:,} shapes",
            *_frames(facts),
        ]
    height, width = facts["size"]
    lines = [
        f"  frames   {facts['views']:,} of {width} × {height} pixels, in all scenes",
        f"  points   {facts['points']:,}, in all scenes",
    ]
    if facts["semantic_names"]:
        lines.append(f"  labels   {', '.join(map(printable, facts['semantic_names']))}")
    if facts["box_names"]:
        lines.append(
            f"  boxes    {facts['boxes']:,} of {', '.join(map(printable, facts['box_names']))}"
        )
    return lines


def _frames(facts: dict[str, Any]) -> list[str]:
    """Return the lines on the frame of the points, and on that of the benchmark's networks."""
    lines = [f"  frame    {InputFrame(**facts['frame']).describe()}"]
    if facts["input"]:
        lines.append(f"  networks take the points {InputFrame(**facts['input']).describe()}")
    return lines


def describe(facts: dict[str, Any]) -> str:
    """Return the facts as text for people."""
    lines = [
        f"{facts['path']}: {facts['dataset']} ({facts['license']})",
        f"  shapes   {facts['shapes']:,}: {facts['done']:,} done, {facts['failed']:,} failed, "
        f"{facts['pending']:,} pending",
        *_dimensions(facts),
    ]
    if facts["bytes"] is not None:
        lines.append(f"  on disk  {facts['bytes'] / 2**20:,.1f} MiB, codec {facts['codec']}")
    for one in facts["features"]:
        lines.append(
            f"  features {one['key']}: {one.get('backbone', 'unknown')}, {one['width']} values "
            f"per view, {one['shapes']:,} shapes"
        )
    for name, counts in facts["classes"].items():
        shown = ", ".join(f"{split} {count:,}" for split, count in counts.items() if count)
        lines.append(f"  class    {printable(name)}: {shown}")
    for failure in facts["failures"]:
        what = (failure["id"], failure["reason"], failure["detail"])
        lines.append(f"  failed   {': '.join(printable(part, MOST_DETAIL) for part in what)}")
    shapes: dict[str, list[str]] = {}
    for note in facts["notes"]:  # often the same for all shapes
        shapes.setdefault(note["note"], []).append(note["id"])
    for text, ids in list(shapes.items())[:NOTES_SHOWN]:
        which = printable(ids[0], MOST_DETAIL) + f" and {len(ids) - 1:,} more" * (len(ids) > 1)
        lines.append(f"  note     {which}: {printable(text, MOST_DETAIL)}")
    if len(shapes) > NOTES_SHOWN:
        lines.append(f"  and {len(shapes) - NOTES_SHOWN} more notes; list them all with --json")
    return "\n".join(lines)
