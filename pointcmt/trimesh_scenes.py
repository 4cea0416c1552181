"""Read trimesh's objects for `Mesh.from_trimesh`, by their attributes, without the library.

A scene's parts are joined in the order of its graph. If some parts have colors per vertex and
others per face or per material, all are converted to a kind that can represent them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.arrays import normal_matrices, unit_vectors
from pointcmt.errors import Reason, ShapeError
from pointcmt.srgb import to_linear, to_srgb

_GRAY = (0.75, 0.75, 0.75)


@dataclass(frozen=True, eq=False)
class Look:
    """The fields of a `shapes.Material`."""

    name: str = ""
    color: tuple[float, float, float] = _GRAY
    opacity: float = 1.0
    texture: NDArray[np.uint8] | None = None


@dataclass(frozen=True, eq=False)
class _Part:
    """One geometry, placed in the scene. P vertices, F faces; colors sRGB 0..1."""

    vertices: NDArray[np.float64]  # [P,3]
    faces: NDArray[np.int64]  # [F,3]
    look: int  # index into looks
    uv: NDArray[np.float64] | None = None  # [F,3,2]
    vertex_colors: NDArray[np.float64] | None = None  # [P,3]
    face_colors: NDArray[np.float64] | None = None  # [F,3]
    corner_normals: NDArray[np.float32] | None = None  # [F,3,3]


@dataclass
class _Looks:
    """The unique materials of a scene; `notes` lists what is not kept of them."""

    looks: list[Look] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _known: dict[int, int] = field(default_factory=dict)  # by id() of trimesh's material

    def index(self, material: Any) -> int:
        if id(material) not in self._known:
            self._known[id(material)] = len(self.looks)
            self.looks.append(_look(material, self.notes))
        return self._known[id(material)]


def read_scene(source: Any, normals: bool = False) -> dict[str, Any]:
    """Return the arguments of `Mesh` for a Trimesh or a Scene, with `looks` for its materials.

    normals: also those of its vertices.

    Raises ShapeError for any other object, and if there are no triangles.
    """
    if not hasattr(source, "geometry") and not _is_mesh(source):
        raise ShapeError(
            f"expected a trimesh.Trimesh or trimesh.Scene, not a {type(source).__name__}",
            where="source=",
            fix="load it with trimesh.load",
            reason=Reason.UNKNOWN_FORMAT,
        )
    looks = _Looks()
    parts = [_read_part(geometry, matrix, looks, normals) for matrix, geometry in _placed(source)]
    parts = [part for part in parts if len(part.faces)]
    if not parts:
        raise ShapeError("it has no triangles", where="source=", reason=Reason.NO_FACES)
    if any(part.vertex_colors is not None for part in parts):
        parts = [_per_vertex(part, looks.looks) for part in parts]
    elif any(part.face_colors is not None for part in parts):
        parts = [_per_face(part, looks.looks) for part in parts]
    starts = np.cumsum([0, *(len(part.vertices) for part in parts[:-1])])
    faces = [part.faces + start for part, start in zip(parts, starts, strict=True)]
    textured = any(part.uv is not None for part in parts)
    return {
        "vertices": np.concatenate([part.vertices for part in parts]),
        "faces": np.concatenate(faces),
        "face_material": np.repeat([part.look for part in parts], [len(f) for f in faces]),
        "uv": np.concatenate([_uv(part) for part in parts]) if textured else None,
        "vertex_colors": _joined([part.vertex_colors for part in parts]),
        "face_colors": _joined([part.face_colors for part in parts]),
        "corner_normals": _joined([part.corner_normals for part in parts]),
        "looks": looks.looks,
        "notes": dict.fromkeys(looks.notes),
    }


def _is_mesh(geometry: Any) -> bool:
    return hasattr(geometry, "vertices") and hasattr(geometry, "faces")


def _placed(source: Any) -> Iterator[tuple[NDArray[np.float64], Any]]:
    """Yield the meshes of a scene and the matrices [4,4] that place them."""
    if not hasattr(source, "geometry"):
        yield np.eye(4), source
        return
    for node in source.graph.nodes_geometry:
        matrix, name = source.graph[node]
        if _is_mesh(source.geometry[name]):
            yield np.asarray(matrix, np.float64), source.geometry[name]


def _read_part(
    geometry: Any, matrix: NDArray[np.float64], looks: _Looks, with_normals: bool
) -> _Part:
    vertices = np.asarray(geometry.vertices, np.float64)
    vertices = vertices @ matrix[:3, :3].T + matrix[:3, 3]
    faces = np.asarray(geometry.faces, np.int64)
    visual, normals = geometry.visual, None
    if with_normals:
        given = np.asarray(geometry.vertex_normals, np.float64)
        normals = unit_vectors(given @ normal_matrices(matrix[:3, :3]).T)[faces]
    uv, vertex_colors, face_colors, material = None, None, None, None
    if visual.kind == "texture":
        material = visual.material
        uv = None if visual.uv is None else np.asarray(visual.uv, np.float64)[faces]
        own = visual.vertex_attributes.get("color")
        vertex_colors = None if own is None else _rgb(own)
    elif visual.kind == "vertex":
        vertex_colors = _rgb(visual.vertex_colors)
    elif visual.kind == "face":
        face_colors = _rgb(visual.face_colors)
    index = looks.index(material)
    if looks.looks[index].texture is None:
        uv = None
    if np.linalg.det(matrix[:3, :3]) < 0:  # mirroring flips the winding
        faces = faces[:, ::-1]
        uv = None if uv is None else uv[:, ::-1]
        normals = None if normals is None else normals[:, ::-1]
    return _Part(vertices, faces, index, uv, vertex_colors, face_colors, normals)


def _look(material: Any, notes: list[str]) -> Look:
    """Convert a material of trimesh, or None."""
    if material is None:
        return Look()
    name = str(getattr(material, "name", None) or "")
    if hasattr(material, "baseColorFactor"):  # PBR: linear light
        image, factor = material.baseColorTexture, material.baseColorFactor
        rgba = np.ones(4) if factor is None else _bytes_as_unit(factor)
        linear, opaque = rgba[:3], (material.alphaMode or "OPAQUE") == "OPAQUE"
        color = to_srgb(linear)
    elif hasattr(material, "diffuse"):
        image, rgba = material.image, _bytes_as_unit(material.diffuse)
        color, opaque = rgba[:3], True
        linear = np.ones(3)  # an image replaces the diffuse color
    else:
        notes.append(f"materials of the type {type(material).__name__} are rendered gray")
        return Look(name)
    red, green, blue = (float(value) for value in color)
    texture = None if image is None else _pixels(image, linear, None if opaque else color)
    return Look(name, (red, green, blue), 1.0 if opaque else float(rgba[3]), texture)


def _pixels(
    image: Any, factor: NDArray[np.float64], behind: NDArray[np.float64] | None
) -> NDArray[np.uint8]:
    """Convert a Pillow image to [h,w,3] u8, times a linear factor [3].

    behind: sRGB color behind transparent pixels; None ignores alpha.
    """
    rgba = np.asarray(image.convert("RGBA"))
    rgb = np.ascontiguousarray(rgba[:, :, :3])
    if not (factor == 1).all():
        light = to_linear(np.arange(256) / 255)[:, None] * factor
        table = np.rint(to_srgb(light) * 255).astype(np.uint8)  # [256,3]
        rgb = np.stack([table[rgb[:, :, channel], channel] for channel in range(3)], axis=2)
    if behind is None:
        return rgb
    alpha = rgba[:, :, 3:].astype(np.float32) / 255
    below = (255 * behind).astype(np.float32)
    return np.rint(rgb * alpha + below * (1 - alpha)).astype(np.uint8)


def _per_vertex(part: _Part, looks: list[Look]) -> _Part:
    """Return the part with colors per vertex; from face colors, no two faces share a vertex."""
    if part.vertex_colors is not None:
        return part
    if part.face_colors is None:
        colors = np.tile(looks[part.look].color, (len(part.vertices), 1))
        return replace(part, vertex_colors=colors)
    corners = np.arange(3 * len(part.faces)).reshape(-1, 3)
    colors = np.repeat(part.face_colors, 3, axis=0)
    vertices = part.vertices[part.faces.ravel()]
    return replace(part, vertices=vertices, faces=corners, vertex_colors=colors, face_colors=None)


def _per_face(part: _Part, looks: list[Look]) -> _Part:
    if part.face_colors is not None:
        return part
    colors = np.tile(looks[part.look].color, (len(part.faces), 1))
    return replace(part, face_colors=colors)


def _uv(part: _Part) -> NDArray[np.float64]:
    return np.zeros((len(part.faces), 3, 2)) if part.uv is None else part.uv


def _joined(arrays: list[NDArray[Any] | None]) -> NDArray[Any] | None:
    """Concatenate arrays that all parts have or none; None if none."""
    present = [each for each in arrays if each is not None]
    return np.concatenate(present) if present else None


def _rgb(colors: Any) -> NDArray[np.float64]:
    return _bytes_as_unit(colors)[:, :3]


def _bytes_as_unit(colors: Any) -> NDArray[np.float64]:
    array = np.asarray(colors)
    return array / 255 if array.dtype.kind in "iu" else array.astype(np.float64)
