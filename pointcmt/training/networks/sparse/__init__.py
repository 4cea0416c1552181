"""Networks on the occupied voxels of point clouds."""
