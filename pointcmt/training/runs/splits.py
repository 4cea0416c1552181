"""Split shapes: those that train a run, and those that select its best epoch. No test shapes."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.store.schema import DONE, OBJECTS, PENDING, SCENES, SPLITS
from pointcmt.datasets.store.streaming import done_shapes
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import StoreError, printable
from pointcmt.training.config.scenes import SceneData
from pointcmt.training.config.sections import Data, TrainConfig

MOST_NAMED = 10  # classes in a note
NO_VALIDATION = (
    "data.validation=0: no shapes are held out, and the last epoch counts as the best",
)
SCAN = re.compile(r"(scene\d{4})_\d{2}$")  # ScanNet: space and number of the scan
AREA = re.compile(r"Area_([1-6])/")  # S3DIS: the area that a room's id begins with
S3DIS = re.compile(r"s3dis(?:-area([1-6]))?")  # the data set, and the area of its test split
TEST_AREA = 5  # of `s3dis`


@dataclass(frozen=True)
class Split:
    """Shapes as ascending indices of axis 0: train [n], validation [m]. notes: for the user."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    notes: tuple[str, ...] = ()

    @property
    def examples(self) -> NDArray[np.int64]:
        """Shapes to show or measure something on: validation's, or train's if there are none."""
        return self.validation if len(self.validation) else self.train


_NONE = np.empty(0, np.int64)


def split_train(store: StoreReader, config: Data) -> Split:
    """Carve a validation split from train, or take the store's own `val` split if it has one.

    The share `validation` of every class is held out, rounded, at least one shape; a class with a
    single shape stays in train. Training takes the share `fraction` of the rest of every class, at
    least one shape; a smaller fraction is a subset of a larger one. Unlabeled shapes are left out,
    and so are, with a note, the validation shapes of classes that train lacks. The same
    `split_seed` gives the same split. With `validation` = 0 nothing is held out.

    Raises StoreError if nothing can be learned or selected: fewer than two classes, a class whose
    train shapes are still to be rendered, or no class with a shape to spare.
    """
    shapes, notes = labeled(store, "train")
    counts = np.bincount(store.labels[shapes], minlength=len(store.class_names))
    notes += _class_notes(store, counts)
    own, more = _own_validation(store, counts) if config.validation else (_NONE, NO_VALIDATION)
    notes += more
    if not config.validation:
        train, validation = shapes, _NONE
    elif len(own):
        train, validation = shapes, own
        notes = (*notes, "validating on the store's val split")
    else:
        held = stratified(store.labels[shapes], config.validation, config.split_seed)
        if not np.any(held):
            raise StoreError(
                "every class of the train split has only one rendered shape, so none is left for "
                "validation",
                where=store.path,
                fix="render more shapes, at least two per class",
            )
        alone = [n for n, count in zip(store.class_names, counts, strict=True) if count == 1]
        if alone:
            notes += (
                f"classes with a single train shape have no validation shapes: {', '.join(alone)}",
            )
        train, validation = shapes[~held], shapes[held]
    if config.fraction < 1:
        known = stratified(store.labels[train], config.fraction, config.split_seed, spare=0)
        notes += (
            f"{config.fraction:.0%} of the labels: {known.sum()} of {len(train)} shapes; "
            f"selecting the best epoch uses {len(validation)} more, the last epoch none",
        )
        train = train[known]
    return Split(train, validation, notes)


def split_shapes(store: StoreReader, config: Data) -> Split:
    """Split like `split_train`, without looking at classes: all rendered shapes of train count.

    `validation` and `fraction` are shares of all of them; of scenes, shares of the rooms, so that
    rescans of a room stay together. With `test_area`, the rooms of all other areas of S3DIS count,
    whatever their splits. Raises StoreError for a single shape or room, and without that area.
    """
    area = config.test_area if isinstance(config, SceneData) else 0
    if area:
        areas = _areas(store, area)
        shapes = np.flatnonzero((store.status() == DONE) & (areas != area))
    else:
        shapes = done_shapes(store, "train")
    notes: tuple[str, ...] = ()
    if not config.validation:
        train, validation, notes = shapes, _NONE, NO_VALIDATION
    elif not area and np.any(store.splits == SPLITS.index("val")):
        train, validation = shapes, done_shapes(store, "val")
        notes = ("validating on the store's val split",)
    else:
        held = _share_of(store, shapes, config.validation, config.split_seed)
        if not np.any(held):
            raise StoreError(
                "the train split has only one rendered shape, so none is left for validation",
                where=store.path,
                fix="render more shapes",
            )
        train, validation = shapes[~held], shapes[held]
    if config.fraction < 1:
        known = _share_of(store, train, config.fraction, config.split_seed, spare=0)
        notes += (f"{config.fraction:.0%} of the shapes: {known.sum()} of {len(train)}",)
        train = train[known]
    if isinstance(config, SceneData) and config.labeled_points:
        notes += (f"labels of {config.labeled_points} points of each train scene",)
    return Split(train, validation, notes)


