"""Compare a dataset's files, by SHA-256, with those that a store was rendered from.

Commit markers hold the hash of each shape's source. Two datasets may use the same names; without
comparing hashes, a resumed job would mix both in one store.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pointcmt.console import logger
from pointcmt.datasets.sources import find_source
from pointcmt.datasets.sources.listing import split_source
from pointcmt.datasets.store.schema import RENDER, ShapeRecord
from pointcmt.datasets.store.verify import Broken
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import DamageError, Reason, ShapeRefused, UsageError
from pointcmt.files import open_regular
from pointcmt.render.jobs.job import Job
from pointcmt.render.jobs.scenes import scene_loader
from pointcmt.render.load.files import path_in
from pointcmt.render.scenes.config import SceneConfig

SAMPLE = 32  # number of shapes to compare when a job resumes
NAMED = 5  # number of differing shapes to name
MISSING = "no such file"


@dataclass(frozen=True)
class Recorded:
    """A rendered shape and the SHA-256 of its source."""

    record: ShapeRecord
    sha256: str


class SourceFiles:
    """The files of a job's dataset, hashed in the same way as by the shape loaders."""

    def __init__(self, job: Job) -> None:
        self.root = job.root or Path()
        self._two_files = job.dataset == "shapenetpart"  # points in .pts, parts in .seg files
        self._made = find_source(job.dataset).load_shape is not None
        self._load = _made_hash(job) if self._made else None
        if isinstance(job.config, SceneConfig):
            load_scene = scene_loader(job)
            self._load = lambda record: load_scene(record).sha256
        self._scenes = isinstance(job.config, SceneConfig)
        if not self._made and not isinstance(job.config, SceneConfig) and job.config.splat:
            self._load = _cloud_hash(job)

    def difference(self, shape: Recorded) -> str:
        """Describe how a shape's source differs from the recorded one; "" if it does not.

        Returns `MISSING` if there is no such file.
        """
        try:
            found = self._sha256(shape.record)
        except (FileNotFoundError, NotADirectoryError):
            return MISSING
        except OSError as error:
            return f"the file cannot be read: {error.strerror}"
        except ShapeRefused as refused:
            missing = refused.reason == Reason.MISSING_FILE
            return MISSING if missing else f"the file no longer contains this shape: {refused}"
        return "" if found == shape.sha256 else "the file has changed since it was rendered"

    def _sha256(self, record: ShapeRecord) -> str:
        if self._scenes and self._load:
            return self._load(record)
        name, row = split_source(record.source)
        in_two = self._two_files and name.endswith(".pts")
        if self._load and (self._made or row is not None or in_two):
            return self._load(record)
        digest = hashlib.sha256()
        with open_regular(path_in(self.root, name)) as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()


def require_same_sources(store: ViewStore, job: Job, changed: bool) -> None:
    """Compare a sample of the dataset's files with the sources of the store's shapes.

    changed: accept differences. Raises UsageError, with the shapes' names, if a file differs, since
    further shapes would be rendered from another dataset.
    """
    found = _compare(store, job)
    if found.different and not changed:
        raise UsageError(
            found.text,
            where=f"--root {job.root}",
            fix="set --root to the dataset that the store was rendered from, or choose another "
            "--out for this one; if the files were changed on purpose, add --changed-sources "
            "(`pointcmt verify --sources` lists all of them)",
        )
    if found.different:
        logger.warning(f"note: {found.text}")


def require_some_sources(store: ViewStore, job: Job) -> None:
    """Run `require_same_sources` for callers that compare each shape's file and record changes.

    Raises UsageError only if every file of the sample differs: it is another dataset.
    """
    found = _compare(store, job)
    if found.different and not found.same:
        raise UsageError(
            found.text,
            where=f"--root {job.root}",
            fix="set --root to the dataset that the store was rendered from",
        )


@dataclass(frozen=True)
class _Comparison:
    """How many files of a sample match their hash, and the ids of shapes whose files do not.

    Missing files are not counted, since nothing can be rendered from them.
    """

    same: int
    different: tuple[str, ...]

    @property
    def text(self) -> str:
        """Describe the difference in words."""
        more = len(self.different) - NAMED
        return (
            f"{len(self.different)} of {self.same + len(self.different)} files compared are not "
            "those that the store was rendered from: "
            + ", ".join(self.different[:NAMED])
            + (f" and {more} more" if more > 0 else "")
        )


