"""`Cloud`: points and what a file says of them, as readers make it and the splatter draws it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pointcmt.arrays import color_array, number_array, require_finite
from pointcmt.errors import Reason, ShapeError


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Cloud:
    """Points in their file's order and coordinates. M points.

    points [M,3] and normals [M,3] are numbers of any kind and kept as f64. Normals whose length is
    not 1 are unknown and estimated when the cloud is drawn, as are all where none are given. colors
    [M,3] are sRGB, as floats of 0..1 or bytes of 0..255. Raises ShapeError where an array does not
    fit.

    >>> pc.Cloud(points=[[0, 0, 0], [1, 0, 0]], colors=[[255, 0, 0], [0, 0, 0]])
    Traceback (most recent call last):
    pointcmt.errors.ShapeError: colors go from 0 to 255, not from 0 to 1
      where: colors=
      fix:   divide them by 255, or give bytes (uint8)
    >>> pc.Cloud(points=[[0, 0, 0], [1, 0, 0]])
    Cloud(2 points)
    """

    points: NDArray[np.float64]  # [M,3]
    normals: NDArray[np.float64]  # [M,3]; of another length than 1, such as 0, where unknown
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
            raise ShapeError("there are no points", where="points=", reason=Reason.EMPTY_FILE)
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
