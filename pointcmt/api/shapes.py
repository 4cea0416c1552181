"""Single shapes: load, normalize, sample and render them."""

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from pointcmt import geometry
from pointcmt.api.paths import local_path, textures_folder
from pointcmt.arrays import number_array
from pointcmt.cameras import Camera, Rig, find_rig
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import Reason, ShapeError, ShapeRefused, UsageError, nearest
from pointcmt.input_frame import UP_AXES
from pointcmt.render.config import RenderConfig, find_color, fit, schema_for
from pointcmt.render.draw import splatter
from pointcmt.render.draw.raycaster import RayCaster
from pointcmt.render.draw.views import Views
from pointcmt.render.draw.visibility import visible_points
from pointcmt.render.jobs.backends import Renderer, make_renderer
from pointcmt.render.jobs.memory import drawing_memory, usable_memory
from pointcmt.render.limits import usable_cores
from pointcmt.render.load import meshes
from pointcmt.render.load.clouds import CloudLoader
from pointcmt.render.load.corner_normals import for_shading
from pointcmt.render.load.normals import complete_normals
from pointcmt.render.load.readers.sidecars import Search
from pointcmt.shapes import Cloud, Mesh, UnitMesh

SLACK = 1e-6  # how far rounding may take a mesh outside the unit sphere


def load_mesh(
    path: str | Path,
    *,
    root: str | Path | None = None,
    textures: str | Path | None = None,
    normals: bool = False,
) -> Mesh:
    """Load an OFF, OBJ, PLY, STL, GLB or glTF file, with textures and colors, as a validated mesh.

    root: the folder of the dataset; materials and textures are looked for around the file up to it,
    and not outside of it. None = the file's own folder. textures: one more folder to look in, by
    name (docs/datasets.md). normals: also read the normals of vertices, for
    `render_views(shading="smooth")`.

    Triangles keep the file's order and coordinates. Raises ShapeError with the reason if the file
    is missing, damaged, or has no triangles.

    >>> pc.load_mesh("chair.off")
    Mesh(4 vertices, 4 faces)
    """
    top = None if root is None else local_path(root, "--root")
    search = Search(top, textures_folder(textures))
    with _shape_errors(str(path)):
        return meshes.load_mesh(Path(path).expanduser(), search, normals)


def load_cloud(path: str | Path) -> Cloud:
    """Load an XYZ, TXT, ASC, CSV, PTS, PCD, NPY, NPZ or PLY file of points as a validated cloud.

    Normals and colors are read if the file has any; `notes` says what was assumed about its columns
    and how many points that are not finite were left out (docs/datasets.md). Raises ShapeError with
    the reason if the file is missing, damaged, or has no points.

    >>> pc.load_cloud("chair.xyz")
    Cloud(3 points)
    """
    path = Path(path).expanduser()
    record = ShapeRecord(path.stem, None, "train", path.name)
    with _shape_errors(str(path)):
        return CloudLoader("clouds", path.parent).load(record)[0]


def normalize(mesh: Mesh, up: str = "y") -> tuple[UnitMesh, NDArray[np.float64]]:
    """Return a mesh centered and scaled into the unit sphere, +Z up, and the transform used.

    up: the axis that points up in the mesh: x, y or z.

    The transform is `source_to_world` [4,4]. Raises ShapeError for a mesh without area.

    >>> unit, source_to_world = pc.normalize(pc.load_mesh("chair.off"), up="z")
    >>> float(np.linalg.norm(unit.vertices, axis=1).max().round(6))
    1.0
    """
    _check_up(up)
    if isinstance(mesh, UnitMesh):
        return mesh, np.eye(4)
    with _shape_errors():
        return geometry.normalize(mesh, up)


