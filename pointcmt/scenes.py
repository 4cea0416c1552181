"""Scenes: what sources of indoor rooms return, and what is stored of them.

Lengths are in meters, and nothing is scaled: a scene is moved rigidly, so that +Z points up and the
floor is near z = 0. Cameras and pixels follow docs/conventions.md, whatever the source's own
conventions are. Arrays are validated on construction, so later code need not check them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pointcmt.arrays import number_array, require_finite
from pointcmt.errors import Reason, ShapeError
from pointcmt.shapes import Mesh

IGNORE = -1  # a point, pixel or box without a class; also "part of no instance"
MAX_SKEW = 1e-3  # of a pose: the largest entry of RᵀR - I


@dataclass(frozen=True, eq=False)
class Image:
    """What one frame shows. H, W are the same for all of its arrays.

    depth: along the camera's z axis, 0 = not measured. semantic: class indices, -1 = ignore.
    instance: -1 = none. Raises ShapeError for arrays of different sizes or other types.
    """

    color: NDArray[np.uint8]  # [H,W,3] sRGB
    depth: NDArray[np.float32]  # [H,W] meters
    semantic: NDArray[np.int16] | None = None  # [H,W]
    instance: NDArray[np.int32] | None = None  # [H,W]

    def __post_init__(self) -> None:
        size = self.depth.shape
        if self.color.dtype != np.uint8 or self.color.shape != (*size, 3):
            raise _bad("color", f"must be uint8 [{size[0]}, {size[1]}, 3] like the depth")
        for name, kind in (("depth", np.float32), ("semantic", np.int16), ("instance", np.int32)):
            array = getattr(self, name)
            if array is not None and (array.dtype != kind or array.shape != size):
                raise _bad(name, f"must be {np.dtype(kind)} {list(size)}")


@dataclass(frozen=True, eq=False)
class Frame:
    """A posed image of a scene, read when it is needed.

    number: of the frame in its source. K: in pixels of the image that `read` returns, with pixel
    centers at (column + 0.5, row + 0.5). camera_to_world: rigid, from OpenCV's camera axes to the
    coordinates of the source. Raises ShapeError for a pose that is not rigid; sources leave such
    frames out beforehand (`is_rigid`) and count them.
    """

    number: int
    K: NDArray[np.float64]  # [3,3]
    camera_to_world: NDArray[np.float64]  # [4,4]
    read: Callable[[], Image] = field(repr=False)

    def __post_init__(self) -> None:
        if self.K.shape != (3, 3) or not np.isfinite(self.K).all():
            raise _bad("K", "must be a finite 3 × 3 matrix")
        if not is_rigid(self.camera_to_world):
            raise _bad("camera_to_world", "must be a rigid transform")


@dataclass(frozen=True, eq=False)
class ScenePoints:
    """The points of a scene, in the order and coordinates of the source. N points.

    Raises ShapeError for arrays of other shapes, and for points that are not finite.
    """

    points: NDArray[np.float64]  # [N,3]
    color: NDArray[np.uint8] | None = None  # [N,3] sRGB
    normals: NDArray[np.float32] | None = None  # [N,3] unit, or 0 = unknown
    semantic: NDArray[np.int16] | None = None  # [N] class index, -1 = ignore
    instance: NDArray[np.int32] | None = None  # [N] any number per instance, -1 = none

    def __post_init__(self) -> None:
        count = len(self.points)
        number_array("points", self.points, np.float64, (-1, 3))
        require_finite("points", self.points, "points")
        shapes = {"color": (3,), "normals": (3,), "semantic": (), "instance": ()}
        kinds = {"color": np.uint8, "normals": np.float32, "semantic": np.int16}
        for name, shape in shapes.items():
            array, kind = getattr(self, name), np.dtype(kinds.get(name, np.int32))
            if array is not None and (array.shape != (count, *shape) or array.dtype != kind):
                raise _bad(name, f"must be {kind} {[count, *shape]}")

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True, eq=False)
class Boxes:
    """Oriented boxes around instances. K boxes, in the coordinates of the source.

    boxes: center, full sizes, and yaw in radians, counter-clockwise from +X about +Z; the size dx
    lies along the direction of the yaw. Raises ShapeError for sizes that are not positive.
    """

    boxes: NDArray[np.float32]  # [K,7] cx cy cz dx dy dz yaw
    label: NDArray[np.int16]  # [K] index into the box classes
    instance: NDArray[np.int32]  # [K] of the points, -1 = unknown

    def __post_init__(self) -> None:
        number_array("boxes", self.boxes, np.float32, (-1, 7))
        require_finite("boxes", self.boxes, "boxes")
        if (self.boxes[:, 3:6] <= 0).any():
            raise _bad("boxes", "sizes must be positive")
        for name in ("label", "instance"):
            if getattr(self, name).shape != (len(self.boxes),):
                raise _bad(name, f"must have one value per box, {len(self.boxes)}")

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def none(cls) -> "Boxes":
        """Return no boxes at all."""
        return cls(np.zeros((0, 7), np.float32), np.zeros(0, np.int16), np.zeros(0, np.int32))


@dataclass(frozen=True, eq=False)
class SceneData:
    """One scene as its source has it.

    frames: in the source's order. points: None if they must be fused from the frames. mesh: a
    surface for testing visibility by rays, in the source's coordinates. source_to_world: the rigid
    transform that turns +Z up and puts the floor near z = 0. sha256: of everything it was read
    from. notes: what was repaired or left out. face_instance: the instance of each face of the
    mesh, -1 = none; boxes of instances of which frames see too little are then left out.
    """

    frames: tuple[Frame, ...]
    points: ScenePoints | None = None
    boxes: Boxes = field(default_factory=Boxes.none)
    mesh: Mesh | None = None
    source_to_world: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))  # [4,4]
    sha256: str = ""
    notes: tuple[str, ...] = ()
    face_instance: NDArray[np.int32] | None = None  # [F]

    def __post_init__(self) -> None:
        if not self.frames and self.points is None:
            raise ShapeError("the scene has neither frames nor points", reason=Reason.EMPTY_FILE)
        if self.face_instance is not None:
            faces = 0 if self.mesh is None else len(self.mesh.faces)
            if self.face_instance.shape != (faces,) or self.face_instance.dtype != np.int32:
                raise _bad("face_instance", f"must be int32 {[faces]}, one per face of the mesh")
        if not is_rigid(self.source_to_world):
            raise _bad("source_to_world", "must be a rigid transform")

    @cached_property
    def has_labels(self) -> bool:
        """Whether any point of the source has a class."""
        return self.points is not None and self.points.semantic is not None


@dataclass(frozen=True)
class SceneLabels:
    """The names behind the indices of a source's labels, in its benchmark's order.

    semantic: classes of points and pixels. boxes: classes of boxes. palette: an sRGB color per
    semantic class, for pictures.
    """

    semantic: tuple[str, ...] = ()
    boxes: tuple[str, ...] = ()
    palette: tuple[tuple[int, int, int], ...] = ()

    def __post_init__(self) -> None:
        if len(self.palette) != len(self.semantic):
            raise _bad("palette", f"must have {len(self.semantic)} colors, one per class")


def box_corners(boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the corners of boxes [K,7], [K,8,3] f64: the bottom's, then the top's.

    Each four are counter-clockwise from above, and begin at the front left: the front is the side
    that the yaw points to.
    """
    boxes = np.asarray(boxes, np.float64)
    x, y = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]).T / 2
    own = [np.tile(x, 2), np.tile(y, 2), np.repeat([-0.5, 0.5], 4)]
    x, y, z = np.moveaxis(np.stack(own, axis=1) * boxes[:, None, 3:6], 2, 0)
    cos, sin = np.cos(boxes[:, 6:]), np.sin(boxes[:, 6:])
    turned = np.stack([x * cos - y * sin, x * sin + y * cos, z], axis=2)
    return turned + boxes[:, None, :3]


def is_rigid(pose: NDArray[np.float64]) -> bool:
    """Return whether a [4,4] matrix is a rotation and a translation: finite, and no mirror image.

    Untracked frames of recordings have poses of -inf, NaN or zeros.
    """
    if pose.shape != (4, 4) or not np.isfinite(pose).all():
        return False
    turn = pose[:3, :3]
    if np.abs(turn).max() > 2:  # also keeps the product below from overflowing
        return False
    skew = np.abs(turn.T @ turn - np.eye(3)).max()
    return bool(skew < MAX_SKEW and np.linalg.det(turn) > 0 and (pose[3] == [0, 0, 0, 1]).all())


def _bad(name: str, what: str) -> ShapeError:
    return ShapeError(f"{name} {what}", where=f"{name}=", reason=Reason.BAD_SYNTAX)
