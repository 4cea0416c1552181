"""Operations on tensors. Those on points and rows are exported here, as in `ops.gather`."""

from pointcmt.training.ops.points import (
    WEIGHT_FLOOR,
    ball_query,
    farthest_points,
    gather,
    interpolate,
    k_nearest,
    over_clouds,
    three_nearest_weights,
)
from pointcmt.training.ops.rows.norms import maximum, norm_maximum, norm_relu

__all__ = [
    "WEIGHT_FLOOR",
    "ball_query",
    "farthest_points",
    "gather",
    "interpolate",
    "k_nearest",
    "maximum",
    "norm_maximum",
    "norm_relu",
    "over_clouds",
    "three_nearest_weights",
]
