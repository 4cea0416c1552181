"""The command line: parse, call one function, print. Heavy imports stay inside the commands."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointcmt import __version__
from pointcmt.cli_options import (
    INTERRUPTED,
    SOME_FAILED,
    Gpus,
    Json,
    LogFormat,
    MemoryLimit,
    NumShards,
    Resources,
    RetryFailed,
    Root,
    Scheduler,
    ShardIndex,
    Store,
    Timeout,
    Workers,
    check_log_format,
    cluster,
    needs,
    path_of,
    require_folder,
    resumable,
    share,
)
from pointcmt.cli_training import evaluate, export, train
from pointcmt.cli_verify import verify
from pointcmt.console import duration, say, show, show_text
from pointcmt.errors import PointcmtError, UsageError

if TYPE_CHECKING:
    from pointcmt.datasets.sources import Listing
    from pointcmt.render.job import Job
    from pointcmt.render.run import Options, Summary

app = typer.Typer(
    name="pointcmt",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Multi-view images, exact correspondences and cross-modal training for 3D shapes.",
)


def main() -> None:
    """Run the command line; every PointcmtError becomes its text and exit code."""
    try:
        app()
    except PointcmtError as error:
        print(f"pointcmt: {error.for_command_line()}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print it.")] = False) -> None:
    if version:
        print(f"pointcmt {__version__}")
        raise typer.Exit


@app.command()
def render(
    dataset: Annotated[str, typer.Option(help="Meshes: modelnet10, modelnet40, shapenetcore, folder, toy. Clouds: modelnet40-clouds, shapenetpart, scanobjectnn, clouds (docs/datasets.md).")],
    out: Annotated[str, typer.Option(help="The view store, made or continued: a folder, s3://bucket/path, gs://bucket/path.")],
    root: Root = None,
    rig: Annotated[str, typer.Option(help="circle12, dodeca20, ortho6, mvnet12, simpleview6, fibonacciN, a .toml.")] = "dodeca20",
    size: Annotated[int, typer.Option(help="Pixels, square.")] = 224,
    points: Annotated[int, typer.Option(help="Surface points per shape.")] = 2048,
    layers: Annotated[str, typer.Option(help="Further images: normal,albedo.")] = "",
    split: Annotated[str | None, typer.Option(help="Only train, test or val.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="N shapes, spread evenly.")] = None,
    follow_links: Annotated[bool, typer.Option("--follow-links", help="Also follow links to directories outside of the root.")] = False,
    up: Annotated[str | None, typer.Option(help="The files' up axis: x, y or z (folder, clouds: y).")] = None,
    backend: Annotated[str, typer.Option(help="auto, egl, embree or pyrender.")] = "auto",
    device: Gpus = "auto",
    antialias: Annotated[bool, typer.Option(help="Smooth edges in rgb, never in ids or depth.")] = True,
    background: Annotated[str, typer.Option(help="white, black or #rrggbb.")] = "white",
    light: Annotated[str, typer.Option(help="camera or world.")] = "camera",
    splat: Annotated[float | None, typer.Option(help="Of clouds: a point's radius in pixels; 3 of 224 if absent.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    correspondences: Annotated[bool, typer.Option(help="Which points each view sees.")] = True,
    workers: Workers = 0,
    timeout: Timeout = 600.0,
    memory_limit: MemoryLimit = None,
    scheduler: Scheduler = None,
    resources: Resources = "",
    shard_index: ShardIndex = None,
    num_shards: NumShards = None,
    shard_size: Annotated[int | None, typer.Option(help="Shapes per shard; chosen if absent.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete the store first.")] = False,
    retry_failed: RetryFailed = False,
    moved: Annotated[bool, typer.Option("--moved", help="The data set is in another directory than before.")] = False,
    changed_sources: Annotated[bool, typer.Option("--changed-sources", help="Go on though files have changed since shapes were rendered.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    log_format: LogFormat = "auto",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Render meshes or clouds into a view store; running it again does exactly what is missing."""
    check_log_format(log_format)
    mine = share(shard_index, num_shards, overwrite)
    dask = cluster(scheduler, resources, workers, num_shards)
    from pointcmt.cameras import find_rig
    from pointcmt.datasets.sources import list_shapes, select
    from pointcmt.render.config import RenderConfig, find_color, fit

    if device != "auto" and backend not in ("auto", "egl"):
        raise UsageError(
            f"backend {backend} draws on no device", where="--device", fix="leave it out"
        )
    config = RenderConfig(
        rig=find_rig(rig),
        size=size,
        points=points,
        layers=tuple(sorted(filter(None, layers.split(",")))),
        backend=backend,
        antialias=antialias,
        background=find_color(background),
        light=light,
        seed=seed,
        splat=splat or 0.0,
    )
    listing = select(list_shapes(dataset, root, up, follow_links), split, limit)
    config = fit(config, listing.kind)
    if device != "auto" and listing.kind == "cloud":
        raise UsageError("clouds are drawn on no device", where="--device", fix="leave it out")
    _print_listing(listing, log_format)

    from pointcmt.render.job import Job
    from pointcmt.render.run import Options
    from pointcmt.render.run import render as run

    job = Job(out, listing.name, listing.root, listing.up, config, correspondences)
    job = replace(job, follow_links=follow_links)
    options = Options(
        workers=workers,
        timeout=timeout,
        memory_limit=memory_limit,
        share=mine,
        shard=shard_size,
        overwrite=overwrite,
        retry_failed=retry_failed,
        moved=moved,
        changed_sources=changed_sources,
        device=device,
        log_format=log_format,
        **dask,
    )
    if dry_run:
        _print_plan(listing, job, options)
        return
    with resumable(log_format):
        _print_summary(run(listing, job, options), out, as_json, "rendered")


