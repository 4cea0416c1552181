"""Stand scenes upright: rigid transforms that turn +Z up and put the floor near z = 0."""

import numpy as np
from numpy.typing import NDArray

AXES = {  # names of up axes, as in scene.json
    "x": (1.0, 0.0, 0.0),
    "y": (0.0, 1.0, 0.0),
    "z": (0.0, 0.0, 1.0),
    "-x": (-1.0, 0.0, 0.0),
    "-y": (0.0, -1.0, 0.0),
    "-z": (0.0, 0.0, -1.0),
}
FLOOR = 1.0  # percentile of the heights that is taken as the floor's; a few points lie below it


def turn_up(up: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the smallest rotation [4,4] that turns a direction [3] to +Z (Rodrigues)."""
    x, y, z = up / np.linalg.norm(up)
    matrix = np.eye(4)
    if z < -1 + 1e-9:
        matrix[:3, :3] = np.diag([1.0, -1.0, -1.0])
        return matrix
    cross = np.array([[0, 0, -x], [0, 0, -y], [x, y, 0]])
    matrix[:3, :3] += cross + cross @ cross / (1 + z)
    return matrix


def on_ground(points: NDArray[np.float64], turn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `turn` [4,4] with a translation after it that puts the points [M,3] on the ground.

    The floor (percentile FLOOR of the heights) comes to z = 0, and the middle of what lies between
    the percentiles FLOOR and 100 - FLOOR of x and of y to the z axis. Outliers have no influence.
    """
    moved = points @ turn[:3, :3].T + turn[:3, 3]
    low, high = np.percentile(moved, [FLOOR, 100 - FLOOR], axis=0)
    shift = np.eye(4)
    shift[:3, 3] = [-(low[0] + high[0]) / 2, -(low[1] + high[1]) / 2, -low[2]]
    return shift @ turn
