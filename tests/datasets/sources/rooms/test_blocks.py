"""Blocks: collisions and distances against a plain reference of sampled points."""

import numpy as np
import pytest

from pointcmt.datasets.sources.toy.rooms.blocks import Block, Plan, inside

SQUARE = np.array([(-3.0, -3.0), (3.0, -3.0), (3.0, 3.0), (-3.0, 3.0)])


def random_block(rng):
    x, y = rng.uniform(-2, 2, 2)
    width, depth = rng.uniform(0.2, 1.5, 2)
    low = rng.uniform(0, 1)
    return Block(x, y, width, depth, rng.uniform(0, 360), low, low + rng.uniform(0.2, 1))


def cover(block, points):
    """Which points [n,2] are inside a block's footprint, by its corners."""
    return inside(block.corners, points)


@pytest.mark.parametrize("seed", range(60))
def test_collisions_are_those_of_sampled_points(seed):
    """Blocks collide if a dense grid has a point in both; unless they overlap by little."""
    rng = np.random.default_rng(seed)
    one, other = random_block(rng), random_block(rng)
    plan = Plan(SQUARE, 3.0)
    plan.add(other)
    axis = np.linspace(-4, 4, 801)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    both = int((cover(one, points) & cover(other, points)).sum())
    levels = min(one.high, other.high) > max(one.low, other.low)
    if both > 3 or not levels:
        assert bool(plan.collisions(one)) == (levels and both > 3)
    elif both == 0:
        assert not plan.collisions(one, gap=-0.02)


def test_blocks_that_touch_do_not_collide():
    plan = Plan(SQUARE, 3.0)
    number = plan.add(Block(0, 0, 1, 1, 0, 0, 1))
    assert plan.fits(Block(1.0, 0, 1, 1, 0, 0, 1))
    assert plan.fits(Block(0, 0, 1, 1, 0, 1, 2))
    assert not plan.fits(Block(1.0, 0, 1, 1, 0, 0, 1), gap=0.05)
    assert not plan.fits(Block(0.9, 0, 1, 1, 0, 0, 1))
    assert plan.fits(Block(0.9, 0, 1, 1, 0, 0, 1), beside=[number])
    assert not plan.fits(Block(0.9, 0, 1, 1, 0, 0, 3.5), beside=[number])


@pytest.mark.parametrize("seed", range(10))
def test_distances_are_those_to_sampled_edges(seed):
    rng = np.random.default_rng(seed)
    plan, blocks = Plan(SQUARE, 3.0), [random_block(rng) for _ in range(5)]
    for block in blocks:
        plan.add(block)
    plan.add(Block(0, 0, 6, 6, 0, 0, 3), solid=False)
    points = rng.uniform(-3, 3, (40, 2))
    near = plan.distance(points, 0.0, 3.0)
    for point, distance in zip(points, near, strict=True):
        if any(cover(block, point[None])[0] for block in blocks):
            assert distance == 0
            continue
        edges = [
            start + (end - start) * np.linspace(0, 1, 500)[:, None]
            for block in blocks
            for start, end in zip(block.corners, np.roll(block.corners, -1, axis=0), strict=True)
        ]
        expected = np.linalg.norm(np.concatenate(edges) - point, axis=1).min()
        assert distance == pytest.approx(expected, abs=2e-3)


def test_only_blocks_at_the_asked_heights_count():
    plan = Plan(SQUARE, 3.0)
    plan.add(Block(0, 0, 1, 1, 0, 0.0, 0.5))
    plan.add(Block(2, 0, 1, 1, 0, 0.0, 2.0))
    assert plan.distance(np.zeros((1, 2)), 0.0, 2.0)[0] == 0
    assert plan.distance(np.zeros((1, 2)), 1.0, 2.0)[0] == pytest.approx(1.5)
