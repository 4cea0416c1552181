"""`Views`: the result of every renderer."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Views:
    """Images of one shape; V views of H = W pixels.

    rgb [V,H,W,3] u8 sRGB; depth [V,H,W] f32, 0 = background; face_index [V,H,W] i32, -1 =
    background; layers: optional images by name.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    face_index: NDArray[np.int32]
    layers: dict[str, NDArray[np.uint8]]
