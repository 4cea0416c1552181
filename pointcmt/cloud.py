"""`Cloud`: points and what a file says of them, as readers make it and the splatter draws it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points in their file's order and coordinates. M points."""

    points: NDArray[np.float64]  # [M,3]
    normals: NDArray[np.float64]  # [M,3]; of another length than 1, such as 0, where unknown
    colors: NDArray[np.float32] | None = None  # [M,3] sRGB 0..1
    part: NDArray[np.uint8] | None = None  # [M], index into the class's part names
    notes: tuple[str, ...] = ()  # what was odd but harmless, for the shape's record
