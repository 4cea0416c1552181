"""Meshes and clouds, as every reader makes them and every renderer draws them."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Material:
    """One material. Transparency is kept in `opacity` but drawn opaque (docs/conventions.md).

    color: sRGB, 0..1. opacity: 0..1. texture: [h, w, 3] u8, sRGB, row 0 at the top (v = 1), which
    takes the place of `color` where it is present.
    """

    name: str = ""
    color: tuple[float, float, float] = (0.75, 0.75, 0.75)
    opacity: float = 1.0
    texture: NDArray[np.uint8] | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles in their file's order and coordinates. P vertices, F faces.

    vertices [P,3] f64; faces [F,3] i32. What colours a face, first one present wins: its
    material's texture (needs `uv`), `vertex_colors`, `face_colors`, its material's colour, the
    default grey.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int32]
    materials: tuple[Material, ...] = ()
    face_material: NDArray[np.int32] | None = None  # [F], index into materials, -1 = default
    uv: NDArray[np.float32] | None = None  # [F,3,2], v upwards, repeating
    vertex_colors: NDArray[np.float32] | None = None  # [P,3] sRGB 0..1
    face_colors: NDArray[np.float32] | None = None  # [F,3] sRGB 0..1
    face_part: NDArray[np.uint8] | None = None  # [F], index into the class's part names
    notes: tuple[str, ...] = ()  # what was odd but harmless, for the shape's record


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points in their file's order and coordinates. M points."""

    points: NDArray[np.float64]  # [M,3]
    normals: NDArray[np.float64]  # [M,3]; of another length than 1, such as 0, where unknown
    colors: NDArray[np.float32] | None = None  # [M,3] sRGB 0..1
    part: NDArray[np.uint8] | None = None  # [M], index into the class's part names
    notes: tuple[str, ...] = ()  # what was odd but harmless, for the shape's record
