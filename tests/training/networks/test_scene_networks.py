"""PointNet++ on scenes, and networks of clouds on packed scenes of any size."""

from functools import partial

import pytest
import torch
from torch import nn

from pointcmt.errors import UsageError
from pointcmt.training.networks.backbones.dgcnn import DGCNN, SceneDGCNN
from pointcmt.training.networks.backbones.pointnet2_scenes import ScenePointNet2
from pointcmt.training.networks.backbones.pointvit import DensePointViT, ScenePointViT, Size
from pointcmt.training.networks.scene_network import PointSceneNetwork, fill_clouds
from tests.training import textbooks
from tests.training.networks.test_dense_backbones import matched
from tests.training.networks.test_sparse_backbones import rooms


class Textbook(nn.Module):
    """PointNet++'s network for ScanNet, by single layers, its last hidden layer included."""

    def __init__(self, own):
        super().__init__()
        levels = (1024, 0.1, (32, 32, 64)), (256, 0.2, (64, 64, 128))
        levels += (64, 0.4, (128, 128, 256)), (16, 0.8, (256, 256, 512))
        widths = [own, 64, 128, 256]
        self.down = nn.ModuleList(
            textbooks.Abstraction(count, [radius], [32], [(3 + width, *mlp)])
            for (count, radius, mlp), width in zip(levels, widths, strict=True)
        )
        ups = (128 + own, 128, 128, 128, 128), (256 + 64, 256, 128)
        ups += (256 + 128, 256, 256), (512 + 256, 256, 256)
        self.up = nn.ModuleList(textbooks.Propagation(*each) for each in ups)

    def forward(self, points, features):
        levels = [(points, torch.cat([points[..., 2:], features], dim=-1))]
        for module in self.down:
            levels.append(module(*levels[-1]))
        places, x = levels.pop()
        for module in reversed(self.up):
            finer, own = levels.pop()
            places, x = finer, module(places, x, finer, own)
        return x


def build(inputs=3):
    torch.manual_seed(0)
    model = ScenePointNet2(5, inputs).double()
    textbooks.disturb(model)
    return model


def test_it_equals_the_textbook():
    """Features of points, and the gradients of all weights before the head."""
    ours, textbook = build(), Textbook(4).double()
    del ours.head, ours.classifier
    with torch.no_grad():
        for one, other in matched(ours, textbook, "state_dict"):
            other.copy_(one.view_as(other))
    ours.head, ours.classifier = nn.Identity(), nn.Identity()
    points, color = rooms(1, 1100), torch.rand(1, 1100, 3, dtype=torch.float64)
    found, expected = ours(points, local=True, features=color).local, textbook(points, color)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)
    for each in (found, expected):
        (each * torch.linspace(-1, 1, each.numel()).double().view_as(each)).sum().backward()
    del ours.head, ours.classifier
    steepest = max(p.grad.abs().max().item() for p in textbook.parameters())
    for one, other in matched(ours, textbook, "named_parameters"):
        torch.testing.assert_close(one.grad, other.grad.view_as(one), rtol=0, atol=1e-8 * steepest)


def test_the_contract_of_dense_backbones():
    model, points = build(inputs=0).eval(), rooms(2, 1100)
    with torch.no_grad():
        asked, plain = model(points, local=True), model(points)
        alone = model(points[1:], local=True)
    assert plain.local is None
    assert torch.equal(asked.logits, plain.logits)
    assert asked.local.shape == (2, 1100, model.local_width)
    assert asked.feature.shape == (2, 512)
    assert (asked.feature >= 0).all()
    torch.testing.assert_close(alone.local, asked.local[1:])
    for local, idle in ((False, "decoder."), (True, ("head.", "classifier."))):
        model.zero_grad()
        found = model(points, local=local)
        (found.local if local else found.logits).square().sum().backward()
        for key, parameter in model.named_parameters():
            assert (parameter.grad is None) == key.startswith(idle), key


@pytest.mark.parametrize("shape", [None, (1, 1100, 2), (1, 1000, 3)])
def test_other_features_are_refused(shape):
    with pytest.raises(UsageError, match="built for 3 per point"):
        build()(rooms(1, 1100), features=None if shape is None else torch.zeros(shape))


def test_a_place_counts_only_by_its_height():
    """A walk to another place in the plan changes nothing, one up does."""
    model, points = build(inputs=0).eval(), rooms(1, 1100)
    with torch.no_grad():
        here, there, above = (
            model(points + torch.tensor(move, dtype=torch.float64), local=True).local
            for move in ((0.0, 0, 0), (8.0, -4, 0), (0.0, 0, 1))
        )
    torch.testing.assert_close(there, here, rtol=1e-7, atol=1e-7)
    assert (above - here).abs().max() > 1e-2


def test_autocast_keeps_positions_precise():
    model, points = build(inputs=0).float().eval(), rooms(1, 1100).float() + 3
    with torch.no_grad():
        expected = model(points, local=True).local
        with torch.autocast("cpu", torch.bfloat16):
            found = model(points, local=True).local
    assert found.dtype == torch.bfloat16
    assert (found - expected).norm() < 0.02 * expected.norm()


