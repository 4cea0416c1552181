"""Operations on tensors. The point operations are exported here, as in `ops.gather`."""

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

__all__ = [
    "WEIGHT_FLOOR",
    "ball_query",
    "farthest_points",
    "gather",
    "interpolate",
    "k_nearest",
    "over_clouds",
    "three_nearest_weights",
]
