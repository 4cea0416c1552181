"""Augmentation: exactly the documented changes, the same for the same random state."""

import torch

from pointcmt.training.ops.augment import choose, keep_patches, scale_and_shift
from tests.training.textbooks import farthest


def test_clouds_are_scaled_and_shifted_per_axis_within_bounds():
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
    for drawn in (scale, shift):  # every axis of every cloud has its own number
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


def test_chosen_views_are_distinct_views_of_the_shape():
    images = torch.arange(40)[:, None] * 100 + torch.arange(6)  # [B, V]: shape and view
    chosen = choose(images, 4, torch.Generator().manual_seed(2))
    assert chosen.shape == (40, 4)
    assert torch.equal(chosen // 100, torch.arange(40)[:, None].expand(40, 4))
    assert all(len(set(row.tolist())) == 4 for row in chosen)
    assert len({tuple(sorted(row.tolist())) for row in chosen % 100}) > 5


def test_chosen_points_are_distinct_points_of_their_cloud():
    points = torch.arange(2 * 50 * 3, dtype=torch.float32).view(2, 50, 3)
    for count in (50, 20):
        chosen = choose(points, count, torch.Generator().manual_seed(0))
        for cloud, mine in zip(points.tolist(), chosen.tolist(), strict=True):
            assert len({tuple(point) for point in mine}) == count
            assert {tuple(point) for point in mine} <= {tuple(point) for point in cloud}
            assert mine != cloud[:count]  # in another order
    again = choose(points, 20, torch.Generator().manual_seed(0))
    assert torch.equal(again, chosen)


def test_masking_removes_whole_patches_and_part_of_one():
    rng = torch.Generator().manual_seed(3)
    points = torch.rand(20, 160, 3, generator=rng)
    kept = keep_patches(points, 0.3, rng)
    assert kept.shape == (20, 112)
    assert all(len(row.unique()) == 112 for row in kept)
    centers = torch.stack([p[i] for p, i in zip(points, farthest(points, 10), strict=True)])
    patch = torch.cdist(points, centers).argmin(dim=2)  # [B, N]
    here = torch.zeros(20, 160, dtype=torch.bool).scatter_(1, kept, True)
    for cloud in range(20):
        shares = [here[cloud, patch[cloud] == each].float().mean().item() for each in range(10)]
        assert sum(0 < share < 1 for share in shares) <= 1
    assert len({tuple(row.tolist()) for row in here}) == 20  # different ones per cloud


def test_points_kept_by_masking_are_in_random_order():
    rng = torch.Generator().manual_seed(4)
    points = torch.rand(2, 400, 3, generator=rng)
    for share in (0.0, 0.3):
        kept = keep_patches(points, share, rng)
        correlation = torch.corrcoef(torch.stack([kept[0].float(), torch.arange(kept.shape[1])]))
        assert abs(correlation[0, 1]) < 0.2
    assert torch.equal(keep_patches(points, 0.0, rng).sort().values, torch.arange(400).tile(2, 1))
