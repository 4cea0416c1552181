"""The occupied voxels of a batch of clouds."""

from functools import cached_property

import torch
from torch import Tensor

from pointcmt.errors import UsageError
from pointcmt.training.ops.sparse.kernel_map import KernelMap, map_neighbors, map_to_parents
from pointcmt.training.ops.sparse.keys import MARGIN, pack, require_bounds, unpack


class VoxelGrid:
    """Occupied voxels, sorted by batch, x, y, z, and their kernel maps, each computed once.

    keys [n] i64: sorted, no two the same (see `keys.py`). Rows of features follow their order.
    """

    def __init__(self, keys: Tensor) -> None:
        self.keys = keys
        self._neighbors: dict[int, KernelMap] = {}

    @classmethod
    def from_coords(cls, coords: Tensor) -> tuple["VoxelGrid", Tensor]:
        """coords [n, 4], integers (batch, x, y, z) in any order → the grid and order [n].

        `features[order]` are the grid's rows. Coordinates may be negative. Raises UsageError for
        other shapes or types, no voxels, duplicates, and coordinates that are too large.
        """
        if coords.dim() != 2 or coords.shape[1] != 4 or coords.is_floating_point():
            raise UsageError(
                f"coordinates of voxels are {coords.dtype} {list(coords.shape)}",
                where="VoxelGrid.from_coords",
                fix="pass integers [n, 4]: batch, x, y, z",
            )
        if not len(coords):
            raise UsageError(
                "there are no voxels",
                where="VoxelGrid.from_coords",
                fix="pass at least one voxel",
            )
        require_bounds(coords)
        keys, order = pack(coords.long()).sort(stable=True)
        repeated = order[1:][keys[1:] == keys[:-1]]
        if len(repeated):
            raise UsageError(
                f"{len(repeated)} voxels are duplicates, such as "
                f"{coords[repeated[0]].tolist()} (batch, x, y, z)",
                where="VoxelGrid.from_coords",
                fix="use voxelize, which merges the points of a voxel",
            )
        return cls(keys), order

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def coords(self) -> Tensor:
        """Batch, x, y, z of every voxel, [n, 4] i64."""
        return unpack(self.keys)

    def neighbors(self, size: int) -> KernelMap:
        """Return the map of a submanifold convolution with a kernel of size³.

        Raises UsageError for a size that is even, below 3 or above 17.
        """
        if size not in range(3, 2 * MARGIN + 2, 2):
            raise UsageError(
                f"invalid size of a kernel: {size}",
                where="VoxelGrid.neighbors",
                fix=f"use an odd size from 3 to {2 * MARGIN + 1}; a linear layer needs no map",
            )
        if size not in self._neighbors:
            self._neighbors[size] = map_neighbors(self.keys, size)
        return self._neighbors[size]

    @cached_property
    def coarser(self) -> tuple["VoxelGrid", KernelMap]:
        """The grid of voxels of twice the size, and the map to it (kernel 2³, stride 2).

        A voxel's parent has the halves of its coordinates, rounded down. It is the same whatever
        else is in the batch.
        """
        coords = self.coords
        halves = torch.cat([coords[:, :1], coords[:, 1:] >> 1], dim=1)
        parents, parent = torch.unique(pack(halves), return_inverse=True)
        return VoxelGrid(parents), map_to_parents(self.keys, parents, parent)
