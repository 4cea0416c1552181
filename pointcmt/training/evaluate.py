"""How good a run is: accuracy over all shapes and over classes, and which classes it mistakes.

What segments shapes into parts is judged by `segmentation`. Only here, and by the probes, is the
test split read: training and the choice of the best epoch never see it.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointcmt.console import meter, say
from pointcmt.datasets.store import ViewStore
from pointcmt.datasets.streaming import ViewStream
from pointcmt.errors import StoreError, UsageError, nearest
from pointcmt.training.checkpoint import load_weights, write_file
from pointcmt.training.config_downstream import PartsegConfig
from pointcmt.training.device import find_device
from pointcmt.training.figures import draw_confusion
from pointcmt.training.progress import Paced
from pointcmt.training.recipes import RECIPES
from pointcmt.training.recipes.task import Classifying, Task
from pointcmt.training.run import Run, find_checkpoint, open_run, require_classes, shapes_digest
from pointcmt.training.run_facts import store_notes
from pointcmt.training.segmentation import PartReport, require_labels, require_parts
from pointcmt.training.splits import labelled, split_train
from pointcmt.training.statistics import accuracy_interval

SPLITS = ("test", "val", "train")
NAMED = 5  # classes without shapes


class Judged(Protocol):
    """What an evaluation found, whatever was evaluated. measures: the mean of the scores is first.

    shapes: how many, n. scores: of each of them, [n]. pictures: PNG by name.
    """

    @property
    def shapes(self) -> int: ...
    @property
    def scores(self) -> NDArray[np.float64]: ...
    @property
    def measures(self) -> dict[str, float]: ...
    def as_json(self) -> dict[str, Any]: ...
    def describe(self) -> str: ...
    def pictures(self) -> dict[str, bytes]: ...


@dataclass(frozen=True)
class Report:
    """What was evaluated, and the labels that every number follows from.

    true, predicted: class indices [n], in the order of the split's shapes. notes: what the user
    should know of the store.
    """

    recipe: str
    split: str
    which: str
    epoch: int
    votes: int
    class_names: list[str]
    true: NDArray[np.int64]
    predicted: NDArray[np.int64]
    notes: tuple[str, ...] = ()

    @property
    def shapes(self) -> int:
        """How many shapes were classified."""
        return len(self.true)

    @property
    def scores(self) -> NDArray[np.float64]:
        """1 for each shape that is classified right, [n]: their mean is the first measure."""
        return self.correct.astype(float)

    @property
    def measures(self) -> dict[str, float]:
        """The numbers that runs are compared by, the most important one first."""
        return {
            "overall_accuracy": self.overall_accuracy,
            "mean_class_accuracy": self.mean_class_accuracy,
        }

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each shape is classified right, [n]."""
        return self.true == self.predicted

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Counts [C, C]; rows are the true classes, columns the predicted ones."""
        return confusion_matrix(self.true, self.predicted, len(self.class_names))

    @property
    def overall_accuracy(self) -> float:
        """Share of the shapes that are classified right."""
        return float(self.correct.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the overall accuracy, by the bootstrap over shapes."""
        return accuracy_interval(int(self.correct.sum()), self.shapes)

    @property
    def mean_class_accuracy(self) -> float:
        """Mean over the classes that have shapes of the share classified right."""
        return float(np.mean([c["accuracy"] for c in self.per_class.values() if c["shapes"]]))

    @property
    def per_class(self) -> dict[str, dict[str, Any]]:
        """Class name → shapes, correct, accuracy (None where there are no shapes)."""
        table, confusion = {}, self.confusion
        for name, row, correct in zip(
            self.class_names, confusion.sum(axis=1), np.diag(confusion), strict=True
        ):
            accuracy = float(correct / row) if row else None
            table[name] = {"shapes": int(row), "correct": int(correct), "accuracy": accuracy}
        return table

    def as_json(self) -> dict[str, Any]:
        """The fields that `evaluate --json` prints."""
        return {**self.numbers(), "notes": list(self.notes)}

    def numbers(self) -> dict[str, Any]:
        """The same without the notes."""
        return {
            "overall_accuracy": self.overall_accuracy,
            "overall_accuracy_interval": list(self.interval),
            "mean_class_accuracy": self.mean_class_accuracy,
            "per_class": self.per_class,
        }

    def pictures(self) -> dict[str, bytes]:
        """The confusion matrix."""
        title = (
            f"{self.recipe}, {self.split}: {self.overall_accuracy:.1%} of {self.shapes:,} shapes"
        )
        return {"confusion": draw_confusion(self.confusion, self.class_names, title)}

    def describe(self) -> str:
        """The numbers for people."""
        voted = f", {self.votes} votes" if self.votes > 1 else ""
        width = max(map(len, self.class_names))
        lines = [
            f"{self.recipe}, {self.which} checkpoint (epoch {self.epoch}), "
            f"{self.shapes:,} {self.split} shapes{voted}",
            f"  overall accuracy     {self.overall_accuracy:7.2%}  "
            "(95 % of the bootstrap within {:.2%} … {:.2%})".format(*self.interval),
            f"  mean class accuracy  {self.mean_class_accuracy:7.2%}",
        ]
        for name, c in self.per_class.items():
            if c["shapes"]:
                share = f"{c['correct']:>5} of {c['shapes']:<5}"
                lines.append(f"    {name:<{width}}  {c['accuracy']:7.2%}  {share}".rstrip())
        absent = [name for name, c in self.per_class.items() if not c["shapes"]]
        if absent:
            some = ", ".join(absent[:NAMED]) + (" …" if len(absent) > NAMED else "")
            lines.append(f"  {len(absent)} classes without shapes are not counted: {some}")
        return "\n".join(lines)


