"""Augmentation: exactly the change that is promised, and the same one for the same state."""

import torch

from pointcmt.training.augment import choose, scale_and_shift


def test_every_cloud_is_scaled_and_moved_per_axis_within_bounds():
    rng = torch.Generator().manual_seed(0)
    points = torch.rand(500, 20, 3, dtype=torch.float64)
    changed = scale_and_shift(points, (2 / 3, 3 / 2), 0.2, rng)
    first, last = points[:, 0], points[:, -1]
    scale = (changed[:, 0] - changed[:, -1]) / (first - last)  # [B, 3]
    shift = changed[:, 0] - scale * first
    torch.testing.assert_close(changed, points * scale[:, None] + shift[:, None])
    assert scale.min() >= 2 / 3
    assert scale.max() <= 3 / 2
    assert shift.abs().max() <= 0.2
    for drawn in (scale, shift):  # every axis of every cloud draws its own number
        assert len(drawn.float().unique()) > 1400
    assert abs(scale.mean() - 13 / 12) < 0.03
    assert abs(shift.mean()) < 0.02


def test_a_state_gives_the_same_numbers_again():
    rng = torch.Generator().manual_seed(1)
    points, images = torch.rand(4, 10, 3), torch.rand(4, 6, 2)
    state = rng.get_state()
    first = [scale_and_shift(points, (0.5, 2), 0.1, rng), choose(images, 3, rng)]
    other = scale_and_shift(points, (0.5, 2), 0.1, rng)
    assert not torch.equal(first[0], other)
    rng.set_state(state)
    assert torch.equal(first[0], scale_and_shift(points, (0.5, 2), 0.1, rng))
    assert torch.equal(first[1], choose(images, 3, rng))


def test_chosen_views_are_different_ones_of_the_shape():
    images = torch.arange(40)[:, None] * 100 + torch.arange(6)  # [B, V]: shape and view
    chosen = choose(images, 4, torch.Generator().manual_seed(2))
    assert chosen.shape == (40, 4)
    assert torch.equal(chosen // 100, torch.arange(40)[:, None].expand(40, 4))
    assert all(len(set(row.tolist())) == 4 for row in chosen)
    assert len({tuple(sorted(row.tolist())) for row in chosen % 100}) > 5


def test_chosen_points_are_points_of_their_cloud_each_once():
    points = torch.arange(2 * 50 * 3, dtype=torch.float32).view(2, 50, 3)
    for count in (50, 20):
        chosen = choose(points, count, torch.Generator().manual_seed(0))
        for cloud, mine in zip(points.tolist(), chosen.tolist(), strict=True):
            assert len({tuple(point) for point in mine}) == count
            assert {tuple(point) for point in mine} <= {tuple(point) for point in cloud}
            assert mine != cloud[:count]  # in another order
    again = choose(points, 20, torch.Generator().manual_seed(0))
    assert torch.equal(again, chosen)
