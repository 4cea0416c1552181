"""Probe a frozen network's features with a linear SVM, on all labels or on a few.

Linear SVM: on the standardized features of all train shapes. C is chosen by the accuracy on a
validation split of them, or on the store's own, then all of train is used. Few-shot: `ways`
classes, `shots` train shapes of each to learn from, 20 test shapes of each to recognize, ten times.
Classes and shapes follow from the store alone, so that networks can be compared episode by episode.
The protocol is CrossPoint's (Afham et al., CVPR 2022, arXiv 2203.00680): a linear SVM with C = 1 on
frozen features, standardized by the support set. There the queries are train shapes, too.
(Point-BERT and later papers fine-tune instead.)

The reference for both is the same network with random weights, see `frozen`, which also says which
feature is probed.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointcmt.console import logger
from pointcmt.datasets.store.schema import SCENES
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import StoreError, UsageError
from pointcmt.training.evaluation.classification import Report
from pointcmt.training.evaluation.frozen import RANDOM, TRAINED, Frozen, freeze
from pointcmt.training.ops.statistics import Difference, paired_difference, spread
from pointcmt.training.runs.checkpoint import write_file
from pointcmt.training.runs.facts import store_notes
from pointcmt.training.runs.folder import find_checkpoint
from pointcmt.training.runs.locate import find_run
from pointcmt.training.runs.pretrained import open_network
from pointcmt.training.runs.splits import (
    Split,
    labeled,
    of_learned_classes,
    split_train,
    unlearned_classes,
)

HELD_OUT = 0.1  # share of train that selects C, of runs that held out nothing
COSTS = (0.001, 0.01, 0.1, 1.0, 10.0)  # C of the SVM; of equally good ones the smallest
EPISODES, QUERIES = 10, 20  # few-shot: repetitions, and the usual query shapes of each class


class Episode(NamedTuple):
    """A few-shot task: classes, train shapes and test shapes of each."""

    ways: int
    shots: int
    queries: int = QUERIES

    @property
    def name(self) -> str:
        """Such as 5w10s, or 5w10s8q with other than the usual 20 queries."""
        return f"{self.ways}w{self.shots}s" + f"{self.queries}q" * (self.queries != QUERIES)


@dataclass(frozen=True)
class Probe:
    """Results of a linear SVM on each network's features.

    costs: the C of each. gain: trained minus random.
    """

    frozen: Frozen
    train: int
    reports: dict[str, Report]
    costs: dict[str, float]
    gain: Difference

    def as_json(self) -> dict[str, Any]:
        """Return the content of probe.json."""
        results = {n: {"C": self.costs[n], **r.numbers()} for n, r in self.reports.items()}
        counts = {"train": self.train, "test": self.reports[TRAINED].shapes}
        about = {"probe": "svm", **self.frozen.about(), **counts}
        return {**about, **results, "trained_minus_random": asdict(self.gain)}

    def describe(self) -> str:
        """Return the numbers as text."""
        tested = self.reports[TRAINED].shapes
        lines = [
            f"linear SVM on frozen features: {self.frozen.title()}",
            f"  {self.train:,} train and {tested:,} test shapes",
        ]
        for name, report in self.reports.items():
            low, high = report.interval
            lines.append(
                f"  {name:<8} overall {report.overall_accuracy:7.2%} ({low:.2%} … {high:.2%})   "
                f"mean class {report.mean_class_accuracy:7.2%}   C = {self.costs[name]:g}"
            )
        return "\n".join([*lines, f"  {TRAINED} - {RANDOM}: {_points(self.gain)}"])


@dataclass(frozen=True)
class FewShot:
    """Accuracies of each network in the same episodes. gain: trained minus random."""

    frozen: Frozen
    episode: Episode
    accuracies: dict[str, list[float]]
    gain: Difference

    @property
    def name(self) -> str:
        """The name of the task, such as 5w10s."""
        return self.episode.name

    def as_json(self) -> dict[str, Any]:
        """Return the content of few-shot-5w10s.json."""
        results = {n: {"accuracies": v, "mean_std": spread(v)} for n, v in self.accuracies.items()}
        numbers = {**self.episode._asdict(), "runs": EPISODES}
        about = {"few_shot": self.name, **self.frozen.about(), **numbers}
        return {**about, **results, "trained_minus_random": asdict(self.gain)}

    def describe(self) -> str:
        """Return the numbers as text."""
        lines = [
            f"{self.episode.ways}-way {self.episode.shots}-shot, linear SVM on frozen features: "
            f"{self.frozen.title()}",
            f"  {EPISODES} runs, {self.episode.queries} test shapes of each class, mean ± std",
        ]
        for name, values in self.accuracies.items():
            lines.append("  {:<8} {:7.2%} ± {:6.2%}".format(name, *spread(values)))
        return "\n".join([*lines, f"  {TRAINED} - {RANDOM}: {_points(self.gain)}"])


def probe(
    folder: Path,
    store: StoreReader,
    svm: bool = True,
    episodes: Sequence[tuple[int, ...]] = (),
    which: str = "best",
    device: str = "auto",
) -> list[Probe | FewShot]:
    """Probe a run's network; write probe.json and few-shot-5w10s.json into the run's folder.

    svm: probe with all labels. episodes: (ways, shots) of few-shot probes, or (ways, shots,
    queries). which: the checkpoint, as in `evaluate`; the names of the files say so unless it is
    the best one. The store may hold other classes than the run was trained on, as after
    pre-training.

    Raises UsageError for a store of scenes, a run without a point network, and more ways or shots
    than the store has; StoreError for a run without a checkpoint or a store whose train or test
    split has no labels.
    """
    for member in store.members:
        member.require_objects("`evaluate --probe`")
    folder = find_run(folder)
    name = find_checkpoint(folder, which)
    network = open_network(folder, name)
    if network.config.reads == SCENES:
        raise UsageError(
            "this run's network takes scenes in meters, and probes are of shapes",
            where=str(folder),
            fix="train `semseg` with --init on it, or probe a run that was trained on shapes",
        )
    train, test = (labeled(store, split)[0] for split in ("train", "test"))
    test, left_out = of_learned_classes(store, test, unlearned_classes(store, train), "test")
    if not len(test):
        raise StoreError(
            "no test shape has a class with train shapes",
            where=store.path,
            fix="render shapes of the same classes in both splits",
        )
    tasks = [Episode(*episode) for episode in episodes]
    for task in tasks:
        _eligible(store, train, test, task)  # before minutes of work
    shapes, split = [train, test], None
    if svm:  # with all labels, even if the run was trained on a fraction of them
        data = network.config.data
        held_out = {"fraction": 1.0, "validation": data.validation or HELD_OUT}
        split = split_train(store, data.model_copy(update=held_out))
        shapes.append(split.validation)
    needed = np.unique(np.concatenate(shapes))
    for note in (*store_notes(network.run.facts["data"], store), *left_out):
        logger.warning(f"note: {note}")
    frozen = freeze(network, store, needed, which, device)
    results: list[Probe | FewShot] = [_svm(frozen, split, train, test)] if split else []
    results += [_few_shot(frozen, train, test, task) for task in tasks]
    suffix = "" if which == "best" else f"-{which}"
    for result in results:
        file = "probe" if isinstance(result, Probe) else f"few-shot-{result.name}"
        text = json.dumps(result.as_json(), indent=1) + "\n"
        write_file(folder / f"{file}{suffix}.json", text.encode())
    return results


def parse_episodes(text: str) -> tuple[Episode, ...]:
    """Parse `5w10s`, or `5w10s8q` with 8 queries, or several: `5w10s,10w20s`. Raises UsageError."""
    matches = [re.fullmatch(r"(\d+)w(\d+)s(?:(\d+)q)?", part.strip()) for part in text.split(",")]
    episodes = tuple(Episode(int(m[1]), int(m[2]), int(m[3] or QUERIES)) for m in matches if m)
    if len(episodes) < len(matches) or any(e.ways < 2 or not e.shots * e.queries for e in episodes):
        raise UsageError(
            f"'{text}' is not a few-shot task",
            where="--few-shot",
            fix="use the form 5w10s: 5 classes (at least 2) with 10 shapes each to train on and 20 "
            "to test on; 5w10s8q: with 8 to test on; several: 5w10s,5w20s,10w10s,10w20s",
        )
    return episodes


def _svm(frozen: Frozen, split: Split, train: NDArray[np.int64], test: NDArray[np.int64]) -> Probe:
    """Fit an SVM to each network's features; C is chosen on the validation split."""
    store = frozen.store
    reports, costs = {}, {}
    for name, features in frozen.features.items():
        costs[name] = _best_cost(features, store.labels, split)
        machine = _fit(features, store.labels, train, costs[name])
        predicted = machine.predict(features[test].astype(np.float64))
        about = ("svm", "test", frozen.which, frozen.network.epoch, 1, store.class_names)
        reports[name] = Report(*about, store.labels[test], predicted)
    trained, random = (reports[name].scores[None] for name in (TRAINED, RANDOM))
    return Probe(frozen, len(train), reports, costs, paired_difference(trained, random))


