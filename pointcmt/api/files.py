"""Shapes from files and objects, loaded, normalized and sampled exactly as a view store's are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pointcmt import geometry
from pointcmt.cameras import Rig, on_sphere
from pointcmt.datasets.sources.folder import SUFFIXES, list_folder
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import PointcmtError, Reason, ShapeRefused, UsageError
from pointcmt.input_frame import UP_AXES
from pointcmt.render.config import RenderConfig, fit
from pointcmt.render.jobs.job import Job
from pointcmt.render.jobs.kinds import Clouds, CloudShape, Meshes, Shape, Source
from pointcmt.render.limits import usable_cores
from pointcmt.render.load.normals import complete_normals
from pointcmt.shapes import Cloud, Mesh

PICTURE = Rig("picture", (on_sphere(-60.0, 20.0),))
PICTURE_SIZE = 160  # pixels
SET_OF = {"mesh": "folder", "cloud": "clouds"}  # the dataset that reads files of a kind
CLOUD_ONLY = tuple(s for s in SUFFIXES["clouds"] if s not in SUFFIXES["folder"])
Kind = Literal["mesh", "cloud"]
MESHES_ONLY: dict[str, Any] = {"cull": "none", "shading": "flat", "crease_angle": None}


@dataclass(frozen=True, eq=False)
class Entry:
    """A shape that is still to be loaded: a record and its folder, or an object.

    path: for messages. A record's id seeds its sampling, as in a store of that folder.
    """

    record: ShapeRecord
    path: str
    root: Path | None = None
    shape: Mesh | Cloud | None = None


@dataclass(frozen=True, eq=False)
class Loaded:
    """A shape as a network takes it.

    points, normals [N, 3] f32, in the unit sphere. source [N] i32: the face or the point of the
    source that each comes from. source_to_world [4, 4]. views [V, H, W, 3] u8, of networks that
    read images; otherwise one picture or none.
    """

    points: NDArray[np.float32]
    normals: NDArray[np.float32]
    source: NDArray[np.int32]
    source_to_world: NDArray[np.float64]
    views: NDArray[np.uint8] | None


def list_entries(target: str | Path | Mesh | Cloud, number: int) -> list[Entry]:
    """Return the shapes of a file, a folder or an object, without reading any.

    A folder is listed like the datasets `folder` and `clouds`. Text files in a folder of meshes
    are not taken for clouds. A missing file has an entry, which cannot be loaded. Raises UsageError
    for a folder that holds no shape.
    """
    if isinstance(target, Mesh | Cloud):
        name = f"{'cloud' if isinstance(target, Cloud) else 'mesh'}-{number}"
        return [Entry(ShapeRecord(name, None, "test", name), name, shape=target)]
    path = Path(target)
    if not path.is_dir():
        record = ShapeRecord(path.stem, None, "test", path.name)
        return [Entry(record, str(path), root=path.parent)]
    found: dict[str, ShapeRecord] = {}
    try:
        found = {record.source: record for record in list_folder("folder", path).shapes}
    except UsageError:
        found = {record.source: record for record in list_folder("clouds", path).shapes}
    else:
        for record in _clouds_beside(path):
            found.setdefault(record.source, record)
    return [Entry(found[name], str(path / name), root=path) for name in sorted(found)]


def _clouds_beside(path: Path) -> Sequence[ShapeRecord]:
    """Return the clouds in a folder of meshes, without its text files."""
    try:
        listed = list_folder("clouds", path).shapes
    except UsageError:
        return ()
    suffixes = tuple(suffix for suffix in CLOUD_ONLY if suffix != ".txt")
    return [record for record in listed if record.source.lower().endswith(suffixes)]


class Loader:
    """Load shapes as the store of a run holds them.

    render: the settings of that store; None = unknown. draws: whether the network reads views;
    otherwise a shape is drawn only for a picture. points: how many, if the settings are unknown.
    up: the axis that points up in files and objects. textures: one more folder in which meshes'
    textures are looked for.
    """

    def __init__(
        self,
        render: dict[str, Any] | None,
        draws: bool,
        points: int,
        up: str,
        textures: Path | None = None,
    ) -> None:
        if up not in UP_AXES:
            raise UsageError(f"unknown up axis '{up}'", where="--up", fix="known: x, y, z")
        self._up, self._draws, self._textures = up, draws, textures
        try:
            self._config = RenderConfig.from_attributes(render or {})
        except (KeyError, TypeError, ValueError):
            if draws:
                raise UsageError(
                    "this run does not say how its views were rendered, which its network needs",
                    where="run.json",
                    fix="render the files into a store with the same settings, and predict that",
                ) from None
            self._config = RenderConfig(PICTURE, points=points)
        self._kinds = cache(self._make)  # by kind and folder

    def load(self, entry: Entry, picture: bool) -> Loaded:
        """Load one shape. picture: also draw it. Raises ShapeRefused, DependencyError."""
        shape = self._open(entry)
        sample = shape.sample()
        views = shape.draw().rgb if self._draws or picture else None
        moved = shape.source.source_to_world
        normals = sample.normals.astype(np.float32)
        return Loaded(sample.points, normals, sample.point_face, moved, views)

    def _open(self, entry: Entry) -> Shape:
        if entry.shape is not None:
            return self._place(entry.record, entry.shape)
        suffix = Path(entry.record.source).suffix.lower()
        if suffix in CLOUD_ONLY:
            return self._kinds("cloud", entry.root).load(entry.record)
        try:
            return self._kinds("mesh", entry.root).load(entry.record)
        except ShapeRefused as refused:
            if suffix != ".ply" or refused.reason != Reason.NO_FACES:
                raise
        return self._kinds("cloud", entry.root).load(entry.record)  # a PLY file without faces

    def _place(self, record: ShapeRecord, shape: Mesh | Cloud) -> Shape:
        """Move an object into the unit sphere, as `load` does with a file's."""
        if isinstance(shape, Cloud):
            cloud, moved = geometry.normalize_cloud(shape, self._up)
            cloud, clouds = complete_normals(cloud), self._kinds("cloud", None)
            assert isinstance(clouds, Clouds)
            return CloudShape(clouds, Source(record, "", moved, len(cloud.points), ()), cloud)
        meshes = self._kinds("mesh", None)
        assert isinstance(meshes, Meshes)
        return meshes.place(record, shape)

    def _make(self, kind: Kind, root: Path | None) -> Meshes | Clouds:
        """Return what loads the shapes of one kind in one folder."""
        config = self._config
        if not self._draws:  # the points do not depend on how a shape is drawn
            config = replace(config, rig=PICTURE, size=PICTURE_SIZE, layers=(), splat=0.0)
            config = replace(config, backend="embree" if kind == "mesh" else "auto")
        if bool(config.splat) != (kind == "cloud"):  # the run's store has shapes of the other kind
            config = replace(config, splat=0.0, antialias=True)
            if kind == "cloud":  # settings of meshes
                config = replace(config, backend="auto", **MESHES_ONLY)
            config = fit(config, kind)
        job = Job("", SET_OF[kind], root, self._up, config, threads=usable_cores())
        job = replace(job, textures=self._textures)
        return Meshes(job, config, 0) if kind == "mesh" else Clouds(job, config)


def load_all(
    loader: Loader, entries: Sequence[Entry], pictures: set[int]
) -> Iterator[tuple[int, Loaded | ShapeRefused]]:
    """Load entries in order; yield the number of each with the shape, or with why it is refused.

    pictures: numbers of those to draw.
    """
    for number, entry in enumerate(entries):
        try:
            yield number, loader.load(entry, number in pictures)
        except ShapeRefused as refused:
            yield number, refused
        except PointcmtError as error:
            if error.exit_code != 2 or not hasattr(error, "reason"):
                raise
            yield number, ShapeRefused(error.reason, error.what)
