"""Choose shapes of a store by split, class, id and number."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.store.schema import SPLITS
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import UsageError, nearest


@dataclass(frozen=True)
class Selection:
    """Which shapes to take; None = no restriction.

    split: train, test or val. shapes: ids. limit: the most in total, class by class in turn.
    classes: names of classes.
    """

    split: str | None = None
    shapes: Sequence[str] | None = None
    limit: int | None = None
    classes: Sequence[str] | None = None


def choose(store: ViewStore, selection: Selection) -> list[int]:
    """Return the chosen shapes in the store's order. Raises UsageError if there are none."""
    chosen = np.arange(store.schema.shapes)
    if selection.shapes is not None:
        numbers = {record.id: number for number, record in enumerate(store.shapes)}
        for shape in selection.shapes:
            if shape not in numbers:
                fix = nearest(shape, numbers).split(" known:")[0]
                raise UsageError(f"no shape is called '{shape}'", where=store.path, fix=fix)
        chosen = np.unique([numbers[shape] for shape in selection.shapes]).astype(np.int64)
    if selection.split is not None:
        if selection.split not in SPLITS:
            fix = nearest(selection.split, SPLITS)
            raise UsageError(f"unknown split '{selection.split}'", where="--split", fix=fix)
        chosen = chosen[store.splits[chosen] == SPLITS.index(selection.split)]
    if selection.classes is not None:
        labels = [_label(store, name) for name in selection.classes]
        chosen = chosen[np.isin(store.labels[chosen], labels)]
    if selection.limit is not None:
        if selection.limit < 1:
            raise UsageError(f"a limit of {selection.limit} leaves no shapes", where="--limit")
        chosen = in_turn(chosen, store.labels[chosen], selection.limit)
    if not len(chosen):
        raise UsageError("no shape is chosen", where=store.path, fix="choose others")
    return [int(index) for index in chosen]


def _label(store: ViewStore, name: str) -> int:
    if name not in store.class_names:
        fix = nearest(name, store.class_names)
        raise UsageError(f"no class is called '{name}'", where=store.path, fix=fix)
    return store.class_names.index(name)


def in_turn(shapes: NDArray[np.int64], labels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return `count` of the shapes [n] with these labels [n], one of each class in turn.

    They keep their order.
    """
    turn = np.zeros(len(shapes), np.int64)  # number of earlier shapes of the same class
    for label in np.unique(labels):
        turn[labels == label] = np.arange(np.sum(labels == label))
    return np.sort(shapes[np.lexsort((labels, turn))[:count]])
