"""GLB and .gltf files (glTF 2.0): read all meshes of the scene as one, placed by its nodes.

A mesh that several nodes place appears once for each. Triangles come node by node, depth first in
the file's order, and within a node's mesh primitive by primitive. trimesh is not used: it does not
read fans, skins, morph targets or sparse accessors, keeps linear colors in 8 bits, and allocates
whatever size a file declares.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.readers import MAX_FACES
from pointcmt.render.load.readers.glb.accessors import Accessors
from pointcmt.render.load.readers.glb.budget import Budget
from pointcmt.render.load.readers.glb.buffers import Buffers
from pointcmt.render.load.readers.glb.container import Container, check_extensions, read_container
from pointcmt.render.load.readers.glb.materials import GlbMaterial, GlbMaterials
from pointcmt.render.load.readers.glb.nodes import Nodes
from pointcmt.render.load.readers.glb.primitives import Part, Primitives
from pointcmt.render.load.readers.polygons import zero_unused
from pointcmt.render.load.readers.sidecars import ModelFolder, folder_of, printable
from pointcmt.shapes import Mesh


@dataclass(frozen=True)
class _Placed:
    """A part of the scene and its material."""

    part: Part
    look: GlbMaterial


def read_glb(
    path: Path, data: bytes, normals: bool = False, folder: ModelFolder | None = None
) -> Mesh:
    """Return the mesh of a GLB or .gltf file's content in its default pose: skins, morph targets
    and instances applied. normals: also read those of its vertices.

    folder: where external files are looked for, default path's directory.
    Raises ShapeRefused: unknown_format, bad_syntax, truncated, missing_file (an external buffer),
    bad_index, no_faces, too_large.
    """
    try:
        container = read_container(data)
        notes = [*container.notes, *check_extensions(container.tree)]
        folder = folder or folder_of(path)
        mesh = _read_scene(folder, container, len(data), normals)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        # The JSON is not structured as glTF.
        what = f"{type(error).__name__}: {printable(str(error))}"
        raise ShapeRefused(Reason.BAD_SYNTAX, what) from error
    return replace(mesh, notes=(*notes, *mesh.notes))


def _read_scene(folder: ModelFolder, container: Container, size: int, normals: bool) -> Mesh:
    tree = container.tree
    budget = Budget(size, MAX_FACES, 3 * MAX_FACES)
    buffers = Buffers(tree, container.binary, folder, budget)
    accessors = Accessors(tree, buffers, budget)
    nodes = Nodes(tree, accessors, budget)
    primitives = Primitives(tree, buffers, accessors, nodes, budget, normals)
    materials = GlbMaterials(tree, buffers)
    meshes = list(nodes.placed())
    for _, node in meshes:
        primitives.reserve(node)
    placed = [
        _Placed(part, materials.get(part.material, part.uv.numbers, part.colors is not None))
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
    colored = any(one.part.colors is not None for one in placed)
    shaded = any(one.part.normals is not None and one.part.normals.any() for one in placed)
    joined = np.concatenate(faces)
    vertices, unused = zero_unused(np.concatenate([one.part.vertices for one in placed]), joined)
    return Mesh(
        vertices=vertices,
        faces=joined,
        materials=tuple(materials.materials),
        face_material=np.concatenate(indices) if materials.materials else None,
        uv=np.concatenate([_corner_uv(one) for one in placed]) if textured else None,
        vertex_colors=np.concatenate([_colors(one) for one in placed]) if colored else None,
        corner_normals=np.concatenate([_normals(one.part) for one in placed]) if shaded else None,
        notes=(*materials.notes, *unused),
    )


def _corner_uv(one: _Placed) -> NDArray[np.float32]:
    """Return texture coordinates [F,3,2] of a part; 0 if its material has no texture."""
    place = one.look.placement
    if place is None:
        return np.zeros((len(one.part.faces), 3, 2), np.float32)
    return place.apply(one.part.uv.take(place.coordinates)).astype(np.float32)[one.part.faces]


def _normals(part: Part) -> NDArray[np.float32]:
    """Return the normals [F,3,3] of a part's corners; 0 if it has none."""
    if part.normals is None:
        return np.zeros((len(part.faces), 3, 3), np.float32)
    return part.normals[part.faces]


def _colors(one: _Placed) -> NDArray[np.float32]:
    """Return sRGB colors [P,3] of a part's vertices: their own with the material's, or its own."""
    if one.part.colors is None:
        own = np.array(one.look.material.color, np.float32)
        return np.tile(own, (len(one.part.vertices), 1))
    return one.look.colors(one.part.colors).astype(np.float32)
