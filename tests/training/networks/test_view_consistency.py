"""MVNet's networks: both heads against plain versions, and which weights and views they use."""

import itertools

import pytest
import torch
from torch import nn

from pointcmt.training.networks.view_consistency import (
    Maps,
    Matcher,
    MVNet,
    cover,
    look_up,
    other_view,
    pool_covered,
    sample_keys,
    sine_places,
)
from tests.training.plain_dense import PlainDense
from tests.training.stores import small_config

GRIDS = [(4, 4), (2, 2)]
SIZE = 16

pytestmark = pytest.mark.usefixtures("small_resnet")


def build(*overrides):
    torch.manual_seed(0)
    return MVNet(PlainDense(1), small_config("mvnet", *overrides))


def scene(B=3, V=4, N=40, k=1):
    """Points, and maps in which each pixel shows some of them, or none."""
    generator = torch.Generator().manual_seed(1)
    nearest = torch.randint(-15, N, (B, V, SIZE, SIZE, k), generator=generator).clamp(min=-1)
    uv = SIZE * torch.rand(B, V, N, 2, generator=generator, dtype=torch.float64)
    return torch.rand(B, N, 3, generator=generator), Maps(nearest, uv, 2.0)


def test_each_head_has_the_shapes_that_the_losses_compare():
    points, maps = scene()
    answer = build()(points, maps, GRIDS)
    assert [tuple(level.shape) for level in answer.levels] == [(12, 16, 4, 4), (12, 32, 2, 2)]
    assert answer.matching.shape == (12, 8, 8, 2)
    contrast = build("matching.method=infonce")(points, maps, GRIDS)
    assert contrast.matching.shape == (12, 32, SIZE, SIZE)
    without = build("matching.weight=0")(points, maps, GRIDS)
    assert without.matching.numel() == 0
    assert build("transfer.weight=0")(points, maps, []).levels == []


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("matching.method=infonce",),
        ("transfer.weight=0",),
        ("transfer.weight=0", "matching.method=infonce"),
        ("matching.weight=0",),
        ("projection.splat=3",),
    ],
    ids=" ".join,
)
def test_every_parameter_except_the_classifier_gets_a_gradient(overrides):
    model = build(*overrides)
    if model.matcher:
        # It starts as 0, so layers after it get no gradient yet.
        nn.init.normal_(model.matcher.correct[1].weight)
    points, maps = scene(k=3 if "splat" in " ".join(overrides) else 1)
    answer = model(points, maps, [] if "transfer.weight=0" in overrides else GRIDS)
    sum(x.float().square().sum() for x in (*answer.levels, answer.matching)).backward()
    for name, parameter in model.named_parameters():
        waits = name.startswith(("backbone.head.", "backbone.classifier."))
        assert parameter.requires_grad is not waits
        if not waits:
            assert parameter.grad.abs().max() > 0, name


def test_the_matching_of_a_view_depends_only_on_its_pair():
    model, (points, maps) = build().eval(), scene()
    whole = model(points, maps, GRIDS)
    part = Maps(maps.nearest[:, 2:], maps.uv[:, 2:], maps.radius)
    pair = model(points, part, GRIDS)
    rows = [view for view in range(12) if view % 4 >= 2]
    torch.testing.assert_close(pair.matching, whole.matching[rows])
    for one, other in zip(pair.levels, whole.levels, strict=True):
        torch.testing.assert_close(one, other[rows])
    changed = maps.nearest.clone()
    changed[:, 3] = -1
    other = model(points, maps._replace(nearest=changed), GRIDS)
    moved = [(o - w).abs().amax() > 0 for o, w in zip(other.matching, whole.matching, strict=True)]
    assert [bool(m) for m in moved] == [False, False, True, True] * 3
    torch.testing.assert_close(other.levels[0][:3], whole.levels[0][:3])


def test_pixels_without_points_do_not_count_in_a_patch():
    images = torch.randn(2, 5, SIZE, SIZE, dtype=torch.float64)
    covered = torch.rand(2, SIZE, SIZE) < 0.4
    covered[0, :4, :4] = False
    for rows, columns in ((4, 4), (2, 8), (16, 16)):
        found = pool_covered(images, covered, (rows, columns))
        share = cover(covered, (rows, columns))
        tall, wide = SIZE // rows, SIZE // columns
        for n, row, column in itertools.product(range(2), range(rows), range(columns)):
            place = (slice(row * tall, (row + 1) * tall), slice(column * wide, (column + 1) * wide))
            mask = covered[n][place]
            assert share[n, row, column] == pytest.approx(mask.float().mean().item())
            if mask.any():
                expected = images[n][:, place[0], place[1]][:, mask].mean(dim=1)
                torch.testing.assert_close(found[n, :, row, column], expected)
            else:
                assert (found[n, :, row, column] == 0).all()
    garbage = torch.where(covered[:, None], images, torch.nan_to_num(images * 1e6))
    clean = pool_covered(images, covered, (4, 4))
    torch.testing.assert_close(pool_covered(garbage, covered, (4, 4)), clean)


