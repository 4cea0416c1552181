"""The part labels of a store: their names, and checks that a run and a store agree on them."""

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import StoreError, differing

Parts = dict[str, tuple[str, ...]]  # names by class, in the order of the labels


def find_parts(store: StoreReader) -> Parts:
    """Return the names of each class's parts, in the order of the classes and of the part labels.

    Raises StoreError for a store without part labels or without their names.
    """
    for member in store.members:
        if not member.schema.parts:
            raise StoreError(
                "the points of this store have no part labels",
                where=member.path,
                fix="render a dataset that has them, such as `--dataset shapenetpart` or toy",
            )
    names = store.attributes.get("part_names", {})
    absent = [name for name in store.class_names if not names.get(name)]
    if absent:
        raise StoreError(f"the parts of {', '.join(absent)} have no names", where=store.path)
    return {name: tuple(names[name]) for name in store.class_names}


def require_parts(parts: Parts, store: StoreReader) -> None:
    """Raise StoreError unless the store divides its classes into these parts."""
    stored = find_parts(store)
    if list(stored.items()) != list(parts.items()):  # labels are numbered in this order
        different = list(differing(parts, stored).items())
        raise StoreError(
            "the run and the store have different parts: "
            + (
                "; ".join(
                    f"{name}: {run} in the run, {here} in the store"
                    for name, (run, here) in different[:3]
                )
                or "the same in a different order"
            ),
            where=store.path,
            fix="use a store of the dataset that the run was trained on",
        )


def require_labels(parts: Parts, store: StoreReader, shapes: NDArray[np.int64]) -> None:
    """Raise StoreError if a point of these shapes has a part that its class does not have."""
    counts = np.array([len(names) for names in parts.values()])
    highest = store.read("part", shapes).max(axis=1)
    wrong = np.flatnonzero(highest >= counts[store.labels[shapes]])
    if len(wrong):
        shape = shapes[wrong[0]]
        raise StoreError(
            f"{store.shapes[shape].id} has the part label {highest[wrong[0]]}, but its class only "
            f"has {counts[store.labels[shape]]} parts (from 0)",
            where=f"{store.path}/part",
            fix="render the store again; run `pointcmt verify` to see what is broken",
        )
