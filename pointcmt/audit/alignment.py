"""Turn one shape onto another, and say how far apart their surfaces are then.

Rotations start from the principal axes of both shapes, in every order and direction, and, for
shapes whose axes are not distinct, from random ones. The best of them are refined by iterated
closest points (Besl and McKay 1992).
"""

from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

from pointcmt.audit.descriptors import normalized

MOST = 1024  # points that are compared in the end
COARSE = (64, 256)  # points of one and of the other shape, to choose where to start
REFINED, ROUNDS = 6, 12  # starts that are refined, and how often
HOPELESS = 0.8  # gap of the COARSE points, above which no more are compared
SETTLING = 6  # steps
NEAR = 4  # points whose tangent planes are tried
DISTINCT = 1.3  # ratio of two variances, above which the directions of both are certain
RANDOM = 240  # more starts where they are not

Points = NDArray[np.float32]
Rotations = NDArray[np.float32]


@dataclass(frozen=True)
class Surface:
    """Points [N,3] of a shape in farthest-point order, with their unit normals [N,3]."""

    points: NDArray[np.floating]
    normals: NDArray[np.floating]


@dataclass(frozen=True)
class Gap:
    """How far apart two surfaces are, in units of the mean distance between neighboring points.

    points: the mean distance to the other's nearest point; about 0.5 for two samples of the same
    surface, since its points are elsewhere. planes: the mean distance to the tangent plane of a
    near point; below 0.05 for two samples of the same surface, which only differ where it bends.
    Both are the larger one of both directions.
    """

    points: float
    planes: float


def gap_between(one: Surface, other: Surface) -> Gap:
    """Return how far apart two shapes are at best, whatever their position, rotation and scale.

    Mirrored shapes are different ones. Of shapes that are far from equal, fewer points are
    compared. Normals of length 0 are unknown, and their planes then count as met.
    """
    n = min(MOST, len(one.points), len(other.points))
    a, b = normalized(one.points[:n]), normalized(other.points[:n])
    turns = _starts(a, b)
    few, many = a[: COARSE[0]], b[: COARSE[1]]
    costs = [float(_nearest(few @ turn.T, many)[1].mean()) for turn in turns]
    best = np.argsort(costs, kind="stable")[:REFINED]
    some = slice(COARSE[1])
    refined = [_refined(turns[start], a[some], b[some]) for start in best]
    gaps = [_apart(a[some] @ turn.T, b[some]) for turn in refined]
    if min(gaps) > HOPELESS:
        return Gap(min(gaps), np.inf)
    turn = _refined(refined[int(np.argmin(gaps))], a, b)
    own, theirs = one.normals[:n] @ turn.T, other.normals[:n]
    a = _settled(a @ turn.T, b, theirs)
    spacing = min(_spacing(a), _spacing(b))
    planes = max(_off_planes(a, b, theirs), _off_planes(b, a, own)) / spacing
    return Gap(_apart(a, b), planes)


def _starts(a: Points, b: Points) -> Rotations:
    """Return rotations [R,3,3] to start from."""
    (spread, axes), (other_spread, other_axes) = _axes(a), _axes(b)
    turns = [other_axes @ turn @ axes.T for turn in _right_angles()]
    ratios = [(s[1:] / np.maximum(s[:-1], 1e-9)).min() for s in (spread, other_spread)]
    if min(ratios) < DISTINCT:
        turns += _random_rotations(RANDOM)
    return np.array(turns, np.float32)


def _axes(points: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the variances, ascending, and the principal axes as the columns of a rotation."""
    spread, axes = np.linalg.eigh(np.cov(points.T.astype(np.float64)))
    axes[:, 0] *= np.sign(np.linalg.det(axes))
    return spread, axes


def _right_angles() -> list[NDArray[np.float64]]:
    """Return the 24 rotations of a cube."""
    turns = []
    for order in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            turn = np.diag(signs)[:, order]
            if np.linalg.det(turn) > 0:
                turns.append(turn)
    return turns


def _random_rotations(count: int) -> list[NDArray[np.float64]]:
    """Return rotations in all directions, always the same."""
    turns, upper = np.linalg.qr(np.random.default_rng(0).normal(size=(count, 3, 3)))
    turns *= np.sign(np.diagonal(upper, axis1=1, axis2=2))[:, None, :]
    turns[:, :, 0] *= np.linalg.det(turns)[:, None]
    return list(turns)


def _refined(turn: NDArray[np.float32], a: Points, b: Points) -> NDArray[np.float32]:
    """Improve a rotation of `a` onto `b`."""
    for _ in range(ROUNDS):
        nearest, _ = _nearest(a @ turn.T, b)
        u, _, vt = np.linalg.svd((b[nearest].T @ a).astype(np.float64))
        better = (u * [1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
        if np.allclose(better, turn, atol=1e-5):
            break
        turn = better.astype(np.float32)
    return turn


def _settled(a: Points, b: Points, normals: NDArray[np.floating]) -> Points:
    """Move, turn and scale points a little, so that they lie in the planes of others.

    Centroid and radius differ from sample to sample. Point-to-plane steps (Chen and Medioni 1992)
    of seven unknowns; a fifth of the points, those farthest from their planes, do not count.
    """
    for _ in range(SETTLING):
        nearest, _ = _nearest(a, b)
        plane = normals[nearest]
        off = np.sum((a - b[nearest]) * plane, axis=1)
        rows = np.column_stack([np.cross(a, plane), plane, np.sum(a * plane, axis=1)])
        counted = np.abs(off) <= np.quantile(np.abs(off), 0.8)
        step = np.linalg.lstsq(rows[counted], -off[counted], rcond=1e-4)[0]
        a = (a + np.cross(step[:3], a) + step[3:6] + step[6] * a).astype(np.float32)
    return a


def _nearest(a: Points, b: Points) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return for each point of `a` the nearest one of `b`, and its distance."""
    squares = np.sum(b**2, axis=1) - 2 * (a @ b.T)
    nearest = squares.argmin(axis=1)
    return nearest, np.linalg.norm(a - b[nearest], axis=1)


def _off_planes(a: Points, b: Points, normals: NDArray[np.floating]) -> float:
    """Return the mean distance of points from the best of the planes of near points of another."""
    squares = np.sum(b**2, axis=1) - 2 * (a @ b.T)
    near = np.argpartition(squares, NEAR, axis=1)[:, :NEAR]
    off = np.abs(np.einsum("nkd,nkd->nk", a[:, None] - b[near], normals[near]))
    return float(off.min(axis=1).mean())


def _apart(a: Points, b: Points) -> float:
    """Return how far apart two shapes are as they lie: see `Gap.points`."""
    distance = max(_nearest(a, b)[1].mean(), _nearest(b, a)[1].mean())
    return float(distance / min(_spacing(a), _spacing(b)))


def _spacing(points: Points) -> float:
    """Return the mean distance of points from their nearest neighbor."""
    squares = np.sum(points**2, axis=1)
    pairs = squares[:, None] + squares - 2 * (points @ points.T)
    np.fill_diagonal(pairs, np.inf)
    nearest = pairs.argmin(axis=1)
    return max(float(np.linalg.norm(points - points[nearest], axis=1).mean()), 1e-6)
