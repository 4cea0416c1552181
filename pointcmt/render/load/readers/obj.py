"""OBJ files: vertices, faces of any size, materials per face, vertex colors.

Normals are read on request. Lines, points, groups, smoothing and free-form curves are ignored. The
format is Wavefront's (Advanced Visualizer manual, appendix B1), read as leniently as common
exporters need; numbers and indices, which determine the geometry, are read strictly.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointcmt.compiled import compiled
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.readers import GRAY, MAX_FACES, corner_normals
from pointcmt.render.load.readers.materials import MaterialLibrary, Placed, decode_names
from pointcmt.render.load.readers.names.tiles import FIRST_TILE, tiles_of
from pointcmt.render.load.readers.obj_normals import MTLLIB, USEMTL, scan_normals
from pointcmt.render.load.readers.polygons import triangulate, zero_unused
from pointcmt.render.load.readers.sidecars import ModelFolder
from pointcmt.render.load.readers.text import (
    BACKSLASH,
    LINE_FEED,
    RETURN,
    SPACE,
    begins,
    ends_line,
    ends_word,
    grown,
    line_of,
    parse_integer,
    rest_of_line,
    scannable,
    skip_blanks,
    skip_statement,
    token_at,
)
from pointcmt.shapes import Material, Mesh

_SMALL_F, _SMALL_T, _SMALL_V, _SLASH = 102, 116, 118, 47
_NO_UV, _WRONG_UV = -1, -2
_MAX_INDEX = 2**31 - 2
_NO_INDEX = 1 << 60  # in place of a missing texture index
_GREATEST_UV = 1e6  # above this float32 cannot distinguish the texels of a texture

# How a scan ended.
_COMPLETE, _NO_NUMBER, _TOO_FEW, _NO_CORNERS, _BAD_VERTEX, _BAD_UV = range(6)


@dataclass
class _Statements:
    """The contents of a file. P vertices, T texture coordinates, N polygons, K corners, E names."""

    status: int
    at: int  # where the scan ended
    xyz: NDArray[np.float64]  # [P,3]
    tints: NDArray[np.float64]  # [·,4]: index of a colored vertex, and r, g, b
    uv: NDArray[np.float64]  # [T,2]
    sizes: NDArray[np.int32]  # [N]
    corners: NDArray[np.int32]  # [K,2] vertex, texture coordinate or _NO_UV, both counted from 0
    names: NDArray[np.int64]  # [E,4]: is usemtl, begin and end of its text, polygons before it
    spare: int  # vertices with additional, unknown numbers


def read_obj(
    path: Path, data: bytes, normals: bool = False, folder: ModelFolder | None = None
) -> Mesh:
    """Read the mesh of an OBJ file.

    normals: also read those of its corners (vn). folder: where its materials and textures are,
    default path's directory. Raises ShapeRefused: bad_syntax, bad_index, no_faces, too_large.
    Missing or damaged materials and textures, and those outside the folder's limit, become notes.
    """
    text = scannable(data)
    found, notes = _scan_checked(text)
    corner_vertex = np.ascontiguousarray(found.corners[:, 0])
    triangles, polygon = triangulate(found.xyz, corner_vertex, found.sizes)
    if len(triangles) > MAX_FACES:
        raise ShapeRefused(Reason.TOO_LARGE, f"{len(triangles)} triangles")
    lines = int((found.sizes < 3).sum())
    if lines:
        notes.append(f"{lines} faces with fewer than 3 corners skipped")
    names = [decode_names(text[b:e].tobytes()).strip() for _, b, e, _ in found.names]
    is_use = found.names[:, 0] == 1
    libraries = [name for name, use in zip(names, is_use, strict=True) if not use]
    library = MaterialLibrary.of(path, libraries, folder)
    placed, per_polygon = _materials_in_use(library, names, found.names, len(found.sizes))
    material = per_polygon[polygon]
    corner_uv = found.corners[:, 1][triangles]
    uv, material, placed = _lay_textures(found.uv, corner_uv, material, placed)
    shading = None
    if normals:
        given, corner_normal, note = scan_normals(text)
        shading = corner_normals(given, corner_normal[triangles])
        notes += [note] if note else []
    vertices, unused = zero_unused(found.xyz, corner_vertex[triangles])
    return Mesh(
        vertices=vertices,
        faces=corner_vertex[triangles],
        materials=tuple(p.material for p in placed),
        face_material=material if placed else None,
        uv=uv,
        vertex_colors=_vertex_colors(found.tints, len(found.xyz)),
        corner_normals=shading,
        notes=(*notes, *unused, *library.notes),
    )


def _scan_checked(text: NDArray[np.uint8]) -> tuple[_Statements, list[str]]:
    """Return the file's statements, with all indices in range, and notes."""
    found = _Statements(*_scan(text, -1, -1))
    notes = []
    vertices, uvs = len(found.xyz), len(found.uv)
    if found.status == _COMPLETE and len(found.corners):
        if uvs == 0 and (found.corners[:, 1] != _NO_UV).any():
            notes.append("texture indices without any texture coordinates ignored")
            found.corners[:, 1] = _NO_UV
        wrong_uv = (found.corners[:, 1] == _WRONG_UV).any() or found.corners[:, 1].max() >= uvs
        if found.corners[:, 0].max() >= vertices or (uvs and wrong_uv):
            found = _Statements(*_scan(text, vertices, uvs))  # again, to find the location
    if found.status != _COMPLETE:
        raise _refusal(text, found, vertices, uvs)
    if not (found.sizes > 2).any():
        raise ShapeRefused(
            Reason.NO_FACES, f"{vertices} vertices, but no face of 3 corners or more"
        )
    if found.spare:
        notes.append(f"extra numbers after the coordinates of {found.spare} vertices ignored")
    return found, notes


