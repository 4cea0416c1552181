"""One sortable integer for each voxel.

A key holds batch, x, y and z, from the highest bits to the lowest. Coordinates are stored with an
offset, so that negative ones keep their order, and stay MARGIN cells away from the ends of their
bits. So adding the key of an offset moves a voxel and never carries into the next axis.
"""

import torch
from torch import Tensor

from pointcmt.errors import UsageError

BITS = 17  # of each axis; 12 are left for the batch
ORIGIN = 1 << (BITS - 1)  # stored for coordinate 0
MARGIN = 8  # cells: kernels of up to 2 · 8 + 1
FARTHEST = ORIGIN - 1 - MARGIN  # largest coordinate; the smallest is its negative
MOST_CLOUDS = 1 << (63 - 3 * BITS)


def pack(coords: Tensor) -> Tensor:
    """coords [n, 4] i64 (batch, x, y, z), within bounds → keys [n] i64."""
    batch, x, y, z = coords.unbind(1)
    return (batch << 3 * BITS) + ((x + ORIGIN) << 2 * BITS) + ((y + ORIGIN) << BITS) + z + ORIGIN


def unpack(keys: Tensor) -> Tensor:
    """keys [n] i64 → coords [n, 4] i64 (batch, x, y, z)."""
    axes = [((keys >> shift * BITS) & (2 * ORIGIN - 1)) - ORIGIN for shift in (2, 1, 0)]
    return torch.stack([keys >> 3 * BITS, *axes], dim=1)


def offset_key(x: int, y: int, z: int) -> int:
    """Return the number that moves a key by an offset in cells."""
    return (x << 2 * BITS) + (y << BITS) + z


def require_bounds(coords: Tensor) -> None:
    """Raise UsageError for coords [n, 4] that do not fit into keys. Synchronizes once."""
    low, high = torch.stack(torch.aminmax(coords, dim=0)).tolist()
    if low[0] < 0 or high[0] >= MOST_CLOUDS:
        raise UsageError(
            f"batch indices are within {low[0]} ... {high[0]}",
            where="sparse convolution",
            fix=f"number the clouds of a batch from 0 to at most {MOST_CLOUDS - 1}",
        )
    if min(low[1:]) < -FARTHEST or max(high[1:]) > FARTHEST:
        raise UsageError(
            f"voxels are within {low[1:]} ... {high[1:]}, beyond ±{FARTHEST}",
            where="sparse convolution",
            fix="move the clouds to the origin, or use larger voxels",
        )
