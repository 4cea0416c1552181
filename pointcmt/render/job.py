"""A rendering job: what is to be done, in which store, cut into tasks of one whole shard.

Light to import: the process that plans loads no renderer. The bytes do not depend on who runs a
task: every random number comes from the configuration's seed and the shape's id.
"""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pointcmt import __version__
from pointcmt.datasets import schema as contract
from pointcmt.datasets.sources import Listing, list_shapes
from pointcmt.datasets.sources.listing import split_source
from pointcmt.datasets.store import CORRESPONDENCES, RENDER, Outcome, ViewStore, create
from pointcmt.errors import UsageError, require_utf8
from pointcmt.render.config import RenderConfig, fit, schema_for


@dataclass(frozen=True)
class Task:
    """One shard and its stage: RENDER (with correspondences, if asked) or CORRESPONDENCES alone."""

    stage: str
    shard: int


@dataclass(frozen=True)
class Job:
    """What every worker needs to know; small and picklable."""

    out: str
    dataset: str
    root: Path | None
    up: str
    config: RenderConfig
    correspondences: bool = True
    threads: int = 1
    device: str = "auto"


@dataclass(frozen=True)
class Finished:
    """What a task reports when its shard is committed."""

    task: Task
    outcomes: tuple[Outcome, ...]  # of the shapes that were tried


def create_store(listing: Listing, job: Job, shard: int | None = None) -> ViewStore:
    """Create the job's store, or open it to go on. Raises StoreError where it holds another, and
    UsageError for a configuration that is not for the listing's kind of shapes."""
    if fit(job.config, listing.kind) != job.config:
        raise UsageError(
            f"{listing.name} holds shapes of the kind '{listing.kind}', which this configuration "
            "is not for",
            fix="make it with pointcmt.render.config.fit",
        )
    parts = bool(listing.part_names)
    require_utf8(str(listing.root), where="--root")
    schema = schema_for(job.config, len(listing.shapes), parts=parts, shard=shard)
    render = job.config.attributes()
    attributes = {
        "schema_version": contract.SCHEMA_VERSION,
        "schema": contract.schema_attributes(schema),
        "render": render,
        "render_hash": contract.digest(contract.encode_json(render)),
        "source": {
            "name": listing.name,
            "root": str(listing.root.absolute()) if listing.root else None,
            "up": listing.up,
            "licence": listing.licence,
            "url": listing.url,
        },
        "class_names": list(listing.class_names),
        "part_names": {name: list(parts) for name, parts in listing.part_names.items()},
        "versions": _versions(),
    }
    return create(job.out, attributes, listing.shapes, job.threads)


def job_of_store(store: ViewStore, root: Path | None) -> Job:
    """The job that made a store, to go on with it. root: where the data set is now, if it moved.

    Raises UsageError for a root where none of the store's shapes is to be found.
    """
    source, render = store.attributes["source"], store.attributes["render"]
    config = RenderConfig.from_attributes(render)
    if source["root"] is None:
        return Job(store.path, source["name"], None, source["up"], config)
    root = list_shapes(source["name"], root or Path(source["root"])).root
    files = {split_source(shape.source)[0] for shape in store.shapes}
    if not any(root and (root / file).exists() for file in files):
        raise UsageError(
            f"none of the store's {len(store.shapes)} shapes is there",
            where=f"--root {root}",
            fix=f"give the directory it was rendered from; then that was {source['root']}",
        )
    return Job(store.path, source["name"], root, source["up"], config)


def tasks(store: ViewStore, render: bool, correspondences: bool) -> list[Task]:
    """What is missing, in order of shards. render: render what is not; else only what is."""
    unrendered = set(store.pending(RENDER))
    unmatched = set(store.pending(CORRESPONDENCES)) if correspondences else set()
    found = []
    for shard in range(store.schema.shards):
        if shard in unrendered:
            if render:
                found.append(Task(RENDER, shard))
        elif shard in unmatched:
            found.append(Task(CORRESPONDENCES, shard))
    return found


def _versions() -> dict[str, str]:
    found = {"pointcmt": __version__}
    renderers = ("open3d", "open3d-cpu", "pyopengl", "pyrender2")
    for name in ("numpy", "numba", "tensorstore", "trimesh", "pillow", *renderers):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
