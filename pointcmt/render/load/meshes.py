"""`load_mesh`: any mesh file to a checked `Mesh`, or a refusal with a reason of the fixed set."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.files import few_notes, read_shape_file, refusals
from pointcmt.render.load.readers import MAX_FACES
from pointcmt.shapes import Mesh

_TEXT = (".off", ".obj")


def load_mesh(path: Path) -> Mesh:
    """The mesh of an OFF, OBJ, PLY, STL or GLB file (by its suffix), with finite, valid arrays.

    Triangles come in the file's order, degenerate ones too; `Mesh.notes` says what was odd but
    harmless. Raises ShapeRefused for whatever may be wrong with the file, and DependencyError where
    a library that reads it is missing.
    """
    mesh, _ = load_hashed(path)
    return mesh


def load_hashed(path: Path) -> tuple[Mesh, str]:
    """`load_mesh`, and the SHA-256 of the bytes that the mesh was read from."""
    with refusals(path):
        data = read_shape_file(path, _TEXT)
        mesh = _reader(path)(path, data)
        validate(mesh)
    return replace(mesh, notes=few_notes(mesh.notes)), hashlib.sha256(data).hexdigest()


def validate(mesh: Mesh) -> None:
    """Check a mesh's arrays: shapes, types, indices, finite vertices, at least one face.

    Raises ShapeRefused: bad_index, not_finite, no_faces, too_large. Its area is checked by
    `geometry.normalize`.
    """
    vertices, faces = mesh.vertices, mesh.faces
    if vertices.dtype != np.float64 or vertices.ndim != 2 or vertices.shape[1] != 3:
        raise ValueError(f"vertices are {vertices.dtype} {vertices.shape}, not float64 [P,3]")
    if faces.dtype != np.int32 or faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError(f"faces are {faces.dtype} {faces.shape}, not int32 [F,3]")
    if not len(faces):
        raise ShapeRefused(Reason.NO_FACES, "there are no faces")
    if len(faces) > MAX_FACES:
        raise ShapeRefused(Reason.TOO_LARGE, f"{len(faces)} faces, at most {MAX_FACES} are read")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise ShapeRefused(
            Reason.BAD_INDEX,
            f"faces use vertices {faces.min()} to {faces.max()} of {len(vertices)}",
        )
    finite = np.isfinite(vertices).all(axis=1)
    if not finite.all():
        first = int(np.flatnonzero(~finite)[0])
        x, y, z = vertices[first]
        raise ShapeRefused(
            Reason.NOT_FINITE,
            f"{int((~finite).sum())} vertices are not finite, first {first}: {x:g} {y:g} {z:g}",
        )
    _validate_looks(mesh)


def _validate_looks(mesh: Mesh) -> None:
    """Check what colours a mesh; a fault here is the reader's, not the file's."""
    count = len(mesh.faces)
    expected = {
        "uv": (np.float32, (count, 3, 2)),
        "vertex_colors": (np.float32, (len(mesh.vertices), 3)),
        "face_colors": (np.float32, (count, 3)),
        "face_material": (np.int32, (count,)),
        "face_part": (np.uint8, (count,)),
    }
    for name, (dtype, shape) in expected.items():
        array = getattr(mesh, name)
        if array is not None and (array.dtype != dtype or array.shape != shape):
            raise ValueError(f"{name} is {array.dtype} {array.shape}, not {dtype} {shape}")
        if array is not None and not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite")
    material = mesh.face_material
    if material is not None and not -1 <= material.min() <= material.max() < len(mesh.materials):
        raise ValueError("face_material names materials that are not there")


def _reader(path: Path) -> Callable[[Path, bytes], Mesh]:
    """The reader of a suffix; imported here, since each brings libraries and compiled code."""
    match path.suffix.lower():
        case ".off":
            from pointcmt.render.load.readers.off import read_off as read
        case ".obj":
            from pointcmt.render.load.readers.obj import read_obj as read
        case ".ply":
            from pointcmt.render.load.readers.ply import read_ply as read
        case ".stl":
            from pointcmt.render.load.readers.stl import read_stl as read
        case ".glb":
            from pointcmt.render.load.readers.glb.scene import read_glb as read
        case suffix:
            known = ".off, .obj, .ply, .stl, .glb"
            raise ShapeRefused(
                Reason.UNKNOWN_FORMAT, f"no reader for {suffix or 'no suffix'}; known: {known}"
            )
    return read
