"""The frame in which a network takes a store's points: up axis, center and scale.

A store holds every shape in one frame: +Z up, the bounding box centered, the farthest point at
radius 1. Published networks were trained in the frames of their benchmarks (docs/conventions.md has
the table). The stored points are turned into that frame when they are read for a network; images,
cameras and correspondences stay as they are.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.errors import StoreError, UsageError

# By up axis of a source: rows are the world's x, y, z in the source's coordinates.
UP_AXES: dict[str, tuple[tuple[int, int, int], ...]] = {
    "x": ((0, 1, 0), (0, 0, 1), (1, 0, 0)),
    "y": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "z": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
}
VALUES: dict[str, tuple[str, ...]] = {
    "up": ("x", "y", "z"),
    "center": ("bounds", "centroid", "none"),
    "scale": ("farthest", "none"),
}


@dataclass(frozen=True)
class InputFrame:
    """A frame of points. The defaults are the store's own.

    up: the axis that points up. center: what lies at the origin: the middle of the shape's bounding
    box, the mean of the points that the network takes, or none = the source's own origin. scale:
    the farthest of the points at radius 1, or none = the source's own size. With center=bounds,
    scale=farthest is that of the whole shape, as it is stored. Raises UsageError for other values.
    """

    up: str = "z"
    center: str = "bounds"
    scale: str = "farthest"

    def __post_init__(self) -> None:
        for name, known in VALUES.items():
            if getattr(self, name) not in known:
                raise UsageError(
                    f"a frame cannot have {name}={getattr(self, name)!r}",
                    fix=f"known: {', '.join(known)}",
                )

    @property
    def needs_source(self) -> bool:
        """Whether points can only be placed with the shape's `source_to_world`."""
        return "none" in (self.center, self.scale)

    def describe(self) -> str:
        """Return the frame in words."""
        center = {
            "bounds": "centered by the bounding box",
            "centroid": "centered by the mean of the points",
            "none": "at the source's own origin",
        }
        scale = {"farthest": "the farthest point at radius 1", "none": "in the source's own size"}
        return f"+{self.up.upper()} up, {center[self.center]}, {scale[self.scale]}"

    def as_json(self) -> dict[str, str]:
        """Return the three values by name."""
        return asdict(self)


AS_STORED = InputFrame()


def place(
    points: NDArray[np.float32],
    frame: InputFrame,
    source_to_world: NDArray[np.float64] | None = None,
) -> NDArray[np.float32]:
    """Turn stored points [B, n, 3] into a frame.

    source_to_world: the shapes' similarities [B, 4, 4], for frames that need them. A mean is taken
    over these n points, as in the loaders of PointNet++ (`pc_normalize`).
    """
    if frame == AS_STORED:
        return points
    placed = points.astype(np.float64)
    if frame.center == "centroid":
        placed -= placed.mean(axis=1, keepdims=True)
    if frame.needs_source and source_to_world is None:
        raise ValueError(f"{frame} needs source_to_world")
    if frame.center == "none" and source_to_world is not None:
        placed -= source_to_world[:, None, :3, 3]  # where the source's origin is in the world
    if frame.scale == "none" and source_to_world is not None:
        placed /= np.linalg.norm(source_to_world[:, 0, :3], axis=1)[:, None, None]
    elif frame.center != "bounds":
        radius = np.linalg.norm(placed, axis=2).max(axis=1)
        placed /= np.where(radius > 0, radius, 1)[:, None, None]
    return (placed @ np.array(UP_AXES[frame.up], np.float64)).astype(np.float32)


def place_normals(normals: NDArray[np.float32], frame: InputFrame) -> NDArray[np.float32]:
    """Turn stored normals [B, n, 3] into a frame, like the points of `place`."""
    return normals @ np.array(UP_AXES[frame.up], np.float32)


def frame_of(attributes: dict[str, Any]) -> InputFrame | None:
    """Return the frame that a store's root states for its benchmark's networks; None = none.

    Raises StoreError for a frame that this version does not know.
    """
    table = attributes.get("input")
    try:
        return None if table is None else InputFrame(**table)
    except (TypeError, UsageError):
        raise StoreError(
            f"the root of the store states an unknown frame of points: {table!r:.80}",
            fix="read it with the version of pointcmt that rendered it",
        ) from None


def parse_frame(text: str, where: str = "--frame") -> InputFrame:
    """Read a frame given as "up,center,scale", such as "y,centroid,farthest". Raises UsageError."""
    try:
        return InputFrame(*text.split(",", maxsplit=len(VALUES) - 1))
    except UsageError as error:
        known = "; ".join(f"{name} {', '.join(values)}" for name, values in VALUES.items())
        error.where, error.fix = where, f"pass UP,CENTER,SCALE: {known}"
        raise
