"""VoteNet and its seeds, against plain versions in float64."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from pointcmt.errors import UsageError
from pointcmt.training.networks.backbones.sparse_unet import DenseSparseUNet
from pointcmt.training.networks.detection.seeds import (
    VOTENET,
    Level,
    PointSeeds,
    VoxelSeeds,
    heights,
)
from pointcmt.training.networks.detection.votenet import VoteNet
from tests.training.networks.test_sparse_backbones import SMALL, rooms
from tests.training.textbooks import disturb

LEVELS = (
    Level(60, 0.4, 8, (6, 6, 8)),
    Level(40, 0.8, 6, (8, 8, 12)),
    Level(20, 1.2, 5, (8, 8, 10)),
    Level(10, 2.0, 4, (8, 8, 14)),
)
CLASSES, HEADINGS, PROPOSALS = 3, 4, 16


def on_points(inputs=0):
    torch.manual_seed(0)
    model = VoteNet(PointSeeds(inputs, LEVELS), CLASSES, HEADINGS, PROPOSALS).double()
    disturb(model)
    return model.eval()


def on_voxels(inputs=0, seeds=40):
    torch.manual_seed(0)
    backbone = VoxelSeeds(DenseSparseUNet(1, SMALL, 0.3, inputs), seeds)
    model = VoteNet(backbone, CLASSES, HEADINGS, PROPOSALS).double()
    disturb(model)
    return model.eval()


def features(points, width):
    generator = torch.Generator().manual_seed(7)
    return torch.randn(*points.shape[:2], width, generator=generator, dtype=points.dtype)


def farthest(points, count):
    """Farthest points of one cloud, from the first one, by the definition."""
    chosen = [0]
    while len(chosen) < count:
        away = torch.cdist(points, points[chosen]).min(dim=1).values
        chosen.append(int(away.argmax()))
    return torch.tensor(chosen)


def plain_layers(rows, layers):
    """Linear layers with batch norm and ReLU, in evaluation mode."""
    for linear, norm in layers:
        rows = F.linear(rows, linear.weight, linear.bias)
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        rows = ((rows - norm.running_mean) * scale + norm.bias).relu()
    return rows


def pairs(sequential):
    kept = [m for m in sequential if not isinstance(m, torch.nn.ReLU)]
    return list(zip(kept[::2], kept[1::2], strict=True))


def plain_abstraction(module, points, rows, centers):
    """One center after the other: its first neighbors by index, offsets by the radius, maximum."""
    mlp = module.mlp
    layers = [(mlp.first, mlp.rest[0]), *pairs(mlp.rest[2:])]
    found = []
    for center in centers:
        near = ((points - center).square().sum(dim=1) <= module.radius**2).nonzero()[:, 0]
        if not len(near):
            near = (points - center).square().sum(dim=1).argmin()[None]
        near = near[: module.neighbors]
        inputs = torch.cat([(points[near] - center) / module.radius, rows[near]], dim=1)
        found.append(plain_layers(inputs, layers).max(dim=0).values)
    return torch.stack(found)


def plain_propagation(module, coarse, rows, places, own):
    """The three nearest by inverse distance, not its square, then the layers of both features."""
    away = torch.cdist(places, coarse)
    nearest, index = away.topk(3, largest=False)
    weight = 1 / (nearest + 1e-8)
    weight = weight / weight.sum(dim=1, keepdim=True)
    inputs = torch.cat([(rows[index] * weight[..., None]).sum(dim=1), own], dim=1)
    return plain_layers(inputs, [(module.first, module.rest[0]), *pairs(module.rest[2:])])


def plain_seeds(seeds, points, further):
    z = points[:, 2].sort().values
    place = 0.0099 * (len(z) - 1)
    low = int(place)
    floor = z[low] + (place - low) * (z[low + 1] - z[low])
    rows = torch.cat([(points[:, 2] - floor)[:, None], further], dim=1)
    places, index, all_places, all_rows = points, torch.arange(len(points)), [], []
    for level, module in zip(LEVELS, seeds.backbone.encoder, strict=True):
        chosen = farthest(places, level.centers)
        rows = plain_abstraction(module, places, rows, places[chosen])
        places, index = places[chosen], index[chosen]
        all_places.append(places)
        all_rows.append(rows)
        if len(all_rows) == 2:
            seed = index
    for module, coarse in zip(seeds.backbone.decoder, (3, 2), strict=True):
        fine = coarse - 1
        rows = plain_propagation(module, all_places[coarse], rows, all_places[fine], all_rows[fine])
    return seed, all_places[1], rows


def plain_rest(model, places, rows, training):
    """Votes, clusters and the columns of proposals of one scene."""
    columns = plain_layers(rows, pairs(model.voting[0]))
    columns = F.linear(columns, model.voting[1].weight, model.voting[1].bias)
    votes, rows = places + columns[:, :3], rows + columns[:, 3:]
    rows = rows / rows.norm(dim=1, keepdim=True)
    clusters = votes[farthest(votes if training else places, PROPOSALS)]
    found = plain_abstraction(model.cluster, votes, rows, clusters)
    found = plain_layers(found, pairs(model.predict[0]))
    return votes, clusters, F.linear(found, model.predict[1].weight, model.predict[1].bias)


@pytest.mark.parametrize("inputs", [0, 3])
def test_votenet_agrees_with_a_plain_version(inputs):
    model, points = on_points(inputs), rooms(count=200)
    further = features(points, inputs)
    with torch.no_grad():
        found = model(points, further)
        for b in range(len(points)):
            seed, places, rows = plain_seeds(model.seeds, points[b], further[b])
            votes, clusters, columns = plain_rest(model, places, rows, training=False)
            parts = columns.split([2, 3, HEADINGS, HEADINGS, CLASSES, 3 * CLASSES, CLASSES], dim=1)
            objectness, offset, heading, turn, size, growth, logits = parts
            assert torch.equal(found.seed[b], seed)
            expected = {
                "votes": votes,
                "clusters": clusters,
                "objectness": objectness,
                "centers": clusters + offset,
                "heading": heading,
                "turn": turn,
                "size": size,
                "growth": growth.view(-1, CLASSES, 3),
                "logits": logits,
            }
            for name, value in expected.items():
                torch.testing.assert_close(getattr(found, name)[b], value, msg=name)


def test_proposals_start_from_the_farthest_votes_in_training():
    model, points = on_points(), rooms(count=200)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.eval()  # as before, with the running statistics
    model.training = True
    with torch.no_grad():
        found = model(points, points[..., :0])
        for b in range(len(points)):
            _, places, rows = plain_seeds(model.seeds, points[b], points[b, :, :0])
            _, clusters, _ = plain_rest(model, places, rows, training=True)
            torch.testing.assert_close(found.clusters[b], clusters)


def test_the_published_sizes():
    """Widths and radii of VoteNet's PointNet++; 1024 seeds of 256; parameters by hand."""
    with torch.device("meta"):
        model = VoteNet(PointSeeds(0), 18, 1, 256)
    rows = [(level.centers, level.radius, level.neighbors, level.widths) for level in VOTENET]
    assert rows == [
        (2048, 0.2, 64, (64, 64, 128)),
        (1024, 0.4, 32, (128, 128, 256)),
        (512, 0.8, 16, (128, 128, 256)),
        (256, 1.2, 16, (128, 128, 256)),
    ]
    chains = [(4, 64, 64, 128), (131, 128, 128, 256), (259, 128, 128, 256), (259, 128, 128, 256)]
    chains += [(512, 256, 256), (512, 256, 256), (256, 256, 256), (259, 128, 128, 128)]
    chains += [(128, 128, 128)]
    # A linear layer without bias and a norm with two numbers per channel.
    expected = sum(b * (a + 2) for chain in chains for a, b in pairwise(chain))
    expected += 257 * (3 + 256) + 129 * (2 + 3 + 2 + 4 * 18 + 18)
    assert sum(p.numel() for p in model.parameters()) == expected


