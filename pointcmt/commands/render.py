"""`pointcmt render` and `pointcmt build-correspondences`."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from pointcmt.commands.options import (
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
    Textures,
    Timeout,
    Trust,
    Workers,
    allow,
    cluster,
    refuse_given,
    resumable,
    share,
    start_logging,
)
from pointcmt.console import duration, logger, show

if TYPE_CHECKING:
    from pointcmt.datasets.sources import Listing
    from pointcmt.render.jobs.job import Job
    from pointcmt.render.jobs.run import Options, Summary


MOST_NOTES = 10  # kinds that are printed
# Options that only apply to shapes, and to scenes.
OF_SHAPES = (
    *("rig", "size", "layers", "backend", "device", "antialias", "background", "light", "splat"),
    *("cull", "shading", "crease_angle", "textures", "correspondences"),
)
OF_SCENES = ("frames", "resolution", "voxel")


def render(
    context: typer.Context,
    dataset: Annotated[str, typer.Option(help="Meshes: modelnet10, modelnet40, shapenetcore, folder, toy. Clouds: modelnet40-clouds, shapenetpart, scanobjectnn, clouds. Scenes: toyrooms, frames, scannet, s3dis, sunrgbd (docs/datasets.md). Or your own as module:name (docs/own-parts.md).")],
    out: Annotated[str, typer.Option(help="The view store to create or continue: a folder, s3://bucket/path, gs://bucket/path.")],
    root: Root = None,
    rig: Annotated[str, typer.Option(help="Camera rig: circle12, dodeca20, ortho6, mvnet12, simpleview6, fibonacciN or a .toml file.")] = "dodeca20",
    size: Annotated[int, typer.Option(help="Width and height of the images in pixels.")] = 224,
    points: Annotated[int | None, typer.Option(help="Surface points per shape. Default: 2048. Of scenes, the most: 262144.")] = None,
    frames: Annotated[int, typer.Option(help="Scenes only: the most frames per scene.")] = 64,
    resolution: Annotated[str, typer.Option(metavar="WxH", help="Scenes only: width and height of the frames in pixels.")] = "320x240",
    voxel: Annotated[float, typer.Option(help="Scenes only: distance in meters of points fused from frames.")] = 0.02,
    layers: Annotated[str, typer.Option(help="Additional image layers: normal,albedo.")] = "",
    split: Annotated[str | None, typer.Option(help="Only this split: train, test or val.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only this many shapes, spread evenly over classes and splits.")] = None,
    holdout: Annotated[float | None, typer.Option(metavar="SHARE", help="For data without a test split: set this share of each class aside as one, such as 0.2.")] = None,
    follow_links: Annotated[bool, typer.Option("--follow-links", help="Follow symbolic links to folders outside the root.")] = False,
    textures: Textures = None,
    up: Annotated[str | None, typer.Option(help="Up axis of the files: x, y or z. Default: the dataset's (folder, clouds: y).")] = None,
    backend: Annotated[str, typer.Option(help="Renderer: auto, egl, embree or pyrender.")] = "auto",
    device: Gpus = "auto",
    antialias: Annotated[bool, typer.Option(help="Anti-alias rgb, never face indices or depth.")] = True,
    background: Annotated[str, typer.Option(help="Background color: white, black or #rrggbb.")] = "white",
    light: Annotated[str, typer.Option(help="What the light is fixed to: camera or world.")] = "camera",
    splat: Annotated[float | None, typer.Option(help="Clouds only: radius of a point in pixels. Default: 3 per 224 pixels of image size.")] = None,
    cull: Annotated[str, typer.Option(help="Faces to leave out: none, or back (those facing away from the camera).")] = "none",
    shading: Annotated[str, typer.Option(help="Shading of meshes: flat, or smooth by the normals of vertices.")] = "flat",
    crease_angle: Annotated[float | None, typer.Option(metavar="DEGREES", help="Smooth shading: make normals for files that have none, across edges whose faces differ by less than this angle, such as 40.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    correspondences: Annotated[bool, typer.Option(help="Compute which points each view sees.")] = True,
    workers: Workers = 0,
    timeout: Timeout = 600.0,
    memory_limit: MemoryLimit = None,
    scheduler: Scheduler = None,
    resources: Resources = "",
    shard_index: ShardIndex = None,
    num_shards: NumShards = None,
    shard_size: Annotated[int | None, typer.Option(help="Shapes per shard. Default: chosen automatically.")] = None,
    codec: Annotated[str | None, typer.Option(help="Compression of the store: zstd, zstd1, lz4 or none; the later, the faster to read and the larger. Default: zstd, or that of the existing store.", show_default=False)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete the store first.")] = False,
    retry_failed: RetryFailed = False,
    moved: Annotated[bool, typer.Option("--moved", help="The dataset has moved to another folder.")] = False,
    changed_sources: Annotated[bool, typer.Option("--changed-sources", help="Continue although source files have changed since they were rendered.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be done.")] = False,
    log_format: LogFormat = "auto",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Render meshes, clouds or scenes into a view store; again, to render what is missing."""
    start_logging(log_format)
    allow(None, dataset)
    mine = share(shard_index, num_shards, overwrite)
    dask = cluster(scheduler, resources, workers, num_shards)
    if scheduler is None and not dry_run:
        from pointcmt.render.jobs.processes import end_spare, start_spare
        from pointcmt.render.limits import usable_cores

        context.call_on_close(end_spare)  # also if an error ends the command before the job
        start_spare(workers or usable_cores())  # they import the renderer while this one plans
    from pointcmt.cameras import find_rig
    from pointcmt.datasets.sources import list_shapes, select
    from pointcmt.datasets.sources.holdout import hold_out
    from pointcmt.render.config import RenderConfig, find_color
    from pointcmt.render.jobs.job import job_of_listing
    from pointcmt.render.jobs.run import Options
    from pointcmt.render.jobs.run import render as run
    from pointcmt.render.scenes.config import SceneConfig, find_resolution

    listing = select(list_shapes(dataset, root, up, follow_links), split, limit)
    listing = hold_out(listing, holdout, seed)
    config: RenderConfig | SceneConfig
    if listing.kind == "scene":
        refuse_given(context, OF_SHAPES, f"{dataset} has scenes, which are not drawn from a rig")
        height, width = find_resolution(resolution)
        most = SceneConfig.points if points is None else points
        config = SceneConfig(frames, height, width, most, voxel=voxel, seed=seed)
    else:
        refuse_given(context, OF_SCENES, f"{dataset} has no scenes")
        config = RenderConfig(
            rig=find_rig(rig),
            size=size,
            points=2048 if points is None else points,
            layers=tuple(sorted(filter(None, layers.split(",")))),
            backend=backend,
            antialias=antialias,
            background=find_color(background),
            light=light,
            seed=seed,
            splat=splat or 0.0,
            cull=cull,
            shading=shading,
            crease_angle=crease_angle,
        )
    job = job_of_listing(listing, out, config, correspondences, device, textures)
    _print_listing(listing)
    options = Options(
        workers=workers,
        timeout=timeout,
        memory_limit=memory_limit,
        share=mine,
        shard=shard_size,
        codec=codec,
        overwrite=overwrite,
        retry_failed=retry_failed,
        moved=moved,
        changed_sources=changed_sources,
        device=device,
        **dask,
    )
    if dry_run:
        _print_plan(listing, job, options)
        return
    with resumable():
        _print_summary(run(listing, job, options), out, as_json, "rendered")


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
    trust: Trust = None,
    log_format: LogFormat = "auto",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Add the visibility of points in each view to a rendered store; running it again resumes."""
    start_logging(log_format)
    allow(trust)
    from pointcmt.datasets.store.view_store import ViewStore
    from pointcmt.render.jobs.job import job_of_store
    from pointcmt.render.jobs.run import Options
    from pointcmt.render.jobs.run import build_correspondences as run

    opened = ViewStore.open(store)
    options = Options(
        workers=workers,
        timeout=timeout,
        memory_limit=memory_limit,
        share=share(shard_index, num_shards),
        retry_failed=retry_failed,
        **cluster(scheduler, resources, workers, num_shards),
    )
    with resumable():
        summary = run(opened, job_of_store(opened, root), options)
        _print_summary(summary, store, as_json, "matched")


def _print_listing(listing: "Listing") -> None:
    for note in listing.notes:
        logger.warning(f"note: {note}")
    counts = listing.counts()
    official = listing.official or {}
    parts = [
        f"{split} {counts.get(split, 0):,}"
        + (f" of {official[split]:,}" if split in official else "")
        for split in ("train", "test", "val")
        if split in counts or split in official
    ]
    classes = {shape.class_name for shape in listing.shapes} - {None}
    shapes = "scenes" if listing.kind == "scene" else "shapes"
    found = f"{len(listing.shapes):,} {shapes}" + f" of {len(classes)} classes" * bool(classes)
    logger.info(f"{listing.name}: {found} ({', '.join(parts)})")


def _print_plan(listing: "Listing", job: "Job", options: "Options") -> None:
    from pointcmt.render.jobs.job import schema_of
    from pointcmt.render.jobs.run import require_room
    from pointcmt.render.scenes.config import SceneConfig

    schema = schema_of(job, listing, options.shard, options.codec)
    require_room(schema, options)
    views = f"{schema.shapes * schema.views:,}"
    if isinstance(job.config, SceneConfig):
        height, width = schema.image
        show(f"would store up to {views} frames of {width} × {height} pixels")
    else:
        show(f"would render {views} views of {schema.size}² pixels with rig {job.config.rig.name}")
    show(f"into {job.out}: {schema.shards:,} shards of {schema.shard} shapes")


def _print_summary(summary: "Summary", out: str, as_json: bool, verb: str) -> None:
    """Print a summary of a run and exit with the matching code."""
    for outcome in summary.failures:
        show("failed", outcome.id, str(outcome.reason), outcome.detail)
    for kind, shapes in list(summary.notes.items())[:MOST_NOTES]:
        of = "file" if ": " in kind else "shape"  # those in formats that are not read
        show("note", f"{shapes} {of}s" if shapes > 1 else f"1 {of}", kind)
    if len(summary.notes) > MOST_NOTES:
        show("note", f"{len(summary.notes) - MOST_NOTES} more kinds: see --json")
    rate = summary.views / max(summary.seconds, 1e-9)
    show(
        f"{out}: {summary.done} shapes {verb}, {summary.skipped} skipped, "
        f"{len(summary.failures)} failed, in {duration(summary.seconds)}"
        + (f" ({rate:.0f} views/s)" if summary.views else "")
    )
    if as_json:
        print(json.dumps(summary.as_json()))
    raise typer.Exit(SOME_FAILED if summary.failures else 0)
