"""The command line: parse, call one function, print. Heavy imports stay inside the commands."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointcmt import __version__
from pointcmt.console import LOG_FORMATS, SILENT, duration, meter, say
from pointcmt.errors import DependencyError, PointcmtError, UsageError, nearest

if TYPE_CHECKING:
    from pointcmt.datasets.sources import Listing
    from pointcmt.render.job import Job
    from pointcmt.render.run import Summary

SOME_FAILED, INTERRUPTED = 3, 130
RUN_FORMATS, STORE_FORMATS = ("safetensors", "onnx"), ("png", "webdataset")

app = typer.Typer(
    name="pointcmt",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Multi-view images, exact correspondences and cross-modal training for 3D shapes.",
)

Store = Annotated[Path, typer.Argument(help="A view store.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
LogFormat = Annotated[str, typer.Option(help="auto (a bar on a terminal), plain or json.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes; 0 = one per core.")]
Timeout = Annotated[float, typer.Option(min=1, help="Seconds one shape may take.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Root = Annotated[Path | None, typer.Option(help="Where the data set is.", show_default=False)]


def main() -> None:
    """Run the command line; every PointcmtError becomes its text and exit code."""
    try:
        app()
    except PointcmtError as error:
        print(f"pointcmt: {error}", file=sys.stderr)
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
    dataset: Annotated[str, typer.Option(help="modelnet10, modelnet40, shapenetcore, folder, toy.")],
    out: Annotated[Path, typer.Option(help="The view store: made, or continued.")],
    root: Root = None,
    rig: Annotated[str, typer.Option(help="circle12, dodeca20, ortho6, mvnet12, fibonacciN, a .toml.")] = "dodeca20",
    size: Annotated[int, typer.Option(help="Pixels, square.")] = 224,
    points: Annotated[int, typer.Option(help="Surface points per shape.")] = 2048,
    layers: Annotated[str, typer.Option(help="Further images: normal,albedo.")] = "",
    split: Annotated[str | None, typer.Option(help="Only train, test or val.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="N shapes, spread evenly.")] = None,
    up: Annotated[str | None, typer.Option(help="The meshes' up axis: x, y or z (folder: y).")] = None,
    backend: Annotated[str, typer.Option(help="auto, egl, embree or pyrender.")] = "auto",
    device: Annotated[str, typer.Option(help="GPUs to draw on, shared by the workers: auto, or numbers (0,2); see doctor.")] = "auto",
    antialias: Annotated[bool, typer.Option(help="Smooth edges in rgb, never in ids or depth.")] = True,
    background: Annotated[str, typer.Option(help="white, black or #rrggbb.")] = "white",
    light: Annotated[str, typer.Option(help="camera or world.")] = "camera",
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    correspondences: Annotated[bool, typer.Option(help="Which points each view sees.")] = True,
    workers: Workers = 0,
    timeout: Timeout = 600.0,
    shard_size: Annotated[int | None, typer.Option(help="Shapes per shard; chosen if absent.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete the store first.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try failed shapes again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    log_format: LogFormat = "auto",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Render meshes into a view store; running it again does exactly what is missing."""
    _check_log_format(log_format)
    from pointcmt.cameras import find_rig
    from pointcmt.datasets.sources import list_shapes, select
    from pointcmt.render.config import RenderConfig

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
        background=_color(background),
        light=light,
        seed=seed,
    )
    listing = select(list_shapes(dataset, root, up), split, limit)
    _print_listing(listing, log_format)

    from pointcmt.render.job import Job
    from pointcmt.render.run import Options
    from pointcmt.render.run import render as run

    job = Job(str(out), listing.name, listing.root, listing.up, config, correspondences)
    if dry_run:
        _print_plan(listing, job, shard_size)
        return
    options = Options(workers, timeout, shard_size, overwrite, retry_failed, device, log_format)
    with _resumable(log_format):
        _print_summary(run(listing, job, options), out, as_json, "rendered")


