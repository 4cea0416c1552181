"""Kernel maps: for each offset of a kernel, the pairs of voxels that it connects.

A kernel's offsets are in the order of a dense kernel's elements (x slowest, z fastest), so that a
weight [K, C, C'] is F.conv3d's [C', C, x, y, z] with its axes moved.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pointcmt.training.ops.sparse.keys import offset_key, unpack

MISSING = -1  # beside the keys, which are never negative


class KernelMap(NamedTuple):
    """Pairs of a source and a target row for each offset, in blocks of one offset.

    source, target [P] i64. Within an offset every source and every target occurs at most once, so
    adding its products to the targets has no collisions. starts [K + 1] i64, on the CPU: where
    each offset's pairs begin. sources, targets: the number of rows of both sides.
    mirrored: a submanifold map, of which only the first K // 2 offsets are listed. Those after the
    middle have the same pairs with source and target swapped; the middle is the identity.
    """

    source: Tensor
    target: Tensor
    starts: Tensor
    sources: int
    targets: int
    mirrored: bool

    @property
    def offsets(self) -> int:
        """K, the number of offsets."""
        listed = len(self.starts) - 1
        return 2 * listed + 1 if self.mirrored else listed

    @property
    def pairs(self) -> int:
        """The number of products of a row and a matrix in a convolution."""
        listed = len(self.source)
        return 2 * listed + self.sources if self.mirrored else listed

    def swapped(self) -> "KernelMap":
        """Return the map from targets to sources: of the transposed convolution."""
        return KernelMap(
            self.target, self.source, self.starts, self.targets, self.sources, self.mirrored
        )


def map_neighbors(keys: Tensor, size: int) -> KernelMap:
    """Map voxels to their neighbors within size³: sorted keys [n] → a mirrored map (submanifold).

    The target of an offset d is p where its source is p + d, like F.conv3d's cross-correlation.
    """
    reach, total = size // 2, len(keys)
    padded = torch.cat([keys, keys.new_full((1,), MISSING)])
    source, target, counts = [], [], []
    for x in range(-reach, 1):
        for y in range(-reach, reach + 1 if x < 0 else 1):
            wanted = keys + offset_key(x, y, -reach)
            place = torch.searchsorted(keys, wanted)  # [n]: the first key not below
            for _ in range(size if (x, y) != (0, 0) else reach):
                found = padded[place] == wanted
                rows = found.nonzero()[:, 0]
                source.append(place[rows])
                target.append(rows)
                counts.append(len(rows))
                wanted, place = wanted + 1, place + found  # keys are whole and sorted: no search
    starts = torch.tensor([0, *counts]).cumsum(0)
    return KernelMap(torch.cat(source), torch.cat(target), starts, total, total, mirrored=True)


def map_to_parents(keys: Tensor, parents: Tensor, parent: Tensor) -> KernelMap:
    """Map voxels to voxels of twice the size: keys [n], their parents' keys and indices [n] → map.

    The offset of a child is its position within its parent, 0 ... 7 (kernel 2³, stride 2).
    """
    low = unpack(keys)[:, 1:] & 1  # [n, 3]
    offset = 4 * low[:, 0] + 2 * low[:, 1] + low[:, 2]
    source = offset.argsort(stable=True)
    counts = torch.bincount(offset, minlength=8).cpu()
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return KernelMap(source, parent[source], starts, len(keys), len(parents), mirrored=False)
