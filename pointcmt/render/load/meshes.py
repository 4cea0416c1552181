"""`load_mesh`: read any mesh file as a checked `Mesh`, or refuse it with a reason."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.files import few_notes, read_shape_file, refusals
from pointcmt.render.load.readers import MAX_FACES
from pointcmt.shapes import Mesh

_TEXT = (".off", ".obj")


def load_mesh(path: Path, normals: bool = False) -> Mesh:
    """Read the mesh of an OFF, OBJ, PLY, STL, GLB or glTF file, chosen by its suffix.

    Triangles keep the file's order, including degenerate ones; `Mesh.notes` lists what was odd but
    harmless. normals: also read the normals of vertices, if the file has any. Raises ShapeRefused
    for anything wrong with the file, and DependencyError if a library that reads it is missing.
    """
    mesh, _ = load_hashed(path, normals)
    return mesh


def load_hashed(path: Path, normals: bool = False) -> tuple[Mesh, str]:
    """Run `load_mesh`; also return the SHA-256 of the bytes that the mesh was read from."""
    with refusals(path):
        data = read_shape_file(path, _TEXT)
        mesh = _reader(path)(path, data, normals)
        if len(mesh.faces) > MAX_FACES:
            what = f"{len(mesh.faces)} faces, more than the maximum of {MAX_FACES}"
            raise ShapeRefused(Reason.TOO_LARGE, what)
    return replace(mesh, notes=few_notes(mesh.notes)), hashlib.sha256(data).hexdigest()


def _reader(path: Path) -> Callable[[Path, bytes, bool], Mesh]:
    """Return the reader for a suffix, imported only when needed: each imports compiled code."""
    match path.suffix.lower():
        case ".off":
            from pointcmt.render.load.readers.off import read_off as read
        case ".obj":
            from pointcmt.render.load.readers.obj import read_obj as read
        case ".ply":
            from pointcmt.render.load.readers.ply import read_ply as read
        case ".stl":
            from pointcmt.render.load.readers.stl import read_stl as read
        case ".glb" | ".gltf":
            from pointcmt.render.load.readers.glb.scene import read_glb as read
        case suffix:
            known = ".off, .obj, .ply, .stl, .glb, .gltf"
            raise ShapeRefused(
                Reason.UNKNOWN_FORMAT, f"no reader for {suffix or 'no suffix'}; known: {known}"
            )
    return read
