"""One call of `predict`, whatever the run predicts: its targets one after the other."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from pointcmt.api.predictions import (
    MOST_TILES,
    FailedShape,
    Kind,
    Palette,
    Prediction,
    Predictions,
    spread,
)
from pointcmt.api.stores import ViewStore
from pointcmt.api.targets import Target
from pointcmt.console import Paced, logger, meter
from pointcmt.errors import ShapeRefused
from pointcmt.training.evaluation.classifier import Classifier
from pointcmt.training.runs.facts import store_notes

if TYPE_CHECKING:
    from pointcmt.api.files import Entry

Opened = TypeVar("Opened", bound=Classifier)


@dataclass(eq=False)
class PredictionJob(ABC, Generic[Opened]):
    """What is predicted so far. top: classes to name for each shape."""

    up: ClassVar[str] = "y"  # of files, unless another axis is given
    unit: ClassVar[str] = "shapes"
    most_drawn: ClassVar[int] = MOST_TILES

    predictor: Opened
    top: int
    shapes: list[Prediction] = field(default_factory=list)
    failures: list[FailedShape] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    @abstractmethod
    def kind(self) -> Kind:
        """What the run predicts."""

    @property
    def palette(self) -> Palette:
        """Colors of the classes of points; empty unless these are predicted."""
        return ()

    @abstractmethod
    def of_store(
        self, store: ViewStore, shapes: NDArray[np.int64], drawn: set[int], up: str, progress: Paced
    ) -> None:
        """Predict a store's shapes. drawn: rows of `shapes` to draw. up: of files behind them."""

    @abstractmethod
    def of_files(
        self, entries: "Sequence[Entry]", drawn: set[int], up: str, progress: Paced
    ) -> None:
        """Load and predict entries. drawn: numbers of those to draw."""

    @abstractmethod
    def pictures(self) -> dict[str, Callable[[], bytes]]:
        """Return functions that draw what was predicted, by name; none if nothing was."""

    def run(self, targets: list[Target], up: str) -> Predictions:
        """Predict all targets. up: the axis that points up in files and objects."""
        run, total = self.predictor.run, sum(target.count for target in targets)
        drawn, begin = spread(total, self.most_drawn), 0
        with meter(f"predicting with {run.folder}", total, self.unit) as bar:
            progress = Paced(bar)
            for target in targets:
                own = {n - begin for n in drawn if begin <= n < begin + target.count}
                if target.store is None:
                    self.of_files(target.entries, own, up, progress)
                else:
                    self.notes += store_notes(run.facts["data"], target.store)
                    self.of_store(target.store, target.shapes, own, up, progress)
                begin += target.count
            progress.advance(0, now=True)
        self.finish_notes()
        for note in self.notes:
            logger.warning(f"note: {note}")
        return Predictions(
            run=str(run.folder),
            recipe=run.config.recipe,
            which=self.predictor.which,
            epoch=self.predictor.epoch,
            kind=self.kind,
            class_names=tuple(run.class_names),
            shapes=tuple(self.shapes),
            failures=tuple(self.failures),
            notes=tuple(self.notes),
            top=self.top,
            palette=self.palette,
            pictures=self.pictures(),
        )

    def finish_notes(self) -> None:
        """Add notes that are only known at the end."""

    def refuse(self, entry: "Entry", refused: ShapeRefused) -> None:
        """Record an entry that cannot be read."""
        reason = refused.reason.value, refused.detail
        self.failures.append(FailedShape(entry.record.id, entry.path, *reason))
