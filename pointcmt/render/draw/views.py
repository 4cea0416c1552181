"""`Views`: the result of every renderer."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointcmt.compiled import compiled

FAINT = 10  # of 255: a smaller difference from the background in every channel is hard to see


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

    def faint_share(self, background: tuple[int, int, int]) -> float:
        """Return the share of covered pixels that differ from the background by less than FAINT."""
        covered, faint = _count(self.rgb, self.face_index, np.array(background, np.int32))
        return float(faint) / max(int(covered), 1)


@compiled
def _count(rgb, face_index, background):  # type: ignore[no-untyped-def]
    """Return the number of covered pixels, and of those that are faint."""
    covered = faint = 0
    for view in range(len(rgb)):
        for row in range(rgb.shape[1]):
            for column in range(rgb.shape[2]):
                if face_index[view, row, column] >= 0:
                    covered += 1
                    away = 0
                    for channel in range(3):
                        away = max(away, abs(rgb[view, row, column, channel] - background[channel]))
                    faint += away < FAINT
    return covered, faint