def evaluate(
    folder: Path,
    store: ViewStore,
    split: str = "test",
    which: str = "best",
    votes: int = 1,
    device: str = "auto",
    log_format: str = "auto",
) -> Judged:
    """Classify or segment a split with a run's checkpoint; writes what it found into its folder.

    evaluation.json and confusion.png (of parts: segmentation.png) are the best checkpoint's on the
    test split; of others the names say so, as in evaluation-val-last.json.

    split: test, val (the shapes that selected the best epoch) or train (the others). which: best
    on validation, last, or the number of an epoch that was kept. votes: the plain prediction and
    votes - 1 varied ones, averaged as probabilities; the variations are seeded and their number is
    fixed, so there is one result. Where the store was rendered with other settings than the one
    that the run was trained on, a note on standard error and in the report says so.

    Raises StoreError for a run without a checkpoint, for a store with other classes or parts or
    without shapes in the split, and UsageError for an unknown name.
    """
    _require("split", split, SPLITS)
    name = find_checkpoint(folder, which)
    if votes < 1:
        raise UsageError(f"{votes} votes cannot be averaged", where="votes", fix="give 1 or more")
    run = open_run(folder)
    if not run.config.classifies:
        raise UsageError(
            f"a run of the recipe '{run.config.recipe}' classifies nothing",
            where=str(folder),
            fix="its metrics.jsonl says how well it does; a pre-trained network can be probed: "
            "`pointcmt evaluate --probe svm`",
        )
    require_classes(run, store)
    notes = store_notes(run.facts["data"], store)
    shapes = _shapes(run, store, split)

    on = find_device(device)
    made = RECIPES[run.config.recipe](run.config, len(run.class_names), False)
    task = cast(Classifying, made)
    scalars = load_weights(folder / name, task.model)
    task.model.to(on)
    about: dict[str, Any] = {"recipe": run.config.recipe, "split": split, "which": which}
    about |= {"epoch": scalars["epoch"], "votes": votes, "notes": notes}
    for note in notes:
        say(f"note: {note}", log_format)
    judge = _segment if isinstance(run.config, PartsegConfig) else _classify
    with meter(f"evaluating {folder}", len(shapes), "shapes", log_format) as progress:
        report = judge(about, task, run, store, shapes, Paced(progress))
    facts = {
        **about,
        "shapes": report.shapes,
        "data": store.path,
        "plan_sha256": store.attributes["plan_sha256"],
        **report.as_json(),
    }
    if isinstance(report, Report):
        facts["confusion"] = report.confusion.tolist()
    suffix = "" if (split, which) == ("test", "best") else f"-{split}-{which}"
    write_file(folder / f"evaluation{suffix}.json", (json.dumps(facts, indent=1) + "\n").encode())
    for kind, picture in report.pictures().items():
        write_file(folder / f"{kind}{suffix}.png", picture)
    return report


def _classify(
    about: dict[str, Any],
    task: Classifying,
    run: Run,
    store: ViewStore,
    shapes: NDArray[np.int64],
    progress: Paced,
) -> Judged:
    """Each shape's class."""
    stream = evaluation_stream(task, store, shapes, run.config.data.batch_size)
    log_p = predict(task, stream, about["votes"], run.config.seed, progress)
    predicted = log_p.argmax(dim=1).numpy()
    return Report(
        **about, class_names=run.class_names, true=store.labels[shapes], predicted=predicted
    )