def test_the_matcher_is_one_block_of_cross_attention():
    torch.manual_seed(0)
    model = Matcher(32, stride=2, heads=2).double()
    nn.init.normal_(model.correct[1].weight)
    images = torch.randn(2, 32, 8, 8, dtype=torch.float64)
    features = torch.empty(2, 16, 32, dtype=torch.float64)
    for view, row, column in itertools.product(range(2), range(4), range(4)):
        patch = images[view, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        value = (model.embed.weight * patch).sum(dim=(1, 2, 3)) + model.embed.bias
        features[view, 4 * row + column] = value
    tokens = features + sine_places(32, (4, 4))
    looks, takes = model.look(model.norm_look(features)), model.take(model.norm_take(tokens))
    places = torch.tensor([[(c + 0.5) / 4, (r + 0.5) / 4] for r in range(4) for c in range(4)])
    found = model(images)
    for view in range(2):
        mixed, where = [], 0
        for part in (slice(0, 16), slice(16, 32)):
            own, other = looks[view, :, part], looks[1 - view, :, part]
            cosine = (own @ other.T) / own.norm(dim=1)[:, None] / other.norm(dim=1)
            attention = (cosine * 10).softmax(dim=1)
            mixed.append(attention @ takes[1 - view, :, part])
            where = where + attention @ places.double() / 2
        x = tokens[view] + model.project(torch.cat(mixed, dim=1))
        x = x + model.mlp(model.norm(x))
        expected = where + model.correct(x)
        torch.testing.assert_close(found[view].flatten(0, 1), expected, rtol=1e-5, atol=1e-5)


def test_initially_a_token_matches_the_tokens_most_similar_to_it():
    torch.manual_seed(0)
    model = Matcher(32, stride=1, heads=2)
    first = torch.randn(32, 4, 6)
    second = first.roll((1, 2), dims=(1, 2))  # one token down, two to the right
    with torch.no_grad():
        model.sharpness.fill_(5.0)
    found = model(torch.stack([first, second]))
    assert found.shape == (2, 4, 6, 2)
    assert found[0, 0, 1].tolist() == pytest.approx([3.5 / 6, 1.5 / 4], abs=0.02)
    assert found[1, 1, 3].tolist() == pytest.approx([1.5 / 6, 0.5 / 4], abs=0.02)


def test_position_encodings_are_distinct_and_separate_rows_and_columns():
    places = sine_places(32, (9, 12))
    assert len({tuple(row.tolist()) for row in places}) == 108
    grid = places.view(9, 12, 32)
    assert torch.equal(grid[:, :, :16], grid[:1, :, :16].expand(9, -1, -1))  # columns
    assert torch.equal(grid[:, :, 16:], grid[:, :1, 16:].expand(-1, 12, -1))  # rows
    torch.testing.assert_close(grid[0, 5, 0], torch.tensor(5.0).sin())
    torch.testing.assert_close(grid[7, 0, 24], torch.tensor(7.0).cos())


def test_keys_are_interpolated_between_pixel_centers():
    keys = torch.randn(2, 6, 8, 8)
    places = torch.tensor([[2.5, 4.5], [0.5, 7.5], [3.0, 5.5]]) / 8
    found = sample_keys(keys, places.expand(2, -1, -1).double())
    torch.testing.assert_close(found[:, 0], keys[:, :, 4, 2])
    torch.testing.assert_close(found[:, 1], keys[:, :, 7, 0])
    torch.testing.assert_close(found[:, 2], (keys[:, :, 5, 2] + keys[:, :, 5, 3]) / 2)


def test_coordinates_are_looked_up_in_the_pixel_that_contains_them():
    covered = torch.rand(2, 4, 8) < 0.5
    places = torch.rand(2, 50, 2, dtype=torch.float64)
    places[:, :3] = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, 0.75]])
    found = look_up(covered, places)
    for n, m in itertools.product(range(2), range(50)):
        u, v = places[n, m].tolist()
        assert found[n, m] == covered[n, min(int(4 * v), 3), min(int(8 * u), 7)]


def test_swapping_views_exchanges_the_views_of_each_pair():
    views = torch.arange(6)
    assert other_view(views).tolist() == [1, 0, 3, 2, 5, 4]
    assert torch.equal(other_view(other_view(views)), views)
