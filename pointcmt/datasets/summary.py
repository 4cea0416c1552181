"""Summarize a store as facts and as text."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.store.features import FRESH, list_features, open_features
from pointcmt.datasets.store.schema import CORRESPONDENCES, DONE, FAILED, PENDING, SPLITS
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import MOST_DETAIL, printable

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
    return {
        "path": store.path,
        "dataset": store.attributes["source"]["name"],
        "license": store.attributes["source"]["licence"],
        "shapes": schema.shapes,
        "done": int(np.sum(status == DONE)),
        "failed": int(np.sum(status == FAILED)),
        "pending": int(np.sum((status != DONE) & (status != FAILED))),
        "views": schema.views,
        "rig": store.attributes["render"]["rig"]["name"],
        "size": schema.size,
        "points": schema.points,
        "correspondences": matched - unmatched,
        "features": [_features(store, key, status == DONE) for key in list_features(store)],
        "classes": classes,
        "bytes": store.storage.size(),
        "failures": [{"id": o.id, "reason": o.reason, "detail": o.detail} for o in failures],
        "notes": notes,
    }


def _features(store: ViewStore, key: str, done: NDArray[np.bool_]) -> dict[str, Any]:
    """Return facts about the cached features of one teacher, and how many shapes have them."""
    features = open_features(store, key)
    if features is None:  # only its commits remain: `verify` reports it
        return {"key": key, "width": 0, "shapes": 0}
    fresh = [shard for shard, state in features.states().items() if state == FRESH]
    shapes = sum(int(np.sum(done[list(store.schema.shapes_of(shard))])) for shard in fresh)
    return {**features.facts, "key": key, "width": features.width, "shapes": shapes}


def describe(facts: dict[str, Any]) -> str:
    """Return the facts as text for people."""
    lines = [
        f"{facts['path']}: {facts['dataset']} ({facts['license']})",
        f"  shapes   {facts['shapes']:,}: {facts['done']:,} done, {facts['failed']:,} failed, "
        f"{facts['pending']:,} pending",
        f"  views    {facts['views']} ({facts['rig']}) of {facts['size']}² pixels",
        f"  points   {facts['points']:,}; correspondences of {facts['correspondences']:,} shapes",
    ]
    if facts["bytes"] is not None:
        lines.append(f"  on disk  {facts['bytes'] / 2**20:,.1f} MiB")
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
