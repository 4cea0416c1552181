"""Convolution on the occupied voxels of point clouds, in plain torch.

Voxels are an index, features are plain rows [n, C] beside it: `voxelize` turns points into a
`VoxelGrid`, the grid gives kernel maps (which voxel is whose neighbor, computed once each), and
`sparse_convolution` applies a kernel to rows along a map.

Letters: N points, n voxels, B clouds, C channels, K offsets of a kernel, P pairs of a kernel map.
"""

from pointcmt.training.ops.sparse.convolution import sparse_convolution
from pointcmt.training.ops.sparse.grid import VoxelGrid
from pointcmt.training.ops.sparse.kernel_map import KernelMap
from pointcmt.training.ops.sparse.voxelization import Voxels, voxelize

__all__ = ["KernelMap", "VoxelGrid", "Voxels", "sparse_convolution", "voxelize"]