def _compare(store: ViewStore, job: Job) -> _Comparison:
    """Compare the store's sample; report the dataset's new location if it has moved."""
    if job.root is None:
        return _Comparison(0, ())
    files = SourceFiles(job)
    differences = {shape.record.id: files.difference(shape) for shape in sample(store)}
    wrong = tuple(name for name, what in differences.items() if what not in ("", MISSING))
    same = list(differences.values()).count("")
    if differences and _is_elsewhere(store, job):
        at = f"the dataset was at {store.attributes['source']['root']} and is now at {job.root}"
        logger.info(f"{at}: {same} of {len(differences)} files compared are identical")
    return _Comparison(same, wrong)


def require_same_root(store: ViewStore, job: Job, moved: bool) -> None:
    """Raise UsageError if the dataset's location has changed, unless that is expected (moved).

    Likewise for the additional folder of textures.
    """
    recorded = store.attributes["source"].get("textures")
    if not moved and recorded != (str(job.textures) if job.textures else None):
        how = f"with --textures {recorded}" if recorded else "without --textures"
        raise UsageError(
            f"the store was rendered {how}",
            where=f"--textures {job.textures or ''}".strip(),
            fix="use the same folder of textures, or choose another --out; if it has moved, or if "
            "this is intended for the shapes that are not rendered yet, add --moved",
        )
    if _is_elsewhere(store, job) and not moved:
        raise UsageError(
            f"the store was rendered from another folder: {store.attributes['source']['root']}",
            where=f"--root {job.root}",
            fix="set --root to that folder, or choose another --out; if the dataset has moved "
            "here, add --moved (its files are compared with those that were rendered)",
        )


def changed_sources(
    store: ViewStore, job: Job, advance: Callable[[int], None] = lambda shapes: None
) -> tuple[list[Broken], int]:
    """Compare all source files with those rendered; return the findings and the number compared.

    advance: called with the number of shapes compared. Built-in shapes have no files.
    """
    broken: list[Broken] = []
    count = 0
    if job.root is None:
        return broken, count
    files = SourceFiles(job)
    for shard in store.committed(RENDER):
        shapes: list[Recorded] = []
        with suppress(DamageError):  # `verify` reports it
            shapes = list(_recorded(store, shard))
        for shape in shapes:
            what = files.difference(shape)
            if what:
                broken.append(Broken(f"{job.root}/{shape.record.source}", what))
        count += len(shapes)
        advance(len(store.schema.shapes_of(shard)))
    return broken, count


def _is_elsewhere(store: ViewStore, job: Job) -> bool:
    """Return whether a job's dataset is in another directory than the one that the store names."""
    recorded = store.attributes["source"].get("root")
    if job.root is None or recorded is None:
        return False
    if os.path.realpath(recorded) == os.path.realpath(job.root):
        return False
    with suppress(OSError):  # the recorded directory is on another machine
        return not os.path.samefile(recorded, job.root)
    return str(job.root.absolute()) != recorded


def sample(store: ViewStore) -> list[Recorded]:
    """Return up to SAMPLE rendered shapes, always the same, spread over the committed shards."""
    committed = store.committed(RENDER)
    shards = [committed[i] for i in _spread(len(committed), SAMPLE)]
    found: list[Recorded] = []
    for shard in shards:
        shapes = list(_recorded(store, shard))
        found += [shapes[i] for i in _spread(len(shapes), -(-SAMPLE // len(shards)))]
    return [found[i] for i in _spread(len(found), SAMPLE)]


def _recorded(store: ViewStore, shard: int) -> Iterator[Recorded]:
    """Yield the shapes of a shard whose source has a hash: those that did not fail."""
    outcomes = store.markers(RENDER, [shard])[shard]["outcomes"]
    for shape, outcome in zip(store.schema.shapes_of(shard), outcomes, strict=True):
        if outcome["sha256"]:
            yield Recorded(store.shapes[shape], outcome["sha256"])


def _spread(count: int, most: int) -> list[int]:
    """Return at most `most` indices of a list of length `count`, evenly spaced."""
    return [int(i) for i in np.linspace(0, count - 1, min(count, most)).round()]


def _cloud_hash(job: Job) -> Callable[[ShapeRecord], str]:
    """Return a function that hashes a cloud like its loader: an HDF5 file's row, or two files."""
    from pointcmt.render.load.clouds import CloudLoader

    loader = CloudLoader(job.dataset, job.root or Path(), job.follow_links)
    return lambda record: loader.load(record)[1]


def _made_hash(job: Job) -> Callable[[ShapeRecord], str]:
    """Return a function that hashes a shape made by its source."""
    from pointcmt.render.load.made_shapes import make_cloud, make_mesh

    make = find_source(job.dataset).load_shape
    assert make is not None
    if not isinstance(job.config, SceneConfig) and job.config.splat:
        return lambda record: make_cloud(make, record, job.root)[1]
    return lambda record: make_mesh(make, record, job.root)[1]
