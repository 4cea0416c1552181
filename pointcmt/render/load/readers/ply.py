"""PLY files, ASCII and binary: vertices, polygons of any size, colors and texture coordinates.

trimesh is not used: it moves larger polygons after the triangles, refuses binary files whose
polygons differ in size, and splits vertices along texture seams, so the k-th triangle would not
be the file's. The format is Greg Turk's (1994).
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointcmt.errors import Reason, ShapeRefused, printable
from pointcmt.render.load.readers import GRAY, MAX_FACES, corner_normals
from pointcmt.render.load.readers.names.tiles import FIRST_TILE, tile_name
from pointcmt.render.load.readers.ply_elements import Table, read_body, read_header
from pointcmt.render.load.readers.polygons import triangulate, zero_unused
from pointcmt.render.load.readers.sidecars import ModelFolder, NotRead, find, folder_of
from pointcmt.render.load.readers.textures import Textures
from pointcmt.shapes import Material, Mesh

_INDEX_LISTS = ("vertex_indices", "vertex_index")
_MOST_TEXTURES = 100  # per model
_UV_NAMES = (("s", "t"), ("u", "v"), ("texture_u", "texture_v"), ("texture_s", "texture_t"))


def read_ply(
    path: Path, data: bytes, normals: bool = False, folder: ModelFolder | None = None
) -> Mesh:
    """Read the mesh of a PLY file; folder: where its textures are, default path's directory.

    normals: also read those of its vertices (nx, ny, nz).

    Raises ShapeRefused: unknown_format, bad_syntax, truncated, count_mismatch, bad_index, no_faces,
    too_large.
    """
    header = read_header(data)
    named = {element.name: element for element in reversed(header.elements)}
    if "face" not in named or named["face"].rows == 0:
        if "tristrips" in named:
            raise ShapeRefused(Reason.UNKNOWN_FORMAT, "PLY with triangle strips is not supported")
        raise ShapeRefused(
            Reason.NO_FACES, "the header declares no faces: use `--dataset clouds` for point clouds"
        )
    tables, notes_of_body = read_body(data, header)
    vertices, sizes, corners = geometry(tables)
    triangles, polygon = triangulate(vertices, corners, sizes)
    if len(triangles) > MAX_FACES:
        raise ShapeRefused(Reason.TOO_LARGE, f"{len(triangles)} triangles")
    vertices, unused = zero_unused(vertices, corners[triangles])
    notes = [*header.notes, *notes_of_body, *unused]
    if (sizes < 3).any():
        notes.append(f"{int((sizes < 3).sum())} faces with fewer than 3 corners skipped")
    face_colors = tables["face"].colors()
    uv = _corner_uv(tables, sizes, corners)
    folder = folder or folder_of(path)
    materials, more = _materials(folder, header.textures) if uv is not None else ((), [])
    given = tables["vertex"].columns(("nx", "ny", "nz")) if normals else None
    textured = any(material.texture is not None for material in materials)
    return Mesh(
        vertices=vertices,
        faces=corners[triangles],
        materials=materials if textured else (),
        face_material=_face_material(tables["face"], polygon, len(materials)) if textured else None,
        uv=uv[triangles] if uv is not None and textured else None,
        vertex_colors=tables["vertex"].colors(),
        face_colors=None if face_colors is None else face_colors[polygon],
        corner_normals=None if given is None else corner_normals(given, corners[triangles]),
        notes=(*notes, *more),
    )


def geometry(
    tables: dict[str, Table],
) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.int32]]:
    """Return vertices [P,3], polygon sizes [Q], and their corners, polygon after polygon.

    Raises ShapeRefused (bad_syntax, bad_index) if any are missing or out of range.
    """
    vertices = tables["vertex"].columns("xyz") if "vertex" in tables else None
    polygons = tables["face"].lists(_INDEX_LISTS) if "face" in tables else None
    if vertices is None or polygons is None:
        raise ShapeRefused(Reason.BAD_SYNTAX, "the header has no x, y, z or no vertex_indices")
    corners = _indices(*polygons, len(vertices))
    return np.ascontiguousarray(vertices), polygons[0].astype(np.int32), corners


def _indices(
    sizes: NDArray[np.int64], corners: NDArray[np.float64], vertices: int
) -> NDArray[np.int32]:
    """Return polygon corners as indices into the vertices. Raises ShapeRefused (bad_index)."""
    if (sizes == 0).any():
        face = int(np.flatnonzero(sizes == 0)[0])
        raise ShapeRefused(Reason.BAD_SYNTAX, f"face {face} (from 0) has no corners")
    wrong = ~((corners >= 0) & (corners < vertices) & (corners == np.floor(corners)))
    if wrong.any():
        corner = int(np.flatnonzero(wrong)[0])
        face = int(np.searchsorted(np.cumsum(sizes), corner, side="right"))
        raise ShapeRefused(
            Reason.BAD_INDEX,
            f"face {face} (from 0) uses vertex {corners[corner]:g}, but there are only {vertices} "
            "(from 0)",
        )
    return corners.astype(np.int32)


def _corner_uv(
    tables: dict[str, Table], sizes: NDArray[np.int32], corners: NDArray[np.int32]
) -> NDArray[np.float32] | None:
    """Return texture coordinates [corners,2], given per corner or per vertex; v points up."""
    per_corner = tables["face"].lists(("texcoord",))
    uv: NDArray[np.float64] | None = None
    if per_corner is not None and (per_corner[0] == 2 * sizes).all():
        uv = per_corner[1].reshape(-1, 2)
    for names in _UV_NAMES:
        per_vertex = tables["vertex"].columns(names)
        if uv is None and per_vertex is not None:
            uv = per_vertex[corners]
    return None if uv is None else np.where(np.abs(uv) <= 1e6, uv, 0).astype(np.float32)


def _materials(
    folder: ModelFolder, names: tuple[str, ...]
) -> tuple[tuple[Material, ...], list[str]]:
    """Return a material for each texture named in the header, and notes on those not read."""
    materials, notes, textures = [], [], Textures()
    if len(names) > _MOST_TEXTURES:
        notes.append(f"{len(names) - _MOST_TEXTURES} more textures are ignored")
    for name in names[:_MOST_TEXTURES]:
        texture = None
        first = tile_name(name)
        if first is not None:
            notes.append(f"texture {printable(name)}: only UDIM tile {FIRST_TILE} is shown")
        try:
            texture = textures.opaque(find(folder, first or name), (GRAY, GRAY, GRAY))
        except NotRead as reason:
            notes.append(f"texture {reason}")
        materials.append(Material(name=name, texture=texture))
    return tuple(materials), notes


def _face_material(faces: Table, polygon: NDArray[np.int64], materials: int) -> NDArray[np.int32]:
    """Return the texture index of each triangle: `texnumber` if given, else the first."""
    numbers = faces.columns(("texnumber",))
    if numbers is None:
        return np.zeros(len(polygon), np.int32)
    known = (numbers[:, 0] >= 0) & (numbers[:, 0] < materials)
    return np.where(known, numbers[:, 0], -1).astype(np.int32)[polygon]
