"""Run a study: its jobs, and the tables and figures of what is finished."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pointcmt.console import logger
from pointcmt.datasets.joint import open_stores
from pointcmt.datasets.page_folder import write_files
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import StoreError, UsageError
from pointcmt.files import read_json
from pointcmt.training.config.study import StudyConfig
from pointcmt.training.evaluation.classes import require_testable
from pointcmt.training.evaluation.probe import parse_episodes, possible_episodes
from pointcmt.training.report.figures import figure_files
from pointcmt.training.report.tables import Table
from pointcmt.training.runs.checkpoint import write_file
from pointcmt.training.runs.facts import describe_store
from pointcmt.training.studies.figures import figures_of
from pointcmt.training.studies.plan import Job, plan_jobs
from pointcmt.training.studies.schedule import perform_all
from pointcmt.training.studies.scores import cells_of, random_row, read_finished
from pointcmt.training.studies.tables import tables_of
from pointcmt.training.studies.work import job_config, perform

REPORT = "report"
PAGE = "RESULTS.md"
DATA = "data.json"  # which stores the results are of


def run_study(
    study: StudyConfig,
    data: tuple[str, ...],
    out: Path,
    unlabeled: tuple[str, ...] = (),
    only: Mapping[str, tuple[str, ...]] | None = None,
    workers: int = 1,
    device: str = "auto",
) -> list[Path]:
    """Train and compare the runs of a study; return the files of OUT/report. Resumes.

    data: stores, with labels in train and test. unlabeled: further stores for the runs that read
    such; without any, these runs are left out. only: see `plan_jobs`. workers: see `perform_all`.
    Raises StoreError for a folder with results of other stores, and like `train`, `evaluate` and
    `probe`.
    """
    jobs = plan_jobs(study, only or {})
    jobs = [job for job in jobs if unlabeled or not _reads_unlabeled(job, jobs)]
    if not jobs:
        raise UsageError(
            "no run of the study is left: those that were named learn from unlabeled stores",
            fix="pass such a store, or name other rows",
        )
    _require_validation(jobs, out)
    store = open_stores([*data])
    for job in jobs:  # before hours of work
        if not job.candidates:  # whose settings are not known yet, but those of the candidates
            config = job_config(job, out)
            if config.classifies and job.run.test:
                require_testable(store, config)
    for text in dict.fromkeys(job.run.few_shot for job in jobs if job.run.few_shot):
        for error in possible_episodes(store, parse_episodes(text))[1]:
            logger.warning(f"study: left out: {error.what}")
    _require_same_stores(out, store, unlabeled)
    work = partial(perform, out=out, data=data, unlabeled=unlabeled, device=device)
    perform_all(jobs, work, workers)
    return write_results(study, jobs, out)


def write_results(study: StudyConfig, jobs: list[Job], out: Path) -> list[Path]:
    """Write the tables and figures of the jobs that are finished into OUT/report."""
    finished = read_finished(jobs, out)
    tables = tables_of(study, jobs, out)
    figures = figures_of(finished, cells_of(finished, random_row(study)))
    files: dict[str, bytes] = {}
    for table in tables:
        files |= table.files()
    for name, figure in figures.items():
        files |= figure_files(name, figure)
    page = f"# {study.about}\n\n" + "\n".join(map(_section, tables))
    page += "".join(f"\n![{name}]({name}.svg)\n" for name in figures)
    return write_files(out / REPORT, {PAGE: page.encode(), **files})


def _require_validation(jobs: list[Job], out: Path) -> None:
    """Raise UsageError for a search whose candidates hold no shapes out for validation."""
    candidates = {key for job in jobs for keys in job.candidates for key in keys}
    for job in jobs:
        if job.key in candidates and not job_config(job, out).data.validation:
            raise UsageError(
                "a search chooses settings on validation shapes, but data.validation is 0",
                where=job.key,
                fix="set data.validation of this recipe above 0, or leave out the search",
            )


def _require_same_stores(out: Path, store: StoreReader, unlabeled: tuple[str, ...]) -> None:
    """Raise StoreError if the results in a folder are of other stores; note which they are of."""
    asked = {"data": _identity(store)}
    if unlabeled:
        asked["unlabeled"] = _identity(open_stores([*unlabeled]))
    path = out / DATA
    stored: dict[str, Any] = {}
    if path.exists():
        try:
            stored = read_json(path)
        except (OSError, ValueError) as error:
            raise StoreError(f"this file is damaged: {error}", where=str(path)) from None
    for name, identity in asked.items():
        if stored.get(name, identity) != identity:
            raise StoreError(
                f"the results in this folder are of other stores (--{name}), or of these before "
                "they grew",
                where=str(out),
                fix="choose another --out, or pass the same stores",
            )
    out.mkdir(parents=True, exist_ok=True)
    write_file(path, (json.dumps(stored | asked, indent=1) + "\n").encode())


def _identity(store: StoreReader) -> dict[str, Any]:
    described = describe_store(store)
    return {key: described[key] for key in ("dataset", "plan_sha256", "render_hash")}


def _section(table: Table) -> str:
    return f"## {table.title}\n\n{table.as_markdown()}\n{table.note}\n"


def _reads_unlabeled(job: Job, jobs: list[Job]) -> bool:
    """Return whether a job, or one that it starts from, reads unlabeled stores."""
    by_key = {each.key: each for each in jobs}
    return job.run.unlabeled or any(_reads_unlabeled(by_key[key], jobs) for key in job.needs)