def _few_shot(
    frozen: Frozen, train: NDArray[np.int64], test: NDArray[np.int64], task: Episode
) -> FewShot:
    """Run the same episodes for each network."""
    store, (ways, shots, queries_of_class) = frozen.store, task
    labels, classes = store.labels, _eligible(store, train, test, task)
    accuracies: dict[str, list[float]] = {name: [] for name in frozen.features}
    for episode in range(EPISODES):
        rng = np.random.default_rng([ways, shots, episode])
        chosen = rng.choice(classes, ways, replace=False)
        support, queries = (
            np.concatenate(
                [rng.choice(shapes[labels[shapes] == c], n, replace=False) for c in chosen]
            )
            for shapes, n in ((train, shots), (test, queries_of_class))
        )
        for name, features in frozen.features.items():
            accuracies[name].append(_accuracy(features, labels, support, queries, 1.0))
    trained, random = (np.array(accuracies[name])[:, None] for name in (TRAINED, RANDOM))
    return FewShot(frozen, task, accuracies, paired_difference(trained, random))


def possible_episodes(
    store: StoreReader, tasks: Sequence[Episode]
) -> tuple[list[Episode], list[UsageError]]:
    """Return the tasks that a store has enough shapes for, and what is wrong with the others."""
    train, test = (labeled(store, split)[0] for split in ("train", "test"))
    possible, errors = [], []
    for task in tasks:
        try:
            _eligible(store, train, test, task)
            possible.append(task)
        except UsageError as error:
            errors.append(error)
    return possible, errors


