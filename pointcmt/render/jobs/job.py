"""A rendering job: its settings and its store, divided into tasks of one shard each.

Cheap to import: the planning process loads no renderer. The bytes do not depend on which worker
runs a task: every random number comes from the configuration's seed and the shape's id.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pointcmt import __version__, plugins
from pointcmt.console import logger
from pointcmt.datasets.sources import SOURCES, Listing, find_source, list_shapes
from pointcmt.datasets.sources.listing import split_source
from pointcmt.datasets.store.creation import create, grow, named
from pointcmt.datasets.store.documents import (
    Outcome,
    decode_marker,
)
from pointcmt.datasets.store.root import (
    root_attributes,
)
from pointcmt.datasets.store.schema import (
    CODECS,
    CORRESPONDENCES,
    RENDER,
    ROOT,
    SCENES,
    SCENES_VERSION,
    SCHEMA_VERSION,
    Schema,
    digest,
    encode_json,
    marker_key,
    schema_attributes,
)
from pointcmt.datasets.store.storage import Storage
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import DamageError, StoreError, UsageError, nearest, require_utf8
from pointcmt.render.config import RenderConfig, fit, schema_for
from pointcmt.render.scenes.config import SceneConfig, scene_schema
from pointcmt.scenes import SceneLabels

GPU_BACKENDS = ("auto", "egl")


@dataclass(frozen=True)
class Task:
    """One shard and its stage: RENDER (with correspondences, if requested) or only CORRESPONDENCES.

    retry: checksum of the commit marker of a shard to do again, if it still exists; it stays until
    the new one replaces it. keep: do only the shard's failed shapes and those added to the store
    since. void: a claim that was
    waited for long enough. claim: the claim it runs under; without one, nothing is checked.
    """

    stage: str
    shard: int
    retry: str = ""
    keep: bool = False
    void: str = ""
    claim: str = ""


@dataclass(frozen=True)
class Job:
    """The settings that every worker needs; small and picklable."""

    out: str
    dataset: str
    root: Path | None
    up: str
    config: RenderConfig | SceneConfig
    correspondences: bool = True
    threads: int = 1
    device: str = "auto"
    follow_links: bool = False  # out of the root
    identity: str = ""  # of the store that `out` must hold; "" = any
    before: Mapping[str, Outcome] = field(default_factory=dict)  # outcomes by id, for a repair
    textures: Path | None = None  # an additional folder of files that models name
    modules: str = ""  # additional folder in which workers look for the source's module


@dataclass(frozen=True)
class Finished:
    """What a task reports after committing its shard."""

    task: Task
    outcomes: tuple[Outcome, ...]  # of the shapes that were tried


def job_of_listing(
    listing: Listing,
    out: str,
    config: RenderConfig | SceneConfig,
    correspondences: bool = True,
    device: str = "auto",
    textures: Path | None = None,
) -> Job:
    """Return the job that renders a listing into the store at `out`.

    config: adapted to the listing's kind of shapes. textures: see `Search`. Raises UsageError if it
    is for another kind, if a GPU is named by `device` though none is used, if `textures` is not a
    folder or is for shapes that have no such files, and for scenes without correspondences.
    """
    config = fitted(config, listing)
    backend = getattr(config, "backend", "")
    if textures is not None:
        _require_textures(listing, textures)
        textures = textures.absolute()
    if device != "auto" and (backend not in GPU_BACKENDS or listing.kind != "mesh"):
        by = f"backend {backend}" if listing.kind == "mesh" else f"a job of {listing.kind}s"
        raise UsageError(f"{by} does not use a GPU", where="--device", fix="leave it out")
    if listing.kind == "scene" and not correspondences:
        raise UsageError(
            "what the frames of a scene see is always stored",
            where="--correspondences",
            fix="leave it on",
        )
    return Job(
        out,
        listing.name,
        listing.root,
        listing.up,
        config,
        correspondences,
        follow_links=listing.follow_links,
        textures=textures,
    )


def _require_textures(listing: Listing, textures: Path) -> None:
    if listing.kind != "mesh" or find_source(listing.name).load_shape is not None:
        raise UsageError(
            f"the shapes of {listing.name} have no texture files",
            where="--textures",
            fix="leave it out",
        )
    if not textures.is_dir():
        raise UsageError(
            "no such folder", where=f"--textures {textures}", fix="pass a folder of textures"
        )
    require_utf8(str(textures.absolute()), where="--textures")


def create_store(
    listing: Listing,
    job: Job,
    shard: int | None = None,
    storage: Storage | None = None,
    codec: str | None = None,
) -> ViewStore:
    """Create the job's store, or open it to continue. storage: the job's storage, if already open.

    shard, codec: see `schema_of`; None is also that of the existing store.
    An existing store may lack shapes of the listing: see `grow_store`. Raises StoreError if another
    store exists, and UsageError if the configuration is not for the listing's kind of shapes.
    """
    if fitted(job.config, listing) != job.config:
        raise UsageError(
            f"{listing.name} contains shapes of the kind '{listing.kind}', which this "
            "configuration does not apply to",
            fix="make the job with pointcmt.render.jobs.job.job_of_listing",
        )
    require_utf8(str(listing.root), where="--root")
    storage = storage or Storage(job.out, job.threads)
    return create(storage, _attributes(listing, job, shard, codec, storage), listing.shapes)


def grow_store(store: ViewStore, listing: Listing, job: Job) -> ViewStore:
    """Add the listing's new shapes to the job's store, as pending ones; returns the store.

    Raises StoreError if the store has shapes that are not in the listing.
    """
    attributes = _attributes(listing, job, store.schema.shard, None, store.storage)
    store, new = grow(store, attributes, listing.shapes)
    if new:
        logger.info(f"adding {len(new)} shapes: {named([record.id for record in new])}")
    return store


def _attributes(
    listing: Listing, job: Job, shard: int | None, codec: str | None, storage: Storage
) -> dict[str, Any]:
    """Return the attributes of the root of a job's store.

    shard, codec: None = as stored; for a new store, chosen.
    """
    if shard is None or codec is None:
        with suppress(StoreError):
            stored = ViewStore.open(storage).schema
            shard = stored.shard if shard is None else shard
            codec = stored.codec if codec is None else codec
    schema, render = schema_of(job, listing, shard, codec), job.config.attributes()
    scenes = listing.kind == "scene"
    return {
        "schema_version": SCENES_VERSION if scenes else SCHEMA_VERSION,
        "schema": schema_attributes(schema),
        "render": render,
        "render_hash": digest(encode_json(render)),
        "source": {
            "name": listing.name,
            "root": str(listing.root.absolute()) if listing.root else None,
            "up": listing.up,
            "licence": listing.license,
            "url": listing.url,
            "follow_links": listing.follow_links,
            **({"textures": str(job.textures)} if job.textures else {}),
        },
        "class_names": list(listing.class_names),
        "part_names": {name: list(parts) for name, parts in listing.part_names.items()},
        "versions": _versions(listing.name),
        **(_names_of(listing.labels) if scenes else {}),
        **({"input": listing.input.as_json()} if listing.input else {}),
    }


def _names_of(labels: SceneLabels) -> dict[str, Any]:
    """Return what the root of a store of scenes says of its labels."""
    return {
        "semantic_names": list(labels.semantic),
        "box_names": list(labels.boxes),
        "palette": [list(color) for color in labels.palette],
    }


def fitted(config: RenderConfig | SceneConfig, listing: Listing) -> RenderConfig | SceneConfig:
    """Adapt a configuration to a listing's kind of shapes. Raises UsageError if it cannot be."""
    if isinstance(config, SceneConfig) != (listing.kind == "scene"):
        wanted = "SceneConfig" if listing.kind == "scene" else "RenderConfig"
        raise UsageError(
            f"{listing.name} has shapes of the kind '{listing.kind}'", fix=f"use a {wanted}"
        )
    return config if isinstance(config, SceneConfig) else fit(config, listing.kind)


