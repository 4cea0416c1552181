"""Which shapes a run learns from and which ones select its best epoch. Test shapes are neither."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.store.schema import SPLITS
from pointcmt.datasets.store.streaming import done_shapes
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import StoreError
from pointcmt.training.config.sections import Data, TrainConfig


@dataclass(frozen=True)
class Split:
    """Shapes as indices of axis 0, rising: train [n], validation [m]. notes: for the user."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    notes: tuple[str, ...] = ()


def split_train(store: ViewStore, config: Data) -> Split:
    """Carve a validation split from train, or take the store's own `val` where it has one.

    `validation` of every class, rounded, at least one shape; a class of a single shape stays in
    train as a whole. Of what is left, `fraction` of every class is trained on, at least one shape;
    a smaller fraction is part of a larger one. Unlabelled shapes are left out. The same
    `split_seed` gives the same split.

    Raises StoreError where nothing can be learned or selected: fewer than two classes, a class
    that the store has but train lacks, or no class with a shape to spare.
    """
    shapes, notes = labelled(store, "train")
    counts = np.bincount(store.labels[shapes], minlength=len(store.class_names))
    _require_classes(store, counts)
    if np.any(store.splits == SPLITS.index("val")):
        train, (validation, more) = shapes, labelled(store, "val")
        notes = (*notes, *more, "validating on the store's own val split")
    else:
        held = stratified(store.labels[shapes], config.validation, config.split_seed)
        if not np.any(held):
            raise StoreError(
                "every class of the train split has one rendered shape: "
                "none is left to validate on",
                where=store.path,
                fix="render more shapes, at least two per class",
            )
        alone = [n for n, count in zip(store.class_names, counts, strict=True) if count == 1]
        if alone:
            notes += (f"classes with a single train shape are not validated: {', '.join(alone)}",)
        train, validation = shapes[~held], shapes[held]
    if config.fraction < 1:
        known = stratified(store.labels[train], config.fraction, config.split_seed, spare=0)
        notes += (
            f"{config.fraction:.0%} of the labels: {known.sum()} of {len(train)} shapes; best is "
            f"selected with {len(validation)} more, last with none",
        )
        train = train[known]
    return Split(train, validation, notes)


def split_shapes(store: ViewStore, config: Data) -> Split:
    """As `split_train`, of all rendered shapes of train, whether their class is known or not.

    `validation` and `fraction` are shares of all of them. Raises StoreError for a single shape.
    """
    shapes = done_shapes(store, "train")
    if np.any(store.splits == SPLITS.index("val")):
        train, validation = shapes, done_shapes(store, "val")
        notes: tuple[str, ...] = ("validating on the store's own val split",)
    else:
        alike = np.zeros(len(shapes), np.int64)  # one class
        held = stratified(alike, config.validation, config.split_seed)
        if not np.any(held):
            raise StoreError(
                "the train split has one rendered shape: none is left to validate on",
                where=store.path,
                fix="render more shapes",
            )
        train, validation, notes = shapes[~held], shapes[held], ()
    if config.fraction < 1:
        alike = np.zeros(len(train), np.int64)
        known = stratified(alike, config.fraction, config.split_seed, spare=0)
        notes += (f"{config.fraction:.0%} of the shapes: {known.sum()} of {len(train)}",)
        train = train[known]
    return Split(train, validation, notes)


def fit_batch(config: TrainConfig, split: Split) -> tuple[TrainConfig, tuple[str, ...]]:
    """The configuration with a batch that few labels can fill, and a note where it is smaller.

    Only where `data.fraction` asks for few, and without accumulation; otherwise a batch larger than
    train is refused.
    """
    known, data = len(split.train), config.data
    few = data.fraction < 1 and config.optimizer.accumulate == 1
    if not few or not 2 <= known < data.batch_size:
        return config, ()
    fitting = data.model_copy(update={"batch_size": known})
    note = f"{known} shapes are less than a batch of {data.batch_size}: all of them are one"
    return config.model_copy(update={"data": fitting}), (note,)


def labelled(store: ViewStore, split: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The rendered shapes of a split whose class is known, and notes on those left out.

    Raises StoreError where there is none.
    """
    planned = int(np.sum(store.splits == SPLITS.index(split)))
    shapes = done_shapes(store, split)
    notes = []
    if len(shapes) < planned:
        notes.append(f"{planned - len(shapes)} of {planned} {split} shapes are not rendered")
    known = shapes[store.labels[shapes] >= 0]
    if not len(known):
        raise StoreError(
            f"no shape of the {split} split has a class",
            where=store.path,
            fix="render a data set with labels; `--dataset folder` reads labels.csv",
        )
    if len(known) < len(shapes):
        notes.append(f"{len(shapes) - len(known)} {split} shapes have no class and are left out")
    return known, tuple(notes)


def stratified(
    labels: NDArray[np.int64], share: float, seed: int, spare: int = 1
) -> NDArray[np.bool_]:
    """A random `share` of every class, [n] bool; at least one shape, all but `spare` at most.

    Written out rather than taken from scikit-learn: every class that can spare a shape gives at
    least one, and a run resumes with the same split after an upgrade of any library but numpy.
    """
    taken = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(1, round(share * len(members))), len(members) - spare)
        rng = np.random.default_rng([seed, label])  # a new class leaves the others as they are
        taken[rng.permutation(members)[:count]] = True
    return taken


def _require_classes(store: ViewStore, counts: NDArray[np.int64]) -> None:
    """Every class that the store has must be learned, and there must be two."""
    planned = np.bincount(store.labels[store.labels >= 0], minlength=len(counts))
    absent = [
        name
        for name, all_splits, train in zip(store.class_names, planned, counts, strict=True)
        if all_splits and not train
    ]
    if absent:
        raise StoreError(
            f"{len(absent)} classes have shapes but none rendered in train: {', '.join(absent)}",
            where=store.path,
            fix="render the train split of these classes too (a larger --limit)",
        )
    if np.count_nonzero(counts) < 2:
        raise StoreError(
            "a classifier needs at least two classes, and the train split has one",
            where=store.path,
            fix="render shapes of more classes",
        )