def test_clouds_are_filled_by_their_own_points():
    batch = torch.tensor([0] * 5 + [1] * 3)
    index, place = fill_clouds(batch, least=4)
    assert index.shape == (2, 5)
    assert torch.equal(batch[index], torch.tensor([[0] * 5, [1] * 5]))
    assert index[0].unique().tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(index[1, 3:], index[1, :2])
    assert torch.equal(index.flatten()[place], torch.arange(8))
    assert fill_clouds(batch, least=9)[0].shape == (2, 9)


def scene_network(size):
    torch.manual_seed(0)
    network = PointSceneNetwork(ScenePointNet2(1, 3), 7, size).double()
    textbooks.disturb(network)
    return network.eval()


def packed(*counts):
    """Points of rooms of these sizes, their rooms and features."""
    points = torch.cat([rooms(1, count, seed)[0] for seed, count in enumerate(counts)])
    batch = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return points, batch, torch.sin(20 * points)


def test_points_that_fill_a_cloud_do_not_change_the_others():
    """Rooms of 1,100 and 1,600 points as one batch of clouds, and one by one."""
    network = scene_network(5000)
    points, batch, features = packed(1100, 1600)
    with torch.no_grad():
        together = network._predict(points, batch, features)
        whole = network(points, batch, features)
    torch.testing.assert_close(together, whole)


def test_large_scenes_are_the_mean_of_pieces_that_hold_every_point():
    network, size = scene_network(1200), 1200
    points, batch, features = packed(700, 3000)
    with torch.no_grad():
        found = network(points, batch, features)
        alone = network(*packed(700))
        torch.testing.assert_close(found[:700], alone)
        own, features = points[700:], features[700:]
        sums, times = torch.zeros(3000, 7).double(), torch.zeros(3000)
        for center in torch.randperm(3000, generator=torch.Generator().manual_seed(0)).tolist():
            if times[center]:
                continue
            away = torch.cdist(own[center : center + 1], own)[0]
            piece = away.argsort()[:size].sort().values
            zeros = torch.zeros(size, dtype=torch.int64)
            sums[piece] += network(own[piece], zeros, features[piece])
            times[piece] += 1
    assert times.min() == 1
    assert times.max() > 1
    torch.testing.assert_close(found[700:], sums / times[:, None])


def test_dropout_is_of_training_alone():
    network = scene_network(1200)
    points, batch, features = packed(1100)
    with torch.no_grad():
        assert torch.equal(network(points, batch, features), network(points, batch, features))
        network.train()
        one, two = (network(points, batch, features) for _ in range(2))
    assert (one - two).abs().max() > 1e-3


@pytest.mark.gpu
def test_a_gpu_predicts_the_same():
    network, given = scene_network(1200), packed(700, 3000)
    with torch.no_grad():
        expected = network(*given)
        found = network.cuda()(*(each.cuda() for each in given))
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-6, atol=1e-6)


SHAPES = {"dgcnn": DGCNN, "pointvit": partial(DensePointViT, size=Size(64, 3))}
OF_SCENES = {"dgcnn": SceneDGCNN, "pointvit": partial(ScenePointViT, size=Size(64, 3))}


@pytest.mark.parametrize("name", OF_SCENES)
def test_networks_of_shapes_on_scenes(name):
    """Without features, that of shapes around the middle of the cloud; with them, all count."""
    points = rooms(2, 90)
    torch.manual_seed(0)
    shapes = SHAPES[name](3).double().eval()
    torch.manual_seed(0)
    plain = OF_SCENES[name](3, inputs=0).double().eval()
    torch.manual_seed(0)
    colored = OF_SCENES[name](3, inputs=3).double().eval()
    middle = points - points.mean(dim=1, keepdim=True) * torch.tensor([1.0, 1, 0])
    colors = torch.rand(2, 90, 3, dtype=torch.float64)
    with torch.no_grad():
        expected, found = (network(middle, local=True) for network in (shapes, plain))
        moved = plain(points + torch.tensor([5.0, -3, 0]), local=True)
        lifted = plain(points + torch.tensor([0.0, 0, 1]), local=True)
        one = colored(points, local=True, features=colors)
        alone = colored(points[1:], local=True, features=colors[1:])
    assert torch.equal(shapes.state_dict()["classifier.weight"], plain.classifier.weight)
    torch.testing.assert_close(found.local, expected.local)
    torch.testing.assert_close(moved.local, expected.local)
    assert not torch.allclose(lifted.local, expected.local)
    torch.testing.assert_close(alone.local, one.local[1:])
    other = colored(points, local=True, features=1 - colors)
    assert not torch.allclose(other.local, one.local)
    assert one.local.shape == (2, 90, colored.local_width)
    with pytest.raises(UsageError, match="built for 3 per point"):
        colored(points, local=True)