def _refusal(text: NDArray[np.uint8], found: _Statements, vertices: int, uvs: int) -> ShapeRefused:
    where, word = f"line {line_of(text, found.at)}", token_at(text, found.at)
    if found.status == _NO_NUMBER:
        return ShapeRefused(Reason.BAD_SYNTAX, f"{where}: {word} is not a number")
    if found.status == _TOO_FEW:
        return ShapeRefused(Reason.BAD_SYNTAX, f"{where}: too few coordinates")
    if found.status == _NO_CORNERS:
        return ShapeRefused(Reason.BAD_SYNTAX, f"{where}: a face without corners")
    face = len(found.sizes) + 1
    what = f"{vertices} vertices"
    if found.status == _BAD_UV:
        what = f"{uvs} texture coordinates"
    return ShapeRefused(
        Reason.BAD_INDEX, f"{where}: {word} of face {face} is not one of the {what}"
    )


@compiled
def _scan(text, vertex_limit, uv_limit):  # type: ignore[no-untyped-def]
    """Return all statements, as the fields of _Statements.

    Limits that are not negative are the numbers of vertices and of texture coordinates in the whole
    file: an index beyond them ends the scan.
    """
    xyz, vertices = np.empty((len(text) // 64 + 16, 3)), 0
    tints, tinted = np.empty((16, 4)), 0
    uv, uvs = np.empty((16, 2)), 0
    sizes, faces = np.empty(len(text) // 64 + 16, np.int32), 0
    corners, used = np.empty((len(text) // 16 + 16, 2), np.int32), 0
    names, named = np.empty((16, 4), np.int64), 0
    row = np.empty(8)
    spare, status, at, last = 0, _COMPLETE, 0, len(text) - 1
    while True:
        while text[at] <= SPACE:
            at += 1
        if at >= last:
            break
        begin, first, second = at, text[at], text[at + 1]
        if first == _SMALL_V and second <= SPACE:
            at, count = rest_of_line(text, at + 1, row)
            if count < 3:
                status, at = (_NO_NUMBER, at) if count < 0 else (_TOO_FEW, begin)
                break
            if vertices == len(xyz):
                xyz = grown(xyz)
            for i in range(3):
                xyz[vertices, i] = row[i]
            if count == 6 or count == 7:  # r g b, with or without alpha
                if tinted == len(tints):
                    tints = grown(tints)
                tints[tinted, 0] = vertices
                for i in range(3):
                    tints[tinted, 1 + i] = row[3 + i]
                tinted += 1
            spare += count == 5 or count > 7
            vertices += 1
        elif first == _SMALL_V and second == _SMALL_T and text[at + 2] <= SPACE:
            row[1] = 0.0  # if only u is given
            at, count = rest_of_line(text, at + 2, row)
            if count < 1:
                status, at = (_NO_NUMBER, at) if count < 0 else (_TOO_FEW, begin)
                break
            if uvs == len(uv):
                uv = grown(uv)
            uv[uvs, 0], uv[uvs, 1] = row[0], row[1]
            uvs += 1
        elif first == _SMALL_F and (second <= SPACE or second == BACKSLASH):
            counts = (vertices, vertex_limit, uvs, uv_limit)
            status, at, size, corners = _parse_face(text, at + 1, corners, used, counts)
            if status != _COMPLETE:
                break
            if faces == len(sizes):
                sizes = grown(sizes)
            sizes[faces] = size
            used += size
            faces += 1
        elif begins(text, at, USEMTL) or begins(text, at, MTLLIB):
            if named == len(names):
                names = grown(names)
            names[named, 0], names[named, 1] = begins(text, at, USEMTL), at + 6
            while text[at] != LINE_FEED and text[at] != RETURN:
                at += 1
            names[named, 2], names[named, 3] = at, faces
            named += 1
        else:
            at = skip_statement(text, at)
        while text[at] != LINE_FEED and text[at] != RETURN:  # a comment
            at += 1
    found = xyz[:vertices], tints[:tinted], uv[:uvs]
    return status, at, *found, sizes[:faces], corners[:used], names[:named], spare


@compiled
def _parse_face(text, at, corners, used, counts):  # type: ignore[no-untyped-def]
    """Read an f statement: (status, end of the face or location of the error, its size, corners).

    counts: vertices so far and in total, texture coordinates so far and in total; -1 = unknown.
    """
    vertices, vertex_limit, uvs, uv_limit = counts
    begin, size = at - 1, 0
    at = skip_blanks(text, at)
    while not ends_line(text[at]):
        vertex, texture, end = _parse_corner(text, at)
        if end < 0:
            return _NO_NUMBER, at, size, corners
        vertex = vertex - 1 if vertex > 0 else vertices + vertex if vertex < 0 else -1
        if vertex < 0 or vertex > _MAX_INDEX or vertex >= vertex_limit >= 0:
            return _BAD_VERTEX, at, size, corners
        if texture == _NO_INDEX:
            texture = _NO_UV
        else:
            texture = texture - 1 if texture > 0 else uvs + texture if texture < 0 else -1
            if texture < 0 or texture > _MAX_INDEX:
                texture = _WRONG_UV
            if uv_limit > 0 and (texture == _WRONG_UV or texture >= uv_limit):
                return _BAD_UV, at, size, corners
        if used + size == len(corners):
            corners = grown(corners)
        corners[used + size, 0], corners[used + size, 1] = vertex, texture
        size += 1
        at = skip_blanks(text, end)
    if size == 0:
        return _NO_CORNERS, begin, size, corners
    return _COMPLETE, at, size, corners


@compiled
def _parse_corner(text, at):  # type: ignore[no-untyped-def]
    """Read v, v/t, v/t/n or v//n: (vertex, texture or _NO_INDEX, end); end is -1 otherwise."""
    vertex, at = parse_integer(text, at)
    texture, part = _NO_INDEX, 0
    while at >= 0 and text[at] == _SLASH and part < 2:
        at += 1
        part += 1
        if not ends_word(text[at]) and text[at] != _SLASH:
            index, at = parse_integer(text, at)
            if part == 1:
                texture = index
    if at >= 0 and not ends_word(text[at]):
        at = -1
    return vertex, texture, at


def _materials_in_use(
    library: MaterialLibrary, names: list[str], statements: NDArray[np.int64], polygons: int
) -> tuple[list[Placed], NDArray[np.int32]]:
    """Return the materials that polygons use, and their index per polygon (-1 = none)."""
    uses = [(row[3], name) for name, row in zip(names, statements, strict=True) if row[0] == 1]
    before = uses[0][0] if uses else polygons
    if before and len(library.names) == 1:  # as in YCB's models
        uses.insert(0, (0, library.names[0]))
    elif before and library.names:
        where = "before the first usemtl" if uses else "without usemtl"
        library.notes.append(
            f"{before} faces {where} have no material, since there are {len(library.names)}"
        )
    ends = [*(begin for begin, _ in uses), polygons][1:]
    index = np.full(polygons, -1, np.int32)
    placed: list[Placed] = []
    known: dict[str, int] = {}
    for (begin, name), end in zip(uses, ends, strict=True):
        if begin < end and name not in known:
            material = library.get(name)
            known[name] = -1 if material is None else len(placed)
            placed += [] if material is None else [material]
        index[begin:end] = known.get(name, -1)
    return placed, index


def _lay_textures(
    uv: NDArray[np.float64],
    corner_uv: NDArray[np.int32],
    material: NDArray[np.int32],
    placed: list[Placed],
) -> tuple[NDArray[np.float32] | None, NDArray[np.int32], list[Placed]]:
    """Return texture coordinates [F,3,2] of the faces whose material has a texture.

    uv [T,2]; corner_uv [F,3] indices into it or _NO_UV; material [F] indices into placed. Faces
    without coordinates get a copy of their material without its texture.
    """
    textures = [p.material.texture is not None or p.tile is not None for p in placed]
    textured = np.array([*textures, False])[material]
    if not textured.any():
        return None, material, placed
    bare = textured & (corner_uv == _NO_UV).any(axis=1)
    affected, which = np.unique(material[bare], return_inverse=True)
    material = material.copy()
    material[bare] = len(placed) + which
    flat: list[Material] = [replace(placed[i].material, texture=None) for i in affected]
    placed = [*placed, *map(Placed, flat)]
    laid = np.flatnonzero(textured & ~bare)
    if not len(laid):
        return None, material, placed
    scale = np.array([p.scale for p in placed])[material[laid], None]
    offset = np.array([p.offset for p in placed])[material[laid], None]
    with np.errstate(all="ignore"):
        positions = uv[corner_uv[laid]] * scale + offset
        positions[~(np.abs(positions) <= _GREATEST_UV)] = 0
    material[laid], placed = _choose_tiles(positions, material[laid], placed)
    whole = np.zeros((len(material), 3, 2), np.float32)
    whole[laid] = positions
    return whole, material, placed


def _choose_tiles(
    uv: NDArray[np.float64], material: NDArray[np.int32], placed: list[Placed]
) -> tuple[NDArray[np.int32], list[Placed]]:
    """Give the faces of each UDIM tile a material with the tile's image.

    uv [F,3,2]; material [F] indices into placed.
    """
    material, placed = material.copy(), list(placed)
    for index, source in enumerate(placed[:]):
        if source.tile is None:
            continue
        faces = np.flatnonzero(material == index)
        tiles = tiles_of(uv[faces])
        for tile in np.unique(tiles).tolist():
            if tile != FIRST_TILE or source.material.texture is None:
                material[faces[tiles == tile]] = len(placed)
                placed.append(Placed(source.tile(tile)))
    return material, placed


def _vertex_colors(tints: NDArray[np.float64], vertices: int) -> NDArray[np.float32] | None:
    """Return colors [P,3] if any vertex has one; the input is 0..1, or 0..255 if any exceeds 1."""
    if not len(tints):
        return None
    colors = np.full((vertices, 3), GRAY)
    given = np.where(np.isfinite(tints[:, 1:]), tints[:, 1:], GRAY)
    colors[tints[:, 0].astype(np.int64)] = np.clip(given / (255 if given.max() > 1 else 1), 0, 1)
    return colors.astype(np.float32)