@app.command("build-correspondences")
def build_correspondences(
    store: Store,
    root: Root = None,
    workers: Workers = 0,
    timeout: Timeout = 600.0,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try failed shapes again.")] = False,
    log_format: LogFormat = "auto",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Add to a rendered store which of its points each view sees; resumes."""
    _check_log_format(log_format)
    from pointcmt.datasets.store import ViewStore
    from pointcmt.render.job import job_of_store
    from pointcmt.render.run import Options
    from pointcmt.render.run import build_correspondences as run

    opened = ViewStore.open(store)
    options = Options(workers, timeout, retry_failed=retry_failed, log_format=log_format)
    with _resumable(log_format):
        summary = run(opened, job_of_store(opened, root), options)
        _print_summary(summary, store, as_json, "matched")


@app.command()
def info(store: Store, as_json: Json = False) -> None:
    """What is in a store."""
    from pointcmt.datasets.summary import describe, summarize

    facts = summarize(store)
    if as_json:
        print(json.dumps(facts))
    else:
        print(describe(facts))


@app.command()
def verify(store: Store, log_format: LogFormat = "auto", as_json: Json = False) -> None:
    """Check every checksum, count, camera and point of a store; exit code 1 names what is broken."""
    _check_log_format(log_format)
    from pointcmt.datasets.store import ViewStore
    from pointcmt.datasets.verify import verify as check

    try:
        total = ViewStore.open(store).schema.shapes
    except PointcmtError:
        total = 0  # the verdict will say why
    with meter("verifying", total, "shapes", log_format) as progress:
        verdict = check(str(store), progress.advance)
    for broken in verdict.broken:
        print(f"broken: {broken.where}: {broken.what}")
    if verdict.ok:
        print(f"ok: {verdict.checked} files and shapes checked, {verdict.pending} shapes pending")
    if as_json:
        print(json.dumps(verdict.as_json()))
    raise typer.Exit(0 if verdict.ok else 1)


@app.command()
def preview(
    store: Store,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")],
    shapes: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    views: Annotated[int, typer.Option(min=1, help="How many of each at most.")] = 10,
) -> None:
    """A contact sheet, points painted on their pixels, and a page that holds both."""
    from pointcmt.datasets.store import ViewStore
    from pointcmt.render.preview import preview as draw

    for path in draw(ViewStore.open(store), out, shapes, views):
        print(path)


@app.command()
def train(
    data: Annotated[Path, typer.Option(help="The view store to train on.")],
    out: Annotated[Path, typer.Option(help="The run's folder: made, or continued.")],
    recipe: Annotated[str, typer.Argument(help="pointcmt (teacher, cmpg, student, one after the other) or one of these three.")] = "pointcmt",
    config: Annotated[Path | None, typer.Option(help="A YAML file; see configs/.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="One knob: optimizer.clip_norm=1.0")] = None,
    init: Annotated[Path | None, typer.Option(help="A run, or a published checkpoint, to start from.")] = None,
    teacher: Annotated[Path | None, typer.Option(help="cmpg, student: the teacher's run.")] = None,
    generator: Annotated[Path | None, typer.Option(help="student: the generator's run.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Overrides the configuration.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of everything random.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Several, as 0,1,2: mean ± std, and paired differences.")] = None,
    compile_: Annotated[bool | None, typer.Option("--compile", help="Use torch.compile.")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16.")] = None,
    device: Device = "auto",
    log_format: LogFormat = "auto",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Train networks from a view store; running it again goes on where it stopped."""
    _check_log_format(log_format)
    from pointcmt.training.config import PIPELINE
    from pointcmt.training.config_files import load_config, load_pipeline

    runs = {"init": init, "teacher": teacher, "generator": generator}
    flags = {
        **{key: str(path) for key, path in runs.items() if path},
        "epochs": epochs,
        "seed": seed,
        "loop.compile": compile_,
        "loop.precision": precision,
    }
    chosen = _seeds(seeds, seed)
    whole = recipe == PIPELINE
    if whole and any(runs.values()):
        raise UsageError(
            "the recipe pointcmt trains its teacher and generator itself",
            where="--init, --teacher, --generator",
            fix="name the recipe they are for: `pointcmt train student …`; or, for one stage, --set "
            "student.init=RUN",
        )
    settings = (
        load_pipeline(config, set_ or (), **flags)
        if whole
        else load_config(recipe, config, set_ or (), **flags)
    )

    from pointcmt.datasets.store import ViewStore

    store, helper = ViewStore.open(data), os.environ.get("RANK", "0") != "0"
    log_format = SILENT if helper else log_format
    with _needs("train"), _resumable(log_format):
        from pointcmt.training.commands import train_command

        told = train_command(store, settings, chosen, out, device, log_format)
    if not helper:
        print(told.text)
        if as_json:
            print(json.dumps(told.facts))


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    data: Annotated[Path, typer.Option(help="The view store to evaluate on.")],
    split: Annotated[str, typer.Option(help="test, val or train.")] = "test",
    checkpoint: Annotated[str, typer.Option(help="best on validation, or last.")] = "best",
    votes: Annotated[int, typer.Option(min=1, help="Predictions averaged per shape.")] = 1,
    device: Device = "auto",
    log_format: LogFormat = "auto",
    as_json: Json = False,
) -> None:
    """Accuracy of a run, overall and per class, with a picture of the confusions."""
    _check_log_format(log_format)
    from pointcmt.datasets.store import ViewStore

    store = ViewStore.open(data)
    with _needs("train"):
        from pointcmt.training.evaluate import evaluate as judge

        report = judge(run, store, split, checkpoint, votes, device, log_format)
    print(report.describe())
    if as_json:
        print(json.dumps(report.as_json()))


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="A run's folder.", show_default=False)],
    to: Annotated[
        str, typer.Option(help="safetensors (weights) or onnx (a student, for any runtime).")
    ],
    out: Annotated[Path, typer.Option(help="The file to write, or to replace.")],
    checkpoint: Annotated[
        str, typer.Option(help="best on validation, last, or a kept epoch's number.")
    ] = "best",
    as_json: Json = False,
) -> None:
    """A trained network as one file, checked against torch before it is written."""
    _check_export(source, to)
    with _needs("export" if to == "onnx" else "train"):
        from pointcmt.training.export import export as write

        exported = write(source, to, out, checkpoint)
    print(exported.describe())
    if as_json:
        print(json.dumps(exported.as_json()))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("demo"),
    log_format: LogFormat = "auto",
) -> None:
    """The whole way on built-in shapes: render, look, train, evaluate; two minutes on a CPU."""
    _check_log_format(log_format)
    with _needs("all"):
        from pointcmt.demo import run
    with _resumable(log_format):
        run(out, log_format)


