"""`load_scannet`: read a scan of ScanNet v2 with its frames, labeled points and boxes.

The source's coordinates are those of the files, as in the segmentation benchmark; `source_to_world`
contains the axis alignment of the detection benchmark, where there is one (train and val).
"""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.sources.frames import Layout, layout_of
from pointcmt.datasets.sources.scannet import LABEL_TABLE, MESH, frame_folders
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.files import few_notes, path_in, refusals
from pointcmt.render.load.readers.ply_elements import Table, read_body, read_header
from pointcmt.render.load.scenes.folder import SceneFolder, named
from pointcmt.render.load.scenes.ground import on_ground
from pointcmt.render.load.scenes.images import ColorCamera
from pointcmt.render.load.scenes.layouts import centered, exported, in_rig
from pointcmt.render.load.scenes.poses import as_matrix, is_pose, parse_numbers
from pointcmt.render.load.scenes.recording import Lens, Recording, frames_of, sample_points
from pointcmt.render.load.scenes.scannet_images import with_labels
from pointcmt.render.load.scenes.scannet_labels import (
    VertexLabels,
    boxes_of,
    read_groups,
    read_ids,
    read_label_table,
)
from pointcmt.render.load.scenes.sens import read_sens
from pointcmt.render.load.scenes.sidecar import read_sidecar
from pointcmt.render.load.scenes.vertices import read_vertices
from pointcmt.scenes import Boxes, Frame, SceneData

_MAX_MESH = 1 << 30  # bytes; the largest has 20 MB
_MAX_TILT = 1e-3  # of an axis alignment: the largest change of the up direction


def load_scannet(record: ShapeRecord, root: Path, follow_links: bool = False) -> SceneData:
    """Return a scan that `list_scannet` found.

    Frames come from the .sens file, else from exported frames in the scan's folder or in
    `scannet_frames_25k`, whose images of labels are read, too; frames with an invalid pose are left
    out and counted. Points are the
    vertices of `_vh_clean_2.ply`, in their order; without it, there are none. sha256 covers all
    that was read, images by their names and sizes. Raises ShapeRefused for anything wrong.
    """
    with refusals(root / record.source):
        path = path_in(root, record.source)
        folder = SceneFolder(path, root, follow_links)
        if not folder.inside("").is_dir():
            raise ShapeRefused(Reason.MISSING_FILE, f"no folder {record.source}")
        name = path.name
        alignment, notes = _alignment(folder, f"{name}.txt")
        frames, digests, more = _frames(folder, root, name, follow_links)
        notes += more
        points, mesh, boxes = None, None, Boxes.none()
        mesh_file = f"{name}{MESH}.ply"
        if folder.has(mesh_file):
            points, mesh = read_vertices(folder.read(mesh_file, _MAX_MESH), mesh_file)
            top = SceneFolder(root, root, follow_links)
            labels = _labels(folder, top, name, len(points))
            if labels is not None:
                digests.append(top.digest())
                points = replace(points, semantic=labels.semantic, instance=labels.instance)
                boxes, of_boxes = boxes_of(points.points, labels, alignment)
                notes += (*labels.notes, *of_boxes)
        if points is None and not frames:
            what = f"neither {name}{MESH}.ply nor frames (.sens, or color, depth and pose)"
            raise ShapeRefused(Reason.MISSING_FILE, what)
        surface = sample_points(frames) if points is None else points.points
        return SceneData(
            frames=frames,
            points=points,
            boxes=boxes,
            mesh=mesh,
            source_to_world=on_ground(surface, alignment),
            sha256=sha256("\n".join([folder.digest(), *digests]).encode()).hexdigest(),
            notes=few_notes(notes),
        )


def read_alignment(root: Path, source: str) -> NDArray[np.float64]:
    """Return the axis alignment [4,4] of a scan in a folder of ScanNet; the identity without one.

    Raises ShapeRefused for a damaged file.
    """
    with refusals(root / source):
        path = path_in(root, source)
        return _alignment(SceneFolder(path, root), f"{path.name}.txt")[0]


