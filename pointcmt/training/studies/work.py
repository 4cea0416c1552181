"""One job of a study: train its run, measure it, and keep the numbers in one file.

The file OUT/results/KEY.json has all that tables and figures need, so that they can be made without
the runs. A job whose file has the same settings is finished.
"""

import json
import math
from pathlib import Path
from typing import Any

from pointcmt.datasets.joint import open_stores
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import PointcmtError, StoreError
from pointcmt.files import read_json
from pointcmt.training.config.files import nest, resolve_table
from pointcmt.training.config.sections import TrainConfig
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.evaluation.probe import FewShot, parse_episodes, possible_episodes, probe
from pointcmt.training.loop import train
from pointcmt.training.runs.checkpoint import write_file
from pointcmt.training.runs.metrics import best_of, read_metrics, score_name
from pointcmt.training.studies.plan import Job

RUNS, RESULTS = "runs", "results"
SVM = "svm"


def perform(
    job: Job, out: Path, data: tuple[str, ...], unlabeled: tuple[str, ...], device: str
) -> None:
    """Train and measure a run; write its results. A job that is finished takes no time.

    data: the study's stores. unlabeled: those that some runs read besides. Raises like `train`,
    `evaluate` and `probe`, with the job's key in the error.
    """
    try:
        config = job_config(job, out)
        settings = {**config.model_dump(mode="json"), **job.links}  # no paths: OUT may move
        stored = read_results(job.key, out)
        if stored is not None and stored["config"] == settings:
            return
        store = open_stores(list(data))
        read = open_stores([*data, *unlabeled]) if job.run.unlabeled else store
        folder = out / RUNS / job.key
        train(read, config, folder, device)
        results = {"config": settings, **_curve(folder, config)}
        if not job.searching:
            results |= measure(job, folder, config, store, device)
    except PointcmtError as error:
        error.where = ": ".join(filter(None, (job.key, error.where)))
        raise
    path = results_path(job.key, out)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, (json.dumps(results) + "\n").encode())


def measure(
    job: Job, folder: Path, config: TrainConfig, store: StoreReader, device: str
) -> dict[str, Any]:
    """Return the results of a finished run on the test split: "test", and "probes" by name.

    "test": measures, ids, and true and predicted classes. A probe: of the "trained" network and of
    the same one with "random" weights, measures and scores.
    """
    found: dict[str, Any] = {}
    if config.classifies and job.run.test:
        report = evaluate(folder, store, "test", device=device)
        found["test"] = {"measures": report.measures, "ids": list(report.ids), **report.of_each()}
    if job.run.svm or job.run.few_shot:
        asked = parse_episodes(job.run.few_shot) if job.run.few_shot else ()
        episodes, _ = possible_episodes(store, asked)
        found["probes"] = {}
        for each in probe(folder, store, job.run.svm, episodes, device=device):
            if isinstance(each, FewShot):
                found["probes"][each.name] = {
                    name: {"measures": {"accuracy": sum(v) / len(v)}, "scores": v}
                    for name, v in each.accuracies.items()
                }
            else:
                found["probes"][SVM] = {
                    name: {"measures": r.measures, "scores": r.scores.tolist()}
                    for name, r in each.reports.items()
                }
    return found


def job_config(job: Job, out: Path) -> TrainConfig:
    """Return the configuration of a job's run. What it starts from has to be finished."""
    settings = {**job.settings, "seed": job.seed}
    if job.candidates:
        settings |= job.run.search[best_candidate(job, out)]
    settings |= {link: str(out / RUNS / key) for link, key in job.links.items()}
    config = resolve_table(job.run.recipe, nest(settings, job.key), job.key)
    return config.model_copy(update={"epochs": max(1, round(config.epochs * job.times))})


def best_candidate(job: Job, out: Path) -> int:
    """Return the number of the candidate with the best mean score on validation; ties: the first.

    The search reads nothing else: its runs are not evaluated on the test split.
    """
    scores = []
    for keys in job.candidates:
        found = [read_results(key, out) for key in keys]
        values = [each["validation"] for each in found if each and each["validation"] is not None]
        scores.append(sum(values) / len(values) if values else -math.inf)
    return scores.index(max(scores))


def results_path(key: str, out: Path) -> Path:
    """Return the file of a job's results."""
    return out / RESULTS / f"{key}.json"


def read_results(key: str, out: Path) -> dict[str, Any] | None:
    """Return a job's results; None if it is not finished.

    Raises StoreError for a damaged file.
    """
    path = results_path(key, out)
    try:
        found: dict[str, Any] = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(
            f"these results are damaged: {error}", where=str(path), fix="delete the file"
        ) from None
    return found


def _curve(folder: Path, config: TrainConfig) -> dict[str, Any]:
    """Return the score of each epoch, that of the best one, seconds, and gradients if logged."""
    records = read_metrics(folder, config.epochs)
    best = best_of(records)
    key = score_name(best)
    names = [name for name in records[0] if name.endswith(("_cosine", "_ratio"))]
    validation = best.get(key)
    lower_is_better = key == "val_loss"
    return {
        "validation": -validation if lower_is_better and validation is not None else validation,
        "curve": {"name": key, "values": [record.get(key) for record in records]},
        "seconds": sum(record["seconds"] for record in records),
        "gradients": {name: [record.get(name) for record in records] for name in names},
    }