def schema_of(job: Job, listing: Listing, shard: int | None, codec: str | None = None) -> Schema:
    """Return the dimensions of a job's store.

    shard: shapes per shard; None chooses it. codec: one of CODECS; None is the first. Raises
    UsageError for another one.
    """
    codec = codec or CODECS[0]
    if codec not in CODECS:
        raise UsageError(f"unknown codec '{codec}'", where="--codec", fix=nearest(codec, CODECS))
    count = len(listing.shapes)
    if isinstance(job.config, SceneConfig):
        labels = listing.labels
        found = scene_schema(job.config, count, bool(labels.semantic), bool(labels.boxes), shard)
    else:
        found = schema_for(job.config, count, bool(listing.part_names), shard)
    return replace(found, codec=codec)


def store_of_job(job: Job, threads: int) -> ViewStore:
    """Open the store of a running job in this process.

    Raises StoreError if the store is missing or another one has replaced it.
    """
    storage = Storage(job.out, threads)
    found = storage.read(ROOT)
    store = ViewStore(storage, root_attributes(found, storage.where(ROOT))) if found else None
    if store is None or not store.is_named(job.identity):
        raise StoreError(
            "there is a different store here" if found else "there is no store here",
            where=job.out,
            fix="all machines of a job need the same shared --out at the same path, and no other "
            "job may replace the store while it runs",
        )
    return store