@app.command()
def doctor(
    folder: Annotated[Path, typer.Option(help="Where stores will be written.")] = Path(),
    as_json: Json = False,
) -> None:
    """Try everything the package stands on; each failure comes with its remedy."""
    from pointcmt.doctor import examine

    findings = examine(folder)
    for finding in findings:
        print(f"{finding.state:8}{finding.name:8}{finding.detail}")
        if finding.state != "ok" and finding.remedy:
            print(f"{'':16}→ {finding.remedy}")
    if as_json:
        print(json.dumps([vars(finding) for finding in findings]))
    raise typer.Exit(1 if any(f.state == "broken" for f in findings) else 0)


@contextmanager
def _needs(extra: str) -> Iterator[None]:
    """Name the extra that a missing library comes with."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise DependencyError(
            f"this command needs {error.name}, which is not installed",
            fix=f"pip install 'pointcmt[{extra}]'",
        ) from None


@contextmanager
def _resumable(log_format: str) -> Iterator[None]:
    """Ctrl-C ends the command cleanly: whole shards are safe, and the same command goes on."""
    try:
        yield
    except KeyboardInterrupt:
        say("stopped; run the same command again to go on", log_format)
        raise typer.Exit(INTERRUPTED) from None


def _check_log_format(name: str) -> None:
    if name not in LOG_FORMATS:
        raise UsageError(
            f"no log format is called '{name}'",
            where="--log-format",
            fix=nearest(name, LOG_FORMATS),
        )


def _check_export(source: Path, to: str) -> None:
    """Raise UsageError where this format is none, or not one of what is at `source`."""
    formats = (*RUN_FORMATS, *STORE_FORMATS)
    if to not in formats:
        raise UsageError(f"no format is called '{to}'", where="--to", fix=nearest(to, formats))
    is_store, runs = (source / "zarr.json").exists(), " or ".join(RUN_FORMATS)
    if to in STORE_FORMATS and is_store:
        raise UsageError(
            f"a view store cannot be exported to {to} yet",
            where=str(source),
            fix="read it with pointcmt.datasets.store.ViewStore or any zarr v3 reader, docs/store.md",
        )
    if to in STORE_FORMATS:
        raise UsageError(
            f"{to} is for view stores, and this is none",
            where=str(source),
            fix=f"export a run --to {runs}",
        )
    if is_store:
        raise UsageError(
            f"{to} is for trained runs, and this is a view store",
            where=str(source),
            fix="give the folder of a `pointcmt train --out`",
        )


def _seeds(text: str | None, seed: int | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0 or max(seeds) >= 2**63 or len(set(seeds)) < len(seeds):
        raise UsageError(f"'{text}' is no list of seeds", where="--seeds", fix="such as 0,1,2,3,4")
    if seed is not None:
        raise UsageError("give either one seed or several", where="--seed, --seeds")
    return seeds


def _color(text: str) -> tuple[int, int, int]:
    names = {"white": "#ffffff", "black": "#000000"}
    digits = names.get(text, text).removeprefix("#")
    try:
        red, green, blue = bytes.fromhex(digits)
    except ValueError:
        raise UsageError(
            f"'{text}' is no colour", where="--background", fix="white, black or #rrggbb"
        ) from None
    return red, green, blue


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


def _print_plan(listing: "Listing", job: "Job", shard: int | None) -> None:
    from pointcmt.render.config import schema_for

    schema = schema_for(job.config, len(listing.shapes), bool(listing.part_names), shard)
    views = schema.shapes * schema.views
    print(f"would render {views:,} views of {schema.size}² pixels with rig {job.config.rig.name}")
    print(f"into {job.out}: {schema.shards:,} shards of {schema.shard} shapes")


def _print_summary(summary: "Summary", out: Path, as_json: bool, verb: str) -> None:
    """Print what a run did and end with the exit code that fits."""
    for outcome in summary.failures:
        print(f"failed: {outcome.id}: {outcome.reason}: {outcome.detail}")
    rate = summary.views / max(summary.seconds, 1e-9)
    print(
        f"{out}: {summary.done} shapes {verb}, {summary.skipped} skipped, "
        f"{len(summary.failures)} failed, in {duration(summary.seconds)}"
        + (f" ({rate:.0f} views/s)" if summary.views else "")
    )
    if as_json:
        print(json.dumps(summary.as_json()))
    raise typer.Exit(SOME_FAILED if summary.failures else 0)
