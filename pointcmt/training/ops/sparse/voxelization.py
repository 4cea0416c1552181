"""Points to voxels and back."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pointcmt.errors import UsageError
from pointcmt.training import ops
from pointcmt.training.ops.sparse.grid import VoxelGrid
from pointcmt.training.ops.sparse.keys import pack, require_bounds


@dataclass(frozen=True, eq=False)
class Voxels:
    """Points grouped by voxel.

    index [N] i64: each point's voxel. order [N] i64: the points sorted by voxel, those of a voxel
    as they were. starts [n] i64: where each voxel begins in that order.
    """

    grid: VoxelGrid
    index: Tensor
    order: Tensor
    starts: Tensor

    def average(self, features: Tensor) -> Tensor:
        """Average each voxel's points: features [N, C] → rows [n, C], differentiable.

        Sums are in the order of the points: the same on every run, with any number of threads.
        """
        return F.embedding_bag(self.order, features, self.starts, mode="mean")

    def first(self, features: Tensor) -> Tensor:
        """Take each voxel's first point: [N, ...] → [n, ...], of any type (labels, for one)."""
        return features[self.order[self.starts]]

    def to_points(self, rows: Tensor) -> Tensor:
        """Copy each voxel's row to its points: [n, C] → [N, C], differentiable."""
        return ops.gather(rows[None], self.index[None])[0]


def voxelize(points: Tensor, batch: Tensor, size: float) -> Voxels:
    """Group points [N, 3] of the clouds batch [N] by voxels of `size`, in the points' unit.

    A voxel's coordinates are floor(point / size), computed in float64. Raises UsageError for
    shapes or types that do not fit, no points, coordinates that are NaN or infinite, a size that
    is not positive, and clouds that reach too far from the origin.
    """
    if points.dim() != 2 or points.shape[1] != 3 or not points.is_floating_point():
        raise _invalid(f"points are {points.dtype} {list(points.shape)}", "pass floats [N, 3]")
    if batch.shape != points.shape[:1] or batch.dtype != torch.int64:
        raise _invalid(
            f"batch is {batch.dtype} {list(batch.shape)} for {len(points)} points",
            "pass the cloud of every point, int64 [N]",
        )
    if not len(points):
        raise _invalid("the clouds have no points", "pass at least one point")
    if not 0 < size < float("inf"):
        raise _invalid(f"invalid size of a voxel: {size}", "use a positive number")
    places = (points.detach().double() / size).floor()
    if not places.isfinite().all():
        raise _invalid("a coordinate is NaN or infinite", "check where points come from")
    # Beyond int64, conversion is undefined; the limit still is out of bounds.
    coords = torch.cat([batch[:, None], places.clamp(-(2**40), 2**40).long()], dim=1)
    require_bounds(coords)
    keys, order = pack(coords).sort(stable=True)
    begins = torch.cat([keys.new_ones(1, dtype=torch.bool), keys[1:] != keys[:-1]])
    starts = begins.nonzero()[:, 0]
    index = torch.empty_like(order)
    index[order] = begins.cumsum(0) - 1
    return Voxels(VoxelGrid(keys[starts]), index, order, starts)


def _invalid(what: str, fix: str) -> UsageError:
    return UsageError(what, where="voxelize", fix=fix)
