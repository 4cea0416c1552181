"""3DETR: its published sizes, what its encoder and decoder attend to, and what they predict."""

from itertools import pairwise

import pytest
import torch

from pointcmt.errors import UsageError
from pointcmt.training.networks.detection.detr import Detr
from pointcmt.training.networks.detection.transformer import (
    RADII,
    FourierPositions,
    Layer,
    PointTransformer,
    TransformerSeeds,
)

CENTERS = 64


def points(seed=0, scenes=2, count=200):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(scenes, count, 3, generator=generator) * torch.tensor([4.0, 3, 2])


def small(headings=12, queries=16, masked=True, layers=2):
    torch.manual_seed(0)
    return Detr(TransformerSeeds(0, masked, CENTERS), 5, headings, queries, layers)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("masked", [False, True])
def test_published_sizes(masked):
    """Parameters by the published widths, biases and norms."""
    encoder = PointTransformer(0, masked)
    attention, norm = 4 * (256 * 256 + 256), 2 * 256
    layer = attention + 2 * norm + 256 * 128 + 128 + 128 * 256 + 256

    def mlp(*widths):
        return sum(a * b + 2 * b for a, b in pairwise(widths))

    expected = 3 * layer + mlp(3, 64, 128, 256)
    expected += mlp(256 + 3, 256, 256, 256) + mlp(256, 256, 256) if masked else 0
    expected += 0 if masked else mlp(256, 256, 256, 256)
    assert count(encoder) == expected
    model = Detr(torch.nn.Identity(), 18, 12, 256)
    layer = 2 * attention + 3 * norm + 2 * (256 * 256 + 256)
    heads = sum(mlp(256, 256, 256) + 256 * n + n for n in (19, 3, 3, 12, 12))
    assert len(model.decoder) == 8
    assert count(model) == 8 * layer + norm + 2 * (256 * 256 + 256) + heads


def test_a_token_only_sees_what_is_within_the_radius():
    """The gradient of one center's output, by the first layer, reaches its neighbors alone."""
    torch.manual_seed(0)
    places = points(scenes=1, count=40)
    rows = torch.randn(1, 40, 256, requires_grad=True)
    near = torch.cdist(places, places)[0] < RADII[2]
    Layer(128, 0.0)(rows, hidden=~near[None])[0, 7].sum().backward()
    seen = rows.grad[0].abs().amax(dim=1) > 0
    assert torch.equal(seen, near[7])
    assert 1 < seen.sum() < 40


def test_seeds_are_the_farthest_points():
    torch.manual_seed(0)
    for masked, seeds in ((False, CENTERS), (True, CENTERS // 2)):
        found = TransformerSeeds(0, masked, CENTERS).eval()(points(), points()[..., :0])
        assert found.features.shape == (2, seeds, 256)
        assert torch.equal(
            found.places, points().gather(1, found.chosen[..., None].expand(-1, -1, 3))
        )
        assert found.chosen.unique(dim=1).shape == found.chosen.shape


def test_positions_are_relative_to_the_bounds():
    embed = FourierPositions()
    places = points()
    low, extent = places.amin(dim=1), places.amax(dim=1) - places.amin(dim=1)
    moved = 2 * places + 7
    torch.testing.assert_close(
        embed(moved, 2 * low + 7, 2 * extent), embed(places, low, extent), atol=1e-4, rtol=0
    )


def test_bfloat16_rounds_neither_positions_nor_boxes():
    model, places = small(), points()
    low, extent = places.amin(dim=1), places.amax(dim=1) - places.amin(dim=1)
    exact = model.places(places, low, extent)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.places(places, low, extent), exact)
        found = model(places, places[..., :0])
    assert {each.dtype for each in found} == {torch.float32}


def test_boxes_are_near_their_queries_and_within_the_extent():
    model = small()
    found = model(points(), points()[..., :0])
    asked = model.seeds(points(), points()[..., :0]).places[:, :16]
    assert found.logits.shape == (2, 2, 16, 6)
    assert found.heading.shape == found.turn.shape == (2, 2, 16, 12)
    assert (found.centers - asked).abs().max() <= 0.5
    assert found.sizes.min() > 0
    assert found.sizes.max() < 1
    torch.testing.assert_close(found.extent, points().amax(dim=1) - points().amin(dim=1))
    flat = points() * torch.tensor([1.0, 1, 0])
    assert (model(flat, flat[..., :0]).extent[:, 2] == 0.1).all()


def test_a_scene_does_not_depend_on_its_batch_and_moves_with_its_boxes():
    model = small().eval()
    places = points()
    with torch.no_grad():
        both, one = model(places, places[..., :0]), model(places[1:], places[1:, :, :0])
        moved = model(places + 10, places[..., :0])
    torch.testing.assert_close(both.centers[:, 1:], one.centers, atol=1e-4, rtol=0)
    torch.testing.assert_close(moved.centers, both.centers + 10, atol=1e-3, rtol=0)
    torch.testing.assert_close(moved.logits, both.logits, atol=1e-3, rtol=0)


def test_too_few_seeds_and_points_are_refused():
    with pytest.raises(UsageError, match="33 queries, but the backbone has 32 seeds"):
        small(queries=33)(points(), points()[..., :0])
    few = points(count=CENTERS - 1)
    with pytest.raises(UsageError, match="3DETR's encoder"):
        small()(few, few[..., :0])
