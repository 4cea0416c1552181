"""The two kinds of shapes, meshes and clouds: how to load, sample, draw and test visibility.

All shapes of a job are of one kind, which its configuration determines (`splat`). Shards have the
same arrays for both; for clouds, face indices are indices of source points.
"""

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pointcmt.cameras import Camera
from pointcmt.datasets.sources import find_source
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.geometry import choose_points, normalize, normalize_cloud, sample_points, shape_seed
from pointcmt.render.config import RenderConfig
from pointcmt.render.draw import splatter
from pointcmt.render.draw.raycaster import RayCaster
from pointcmt.render.draw.splatter import Splats, draw_cloud, splat
from pointcmt.render.draw.views import Views
from pointcmt.render.draw.visibility import visible_points
from pointcmt.render.jobs.backends import Renderer, make_renderer
from pointcmt.render.jobs.job import Job
from pointcmt.render.jobs.scenes import Scenes
from pointcmt.render.load.clouds import CloudLoader
from pointcmt.render.load.corner_normals import for_shading
from pointcmt.render.load.files import path_in
from pointcmt.render.load.made_shapes import make_cloud, make_mesh
from pointcmt.render.load.meshes import load_hashed
from pointcmt.render.load.normals import complete_normals
from pointcmt.render.load.readers.sidecars import Search
from pointcmt.render.scenes.config import SceneConfig
from pointcmt.shapes import Cloud, Mesh, UnitMesh


@dataclass(frozen=True, eq=False)
class Sample:
    """Points of a shape in farthest-point order, as a store holds them. N points."""

    points: NDArray[np.float32]  # [N,3]
    normals: NDArray[np.float64]  # [N,3] unit
    point_face: NDArray[np.int32]  # [N]
    part: NDArray[np.uint8] | None = None  # [N]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Source:
    """The source of a shape. sha256: of the bytes read; faces: number of faces (or points)."""

    record: ShapeRecord
    sha256: str
    source_to_world: NDArray[np.float64]  # [4,4]
    faces: int
    notes: tuple[str, ...]


class Shape(Protocol):
    """A shape in the unit sphere."""

    source: Source

    def sample(self) -> Sample:
        """Sample as many points as the configuration asks for."""
        ...

    def draw(self) -> Views:
        """Draw images from all cameras. Raises ShapeRefused."""
        ...

    def visible(
        self, points: NDArray[np.float32], point_face: NDArray[np.int32]
    ) -> NDArray[np.bool_]:
        """Return which of the points [N,3] of `sample` each camera sees, [V,N]."""
        ...


class Kind(Protocol):
    """Load the shapes of a job. drawer: the renderer's name and why it was chosen, to be stored."""

    config: RenderConfig
    camera: Camera  # [V]

    @property
    def drawer(self) -> tuple[str, str]: ...

    def load(self, record: ShapeRecord, sha256: str = "") -> Shape:
        """Read a shape and move it into the unit sphere.

        sha256: required hash of the source, "" = any. Raises ShapeRefused.
        """
        ...


def kind_of(job: Job, worker: int) -> Kind | Scenes:
    """Return the `Kind` that loads a job's shapes in this worker process."""
    config = job.config
    if isinstance(config, SceneConfig):
        return Scenes(job, config)
    return Clouds(job, config) if config.splat else Meshes(job, config, worker)


class Meshes:
    """Meshes, drawn by the backend that the configuration names."""

    def __init__(self, job: Job, config: RenderConfig, worker: int) -> None:
        self.job, self.config = job, config
        self.camera = config.rig.cameras(config.size)
        self._worker = worker
        self._make = find_source(job.dataset).load_shape

    @cached_property
    def renderer(self) -> Renderer:
        """The renderer, made on first use, since not every task draws."""
        job = self.job
        return make_renderer(self.config.backend, job.device, self._worker, job.threads)

    @property
    def drawer(self) -> tuple[str, str]:
        return self.renderer.backend, self.renderer.reason

    def load(self, record: ShapeRecord, sha256: str = "") -> "MeshShape":
        mesh, found = self._read(record)
        _refuse_changed(record, found, sha256)
        return self.place(record, mesh, found)

    def place(self, record: ShapeRecord, mesh: Mesh, sha256: str = "") -> "MeshShape":
        """Move a mesh into the unit sphere. Raises ShapeRefused."""
        config = self.config
        unit, source_to_world = normalize(mesh, self.job.up)
        unit = for_shading(unit, config.shading, config.crease_angle)
        source = Source(record, sha256, source_to_world, len(unit.faces), unit.notes)
        return MeshShape(self, source, unit)

    def _read(self, record: ShapeRecord) -> tuple[Mesh, str]:
        """Return a shape's mesh in source coordinates, and the SHA-256 of its source."""
        if self._make is not None:
            return make_mesh(self._make, record, self.job.root)
        path = path_in(self.job.root or Path(), record.source)
        search = Search(self.job.root, self.job.textures)
        return load_hashed(path, search, normals=self.config.shading == "smooth")