def job_of_store(store: ViewStore, root: Path | None) -> Job:
    """Return the job that made a store, to continue it. root: the dataset's place, if it moved.

    Raises UsageError if none of the store's shapes is found in root, and for a data source from
    outside the package that cannot be imported or that the user has not trusted.
    """
    source, render = store.attributes["source"], store.attributes["render"]
    try:
        scenes = store.schema.kind == SCENES
        config = (SceneConfig if scenes else RenderConfig).from_attributes(render)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamageError(
            f"the root zarr.json does not say how this store was rendered ({error!r:.80})",
            where=store.path,
            fix="render again into a new --out",
        ) from error
    made = (
        find_source(source["name"], store.path).load_shape is not None
    )  # before a worker imports it
    if source["root"] is None:
        return Job(store.path, source["name"], None, source["up"], config)
    follow = bool(source.get("follow_links", True))  # stores without it followed links
    root = list_shapes(source["name"], root or Path(source["root"]), follow_links=follow).root
    names = {split_source(shape.source)[0] for shape in store.shapes}
    if not made and not any(root and (root / name).exists() for name in names):
        raise UsageError(
            f"none of the store's {len(store.shapes)} shapes was found there",
            where=f"--root {root}",
            fix="set --root to the folder of the dataset; the store was rendered from "
            f"{source['root']}",
        )
    textures = Path(source["textures"]) if source.get("textures") else None
    return Job(
        store.path,
        source["name"],
        root,
        source["up"],
        config,
        follow_links=follow,
        textures=textures,
    )


def tasks(
    store: ViewStore, render: bool, correspondences: bool, retry_failed: bool = False
) -> list[Task]:
    """Return pending tasks by shard. render=True includes shapes that are not rendered yet.

    retry_failed: also include committed shards with failures.
    """
    unrendered = set(store.pending(RENDER))
    unmatched = set(store.pending(CORRESPONDENCES)) if correspondences else set()
    failed = _failed(store, render, correspondences) if retry_failed else {}
    found = []
    for shard in range(store.schema.shards):
        if shard in unrendered:
            if render:
                found.append(render_task(store, shard))
        elif shard in failed:
            found.append(failed[shard])
        elif shard in unmatched:
            found.append(Task(CORRESPONDENCES, shard))
    return found


def render_task(store: ViewStore, shard: int) -> Task:
    """Return the task that renders a shard: only its new shapes, if the store has grown."""
    before = store.unfinished(RENDER, shard)
    return (
        Task(RENDER, shard, retry=before["checksum"], keep=True) if before else Task(RENDER, shard)
    )


def stage_to_run(store: ViewStore, task: Task, correspondences: bool) -> str | None:
    """Return the stage to run now that the shard is claimed; None if others have done it."""
    rendered = _checksum_of_ours(store, RENDER, task.shard)
    if task.stage == RENDER and rendered in ("", task.retry):
        return RENDER
    if not rendered or not (correspondences or task.stage == CORRESPONDENCES):
        return None
    again = task.retry if task.stage == CORRESPONDENCES else ""
    matched = _checksum_of_ours(store, CORRESPONDENCES, task.shard)
    return CORRESPONDENCES if matched in ("", again) else None


def _failed(store: ViewStore, render: bool, correspondences: bool) -> dict[int, Task]:
    """Return tasks for the shards with failures: to render again, or only to match again."""
    found = {}
    for shard, marker in store.each_marker(CORRESPONDENCES) if correspondences else ():
        if marker["failures"]:
            found[shard] = Task(CORRESPONDENCES, shard, retry=marker["checksum"], keep=True)
    for shard, marker in store.each_marker(RENDER) if render else ():
        if any(outcome["status"] == "failed" for outcome in marker["outcomes"]):
            found[shard] = Task(RENDER, shard, retry=marker["checksum"], keep=True)
    return found


def checksum(store: ViewStore, stage: str, shard: int) -> str:
    """Return the checksum of a shard's commit marker; "" if there is no marker."""
    marker = _marker(store, stage, shard)
    return "" if marker is None else marker["checksum"]


def _checksum_of_ours(store: ViewStore, stage: str, shard: int) -> str:
    """Return `checksum`, or "" if the marker belongs to another store."""
    marker = _marker(store, stage, shard)
    return marker["checksum"] if marker and store.owns(marker, stage, shard) else ""


def _marker(store: ViewStore, stage: str, shard: int) -> dict[str, Any] | None:
    key = marker_key(stage, shard)
    data = store.storage.read(key)
    return None if data is None else decode_marker(data, store.storage.where(key))


def _versions(dataset: str) -> dict[str, str]:
    own = {} if dataset in SOURCES else {dataset: plugins.origin(plugins.SOURCES, dataset)}
    found = {"pointcmt": __version__, **own}
    renderers = ("open3d", "open3d-cpu", "pyopengl", "pyrender2")
    for name in ("numpy", "numba", "tensorstore", "pillow", *renderers):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