def _segment(
    about: dict[str, Any],
    task: Classifying,
    run: Run,
    store: ViewStore,
    shapes: NDArray[np.int64],
    progress: Paced,
) -> Judged:
    """Each point's part."""
    config: Any = run.config
    require_parts(config.parts, store)
    require_labels(config.parts, store, shapes)
    stream = evaluation_stream(task, store, shapes, config.data.batch_size)
    looks = vote(task, stream, about["votes"], config.seed, progress)
    predicted = torch.cat([log_p.argmax(dim=2) for log_p in looks]).numpy()
    points = store.read("points", shapes)[:, : config.data.points]
    true = store.read("part", shapes)[:, : config.data.points].astype(np.int64)
    return PartReport(
        **about,
        parts=config.parts,
        labels=store.labels[shapes],
        true=true,
        predicted=predicted,
        points=points,
    )


def evaluation_stream(
    task: Task,
    store: ViewStore,
    shapes: NDArray[np.int64],
    batch_size: int,
    rank: int = 0,
    ranks: int = 1,
    all_views: bool = True,
    also: tuple[str, ...] = (),
) -> ViewStream:
    """What a task reads, of these shapes in this order, with all views.

    all_views: else with as many as in training, of a shape the same ones each time. rank, ranks:
    this process and their number, which share each batch. also: arrays that the task may not read.
    """
    config = replace(
        task.stream,
        arrays=tuple(dict.fromkeys((*task.stream.arrays, *also))),
        batch_size=batch_size,
        shuffle=False,
        drop_last=False,
        views=0 if all_views else task.stream.views,
        rank=rank,
        ranks=ranks,
    )
    return ViewStream(store, shapes, config)


def predict(
    task: Classifying,
    stream: ViewStream,
    votes: int = 1,
    seed: int = 0,
    progress: Paced | None = None,
) -> Tensor:
    """Log-probabilities of every class, [n, C] on the CPU, in the order of the stream.

    votes: see `evaluate`; seed: of the variations. Leaves the model in evaluation mode.
    """
    return torch.cat(list(vote(task, stream, votes, seed, progress)))


@torch.no_grad()
def vote(
    task: Classifying, stream: ViewStream, votes: int, seed: int, progress: Paced | None
) -> Iterator[Tensor]:
    """The same batch by batch: the logarithm of the votes' mean probability, on the CPU.

    [B, C], or [B, N, P] for each point's parts.
    """
    task.model.eval()
    on = next(task.model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    for batch in stream:
        batch = {name: tensor.to(on, non_blocking=True) for name, tensor in batch.items()}
        looks = [batch] + [task.vary(batch, generator) for _ in range(votes - 1)]
        logits = [task.logits(task.model, look) for look in looks]
        log_p = torch.stack([each.log_softmax(dim=-1) for each in logits])  # [K, B, …]
        yield (log_p.logsumexp(dim=0) - math.log(votes)).cpu()
        if progress:
            progress.advance(len(batch["label"]), now=stream.position == len(stream))


def confusion_matrix(
    true: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Counts [C, C]; rows are the true classes, columns the predicted ones."""
    cells = np.bincount(true * classes + predicted, minlength=classes * classes)
    return cells.reshape(classes, classes)


def _shapes(run: Run, store: ViewStore, split: str) -> NDArray[np.int64]:
    """The shapes of a split: `train` and `val` as the run itself divided them."""
    if split == "test":
        return labelled(store, "test")[0]
    if store.attributes["plan_sha256"] != run.facts["data"]["plan_sha256"]:
        raise StoreError(
            f"what was '{split}' for this run is only known on the store it was trained on",
            where=store.path,
            fix=f"evaluate on {run.facts['data']['path']}, or the test split of this store",
        )
    ours = split_train(store, run.config.data)
    kind, chosen = ("train", ours.train) if split == "train" else ("validation", ours.validation)
    if shapes_digest(store, chosen) != run.facts["split"][kind]:
        raise StoreError(
            f"'{split}' holds other shapes than when this run was trained: more or fewer of the "
            "store are rendered now",
            where=store.path,
            fix="evaluate on the test split",
        )
    return chosen


def _require(kind: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise UsageError(f"no {kind} is called '{name}'", fix=nearest(name, known))
