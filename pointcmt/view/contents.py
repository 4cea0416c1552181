"""What the page says about the store and about each shape, before any shape is loaded."""

from dataclasses import dataclass, field
from typing import Any

from pointcmt.datasets.selection import Selection, choose
from pointcmt.datasets.store.schema import CORRESPONDENCES, SPLITS
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import StoreError
from pointcmt.view.overlay import Overlay

PENDING = "pending"


@dataclass(frozen=True)
class ViewOptions:
    """What the page shows. views: the most per shape, spread evenly. overlay: what a run adds."""

    selection: Selection = field(default_factory=Selection)
    views: int = 24
    overlay: Overlay | None = None


@dataclass(frozen=True)
class Contents:
    """The chosen shapes of a store, for the page.

    shapes: their numbers in the store. lines: of each: id, class, split, state, reason,
    detail, notes and what a run says. matched: whether each has correspondences.
    """

    store: ViewStore
    shapes: list[int]
    lines: list[dict[str, Any]]
    matched: list[bool]
    overlay: Overlay | None = None

    @property
    def rendered(self) -> list[int]:
        """The places in `shapes` of those that are rendered."""
        return [place for place, line in enumerate(self.lines) if line["state"] == "done"]

    def as_json(self) -> dict[str, Any]:
        """Return the page's index."""
        store = self.store
        schema, attributes = store.schema, store.attributes
        height, width = schema.image
        return {
            "name": attributes["source"]["name"],
            "license": attributes["source"]["licence"],
            "kind": schema.kind,
            "height": height,
            "width": width,
            "depth_scale": schema.depth_scale,
            "splits": list(SPLITS),
            "part_names": attributes.get("part_names") or {},
            "semantic_names": store.semantic_names,
            "box_names": store.box_names,
            "palette": attributes.get("palette") or [],
            "shapes": self.lines,
            **(self.overlay.about() if self.overlay else {}),
        }


def contents_of(store: ViewStore, options: ViewOptions) -> Contents:
    """Return how the chosen shapes ended.

    Raises UsageError if no shape is chosen, StoreError if none of them is rendered yet.
    """
    shapes, overlay = choose(store, options.selection), options.overlay
    wanted = set(shapes)
    ended = {shape: table for shape, table in store.ended() if shape in wanted}
    size, committed = store.schema.shard, set(store.committed(CORRESPONDENCES))
    unmatched: dict[str, dict[str, Any]] = {}
    for _, marker in store.each_marker(CORRESPONDENCES):
        unmatched |= {table["id"]: table for table in marker["failures"]}
    lines, matched = [], []
    for shape in shapes:
        record, table = store.shapes[shape], ended.get(shape)
        state = PENDING if table is None else table["status"]
        failed = table if state == "failed" else unmatched.get(record.id)
        lines.append(
            {
                "id": record.id,
                "class": record.class_name,
                "split": record.split,
                "state": state,
                "reason": failed["reason"] if failed else None,
                "detail": failed["detail"] if failed else "",
                "notes": table["notes"] if table else [],
                **(overlay.line(shape) if overlay else {}),
            }
        )
        matched.append(shape // size in committed and record.id not in unmatched)
    if not ended:
        raise StoreError(
            "none of these shapes is rendered yet", where=store.path, fix="run `pointcmt render`"
        )
    return Contents(store, shapes, lines, matched, overlay)
