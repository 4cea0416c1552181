"""GLB files (binary glTF 2.0): read all meshes of the scene as one, placed by its nodes.

A mesh that several nodes place appears once for each. Triangles come node by node, depth first in
the file's order, and within a node's mesh primitive by primitive. trimesh is not used: it does not
read fans, skins, morph targets or sparse accessors, keeps linear colors in 8 bits, and allocates
whatever size a file declares.
"""

import json
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.readers import MAX_FACES
from pointcmt.render.load.readers.glb.accessors import Accessors, Budget, Buffers
from pointcmt.render.load.readers.glb.materials import GlbMaterial, GlbMaterials
from pointcmt.render.load.readers.glb.nodes import Nodes
from pointcmt.render.load.readers.glb.primitives import Part, Primitives
from pointcmt.render.load.readers.polygons import zero_unused
from pointcmt.render.load.readers.sidecars import ModelFolder, folder_of, printable
from pointcmt.shapes import Mesh
from pointcmt.srgb import to_srgb

_JSON, _BIN = 0x4E4F534A, 0x004E4942
_UNDERSTOOD = {
    "KHR_materials_unlit",
    "KHR_materials_pbrSpecularGlossiness",
    "KHR_mesh_quantization",
    "KHR_texture_transform",
}


@dataclass(frozen=True)
class _Placed:
    """A part of the scene and its material."""

    part: Part
    look: GlbMaterial


def read_glb(path: Path, data: bytes, folder: ModelFolder | None = None) -> Mesh:
    """Return the mesh of a GLB file's content in its default pose: skins and morph targets applied.

    folder: where external files are looked for, default path's directory.
    Raises ShapeRefused: unknown_format, bad_syntax, truncated, missing_file (an external buffer),
    bad_index, no_faces, too_large.
    """
    tree, binary, notes = _read_chunks(data)
    try:
        _check_tree(tree, len(binary))
        mesh = _read_scene(folder or folder_of(path), tree, binary, len(data))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        # The JSON is not structured as glTF.
        what = f"{type(error).__name__}: {printable(str(error))}"
        raise ShapeRefused(Reason.BAD_SYNTAX, what) from error
    return replace(mesh, notes=(*notes, *mesh.notes))


def _read_chunks(data: bytes) -> tuple[dict[str, Any], memoryview, list[str]]:
    """Return the JSON and the binary chunk, after checking their lengths against the file's."""
    if data[:4] != b"glTF":
        raise ShapeRefused(Reason.UNKNOWN_FORMAT, "the file does not begin with 'glTF'")
    if len(data) < 20:
        raise ShapeRefused(Reason.TRUNCATED, "the file ends within its header")
    version, length = struct.unpack_from("<II", data, 4)
    if version != 2:
        raise ShapeRefused(Reason.UNKNOWN_FORMAT, f"glTF {version} is not supported, only glTF 2")
    if length > len(data):
        what = f"the header declares {length} bytes; the file has {len(data)}"
        raise ShapeRefused(Reason.TRUNCATED, what)
    notes = [f"{len(data) - length} bytes after the end ignored"] if length < len(data) else []
    content = memoryview(data)
    chunks: dict[int, memoryview] = {}
    at = 12
    while at + 8 <= length:
        size, kind = struct.unpack_from("<II", data, at)
        if at + 8 + size > length:
            raise ShapeRefused(Reason.TRUNCATED, "a chunk is longer than the file")
        chunks.setdefault(kind, content[at + 8 : at + 8 + size])
        at += 8 + size
    try:
        tree = json.loads(bytes(chunks.get(_JSON, b"")))
    except (ValueError, RecursionError) as error:
        raise ShapeRefused(
            Reason.BAD_SYNTAX, f"its first chunk is not valid JSON: {printable(str(error))}"
        ) from error
    if not isinstance(tree, dict):
        raise ShapeRefused(Reason.BAD_SYNTAX, "its JSON is not an object")
    return tree, chunks.get(_BIN, content[:0]), notes


def _check_tree(tree: dict[str, Any], room: int) -> None:
    """Refuse extensions that would be read incorrectly, and a truncated binary chunk."""
    unknown = set(tree.get("extensionsRequired", [])) - _UNDERSTOOD
    if unknown:
        names = ", ".join(sorted(printable(str(name)) for name in unknown)[:10])
        what = f"it requires {names}: export the file without compression"
        raise ShapeRefused(Reason.UNKNOWN_FORMAT, what)
    for buffer in tree.get("buffers", [])[:1]:
        if "uri" not in buffer and buffer["byteLength"] > room:
            raise ShapeRefused(Reason.TRUNCATED, "the binary chunk is shorter than declared")


def _read_scene(folder: ModelFolder, tree: dict[str, Any], binary: memoryview, size: int) -> Mesh:
    buffers = Buffers(tree, binary, folder)
    budget = Budget(size, MAX_FACES, 3 * MAX_FACES)
    accessors = Accessors(tree, buffers, budget)
    nodes = Nodes(tree, accessors, budget)
    primitives = Primitives(tree, accessors, nodes, budget)
    materials = GlbMaterials(tree, buffers)
    meshes = list(nodes.placed())
    for _, node in meshes:
        primitives.reserve(node)
    placed = [
        _Placed(part, materials.get(part.material, part.uv is not None))
        for matrix, node in meshes
        for part in primitives.parts(matrix, node)
    ]
    mesh = _assemble(placed, materials)
    return replace(mesh, notes=(*primitives.notes, *mesh.notes))


def _assemble(placed: list[_Placed], materials: GlbMaterials) -> Mesh:
    """Join all parts into one mesh."""
    if not any(len(one.part.faces) for one in placed):
        raise ShapeRefused(Reason.NO_FACES, "its scene contains no triangles")
    starts = np.cumsum([0, *(len(one.part.vertices) for one in placed[:-1])], dtype=np.int32)
    faces = [one.part.faces + start for one, start in zip(placed, starts, strict=True)]
    indices = [np.full(len(one.part.faces), one.look.index, np.int32) for one in placed]
    textured = any(one.look.textured for one in placed)
    colored = any(one.part.colors is not None and not one.look.textured for one in placed)
    joined = np.concatenate(faces)
    vertices, unused = zero_unused(np.concatenate([one.part.vertices for one in placed]), joined)
    return Mesh(
        vertices=vertices,
        faces=joined,
        materials=tuple(materials.materials),
        face_material=np.concatenate(indices) if materials.materials else None,
        uv=np.concatenate([_corner_uv(one) for one in placed]) if textured else None,
        vertex_colors=np.concatenate([_colors(one) for one in placed]) if colored else None,
        notes=(*materials.notes, *unused),
    )


def _corner_uv(one: _Placed) -> NDArray[np.float32]:
    """Return texture coordinates [F,3,2] of a part; 0 if its material has no texture."""
    if one.part.uv is None or not one.look.textured:
        return np.zeros((len(one.part.faces), 3, 2), np.float32)
    return one.look.place(one.part.uv).astype(np.float32)[one.part.faces]


def _colors(one: _Placed) -> NDArray[np.float32]:
    """Return sRGB colors [P,3] of a part's vertices: their own, if any, times the material's."""
    colors = one.part.colors
    tint = np.ones((len(one.part.vertices), 3)) if colors is None else colors
    return to_srgb(tint * one.look.factor).astype(np.float32)
