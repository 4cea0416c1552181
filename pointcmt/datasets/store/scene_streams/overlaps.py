"""How much two frames of a scene see of the same surface."""

import numpy as np
from numpy.typing import NDArray

from pointcmt.compiled import compiled


def frame_overlaps(visible: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return |vis a ∧ vis b| / min(|vis a|, |vis b|) of all frames a, b, [v, v].

    visible: packed rows [v, ⌈n/8⌉], see `pack_visible`. A frame that sees no point overlaps none.
    """
    frames, size = visible.shape
    padded = np.zeros((frames, -(-size // 8) * 8), np.uint8)
    padded[:, :size] = visible
    common = _common_bits(padded.view(np.uint64))
    seen = np.diag(common)
    least = np.minimum(seen[:, None], seen)
    return np.where(least > 0, common / np.maximum(least, 1), 0)


@compiled
def _common_bits(rows):  # type: ignore[no-untyped-def]
    """Return how many bits each two rows [v, words] u64 have in common, [v, v]."""
    frames, words = rows.shape
    common = np.zeros((frames, frames), np.int64)
    for a in range(frames):
        for b in range(a, frames):
            total = np.int64(0)
            for w in range(words):
                # Counts of 2, 4 and 8 bits, then their sum (Warren, Hacker's Delight, figure 5-2).
                x = rows[a, w] & rows[b, w]
                x -= (x >> np.uint64(1)) & np.uint64(0x5555555555555555)
                x = (x & np.uint64(0x3333333333333333)) + (
                    (x >> np.uint64(2)) & np.uint64(0x3333333333333333)
                )
                x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
                total += np.int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56))
            common[a, b] = common[b, a] = total
    return common