def sample_points(
    shape: Mesh | Cloud, count: int, *, seed: int | np.random.Generator = 0
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Sample points on a surface, uniformly by area, or choose points of a cloud.

    Returns points [count,3] in the shape's own coordinates, and the index of the face (for a cloud:
    of the point) that each comes from, [count]. They are in farthest-point order: any first n are
    evenly spread. The seed does not affect clouds. Raises ShapeError for a mesh without area.

    >>> points, faces = pc.sample_points(pc.load_mesh("chair.off"), 256, seed=0)
    >>> points.shape, faces.shape
    ((256, 3), (256,))
    """
    if count < 1:
        raise UsageError(f"cannot sample {count} points", where="count=", fix="use 1 or more")
    with _shape_errors():
        if isinstance(shape, Cloud):
            chosen = geometry.choose_points(geometry.normalize_cloud(shape, "y")[0].points, count)
            return shape.points[chosen], chosen
        unit, to_unit = normalize(shape, "y")  # the usual axis of files: gives a store's order
        points, faces = geometry.sample_points(unit, count, np.random.default_rng(seed))
    back = np.linalg.inv(to_unit)
    return points @ back[:3, :3].T + back[:3, 3], faces


@dataclass(frozen=True, eq=False, repr=False)
class RenderedViews:
    """Images of one shape from V cameras, as `render_views` makes them; H = W pixels.

    rgb [V,H,W,3] u8 sRGB. depth [V,H,W] f32 along the optical axis, world units, 0 = background.
    face_index [V,H,W] i32: the face (for a cloud: the point) at each pixel's center, -1 =
    background. layers: `normal` and `albedo` [V,H,W,3] u8, if requested. camera: all V, in world
    coordinates (the unit sphere). source_to_world [4,4]: from the shape's own coordinates to the
    world. backend: the renderer used. notes: what was odd but harmless about the shape.

    >>> views = pc.render_views(pc.load_mesh("chair.off"), rig="ortho6", size=32)
    >>> views
    RenderedViews(6 views of 32² pixels, embree)
    >>> len(views.sheet().getbands()), views.camera.K.shape
    (3, (6, 3, 3))
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    face_index: NDArray[np.int32]
    layers: dict[str, NDArray[np.uint8]]
    camera: Camera
    source_to_world: NDArray[np.float64]
    backend: str
    notes: tuple[str, ...] = ()
    _scene: "_Scene" = field(kw_only=True)

    def __len__(self) -> int:
        return len(self.rgb)

    def __repr__(self) -> str:
        V, H = self.rgb.shape[:2]
        return f"RenderedViews({V} view{'s' * (V != 1)} of {H}² pixels, {self.backend})"

    def visible(self, points: ArrayLike, faces: ArrayLike) -> NDArray[np.bool_]:
        """Return which views see which points, [V,N], with one ray per point and view.

        points [N,3]: on the surface, in the shape's own coordinates, as from `sample_points`.
        faces [N]: the faces that they lie on; for a cloud, the indices of its points, which alone
        determine the result.
        """
        points = number_array("points", points, np.float64, (-1, 3))
        faces = number_array("faces", faces, np.int32, (len(points),))
        if len(faces) and not 0 <= faces.min() <= faces.max() < self._scene.count:
            raise ShapeError(
                f"face indices range from {faces.min()} to {faces.max()}; "
                f"valid: 0 to {self._scene.count - 1}",
                where="faces=",
                reason=Reason.BAD_INDEX,
            )
        world = self.to_world(points).astype(np.float32)
        shows = self.face_index.reshape(len(self), -1).max(axis=1) >= 0
        seen: NDArray[np.bool_] = self._scene.visible(world, faces) & shows[:, None]
        return seen

    def to_world(self, points: ArrayLike) -> NDArray[np.float64]:
        """Transform points [N,3] from the shape's own coordinates to the world."""
        turn = self.source_to_world
        return np.asarray(points, np.float64) @ turn[:3, :3].T + turn[:3, 3]

    def sheet(self, columns: int = 10) -> Image.Image:
        """Return all views in one image, row by row."""
        rows = -(-len(self) // columns)
        V, H = self.rgb.shape[:2]
        sheet = Image.new("RGB", (min(columns, V) * H, rows * H), "white")
        for view, image in enumerate(self.rgb):
            sheet.paste(Image.fromarray(image), (view % columns * H, view // columns * H))
        return sheet


class DrawSettings(TypedDict, total=False):
    """Further settings of `render_views`, the same as in `render`.

    >>> settings: pc.DrawSettings = {"layers": ["normal"], "background": "black"}
    """

    layers: Iterable[str]  # further images: normal, albedo
    antialias: bool  # smooth edges in rgb
    background: str | tuple[int, int, int]  # white, black, #rrggbb
    light: str  # camera or world
    splat: float  # for clouds: a point's radius in pixels
    cull: str  # faces to leave out: none, or back (those turned away)
    shading: str  # flat, or smooth: by the normals of vertices
    crease_angle: float | None  # degrees: makes normals for smooth shading, if there are none


def render_views(
    shape: Mesh | Cloud,
    rig: str | Path | Rig = "dodeca20",
    size: int = 224,
    *,
    up: str = "y",
    normalize: bool = True,
    backend: str = "auto",
    device: str = "auto",
    **settings: Unpack[DrawSettings],
) -> RenderedViews:
    """Render a mesh or a cloud from all cameras of a rig: the images that a view store holds.

    rig: a name, a .toml file, or a `Rig`. size: pixels, square. up: the axis that points up in the
    shape, as in `pointcmt render --up`. normalize: bring it into the unit sphere first; if False,
    it must be a mesh in the unit sphere, +Z up, such as a `UnitMesh`. backend: auto, egl, embree or
    pyrender. device: of GPUs. settings: `DrawSettings`.

    Raises UsageError for an invalid setting or images that do not fit into memory, ShapeError for a
    shape that cannot be rendered.

    >>> views = pc.render_views(pc.load_mesh("chair.off"), rig="ortho6", size=32)
    >>> views.rgb.shape, views.depth.shape, views.face_index.shape
    ((6, 32, 32, 3), (6, 32, 32), (6, 32, 32))
    """
    _check_up(up)
    given: dict[str, Any] = dict(settings)
    unknown = given.keys() - DrawSettings.__annotations__.keys()
    if unknown:
        name, known = min(unknown), DrawSettings.__annotations__
        what = f"render_views has no setting '{name}'"
        raise UsageError(what, where=f"{name}=", fix=nearest(name, known))
    found = rig if isinstance(rig, Rig) else find_rig(str(rig))
    given["layers"] = tuple(sorted(given.get("layers", ())))
    given["background"] = find_color(given.get("background", "white"))
    config = RenderConfig(found, size=size, backend=backend, points=1, **given)
    config = fit(config, "cloud" if isinstance(shape, Cloud) else "mesh")
    _require_memory(config)
    with _shape_errors():
        scene, transform = _scene(shape, config, up, normalize, device)
        views, camera = scene.draw(), scene.camera
    parts = views.rgb, views.depth, views.face_index, views.layers
    return RenderedViews(*parts, camera, transform, scene.backend, scene.notes, _scene=scene)


def _require_memory(config: RenderConfig) -> None:
    """Raise UsageError for images that need more memory than there is: a kill would say nothing."""
    need, usable = drawing_memory(schema_for(config, 1, shard=1)), usable_memory()
    if need > usable:
        raise UsageError(
            f"{len(config.rig.views)} views of {config.size}² pixels take {need:.1f} GiB, and this "
            f"machine or container has {usable:.1f} GiB",
            where="--size",
            fix="a smaller --size, or a --rig of fewer views",
        )


class _Scene(Protocol):
    """A shape in the unit sphere with its cameras. count: of faces, or of a cloud's points."""

    camera: Camera
    notes: tuple[str, ...]

    @property
    def count(self) -> int: ...
    @property
    def backend(self) -> str: ...
    def draw(self) -> Views: ...
    def visible(
        self, points: NDArray[np.float32], faces: NDArray[np.int32]
    ) -> NDArray[np.bool_]: ...


def _scene(
    shape: Mesh | Cloud, config: RenderConfig, up: str, into_sphere: bool, device: str
) -> tuple[_Scene, NDArray[np.float64]]:
    if isinstance(shape, Cloud):
        if not into_sphere:
            raise UsageError("clouds are always normalized", where="normalize=False")
        cloud, transform = geometry.normalize_cloud(shape, up)
        return _CloudScene(complete_normals(cloud), config), transform
    if into_sphere:
        unit, transform = normalize(shape, up)
    else:
        unit, transform = _as_unit(shape), np.eye(4)
    return _MeshScene(unit, config, device), transform


def _as_unit(mesh: Mesh) -> UnitMesh:
    """Return a mesh as a `UnitMesh`. Raises UsageError if it is not in the unit sphere."""
    if isinstance(mesh, UnitMesh):
        return mesh
    radius = float(np.linalg.norm(mesh.vertices[mesh.faces.ravel()], axis=1).max())
    if radius > 1 + SLACK:
        raise UsageError(
            f"this mesh extends to {radius:g} from the origin, outside the unit sphere",
            where="normalize=False",
            fix="leave it out, or scale the mesh first",
        )
    return UnitMesh.of(mesh, mesh.vertices)


class _MeshScene:
    def __init__(self, mesh: UnitMesh, config: RenderConfig, device: str) -> None:
        mesh = for_shading(mesh, config.shading, config.crease_angle)
        self.count, self.config, self.device = len(mesh.faces), config, device
        self.notes = mesh.notes
        self.camera = config.rig.cameras(config.size)
        self.caster = RayCaster(mesh, usable_cores(), config.cull == "back")

    @property
    def backend(self) -> str:
        return _renderer(self.config.backend, self.device).backend

    def draw(self) -> Views:
        renderer = _renderer(self.config.backend, self.device)
        return renderer.render(self.caster, self.camera, self.config)

    def visible(self, points: NDArray[np.float32], faces: NDArray[np.int32]) -> NDArray[np.bool_]:
        return visible_points(self.caster, points, faces, self.camera)


class _CloudScene:
    backend = "splat"

    def __init__(self, cloud: Cloud, config: RenderConfig) -> None:
        self.count, self.cloud, self.config = len(cloud.points), cloud, config
        self.notes = cloud.notes
        self.camera = config.rig.cameras(config.size)

    @cached_property
    def splats(self) -> splatter.Splats:
        return splatter.splat(self.cloud.points, self.camera, self.config.splat)

    def draw(self) -> Views:
        return splatter.draw_cloud(self.cloud, self.splats, self.camera, self.config)

    def visible(self, points: NDArray[np.float32], faces: NDArray[np.int32]) -> NDArray[np.bool_]:
        return splatter.visible_points(self.cloud, faces, self.splats, self.camera)


_made = threading.local()  # a GL context belongs to one thread and does not survive a fork


def _renderer(backend: str, device: str) -> Renderer:
    """Return this thread's renderer, created on first use."""
    known: dict[str, Renderer] = _made.__dict__
    key = f"{os.getpid()} {backend} {device}"
    if key not in known:
        known[key] = make_renderer(backend, device, threads=usable_cores())
    return known[key]


def _check_up(up: str) -> None:
    if up not in UP_AXES:
        raise UsageError(f"unknown up axis '{up}'", where="--up", fix="known: x, y, z")


@contextmanager
def _shape_errors(where: str = "") -> Iterator[None]:
    """Turn a ShapeRefused into the public ShapeError."""
    try:
        yield
    except ShapeRefused as refused:
        raise ShapeError(refused.detail, where=where, reason=refused.reason) from refused