def test_voxel_seeds_are_the_farthest_of_the_voxels_first_points():
    """With more seeds than one of the scenes has voxels."""
    model, points = on_voxels(inputs=2, seeds=150), rooms(count=300)
    points[1] *= 0.4
    further = features(points, 2)
    with torch.no_grad():
        found = model.seeds(points, further)
        local = model.seeds.backbone.forward_packed(
            points.flatten(0, 1), torch.arange(2).repeat_interleave(300), further.flatten(0, 1)
        )
        wide = model.seeds.output(local).view(2, 300, -1)
    for b in range(2):
        places = (points[b] / 0.3).floor()
        _, voxel = places.unique(dim=0, return_inverse=True)
        first = torch.tensor([int((voxel == v).nonzero()[0]) for v in range(voxel.max() + 1)])
        distinct = found.chosen[b].unique()
        assert set(distinct.tolist()) <= set(first.tolist())
        assert len(distinct) == min(150, len(first))
        assert torch.equal(found.places[b], points[b, found.chosen[b]])
        torch.testing.assert_close(found.features[b], wide[b, found.chosen[b]])
        begin = int((first == found.chosen[b, 0]).nonzero())
        ordered = torch.cat([first[begin : begin + 1], first[first != first[begin]]])
        expected = ordered[farthest(points[b, ordered], min(150, len(first)))]
        assert found.chosen[b, : len(expected)].tolist() == expected.tolist()
    assert len(found.chosen[1].unique()) < 150


@pytest.mark.parametrize("build", [on_points, on_voxels])
def test_a_scene_does_not_depend_on_its_batch(build):
    model, points = build(), rooms(count=200)
    with torch.no_grad():
        both = model(points, points[..., :0])
        alone = model(points[1:], points[1:, :, :0])
    for name, one, other in zip(both._fields, both, alone, strict=True):
        torch.testing.assert_close(one[1:], other, msg=name)


@pytest.mark.parametrize("build", [on_points, on_voxels])
def test_gradients_reach_every_parameter_and_agree_with_finite_differences(build):
    model, points = build(), rooms(count=200)
    generator = torch.Generator().manual_seed(3)

    def output():
        found = model(points, points[..., :0])
        generator.manual_seed(3)
        return sum(
            (part * torch.randn(part.shape, generator=generator, dtype=part.dtype)).sum()
            for part in found[1:]
        )

    output().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    step = 1e-6
    weights = [p for p in model.parameters() if p.dim() == 2][::5]
    for weight in weights:
        row, column = divmod(int(weight.grad.abs().argmax()), weight.shape[1])
        with torch.no_grad():
            weight[row, column] += step
            above = output()
            weight[row, column] -= 2 * step
            below = output()
            weight[row, column] += step
        slope = float(above - below) / (2 * step)
        assert slope == pytest.approx(float(weight.grad[row, column]), rel=1e-4)


def test_the_floor_is_a_low_percentile():
    """z from 0 to 1000: the 0.99th percentile is 9.9."""
    points = torch.zeros(1, 1001, 3, dtype=torch.float64)
    points[0, :, 2] = torch.randperm(1001, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(heights(points)[0, :, 0], points[0, :, 2] - 9.9)


def test_too_few_points_are_refused():
    with pytest.raises(UsageError, match="PointNet\\+\\+ needs clouds of at least 60 points"):
        on_points()(torch.zeros(1, 59, 3).double(), torch.zeros(1, 59, 0).double())
