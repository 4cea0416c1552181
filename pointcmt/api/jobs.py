"""Render datasets into a store with many processes, and preview stores."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypedDict, Unpack

from pointcmt import plugins
from pointcmt.api.paths import local_path, textures_folder
from pointcmt.api.stores import ViewStore, open_store
from pointcmt.cameras import Rig, find_rig
from pointcmt.console import showing_messages
from pointcmt.datasets.sources import list_shapes, select
from pointcmt.datasets.sources.holdout import hold_out
from pointcmt.errors import UsageError, nearest
from pointcmt.render.config import RenderConfig, find_color
from pointcmt.render.jobs.job import job_of_listing
from pointcmt.render.jobs.run import Options, Summary
from pointcmt.render.jobs.run import render as run_job
from pointcmt.render.scenes.config import SceneConfig


class RenderSettings(TypedDict, total=False):
    """Further settings of `render`; each is an option of the same name of `pointcmt render`.

    >>> settings: pc.RenderSettings = {"limit": 10, "points": 256}
    """

    size: int  # pixels, square
    points: int  # surface points per shape; of scenes, the most
    frames: int  # of scenes: the most per scene
    resolution: tuple[int, int]  # of scenes: height and width of the frames
    voxel: float  # of scenes: meters between points fused from frames
    layers: Iterable[str]  # further images: normal, albedo
    split: str | None  # only train, test or val
    limit: int | None  # shapes, spread evenly
    holdout: float | None  # about this share of each class becomes the test split, if there is none
    up: str | None  # the files' up axis
    follow_links: bool  # also to directories outside the root
    textures: str | Path | None  # one more folder in which meshes' textures are looked for
    backend: str  # auto, egl, embree or pyrender
    device: str  # GPUs: auto, or numbers
    antialias: bool
    background: str | tuple[int, int, int]  # white, black, #rrggbb
    light: str  # camera or world
    splat: float  # for clouds: a point's radius in pixels
    cull: str  # faces to leave out: none, or back (those turned away)
    shading: str  # flat, or smooth: by the normals of vertices
    crease_angle: float | None  # degrees: makes normals for smooth shading, if there are none
    seed: int
    correspondences: bool  # which points each view sees
    timeout: float  # seconds for one shape
    memory_limit: float | None  # GiB for one worker, 0 = none
    shard_size: int | None  # shapes per shard
    codec: str | None  # compression: zstd, zstd1, lz4 or none
    overwrite: bool  # delete the store first
    retry_failed: bool
    moved: bool  # the dataset has moved to another directory
    changed_sources: bool  # files may have changed since shapes were rendered


def render(
    dataset: str,
    *,
    out: str | Path,
    root: str | Path | None = None,
    rig: str | Path | Rig = "dodeca20",
    workers: int = 0,
    progress: bool = False,
    **settings: Unpack[RenderSettings],
) -> Summary:
    """Render a dataset into a view store; another call renders only what is missing.

    dataset: modelnet10, modelnet40, shapenetcore, folder, toy, clouds, toyrooms or another one of
    docs/datasets.md. root: its directory. out: the store: a folder, s3://bucket/path or
    gs://bucket/path. rig: a name, a .toml file, or a `Rig`; scenes have their own cameras. workers:
    processes, 0 = one per core; they are new processes and do not import the calling script.
    progress: show it on standard error. settings: `RenderSettings`.

    Returns a summary, with the shapes that failed and why. Raises UsageError for an invalid
    setting, StoreError if `out` holds something else or cannot be written.

    >>> done = pc.render("toy", out="toys", rig="ortho6", size=32, points=64, limit=4, workers=1)
    >>> done.done, done.failures
    (4, ())
    """
    given: dict[str, Any] = dict(settings)
    unknown = given.keys() - RenderSettings.__annotations__.keys()
    if unknown:
        name = min(unknown)
        fix = nearest(name, RenderSettings.__annotations__)
        raise UsageError(f"render has no setting '{name}'", where=f"{name}=", fix=fix)
    plugins.trust(dataset)
    place = None if root is None else local_path(root, "--root")
    listing = list_shapes(dataset, place, given.get("up"), given.get("follow_links", False))
    listing = select(listing, given.get("split"), given.get("limit"))
    listing = hold_out(listing, given.get("holdout"), given.get("seed", 0))
    scenes = listing.kind == "scene"
    config = _scene_config(given) if scenes else _render_config(given, rig)
    matched, device = given.get("correspondences", True), given.get("device", "auto")
    textures = textures_folder(given.get("textures"))
    job = job_of_listing(listing, str(out), config, matched, device, textures)
    kinds = {each.name for each in fields(Options)}
    options = Options(
        workers=workers,
        shard=given.get("shard_size"),
        **{key: given[key] for key in given.keys() & kinds},
    )
    with showing_messages(progress):
        return run_job(listing, job, options)


def _render_config(given: dict[str, Any], rig: str | Path | Rig) -> RenderConfig:
    _refuse(given, ("frames", "resolution", "voxel"), "only applies to scenes")
    table = {**given, "layers": tuple(sorted(given.get("layers", ())))}
    if "background" in given:
        table["background"] = find_color(given["background"])
    found = rig if isinstance(rig, Rig) else find_rig(str(rig))
    own = {each.name for each in fields(RenderConfig)}
    return RenderConfig(found, **{key: table[key] for key in table.keys() & own})


def _scene_config(given: dict[str, Any]) -> SceneConfig:
    own = {each.name for each in fields(SceneConfig)}
    drawing = {each.name for each in fields(RenderConfig)} - own
    _refuse(given, sorted(drawing), "does not apply to scenes, which are not drawn from a rig")
    table = {key: given[key] for key in given.keys() & own}
    if "resolution" in given:
        table["height"], table["width"] = given["resolution"]
    return SceneConfig(**table)


def _refuse(given: dict[str, Any], names: Iterable[str], what: str) -> None:
    for name in names:
        if name in given:
            raise UsageError(f"this setting {what}", where=f"{name}=", fix="leave it out")


def preview(
    store: str | Path | ViewStore,
    out: str | Path,
    *,
    shapes: int = 20,
    views: int = 10,
    overwrite: bool = False,
    ids: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    split: str | None = None,
    failed: bool = False,
    layer: str = "rgb",
) -> list[Path]:
    """Write a contact sheet, points drawn on their pixels, and an HTML page that shows both.

    out: a folder. shapes, views: the most to show. overwrite: also replace files that no preview
    wrote. ids, classes, split: only these. failed: only shapes that failed. layer: what the contact
    sheet shows, such as depth.

    Returns the files. Raises StoreError if no shape is rendered yet, UsageError if none is chosen
    or the store does not have the layer.

    >>> [path.name for path in pc.preview("S", "pictures", shapes=4)]
    ['contact_sheet.png', 'points.png', 'index.html']
    """
    from pointcmt.datasets.selection import Selection
    from pointcmt.render.preview import Choice
    from pointcmt.render.preview import preview as draw

    folder = local_path(out, "--out")
    opened = store if isinstance(store, ViewStore) else open_store(store)
    choice = Choice(Selection(split, ids, None, classes), failed, layer)
    return draw(opened, folder, shapes, views, overwrite, choice)