def split_test(store: StoreReader, config: Data) -> NDArray[np.int64]:
    """Return the rendered scenes that runs of a configuration are tested on, [n].

    Those of `test_area`, or of the store's test split. Raises StoreError for a store without them.
    """
    area = config.test_area if isinstance(config, SceneData) else 0
    if not area:
        return done_shapes(store, "test")
    return np.flatnonzero((store.status() == DONE) & (_areas(store, area) == area))


def held_out_areas(config: Data, trained_on: Sequence[str]) -> tuple[int, ...] | None:
    """Return the areas of S3DIS that a run was not trained on; None for other data sets.

    trained_on: the names of the data sets of its stores.
    """
    named = [S3DIS.fullmatch(name) for name in trained_on]
    found = [int(match[1] or TEST_AREA) for match in named if match]
    if not found:
        return None
    if isinstance(config, SceneData) and config.test_area:
        return (config.test_area,)
    return tuple(set(found)) if len(set(found)) == 1 else ()


def areas_of(store: StoreReader, scenes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the area of S3DIS that each of these scenes [n] is in, 0 = of another data set."""
    matches = (AREA.match(store.shapes[scene].id) for scene in scenes.tolist())
    return np.array([int(match[1]) if match else 0 for match in matches], np.int64)


def _areas(store: StoreReader, needed: int) -> NDArray[np.int64]:
    """Return the area of each of the store's scenes, [O]. Raises StoreError without rooms of it."""
    areas = areas_of(store, np.arange(store.schema.shapes))
    if not np.any((areas == needed) & (store.status() == DONE)):
        raise StoreError(
            f"this store has no rendered room of Area_{needed} of S3DIS",
            where=store.path,
            fix="use a store of all areas, which `pointcmt render --dataset s3dis` makes, or leave "
            "out data.test_area",
        )
    return areas


def fit_batch(config: TrainConfig, split: Split) -> tuple[TrainConfig, tuple[str, ...]]:
    """Return the configuration with a step that the train shapes can fill, and a note if smaller.

    A step takes as many whole batches as there are shapes for, at most `optimizer.accumulate`, or
    else one batch of all shapes. Raises StoreError for a single shape, since batch norm needs two.
    """
    data, optimizer = config.data, config.optimizer
    known = len(split.train) * config.samples
    if known >= config.effective_batch_size:
        return config, ()
    if known < 2:
        raise StoreError(
            "a single train shape is left, but training needs two for its batches",
            where="data.validation, data.fraction",
            fix="render more shapes, or train on more of them",
        )
    batch = min(known, data.batch_size)
    changes: dict[str, Any] = {"data": data.model_copy(update={"batch_size": batch})}
    changes["optimizer"] = optimizer.model_copy(update={"accumulate": known // batch})
    samples = "samples of scenes" if config.reads == SCENES else "shapes"
    if known < data.batch_size:
        note = f"a batch of {data.batch_size}: using one batch with all of them"
    else:
        note = f"{optimizer.accumulate} batches of {batch}: {known // batch} make a step"
    return config.model_copy(update=changes), (f"{known} train {samples} do not fill {note}",)


def labeled(store: StoreReader, split: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the rendered shapes of a split whose class is known, and notes on those left out.

    Raises StoreError if there is none.
    """
    planned = int(np.sum(store.splits == SPLITS.index(split)))
    shapes = done_shapes(store, split)
    notes = []
    if len(shapes) < planned:
        notes.append(f"{planned - len(shapes)} of {planned} {split} shapes are not rendered")
    known = shapes[store.labels[shapes] >= 0]
    if not len(known):
        raise StoreError(
            f"no shape in the {split} split has a class",
            where=store.path,
            fix="render a dataset with labels (`--dataset folder` reads labels.csv)",
        )
    if len(known) < len(shapes):
        notes.append(f"{len(shapes) - len(known)} {split} shapes have no class and are left out")
    return known, tuple(notes)


def stratified(
    labels: NDArray[np.int64], share: float, seed: int, spare: int = 1
) -> NDArray[np.bool_]:
    """Choose a random `share` of every class, [n] bool: at least one, at most all but `spare`.

    scikit-learn's splitters do not guarantee one shape of every class that can spare one, and might
    split differently after an upgrade, when a run is resumed.
    """
    taken = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(1, round(share * len(members))), len(members) - spare)
        rng = np.random.default_rng([seed, label])  # adding a class does not change the others
        taken[rng.permutation(members)[:count]] = True
    return taken


def _share_of(
    store: StoreReader, shapes: NDArray[np.int64], share: float, seed: int, spare: int = 1
) -> NDArray[np.bool_]:
    """Choose a random share of these shapes, [n] bool: all rescans of a room, or none of them."""
    if store.schema.kind == OBJECTS:
        return stratified(np.zeros(len(shapes), np.int64), share, seed, spare)
    rooms = [SCAN.sub(r"\1", store.shapes[shape].id) for shape in shapes.tolist()]
    _, room = np.unique(rooms, return_inverse=True)
    return stratified(np.zeros(room.max() + 1, np.int64), share, seed, spare)[room]


def note_on_test(store: StoreReader) -> tuple[str, ...]:
    """Return a note if the store has no test split, so that its runs cannot be evaluated on it."""
    if np.any(store.splits == SPLITS.index("test")):
        return ()
    return (
        "this store has no test split: the run can only be evaluated on another store, or on its "
        "validation shapes, which select the best epoch (`pointcmt evaluate --split val`); render "
        "with --holdout 0.2 to set a test split aside",
    )


def class_counts(store: StoreReader, shapes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of these shapes in each class of the store, [C]; unlabeled ones in none."""
    labels = store.labels[shapes]
    return np.bincount(labels[labels >= 0], minlength=len(store.class_names))


def unlearned_classes(store: StoreReader, train: NDArray[np.int64]) -> list[str]:
    """Return the names of the store's classes that none of these shapes has."""
    counts = np.bincount(store.labels[train], minlength=len(store.class_names))
    return [name for name, n in zip(store.class_names, counts, strict=True) if not n]


def of_learned_classes(
    store: StoreReader, shapes: NDArray[np.int64], unlearned: Collection[str], split: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the shapes without those of classes that cannot be predicted, and a note on these."""
    labels = [i for i, name in enumerate(store.class_names) if name in unlearned]
    wrong = np.isin(store.labels[shapes], labels)
    if not wrong.any():
        return shapes, ()
    found = sorted(set(store.labels[shapes[wrong]].tolist()))
    names = _listed([store.class_names[label] for label in found])
    what = f"{int(wrong.sum())} {split} shapes of classes without train shapes are left out"
    return shapes[~wrong], (f"{what}: {names}",)


def _own_validation(
    store: StoreReader, counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the shapes of the store's val split whose class has train shapes; none without one."""
    if not np.any(store.splits == SPLITS.index("val")):
        return np.empty(0, np.int64), ()
    shapes, notes = labeled(store, "val")
    unlearned = [name for name, n in zip(store.class_names, counts, strict=True) if not n]
    shapes, more = of_learned_classes(store, shapes, unlearned, "val")
    return shapes, (*notes, *more)


def _class_notes(store: StoreReader, counts: NDArray[np.int64]) -> tuple[str, ...]:
    """Return a note on the store's classes that train lacks. counts: train shapes of each class.

    Raises StoreError if train has one class only, and if rendering is not finished for one.
    """
    waiting = (store.splits == SPLITS.index("train")) & (store.status() == PENDING)
    pending = class_counts(store, np.flatnonzero(waiting))
    planned = class_counts(store, np.arange(len(store.labels)))
    lacking = np.flatnonzero((counts == 0) & (pending > 0))
    unfinished = [store.class_names[label] for label in lacking]
    if unfinished:
        raise StoreError(
            f"{_classes(len(unfinished))} no rendered train shapes yet: {_listed(unfinished)}",
            where=store.path,
            fix="run the same `pointcmt render` command again to finish the store",
        )
    if np.count_nonzero(counts) < 2:
        raise StoreError(
            "a classifier needs at least two classes, but the train split has one",
            where=store.path,
            fix="render shapes of more classes",
        )
    absent = [store.class_names[label] for label in np.flatnonzero((counts == 0) & (planned > 0))]
    if not absent:
        return ()
    what = f"{_classes(len(absent))} no rendered train shapes and cannot be learned"
    return (f"{what}: {_listed(absent)}",)


def _listed(names: list[str]) -> str:
    """Return names as text, some of many."""
    shown = ", ".join(printable(name) for name in names[:MOST_NAMED])
    return shown + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")


def _classes(count: int) -> str:
    return "1 class has" if count == 1 else f"{count} classes have"