@app.command("build-correspondences")
def build_correspondences(
    store: Store,
    root: Root = None,
    workers: Workers = 0,
    timeout: Timeout = 600.0,
    memory_limit: MemoryLimit = None,
    scheduler: Scheduler = None,
    resources: Resources = "",
    shard_index: ShardIndex = None,
    num_shards: NumShards = None,
    retry_failed: RetryFailed = False,
    log_format: LogFormat = "auto",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Add to a rendered store which of its points each view sees; resumes."""
    check_log_format(log_format)
    from pointcmt.datasets.store import ViewStore
    from pointcmt.render.job import job_of_store
    from pointcmt.render.run import Options
    from pointcmt.render.run import build_correspondences as run

    opened = ViewStore.open(store)
    options = Options(
        workers=workers,
        timeout=timeout,
        memory_limit=memory_limit,
        share=share(shard_index, num_shards),
        retry_failed=retry_failed,
        log_format=log_format,
        **cluster(scheduler, resources, workers, num_shards),
    )
    with resumable(log_format):
        summary = run(opened, job_of_store(opened, root), options)
        _print_summary(summary, store, as_json, "matched")


@app.command()
def info(store: Store, as_json: Json = False) -> None:
    """What is in a store; exit code 1 where files of it are lost."""
    from pointcmt.datasets.store import ViewStore
    from pointcmt.datasets.summary import describe, summarize

    facts = summarize(store)
    if as_json:
        print(json.dumps(facts))
    else:
        show_text(describe(facts))
    ViewStore.open(store).require_complete()


@app.command()
def preview(
    store: Store,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.", **path_of("--out"))],
    shapes: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    views: Annotated[int, typer.Option(min=1, help="How many of each at most.")] = 10,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are not a preview's, too.")
    ] = False,
) -> None:
    """A contact sheet, points painted on their pixels, and a page that holds both."""
    require_folder(out, "--out")
    from pointcmt.datasets.store import ViewStore
    from pointcmt.render.preview import preview as draw

    for path in draw(ViewStore.open(store), out, shapes, views, overwrite):
        show(str(path))


for _command in (verify, train, evaluate, export):
    app.command()(_command)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where everything goes.", **path_of("--out"))] = Path(
        "demo"
    ),
    log_format: LogFormat = "auto",
) -> None:
    """The whole way on built-in shapes: render, look, train, evaluate; two minutes on a CPU."""
    check_log_format(log_format)
    with needs("all"):
        from pointcmt.demo import run
    with resumable(log_format):
        run(out, log_format)


@app.command()
def doctor(
    folder: Annotated[
        Path, typer.Option(help="Where stores will be written.", **path_of("--folder"))
    ] = Path(),
    as_json: Json = False,
) -> None:
    """Try everything the package stands on; each failure comes with its remedy."""
    from pointcmt.doctor import examine

    findings = examine(folder)
    for finding in findings:
        show_text(f"{finding.state:8}{finding.name:8}{finding.detail}")
        if finding.state != "ok" and finding.remedy:
            show_text(f"{'':16}→ {finding.remedy}")
    if as_json:
        print(json.dumps([vars(finding) for finding in findings]))
    raise typer.Exit(1 if any(f.state == "broken" for f in findings) else 0)


def _print_listing(listing: "Listing", log_format: str) -> None:
    for note in listing.notes:
        say(f"note: {note}", log_format)
    counts = listing.counts()
    official = listing.official or {}
    parts = [
        f"{split} {counts.get(split, 0):,}"
        + (f" of {official[split]:,}" if split in official else "")
        for split in ("train", "test", "val")
        if split in counts or split in official
    ]
    classes = len({shape.class_name for shape in listing.shapes})
    shapes = f"{listing.name}: {len(listing.shapes):,} shapes of {classes} classes"
    say(f"{shapes} ({', '.join(parts)})", log_format)


def _print_plan(listing: "Listing", job: "Job", options: "Options") -> None:
    from pointcmt.render.config import schema_for
    from pointcmt.render.run import require_room

    schema = schema_for(job.config, len(listing.shapes), bool(listing.part_names), options.shard)
    require_room(schema, options)
    views = schema.shapes * schema.views
    show(f"would render {views:,} views of {schema.size}² pixels with rig {job.config.rig.name}")
    show(f"into {job.out}: {schema.shards:,} shards of {schema.shard} shapes")


def _print_summary(summary: "Summary", out: str, as_json: bool, verb: str) -> None:
    """Print what a run did and end with the exit code that fits."""
    for outcome in summary.failures:
        show("failed", outcome.id, str(outcome.reason), outcome.detail)
    rate = summary.views / max(summary.seconds, 1e-9)
    show(
        f"{out}: {summary.done} shapes {verb}, {summary.skipped} skipped, "
        f"{len(summary.failures)} failed, in {duration(summary.seconds)}"
        + (f" ({rate:.0f} views/s)" if summary.views else "")
    )
    if as_json:
        print(json.dumps(summary.as_json()))
    raise typer.Exit(SOME_FAILED if summary.failures else 0)
