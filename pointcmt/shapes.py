"""Meshes and clouds: what readers return and renderers draw.

Their arrays are validated on construction, so later code need not check them. `UnitMesh` is a mesh
in the unit sphere, which renderers require (`geometry.normalize` makes it).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pointcmt.arrays import color_array, normal_array, number_array, require_finite
from pointcmt.errors import Reason, ShapeError
from pointcmt.trimesh_scenes import Look, read_scene

Wrap = Literal["repeat", "clamp", "mirror"]


@dataclass(frozen=True)
class Material:
    """One material. Transparency is kept in `opacity` but drawn opaque (docs/conventions.md).

    color: sRGB, 0..1. opacity: 0..1. texture: [h, w, 3] u8, sRGB, row 0 at the top (v = 1); if
    present, it replaces `color`. wrap: how the texture continues outside of 0..1, along u and v.
    tinted: whether the mesh's vertex colors multiply the texture, in linear light.

    Raises ShapeError for other values.

    >>> pc.Material("oak", color=(0.6, 0.4, 0.2)).opacity
    1.0
    """

    name: str = ""
    color: tuple[float, float, float] = (0.75, 0.75, 0.75)
    opacity: float = 1.0
    texture: NDArray[np.uint8] | None = field(default=None, repr=False)
    wrap: tuple[Wrap, Wrap] = ("repeat", "repeat")
    tinted: bool = False

    def __post_init__(self) -> None:
        if len(self.color) != 3 or not all(0 <= value <= 1 for value in self.color):
            raise _bad("color", f"a color must be three values from 0 to 1, not {self.color}")
        if not 0 <= self.opacity <= 1:
            raise _bad("opacity", f"opacity must be from 0 to 1, not {self.opacity}")
        if len(self.wrap) != 2 or not set(self.wrap) <= set(get_args(Wrap)):
            modes = ", ".join(get_args(Wrap))
            raise _bad("wrap", f"wrap must be two of {modes}, not {self.wrap}")
        image = self.texture
        if image is None:
            return
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            raise _bad("texture", f"a texture must be a uint8 array, not {_kind(image)}")
        if image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise _bad(
                "texture", f"a texture must have the shape [h, w, 3], not {list(image.shape)}"
            )


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Mesh:
    """Triangles in their file's order and coordinates. P vertices, F faces.

    vertices [P,3] and faces [F,3] are numbers and integers of any kind, stored as f64 and i32, and
    not copied if they have that type already. A face gets its color from the first one present of:
    its material's texture (needs `uv`; if it is tinted, times the vertex colors), `vertex_colors`,
    `face_colors`, its material's color, the default gray. Colors are sRGB, as floats in 0..1 or
    bytes in 0..255.

    corner_normals are for smooth shading (docs/rendering.md#smooth-shading): of unit length, or
    zero for the face's own normal. They may point to either side of the face.

    Raises ShapeError for an invalid array: wrong shape or kind, an index out of range, values that
    are not finite, normals of another length, no faces.

    >>> mesh = pc.Mesh(vertices=[[0, 0, 0], [1, 0, 0], [0, 1, 0]], faces=[[0, 1, 2]])
    >>> mesh
    Mesh(3 vertices, 1 face)
    >>> mesh.vertices.dtype, mesh.faces.dtype
    (dtype('float64'), dtype('int32'))
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int32]
    materials: tuple[Material, ...] = ()
    face_material: NDArray[np.int32] | None = None  # [F], index into materials, -1 = default
    uv: NDArray[np.float32] | None = None  # [F,3,2], v upward
    vertex_colors: NDArray[np.float32] | None = None  # [P,3] sRGB 0..1
    face_colors: NDArray[np.float32] | None = None  # [F,3] sRGB 0..1
    face_part: NDArray[np.uint8] | None = None  # [F], index into the class's part names
    corner_normals: NDArray[np.float32] | None = None  # [F,3,3] unit, or zero: the face's
    notes: tuple[str, ...] = ()  # what was odd but harmless, for the shape's record

    def __init__(
        self,
        vertices: ArrayLike,
        faces: ArrayLike,
        materials: Iterable[Material] = (),
        face_material: ArrayLike | None = None,
        uv: ArrayLike | None = None,
        vertex_colors: ArrayLike | None = None,
        face_colors: ArrayLike | None = None,
        face_part: ArrayLike | None = None,
        corner_normals: ArrayLike | None = None,
        notes: Iterable[str] = (),
    ) -> None:
        found: dict[str, Any] = {"materials": tuple(materials), "notes": tuple(notes)}
        found["vertices"] = number_array("vertices", vertices, np.float64, (-1, 3))
        P = len(found["vertices"])
        faces = number_array("faces", faces, np.int32, (-1, 3))
        F = len(faces)
        if not F:
            raise ShapeError("the mesh has no faces", where="faces=", reason=Reason.NO_FACES)
        if faces.min() < 0 or faces.max() >= P:
            what = f"faces use vertices {faces.min()} to {faces.max()} of {P}"
            raise ShapeError(what, where="faces=", reason=Reason.BAD_INDEX)
        require_finite("vertices", found["vertices"], "vertices")
        found["faces"] = faces
        rows: dict[str, tuple[ArrayLike | None, DTypeLike, tuple[int, ...]]] = {
            "face_material": (face_material, np.int32, (F,)),
            "uv": (uv, np.float32, (F, 3, 2)),
            "face_part": (face_part, np.uint8, (F,)),
        }
        for name, (values, kind, shape) in rows.items():
            found[name] = None if values is None else number_array(name, values, kind, shape)
        colors = {"vertex_colors": (vertex_colors, P), "face_colors": (face_colors, F)}
        for name, (values, count) in colors.items():
            found[name] = None if values is None else color_array(name, values, (count, 3))
        found["corner_normals"] = None
        if corner_normals is not None:
            found["corner_normals"] = normal_array("corner_normals", corner_normals, (F, 3, 3))
        if found["uv"] is not None:
            require_finite("uv", found["uv"], "texture coordinates")
        index = found["face_material"]
        if index is not None and not -1 <= index.min() <= index.max() < len(found["materials"]):
            raise _bad(
                "face_material",
                "face_material refers to materials that do not exist",
                Reason.BAD_INDEX,
            )
        for name, value in found.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_trimesh(cls, source: Any, *, normals: bool = False) -> Self:
        """Convert a `trimesh.Trimesh`, or a `Scene`, whose meshes are placed and joined.

        Textures, vertex and face colors, and materials are kept: PBR base colors, which are linear
        light, and diffuse ones, which are sRGB. Other geometry (paths, clouds) is ignored. normals:
        also keep the `vertex_normals`, which trimesh computes, without creases, if a mesh has none.
        Raises ShapeError if nothing is left, or if the arrays do not form a mesh.

        >>> import trimesh
        >>> pc.Mesh.from_trimesh(trimesh.creation.box())
        Mesh(8 vertices, 12 faces)
        """
        found = read_scene(source, normals)
        looks: list[Look] = found.pop("looks")
        materials = [Material(look.name, look.color, look.opacity, look.texture) for look in looks]
        return cls(**found, materials=materials)

    def __repr__(self) -> str:
        count = len(self.faces)
        text = f"{len(self.vertices)} vertices, {count} face{'s' * (count != 1)}"
        extras = ("uv", "vertex_colors", "face_colors", "face_part", "corner_normals")
        more = "".join(f", {name}" for name in extras if getattr(self, name) is not None)
        return f"{type(self).__name__}({text}{more})"


