"""Which classes of a store a run can be evaluated on: they are matched by name.

The store may list them in another order, have a subset of them, or belong to another dataset.
Shapes of classes that the run does not know are left out and counted. Upper and lower case, spaces,
`_` and `-` make no difference unless names differ by nothing else.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.joint import match_names
from pointcmt.datasets.store.schema import SCENES
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import StoreError, printable
from pointcmt.training.config.downstream import PartsegConfig
from pointcmt.training.config.sections import TrainConfig
from pointcmt.training.runs.box_labels import require_boxes
from pointcmt.training.runs.folder import Run
from pointcmt.training.runs.part_labels import Parts, find_parts, require_labels
from pointcmt.training.runs.point_labels import require_labeled_points
from pointcmt.training.runs.splits import labeled, of_learned_classes, split_test
from pointcmt.training.runs.store_kinds import require_kind

MOST_NAMED = 10  # classes that a message lists


@dataclass(frozen=True)
class Matched:
    """A split's shapes whose classes a run knows.

    shapes: indices of axis 0, [n]. labels: their classes, numbered as in the run, [n]. of_class:
    the run's number of each of the store's classes, -1 = unknown, [C]. left_out: the shapes that
    the run does not know, by class. notes: for the user.
    """

    shapes: NDArray[np.int64]
    labels: NDArray[np.int64]
    of_class: NDArray[np.int64]
    left_out: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def match(run: Run, store: StoreReader, shapes: NDArray[np.int64], split: str) -> Matched:
    """Match the classes of a split's labeled shapes with those of a run.

    Shapes of classes that the run had no train shapes of are left out, too. Raises StoreError if
    no shape is left, with the classes of both.
    """
    unlearned = run.facts.get("unlearned", [])
    shapes, without_train = of_learned_classes(store, shapes, unlearned, split)
    if not len(shapes):
        raise StoreError(
            f"the run was trained on none of the classes of the {split} shapes",
            where=store.path,
            fix="train on a store that has train shapes of these classes",
        )
    names = run.class_names
    of_class = match_names(store.class_names, names)
    labels = of_class[store.labels[shapes]]
    known = labels >= 0
    present = [store.class_names[label] for label in store.labels[shapes].tolist()]
    if not np.any(known):
        raise StoreError(
            "the run and these shapes have no class in common: the run knows "
            f"{listing(names)}; the shapes are {listing(sorted(set(present)))}",
            where=f"{run.folder}, {store.path}",
            fix="use a run that was trained on these classes, or rename the classes of the store",
        )
    left_out = Counter(name for name, kept in zip(present, known, strict=True) if not kept)
    notes = list(without_train)
    if store.class_names != names:
        common = len(set(of_class[of_class >= 0].tolist()))
        notes.append(
            f"classes are matched by name: this store has {common} of the run's {len(names)}; "
            "predictions are among all of them"
        )
    if left_out:
        counts = [f"{name} ({count})" for name, count in sorted(left_out.items())]
        notes.append(
            f"{left_out.total()} shapes of {len(left_out)} classes that the run does not know are "
            f"left out: {listing(counts)}"
        )
    counted = dict(sorted(left_out.items()))
    return Matched(shapes[known], labels[known], of_class, counted, tuple(notes))


def match_parts(parts: Parts, store: StoreReader, matched: Matched) -> list[NDArray[np.int64]]:
    """Return the run's number of each part of the store, by the store's class.

    Parts may be in another order. Classes that the run does not know have an empty array. Raises
    StoreError if a common class is divided into other parts.
    """
    stored, names = find_parts(store), list(parts)
    found = []
    for label, (name, own) in enumerate(stored.items()):
        index = int(matched.of_class[label])
        if index < 0 or not np.any(matched.labels == index):
            found.append(np.zeros(0, np.int64))
            continue
        theirs = parts[names[index]]
        if sorted(own) != sorted(theirs):
            raise StoreError(
                f"the run and the store divide {name} into different parts: {', '.join(theirs)} in "
                f"the run, {', '.join(own)} in the store",
                where=store.path,
                fix="use a store of the dataset that the run was trained on",
            )
        found.append(np.array([theirs.index(part) for part in own], np.int64))
    return found


def require_testable(store: StoreReader, config: TrainConfig) -> None:
    """Raise StoreError unless runs of a configuration can be evaluated on the store's test split.

    For before training: the store is the one that the runs are trained on. Raises UsageError for
    one of the other kind.
    """
    require_kind(store, config)
    if config.reads == SCENES:
        require = require_boxes if config.detects else require_labeled_points
        require(store, split_test(store, config.data), "test")
        return
    shapes, _ = labeled(store, "test")
    if isinstance(config, PartsegConfig):
        require_labels(config.parts or find_parts(store), store, shapes)


def left_out_lines(left_out: dict[str, int]) -> list[str]:
    """Return the line of a report on shapes that were left out, if there are any."""
    if not left_out:
        return []
    counts = [f"{printable(name)} ({count})" for name, count in left_out.items()]
    return [
        f"  {sum(left_out.values())} shapes of classes that the run does not know are left out: "
        f"{listing(counts)}"
    ]


def listing(names: Sequence[str]) -> str:
    """Return the first names as text, and how many more there are."""
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
