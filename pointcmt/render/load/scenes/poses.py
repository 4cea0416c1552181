"""Camera poses in the text files of recordings: matrices, Redwood's .log, TUM's quaternions.

A pose is the transform from a camera's axes (OpenCV) to the scene, [4,4] f64. Untracked frames have
poses of infinities, NaN or zeros: they are returned as they are, and `is_pose` tells them.
"""

import math
import re

import numpy as np
from numpy.typing import NDArray

from pointcmt.errors import Reason, ShapeRefused, printable
from pointcmt.scenes import is_rigid

FAR = 1e6  # meters; larger coordinates are damaged, and could overflow
_LOG_ROW = 3 + 16  # numbers per pose in a .log file: three integers, a matrix
_TUM_ROW = 8  # timestamp, tx ty tz, qx qy qz qw
_WINDOWS = re.compile(r"([+-]?)1\.#(?:inf|ind|qnan)\d*", re.IGNORECASE)  # as printed by old Windows


def parse_numbers(text: str, name: str) -> list[float]:
    """Return the numbers of a text, separated by blanks or commas; `#` begins a comment.

    Infinities and NaN are numbers. Raises ShapeRefused (bad_syntax) with the line of a word.
    """
    numbers = []
    for count, line in enumerate(text.splitlines(), 1):
        numbers += _numbers(line, name, count)
    return numbers


def _numbers(line: str, name: str, count: int) -> list[float]:
    line = _WINDOWS.sub("nan", line).split("#", 1)[0]
    try:
        return [float(word) for word in line.replace(",", " ").split()]
    except ValueError as error:
        what = f"{printable(name)}, line {count}: {error}"
        raise ShapeRefused(Reason.BAD_SYNTAX, what) from error


def parse_matrix(text: str, name: str) -> NDArray[np.float64]:
    """Return a matrix [4,4] from its 16 numbers, or from 12 or 9 of its upper left part.

    Raises ShapeRefused (bad_syntax) for any other number of them.
    """
    return as_matrix(parse_numbers(text, name), name)


def as_matrix(numbers: list[float], name: str) -> NDArray[np.float64]:
    """Return a matrix [4,4] from 16, 12 or 9 numbers, row by row; see `parse_matrix`."""
    columns = {16: (4, 4), 12: (3, 4), 9: (3, 3)}.get(len(numbers))
    if columns is None:
        what = f"{printable(name)} has {len(numbers)} numbers; expected a 4 × 4 matrix"
        raise ShapeRefused(Reason.BAD_SYNTAX, what)
    matrix = np.eye(4)
    matrix[: columns[0], : columns[1]] = np.reshape(numbers, columns)
    return matrix


def is_pose(matrix: NDArray[np.float64]) -> bool:
    """Return whether a matrix [4,4] is a rigid transform of an ordinary size."""
    return is_rigid(matrix) and bool(np.abs(matrix).max() <= FAR)


def parse_log(text: str, name: str) -> list[tuple[int, NDArray[np.float64]]]:
    """Return (first integer, pose) of each entry of a trajectory in Redwood's .log format.

    Each entry has five lines: three integers, and a matrix of 4 × 4 (redwood-data.org/indoor).
    Raises ShapeRefused (bad_syntax, truncated).
    """
    rows = _rows(parse_numbers(text, name), _LOG_ROW, name)
    if not np.isfinite(rows[:, 0]).all() or (rows[:, 0] != np.floor(rows[:, 0])).any():
        what = f"{printable(name)}: each pose must begin with three integers"
        raise ShapeRefused(Reason.BAD_SYNTAX, what)
    return [(int(row[0]), row[3:].reshape(4, 4)) for row in rows]


def parse_tum(text: str, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the times [n] in seconds, ascending, and the poses [n,4,4] of a TUM trajectory.

    Each line is `timestamp tx ty tz qx qy qz qw` (cvg.cit.tum.de/data/datasets/rgbd-dataset/
    file_formats). Raises ShapeRefused (bad_syntax, truncated).
    """
    rows = _rows(parse_numbers(text, name), _TUM_ROW, name)
    rows = rows[np.isfinite(rows[:, 0])]
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    poses = np.zeros((len(rows), 4, 4))
    poses[:, 3, 3] = 1
    poses[:, :3, 3] = rows[:, 1:4]
    poses[:, :3, :3] = _rotations(rows[:, 4:])
    return rows[:, 0], poses


def _rotations(quaternions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rotations [n,3,3] of quaternions [n,4] x y z w of any length; NaN for length 0."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        x, y, z, w = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    with np.errstate(invalid="ignore"):
        rows = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    return np.moveaxis(np.array(rows), 2, 0)


def _rows(numbers: list[float], width: int, name: str) -> NDArray[np.float64]:
    if not numbers:
        raise ShapeRefused(Reason.EMPTY_FILE, f"{printable(name)} has no poses")
    if len(numbers) % width:
        what = (
            f"{printable(name)} has {len(numbers)} numbers, which is not a multiple of the {width} "
            "of a pose"
        )
        raise ShapeRefused(Reason.TRUNCATED, what)
    return np.array(numbers).reshape(-1, width)


def nearest_time(times: NDArray[np.float64], time: float, most: float) -> int | None:
    """Return the index of the nearest of ascending times; None if it is more than `most` away."""
    if not len(times) or not math.isfinite(time):
        return None
    right = int(np.searchsorted(times, time))
    best = min({max(right - 1, 0), min(right, len(times) - 1)}, key=lambda i: abs(times[i] - time))
    return best if abs(times[best] - time) <= most else None