class UnitMesh(Mesh):
    """A mesh in the unit sphere, +Z up, as `geometry.normalize` makes it: renderers draw these.

    If you construct one directly, its vertices must already be in the unit sphere.

    >>> unit, source_to_world = pc.normalize(pc.load_mesh("chair.off"))
    >>> unit
    UnitMesh(4 vertices, 4 faces)
    """

    @classmethod
    def of(
        cls, mesh: Mesh, vertices: NDArray[np.float64], turn: NDArray[np.float64] | None = None
    ) -> "UnitMesh":
        """Return the mesh with new vertices [P,3], which are in the unit sphere.

        turn: the rotation [3,3] from the mesh's coordinates to those of the vertices; None = none.
        """
        kept = {each.name: getattr(mesh, each.name) for each in fields(mesh)}
        if mesh.corner_normals is not None and turn is not None:
            kept["corner_normals"] = mesh.corner_normals @ turn.T.astype(np.float32)
        return cls(**{**kept, "vertices": vertices})


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Cloud:
    """Points in their file's order and coordinates. M points.

    points [M,3] and normals [M,3] are numbers of any kind, stored as f64. Missing normals, and
    normals whose length is not 1, are estimated when the cloud is drawn. colors [M,3] are sRGB, as
    floats in 0..1 or bytes in 0..255. Raises ShapeError for an invalid array.

    >>> pc.Cloud(points=[[0, 0, 0], [1, 0, 0]], colors=[[255, 0, 0], [0, 0, 0]])
    Traceback (most recent call last):
    pointcmt.errors.ShapeError: colors go from 0 to 255, not from 0 to 1
      where: colors=
      fix:   divide them by 255, or give bytes (uint8)
    >>> pc.Cloud(points=[[0, 0, 0], [1, 0, 0]])
    Cloud(2 points)
    """

    points: NDArray[np.float64]  # [M,3]
    normals: NDArray[np.float64]  # [M,3]; unknown if the length is not 1 (usually 0)
    colors: NDArray[np.float32] | None = None  # [M,3] sRGB 0..1
    part: NDArray[np.uint8] | None = None  # [M], index into the class's part names
    notes: tuple[str, ...] = ()  # what was odd but harmless, for the shape's record

    def __init__(
        self,
        points: ArrayLike,
        normals: ArrayLike | None = None,
        colors: ArrayLike | None = None,
        part: ArrayLike | None = None,
        notes: Iterable[str] = (),
    ) -> None:
        found: dict[str, Any] = {"notes": tuple(notes), "colors": None, "part": None}
        found["points"] = number_array("points", points, np.float64, (-1, 3))
        M = len(found["points"])
        if not M:
            raise ShapeError("the cloud has no points", where="points=", reason=Reason.EMPTY_FILE)
        given = np.zeros((M, 3)) if normals is None else normals
        found["normals"] = number_array("normals", given, np.float64, (M, 3))
        for name in ("points", "normals"):
            require_finite(name, found[name], name)
        if colors is not None:
            found["colors"] = color_array("colors", colors, (M, 3))
        if part is not None:
            found["part"] = number_array("part", part, np.uint8, (M,))
        for name, value in found.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        extras = ("colors", "part")
        more = "".join(f", {name}" for name in extras if getattr(self, name) is not None)
        return f"Cloud({len(self.points)} points{more})"


def _bad(name: str, what: str, reason: Reason = Reason.BAD_SYNTAX) -> ShapeError:
    return ShapeError(what, where=f"{name}=", reason=reason)


def _kind(value: Any) -> str:
    return str(value.dtype) if isinstance(value, np.ndarray) else type(value).__name__