def _alignment(folder: SceneFolder, name: str) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the axis alignment [4,4] of a scan, the identity if it has none, and notes.

    Scans of the test set have none.
    """
    for line in folder.text(name).splitlines() if folder.has(name) else ():
        key, _, value = line.partition("=")
        if key.strip() == "axisAlignment":
            matrix = as_matrix(parse_numbers(value, name), name)
            if is_pose(matrix) and abs(matrix[2, :3] - [0, 0, 1]).max() < _MAX_TILT:
                return matrix, ()
            return np.eye(4), (f"the axisAlignment of {name} is not a turn about z: not used",)
    return np.eye(4), ()


def _frames(
    folder: SceneFolder, root: Path, name: str, follow_links: bool
) -> tuple[tuple[Frame, ...], list[str], tuple[str, ...]]:
    """Return the frames of a scan, digests of what they were read from, and notes."""
    if folder.has(f"{name}.sens"):
        recording, digest = _recording(folder, f"{name}.sens")
        frames, notes = frames_of(recording)
        return frames, [digest], notes
    places = [folder, *(SceneFolder(root / place, root, follow_links)
                        for place in frame_folders(root, name))]  # fmt: skip
    for place in places:
        if layout_of(place.inside("")) == Layout.EXPORTED:
            frames, notes = frames_of(with_labels(place, exported(place, read_sidecar(place))))
            return frames, [] if place is folder else [place.digest()], notes
    return (), [], ("no frames: no .sens file, and no folders color, depth and pose",)


def _recording(folder: SceneFolder, name: str) -> tuple[Recording, str]:
    """Return the frames in a .sens file as a recording, and its digest."""
    header, shots, digest = read_sens(folder.inside(name))
    rig, notes = [], []
    for kind, matrix in (("depth", header.extrinsic_depth), ("color", header.extrinsic_color)):
        valid = is_pose(matrix)
        rig.append(matrix if valid else np.eye(4))
        if not valid:
            notes.append(f"the {kind} camera's extrinsics are not rigid: taken as the identity")
    shots = tuple(replace(s, camera_to_world=in_rig(s.camera_to_world, rig[0])) for s in shots)
    camera = ColorCamera(centered(header.intrinsic_color), np.linalg.inv(rig[1]) @ rig[0])
    recording = Recording(
        shots=shots,
        lens=Lens(centered(header.intrinsic_depth)),
        depth_unit=1 / header.depth_shift,
        color=camera,
        notes=tuple(notes),
    )
    return recording, digest


def _tables(folder: SceneFolder, name: str) -> dict[str, Table]:
    data = folder.read(name, _MAX_MESH)
    with named(name):
        tables, _ = read_body(data, read_header(data))
    return tables


def _labels(folder: SceneFolder, top: SceneFolder, name: str, vertices: int) -> VertexLabels | None:
    """Return the labels of the vertices; None if the scan has none, as in the test set.

    top: the data set's root, which holds the table of names.
    """
    segments, groups = f"{name}{MESH}.0.010000.segs.json", f"{name}.aggregation.json"
    if not folder.has(groups):  # as some downloads name it
        groups = f"{name}{MESH}.aggregation.json"
    labels = f"{name}{MESH}.labels.ply"
    if folder.has(segments) and folder.has(groups) and top.has(LABEL_TABLE):
        table = read_label_table(top)
        return read_groups(folder.json(segments), folder.json(groups), table, vertices)
    if folder.has(labels):
        tables = _tables(folder, labels)
        ids = tables["vertex"].columns(("label",)) if "vertex" in tables else None
        if ids is None or len(ids) != vertices:
            what = f"{labels} has no label for each of {vertices} vertices"
            raise ShapeRefused(Reason.COUNT_MISMATCH, what)
        return read_ids(ids[:, 0])
    if folder.has(groups):
        missing = segments if top.has(LABEL_TABLE) else LABEL_TABLE
        what = f"{missing} is missing: without it, the labels of this scan cannot be read"
        raise ShapeRefused(Reason.MISSING_FILE, what)
    return None