class MeshShape:
    """A mesh: points uniform by area, visibility by ray casting."""

    def __init__(self, kind: Meshes, source: Source, mesh: UnitMesh) -> None:
        self.source = source
        self._kind, self._mesh = kind, mesh
        self._scene = RayCaster(mesh, kind.job.threads, kind.config.cull == "back")

    def sample(self) -> Sample:
        config, mesh = self._kind.config, self._mesh
        rng = shape_seed(config.seed, self.source.record.id)
        points, faces = sample_points(mesh, config.points, rng)
        return Sample(
            points=points.astype(np.float32),
            normals=self._scene.surface.normals[faces],
            point_face=faces,
            part=None if mesh.face_part is None else mesh.face_part[faces],
        )

    def draw(self) -> Views:
        return self._kind.renderer.render(self._scene, self._kind.camera, self._kind.config)

    def visible(
        self, points: NDArray[np.float32], point_face: NDArray[np.int32]
    ) -> NDArray[np.bool_]:
        return visible_points(self._scene, points, point_face, self._kind.camera)


class Clouds:
    """Point clouds, drawn as discs."""

    drawer = "splat", "a cloud"

    def __init__(self, job: Job, config: RenderConfig) -> None:
        self.job, self.config = job, config
        self.camera = config.rig.cameras(config.size)
        make = find_source(job.dataset).load_shape
        self._read = (
            partial(make_cloud, make, root=job.root)
            if make is not None
            else CloudLoader(job.dataset, job.root or Path(), job.follow_links).load
        )

    def load(self, record: ShapeRecord, sha256: str = "") -> "CloudShape":
        cloud, found = self._read(record)
        _refuse_changed(record, found, sha256)
        cloud, source_to_world = normalize_cloud(cloud, self.job.up)
        cloud = complete_normals(cloud)
        source = Source(record, found, source_to_world, len(cloud.points), cloud.notes)
        return CloudShape(self, source, cloud)


class CloudShape:
    """A cloud: points chosen from its own, visibility from the rendered images."""

    def __init__(self, kind: Clouds, source: Source, cloud: Cloud) -> None:
        self.source = source
        self._kind, self._cloud = kind, cloud

    @cached_property
    def _splats(self) -> Splats:
        return splat(self._cloud.points, self._kind.camera, self._kind.config.splat)

    def sample(self) -> Sample:
        cloud, count = self._cloud, self._kind.config.points
        chosen = choose_points(cloud.points, count)
        places = len(np.unique(chosen))
        return Sample(
            points=cloud.points[chosen].astype(np.float32),
            normals=cloud.normals[chosen],
            point_face=chosen,
            part=None if cloud.part is None else cloud.part[chosen],
            notes=(f"the cloud only has {places} different points for {count}: some are repeated",)
            if places < count
            else (),
        )

    def draw(self) -> Views:
        kind = self._kind
        return draw_cloud(self._cloud, self._splats, kind.camera, kind.config)

    def visible(
        self, points: NDArray[np.float32], point_face: NDArray[np.int32]
    ) -> NDArray[np.bool_]:
        return splatter.visible_points(self._cloud, point_face, self._splats, self._kind.camera)


def _refuse_changed(record: ShapeRecord, found: str, expected: str) -> None:
    if expected not in ("", found):
        raise ShapeRefused(
            Reason.SOURCE_CHANGED, f"{record.source} is not the file that was rendered"
        )
