"""Augmentation: exactly the documented changes, the same for the same random state."""

import torch

from pointcmt.training.ops.augment import (
    choose,
    drop_points,
    jitter,
    keep_patches,
    normalize,
    rescale,
    scale_and_shift,
    turn,
)
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


def test_one_factor_can_scale_all_axes_of_a_cloud():
    points = torch.rand(300, 4, 3, dtype=torch.float64) + 0.1
    ratio = rescale(points, (0.8, 1.25), True, torch.Generator().manual_seed(0)) / points
    torch.testing.assert_close(ratio, ratio[:, :1, :1].expand_as(ratio))
    assert ratio.min() >= 0.8
    assert ratio.max() <= 1.25
    assert len(ratio[:, 0, 0].unique()) > 290


def test_clouds_are_turned_about_an_axis_by_all_angles():
    points = torch.randn(400, 5, 3, dtype=torch.float64)
    for axis in range(3):
        turned = turn(points, axis, 90.0, torch.Generator().manual_seed(axis))
        others = [other for other in range(3) if other != axis]
        assert torch.equal(turned[..., axis], points[..., axis])
        torch.testing.assert_close(torch.cdist(turned, turned), torch.cdist(points, points))
        (a, b), (c, d) = (cloud[:, 0, others].unbind(1) for cloud in (points, turned))
        angle = torch.atan2(a * d - b * c, a * c + b * d)  # from before to after
        assert angle.abs().max() <= torch.pi / 2 * (1 + 1e-9)
        assert angle.min() < -1.5
        assert angle.max() > 1.5
        assert torch.linalg.det(torch.linalg.lstsq(points[:, :3], turned[:, :3]).solution).min() > 0


def test_normalized_clouds_have_their_mean_at_the_origin_and_radius_1():
    points = torch.randn(6, 30, 3, dtype=torch.float64) * 7 + 3
    found = normalize(points)
    torch.testing.assert_close(found.mean(dim=1), torch.zeros(6, 3, dtype=torch.float64))
    torch.testing.assert_close(found.norm(dim=2).amax(dim=1), torch.ones(6, dtype=torch.float64))
    assert not normalize(torch.full((1, 4, 3), 2.0)).any()  # coincident points


def test_jitter_moves_each_point_by_at_most_its_limit():
    points = torch.zeros(3, 4000, 3)
    moved = jitter(points, 0.01, 0.015, torch.Generator().manual_seed(0))
    assert moved.abs().max() <= 0.015
    assert (moved.abs() == 0.015).float().mean() > 0.1  # beyond 1.5 standard deviations: 13 %
    inside = moved[moved.abs() < 0.015]
    assert abs(inside.std() - 0.0074) < 2e-4  # a normal distribution cut off there
    assert len(inside.unique()) > 20_000


def test_dropped_points_become_the_first_and_their_share_varies():
    points = torch.randn(200, 400, 3)
    found = drop_points(points, 0.875, torch.Generator().manual_seed(0))
    dropped = (found != points).any(dim=2)
    first = points[:, :1].expand_as(points)
    assert torch.equal(found, torch.where(dropped[..., None], first, points))
    share = dropped.float().mean(dim=1)
    assert share.min() < 0.05
    assert 0.8 < share.max() < 0.93
    assert abs(share.mean() - 0.4375) < 0.05


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
