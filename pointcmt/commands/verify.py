"""`pointcmt verify`: check a store, compare its sources, repair it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from pointcmt.commands.options import (
    SOME_FAILED,
    Gpus,
    Json,
    LogFormat,
    MemoryLimit,
    Root,
    Store,
    Timeout,
    Trust,
    Workers,
    allow,
    resumable,
    start_logging,
)
from pointcmt.console import logger, meter, show
from pointcmt.errors import DamageError, UsageError

if TYPE_CHECKING:
    from pointcmt.datasets.store.verify import Verdict
    from pointcmt.render.jobs.run import Options


def verify(
    store: Store,
    repair: Annotated[bool, typer.Option("--repair", help="Render broken shards again and delete leftover files.")] = False,
    sources: Annotated[bool, typer.Option("--sources", help="Also compare the dataset's files with those that were rendered.")] = False,
    root: Root = None,
    workers: Workers = 0,
    timeout: Timeout = 600.0,
    memory_limit: MemoryLimit = None,
    device: Gpus = "auto",
    trust: Trust = None,
    log_format: LogFormat = "auto",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Check every checksum, count, camera and point of a store; exit with 1 if any is broken."""
    start_logging(log_format)
    allow(trust)
    from pointcmt.render.jobs.run import Options

    options = Options(workers, timeout, memory_limit, device=device)
    if repair and sources:
        raise UsageError(
            "--repair already compares the sources of what it renders again",
            where="--sources",
            fix="leave it out, or run `pointcmt verify --sources` afterward",
        )
    if repair:
        _repair(store, root, options, as_json)
    if (root and not sources) or options != Options():
        raise UsageError(
            "--workers, --timeout, --memory-limit and --device need --repair; --root needs --repair "
            "or --sources",
            where="verify",
            fix="add --repair or --sources, or leave them out",
        )
    verdict = _verdict(store)
    if sources:
        verdict = _with_sources(verdict, store, root)
    _print_verdict(verdict)
    if as_json:
        print(json.dumps(verdict.as_json()))
    raise typer.Exit(0 if verdict.ok else 1)


def _verdict(store: str) -> "Verdict":
    """Check the store."""
    from pointcmt.datasets.store.verify import verify as check
    from pointcmt.datasets.store.view_store import ViewStore

    try:
        total = ViewStore.open(store).schema.shapes
    except DamageError:
        total = 0  # the verdict will explain it
    with meter("verifying", total, "shapes") as progress:
        return check(store, progress.advance)


def _with_sources(verdict: "Verdict", path: str, root: Path | None) -> "Verdict":
    """Add the findings in the dataset's files to the verdict, for `verify --sources`."""
    from pointcmt.datasets.store.view_store import ViewStore
    from pointcmt.render.jobs.job import job_of_store
    from pointcmt.render.jobs.origins import changed_sources

    try:
        store = ViewStore.open(path)
        job = job_of_store(store, root)
    except DamageError:  # it is in the verdict already
        return verdict
    if job.root is None:
        logger.info("built-in shapes: there are no source files to compare")
    with meter("comparing sources", store.schema.shapes, "shapes") as progress:
        broken, compared = changed_sources(store, job, progress.advance)
    checked = verdict.checked + compared
    return replace(verdict, checked=checked, broken=(*verdict.broken, *broken))


def _repair(store: str, root: Path | None, options: "Options", as_json: bool) -> NoReturn:
    """Render broken shards again and delete leftovers, for `verify --repair`."""
    from pointcmt.render.jobs.repair import repair

    with resumable():
        done = repair(store, root, options)
    for broken in done.repaired:
        show("repaired", broken.where, broken.what)
    for name in done.deleted:
        show("deleted", name)
    for name in done.foreign:
        show("not part of this store, left unchanged", name)
    for outcome in done.lost:
        show("failed", outcome.id, str(outcome.reason), outcome.detail)
    for note in done.notes:
        show("note", note)
    _print_verdict(done.verdict)
    if as_json:
        print(json.dumps(done.as_json()))
    raise typer.Exit(1 if not done.verdict.ok else SOME_FAILED if done.lost or done.changed else 0)


def _print_verdict(verdict: "Verdict") -> None:
    for broken in verdict.broken:
        show("broken", broken.where, broken.what)
    if verdict.ok:
        print(f"ok: {verdict.checked} files and shapes checked, {verdict.pending} shapes pending")
