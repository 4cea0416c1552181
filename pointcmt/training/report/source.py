"""What a report reads of a run: its facts, metrics, evaluations, cost and pictures."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pointcmt.console import logger
from pointcmt.errors import StoreError, UsageError, printable
from pointcmt.files import MOST_BYTES, parse_json, read_json, read_regular
from pointcmt.training.config.pointcmt import STAGES
from pointcmt.training.runs.cost import FILE as COST
from pointcmt.training.runs.folder import FACTS, Run, open_run
from pointcmt.training.runs.metrics import METRICS, METRICS_MOST, best_of

PICTURES = "*.png"
EVALUATION, PREDICTIONS = "evaluation", "predictions"
# Evaluations of one kind have several of these. The first one is the measure of the run, and of
# each class.
MEASURES = (
    "miou", "overall_accuracy", "mean_class_accuracy", "instance_miou", "class_miou",
    "point_accuracy", "ap25", "ap50", "ar25", "ar50",
)  # fmt: skip
OF_CLASS = ("iou", "miou", "ap25", "accuracy")


@dataclass(frozen=True)
class Source:
    """One run of a report.

    name: short and unique in the report. records: the lines of metrics.jsonl. evaluation: of the
    best checkpoint on the test split, None without. predictions: what it was counted from, None if
    that is too large to read. cost: cost.json. probes: results of probes, by file. pictures: PNG
    files.
    """

    name: str
    run: Run
    records: list[dict[str, Any]]
    evaluation: dict[str, Any] | None
    predictions: dict[str, Any] | None
    cost: dict[str, Any] | None
    probes: dict[str, dict[str, Any]]
    pictures: list[Path]

    @property
    def finished(self) -> bool:
        """Whether all epochs have been trained."""
        return len(self.records) >= self.run.config.epochs

    @property
    def best(self) -> dict[str, Any] | None:
        """The record of the best epoch on validation; None before the first one."""
        return best_of(self.records) if self.records else None

    @property
    def measures(self) -> dict[str, float]:
        """The measures of the evaluation, the most important one first."""
        found = self.evaluation or {}
        return {name: found[name] for name in MEASURES if isinstance(found.get(name), float)}

    @property
    def votes(self) -> int | None:
        """The votes behind `measures`; None if unknown. Of scenes, those with votes are apart."""
        found = self.evaluation or {}
        return 1 if "with_votes" in found else found.get("votes")

    @property
    def per_class(self) -> dict[str, float | None]:
        """The measure of each class: see OF_CLASS."""
        table = (self.evaluation or {}).get("per_class", {})
        return {
            name: next((row[key] for key in OF_CLASS if key in row), None)
            for name, row in table.items()
        }

    @property
    def measure_of_classes(self) -> str:
        """The name of the measure of `per_class`; "" without classes."""
        rows = list((self.evaluation or {}).get("per_class", {}).values())
        return next((key for key in OF_CLASS if rows and key in rows[0]), "")

    def date(self, name: str) -> str:
        """Return when a file of the run was last written (UTC); "" if it does not exist."""
        try:
            seconds = (self.run.folder / name).stat().st_mtime
        except OSError:
            return ""
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def read_sources(paths: Iterable[Path]) -> list[Source]:
    """Read the runs at these paths: runs, whole recipes and studies of seeds.

    Raises StoreError for a folder that is not a run or is damaged, UsageError for one given twice.
    """
    folders = [folder for path in paths for folder in _runs_in(path)]
    twice = [path for path, count in Counter(map(Path.resolve, folders)).items() if count > 1]
    if twice:
        raise UsageError(
            "this run is given twice", where=str(twice[0]), fix="pass each run only once"
        )
    names = _names(folders)
    return [_read(folder, name) for folder, name in zip(folders, names, strict=True)]


def _runs_in(path: Path) -> list[Path]:
    """Return the run at a path, or the runs of a whole recipe or of a study below it."""
    if (path / FACTS).exists() or path.is_file():
        return [path]
    stages = [path / stage for stage in STAGES if (path / stage / FACTS).exists()]
    seeds = sorted(facts.parent for facts in path.glob(f"seed-*/*/{FACTS}"))
    return [*stages, *seeds] or [path]  # `open_run` says what is wrong with it


def _names(folders: list[Path]) -> list[str]:
    """Return the shortest ends of the paths, of one or more parts, that are all different."""
    paths = [folder.resolve() for folder in folders]
    for parts in range(1, max((len(path.parts) for path in paths), default=1) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _read(folder: Path, name: str) -> Source:
    run = open_run(folder)
    probes = {path.stem: _json(path) for path in sorted(folder.glob("few-shot-*.json"))}
    svm = _json(folder / "probe.json")
    found = {key: value for key, value in {"probe": svm, **probes}.items() if value is not None}
    return Source(
        name=name,
        run=run,
        records=_records(folder),
        evaluation=_json(folder / f"{EVALUATION}.json"),
        predictions=_predictions(folder / f"{PREDICTIONS}.json"),
        cost=_json(folder / COST),
        probes=found,
        pictures=sorted(folder.glob(PICTURES)),
    )


def _predictions(path: Path) -> dict[str, Any] | None:
    """Return the predictions; None without a file, or if it is too large to read."""
    try:
        size = path.stat().st_size
    except OSError:
        size = 0  # `_json` says what is wrong with it
    if size > MOST_BYTES:
        logger.warning(
            f"note: {printable(str(path))} has {size / 1e6:.0f} MB, more than a report reads: the "
            "differences of this run have no intervals"
        )
        return None
    return _json(path)


def _json(path: Path) -> dict[str, Any] | None:
    """Return a table in JSON; None without a file. Raises StoreError if it is damaged."""
    try:
        found = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(
            f"this file of the run is damaged: {error}",
            where=str(path),
            fix="run the command again that wrote it, such as `pointcmt evaluate`",
        ) from None
    if not isinstance(found, dict):
        raise StoreError("this file of the run is damaged: it is not a table", where=str(path))
    return found


def _records(folder: Path) -> list[dict[str, Any]]:
    """Return the finished epochs; a killed process may leave half a line, which is ignored."""
    try:
        lines = read_regular(folder / METRICS, METRICS_MOST).splitlines()
    except OSError:
        return []
    records: list[dict[str, Any]] = []
    for line in lines:
        try:
            record = parse_json(line)
        except ValueError:
            break
        if not isinstance(record, dict) or record.get("epoch") != len(records) + 1:
            break
        records.append(record)
    return records
