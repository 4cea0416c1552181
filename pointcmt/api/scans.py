"""Scans of rooms from files and objects, as the points that a network for scenes reads.

Points are those of a cloud, or the vertices of a mesh. They are moved rigidly, never scaled: +Z up,
the floor near z = 0, as sources of scenes do it; so they have to be in meters.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.api.files import CLOUD_ONLY, Entry, list_entries
from pointcmt.api.stores import ViewStore
from pointcmt.datasets.sources.scannet import MESH
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import Reason, ShapeRefused, StoreError
from pointcmt.input_frame import UP_AXES
from pointcmt.render.load.clouds import CloudLoader
from pointcmt.render.load.files import path_in, read_shape_file, refusals
from pointcmt.render.load.meshes import load_mesh
from pointcmt.render.load.normals import TOLERANCE, estimate_normals
from pointcmt.render.load.scenes.ground import on_ground
from pointcmt.render.load.scenes.vertices import read_vertices, vertex_normals
from pointcmt.render.scenes.order import voxel_order
from pointcmt.scenes import ScenePoints
from pointcmt.shapes import Cloud, Mesh

SCAN_FILE = f"{MESH}.ply"  # what a scan's name ends with in ScanNet
MOST_EXTENT = 1000.0  # meters; more is another unit, and too large for the keys of voxels
ODD_EXTENT = 100.0  # meters; most likely another unit
GRAY = 128  # of points without a color


@dataclass(frozen=True, eq=False)
class ScanEntry(Entry):
    """A scan that is still to be read. pose [4, 4]: to the world; None = stand it on its floor."""

    pose: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class Scan:
    """A scan in its own coordinates. source [N] i32: the vertex or point that each comes from."""

    points: ScenePoints
    source: NDArray[np.int32]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True, eq=False)
class PlacedScan:
    """A scan as a store would hold it. N points.

    points: [N, 3] f32 meters in the world, in the order of a store. channels: arrays [N, 3] by
    name. order: the point of the scan that each one is, [N]. pose [4, 4]: from the scan's own
    coordinates to the world. notes: on what had to be assumed.
    """

    points: NDArray[np.float32]
    channels: dict[str, NDArray[Any]]
    order: NDArray[np.int64]
    pose: NDArray[np.float64]
    notes: tuple[str, ...]


def list_scans(target: str | Path | Mesh | Cloud, number: int) -> list[Entry]:
    """Return the scans of a file, a folder or an object, without reading any; see `list_entries`.

    Of a folder with meshes of ScanNet (`SCENE_vh_clean_2.ply`) only those are taken, since the
    other files there show the same scans. Such a file has the name of its scene.
    """
    entries = list_entries(target, number)
    if len(entries) > 1 or (not isinstance(target, Mesh | Cloud) and Path(target).is_dir()):
        entries = [e for e in entries if e.record.source.endswith(SCAN_FILE)] or entries
    return [replace(entry, record=replace(entry.record, id=scan_name(entry))) for entry in entries]


def scan_name(entry: Entry) -> str:
    """Return the name of a scan: that of its scene in ScanNet, otherwise the id of its entry."""
    file = Path(entry.record.source).name
    is_scan = entry.shape is None and file.endswith(SCAN_FILE)
    return file.removesuffix(SCAN_FILE) if is_scan else entry.record.id


def scans_of_store(store: ViewStore, scenes: Iterable[int]) -> list[ScanEntry]:
    """Return the meshes that a ScanNet store's scenes were read from, with their poses there.

    The store itself holds vertices in another order, and only as many as it has room for. Raises
    StoreError for a store of other scenes.
    """
    source = store.attributes["source"]
    if source["name"] != "scannet" or not source.get("root"):
        raise StoreError(
            "only a store of ScanNet knows the meshes that its scenes were read from",
            where=store.path,
            fix="pass a store that `pointcmt render --dataset scannet` made, or the files "
            f"SCENE{SCAN_FILE} themselves",
        )
    root, found = Path(source["root"]), []
    for scene in scenes:
        record = store.shapes[scene]
        name = f"{record.source}/{record.id}{SCAN_FILE}"
        pose = store.read("source_to_world", scene)
        mesh = ShapeRecord(record.id, None, record.split, name)
        found.append(ScanEntry(mesh, str(root / name), root, pose=pose))
    return found


def read_scan(entry: Entry) -> Scan:
    """Return the points of a file or an object. Raises ShapeRefused, DependencyError.

    Of a PLY file, all vertices in the file's order; of other meshes, those that faces use.
    """
    if isinstance(entry.shape, Mesh):
        return _of_mesh(entry.shape, np.arange(len(entry.shape.vertices)))
    if isinstance(entry.shape, Cloud):
        return _of_cloud(entry.shape)
    assert entry.root is not None
    path, suffix = Path(entry.path), Path(entry.record.source).suffix.lower()
    with refusals(path):
        path_in(entry.root, entry.record.source)
        if suffix == ".ply":
            points, _ = read_vertices(read_shape_file(path, ()), path.name)
            return Scan(points, np.arange(len(points), dtype=np.int32))
        if suffix in CLOUD_ONLY:
            return _of_cloud(CloudLoader("clouds", entry.root).load(entry.record)[0])
        mesh = load_mesh(path)
        return _of_mesh(mesh, np.unique(mesh.faces))


def place_scan(
    scan: Scan, up: str, channels: Sequence[str], pose: NDArray[np.float64] | None = None
) -> PlacedScan:
    """Return a scan as a store would hold it, with these channels (color, normal).

    up: its up axis, x, y or z. pose: to the world, if it is known. A scan without colors gets gray
    ones, and normals that are missing are estimated, turned to the scan's middle; notes say so.
    Raises ShapeRefused for a scan larger than MOST_EXTENT.
    """
    if pose is None:
        turn = np.eye(4)
        turn[:3, :3] = UP_AXES[up]
        pose = on_ground(scan.points.points, turn)
    world = scan.points.points @ pose[:3, :3].T + pose[:3, 3]  # as a store of scenes does it
    extent = float(np.ptp(world, axis=0).max())
    if extent > MOST_EXTENT:
        what = f"it is {extent:,.0f} m wide, more than {MOST_EXTENT:,.0f} m: scans are in meters"
        raise ShapeRefused(Reason.TOO_LARGE, what)
    notes = list(scan.notes)
    if extent > ODD_EXTENT:
        notes.append(f"it is {extent:,.0f} m wide: coordinates have to be in meters")
    found: dict[str, NDArray[Any]] = {}
    if "color" in channels:
        if scan.points.color is None:
            notes.append("it has no colors, which the network reads: taken as gray")
        gray = np.full((len(scan), 3), GRAY, np.uint8)
        found["color"] = gray if scan.points.color is None else scan.points.color
    if "normal" in channels:
        found["normal"] = _normals(scan.points, pose, world, notes)
    places = world.astype(np.float32)
    order = voxel_order(places)
    ordered = {name: array[order] for name, array in found.items()}
    return PlacedScan(places[order], ordered, order, pose, tuple(notes))


def _normals(
    points: ScenePoints, pose: NDArray[np.float64], world: NDArray[np.float64], notes: list[str]
) -> NDArray[np.float32]:
    """Return normals [N, 3] in the world; those that are missing are estimated, with a note."""
    given = np.zeros((len(points), 3), np.float32) if points.normals is None else points.normals
    normals = (given @ pose[:3, :3].T).astype(np.float32)
    lacking = np.abs(np.linalg.norm(normals, axis=1) - 1) > TOLERANCE
    if points.normals is None or lacking.all():
        notes.append("it has no normals, which the network reads: estimated")
        middle = (world.min(axis=0) + world.max(axis=0)) / 2
        normals = -estimate_normals(world - middle).astype(np.float32)
    return normals


def _of_cloud(cloud: Cloud) -> Scan:
    color = None if cloud.colors is None else np.rint(cloud.colors * 255).astype(np.uint8)
    points = ScenePoints(cloud.points, color, cloud.normals.astype(np.float32))
    return Scan(points, np.arange(len(cloud.points), dtype=np.int32), cloud.notes)


def _of_mesh(mesh: Mesh, vertices: NDArray[np.integer]) -> Scan:
    """Return these vertices of a mesh."""
    color = None
    if mesh.vertex_colors is not None:
        color = np.rint(mesh.vertex_colors[vertices] * 255).astype(np.uint8)
    normals = vertex_normals(mesh.vertices, mesh.faces)[vertices]
    points = ScenePoints(mesh.vertices[vertices], color, normals)
    return Scan(points, vertices.astype(np.int32), mesh.notes)