def _eligible(
    store: StoreReader, train: NDArray[np.int64], test: NDArray[np.int64], task: Episode
) -> NDArray[np.int64]:
    """Return the classes with enough shapes to draw from. Raises UsageError if they are too few."""
    C, (ways, shots, least) = len(store.class_names), task
    supports, queries = (np.bincount(store.labels[shapes], minlength=C) for shapes in (train, test))
    classes = np.flatnonzero((supports >= shots) & (queries >= least))
    if len(classes) < ways:
        raise UsageError(
            f"{ways}-way {shots}-shot needs {ways} classes with {shots} train and {least} test "
            f"shapes each; only {len(classes)} of the store's {C} have that many",
            where=f"--few-shot {task.name}",
            fix="use fewer ways or shots, fewer test shapes "
            f"({ways}w{shots}s{max(1, least // 2)}q), or render more shapes of each class",
        )
    return classes


def _best_cost(features: NDArray[np.float32], labels: NDArray[np.int64], split: Split) -> float:
    """Return the C whose SVM, fit to the train shapes, is best on the validation shapes."""
    tried = [_accuracy(features, labels, split.train, split.validation, C) for C in COSTS]
    return COSTS[tried.index(max(tried))]


def _fit(
    features: NDArray[np.float32], labels: NDArray[np.int64], shapes: NDArray[np.int64], C: float
) -> Any:
    """Fit a linear SVM to the standardized features of these shapes."""
    from sklearn.pipeline import make_pipeline  # takes a second to import
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    machine = make_pipeline(StandardScaler(), SVC(C=C, kernel="linear"))
    return machine.fit(features[shapes].astype(np.float64), labels[shapes])


def _accuracy(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    support: NDArray[np.int64],
    queries: NDArray[np.int64],
    C: float,
) -> float:
    """Return the accuracy on the queries of an SVM that is fit to the support."""
    machine = _fit(features, labels, support, C)
    predicted = machine.predict(features[queries].astype(np.float64))
    return float(np.mean(predicted == labels[queries]))


def _points(d: Difference) -> str:
    """Return a difference of accuracies in points, as text."""
    low, high = 100 * d.low, 100 * d.high
    return f"{100 * d.mean:+.2f} points, 95 % interval {low:+.2f} … {high:+.2f}"
