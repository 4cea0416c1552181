"""`load_mesh`: read any mesh file as a checked `Mesh`, or refuse it with a reason."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from pointcmt.datasets.sources.formats import MESHES
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.files import few_notes, read_shape_file, refusals
from pointcmt.render.load.readers import MAX_FACES
from pointcmt.render.load.readers.sidecars import ModelFolder, Search, folder_of
from pointcmt.shapes import Mesh

_TEXT = (".off", ".obj")


def load_mesh(path: Path, search: Search | None = None, normals: bool = False) -> Mesh:
    """Read the mesh of an OFF, OBJ, PLY, STL, GLB or glTF file, chosen by its suffix.

    search: where its materials and textures may be besides its own folder. normals: also read the
    normals of vertices, if the file has any. Triangles keep the file's order, including degenerate
    ones; `Mesh.notes` lists what was odd but harmless. Raises ShapeRefused for anything wrong with
    the file, and DependencyError if a library that reads it is missing.
    """
    mesh, _ = load_hashed(path, search, normals)
    return mesh


def load_hashed(
    path: Path, search: Search | None = None, normals: bool = False
) -> tuple[Mesh, str]:
    """Run `load_mesh`; also return the SHA-256 of the bytes that the mesh was read from."""
    with refusals(path):
        data = read_shape_file(path, _TEXT)
        folder = folder_of(path, search)
        mesh = _reader(path, folder)(path, data, normals)
        if len(mesh.faces) > MAX_FACES:
            what = f"{len(mesh.faces)} faces, more than the maximum of {MAX_FACES}"
            raise ShapeRefused(Reason.TOO_LARGE, what)
    notes = few_notes((*mesh.notes, *folder.notes))
    return replace(mesh, notes=notes), hashlib.sha256(data).hexdigest()


def _reader(path: Path, folder: ModelFolder) -> Callable[[Path, bytes, bool], Mesh]:
    """Return the reader for a suffix, imported only when needed: each imports compiled code.

    folder: for readers of files that name others.
    """
    read: Callable[[Path, bytes, bool], Mesh]
    match path.suffix.lower():
        case ".off":
            from pointcmt.render.load.readers.off import read_off

            read = read_off
        case ".obj":
            from pointcmt.render.load.readers.obj import read_obj

            read = partial(read_obj, folder=folder)
        case ".ply":
            from pointcmt.render.load.readers.ply import read_ply

            read = partial(read_ply, folder=folder)
        case ".stl":
            from pointcmt.render.load.readers.stl import read_stl

            read = read_stl
        case ".glb" | ".gltf":
            from pointcmt.render.load.readers.glb.scene import read_glb

            read = partial(read_glb, folder=folder)
        case suffix:
            known = ", ".join(MESHES)
            raise ShapeRefused(
                Reason.UNKNOWN_FORMAT, f"no reader for {suffix or 'no suffix'}; known: {known}"
            )
    return read
