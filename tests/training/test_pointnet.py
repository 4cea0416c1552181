"""PointNet: the contract of backbones, and what the paper says of it."""

import pytest
import torch
from torch import nn

from pointcmt.training.backbones import BACKBONES
from pointcmt.training.backbones.pointnet import PointNet, TransformNet


def block(before, after):
    return before * after + 2 * after  # a linear layer without bias, and its batch norm


def transform_net(k):
    mlp = block(k, 64) + block(64, 128) + block(128, 1024)
    return mlp + block(1024, 512) + block(512, 256) + (256 + 1) * k * k


def test_it_has_the_papers_layers():
    expected = transform_net(3) + block(3, 64) + block(64, 64) + transform_net(64)
    expected += block(64, 64) + block(64, 128) + block(128, 1024) + block(1024, 512)
    expected += (512 + 1) * 40
    assert sum(p.numel() for p in PointNet(40).parameters()) == expected


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_ends_in_a_feature_and_one_linear_layer(name):
    torch.manual_seed(0)
    model = BACKBONES[name](7)
    logits, feature = model(torch.rand(4, 100, 3))
    assert logits.shape == (4, 7)
    assert feature.shape == (4, 512)
    assert type(model.classifier) is nn.Linear
    assert torch.equal(model.classifier(feature), logits)


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("training", [True, False])
def test_the_order_of_points_does_not_matter(name, training):
    torch.manual_seed(0)
    model = BACKBONES[name](5).double().train(training)
    points = torch.rand(3, 200, 3, dtype=torch.float64)
    for transform in (model.align_input, model.align_feature):  # away from the identity
        nn.init.normal_(transform.matrix.weight, std=0.1)
    shuffled = torch.stack([cloud[torch.randperm(200)] for cloud in points])
    for one, other in zip(model(points), model(shuffled), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_transforms_begin_as_the_identity_and_depend_on_the_cloud_later():
    torch.manual_seed(0)
    net, clouds = TransformNet(3), torch.rand(4, 50, 3)
    assert torch.equal(net(clouds), torch.eye(3).expand(4, 3, 3))
    nn.init.normal_(net.matrix.weight, std=0.1)
    assert not torch.allclose(net(clouds)[0], net(clouds)[1])


def test_the_transform_is_given_when_asked_for():
    torch.manual_seed(0)
    model = PointNet(5).eval()
    points = torch.rand(2, 30, 3)
    logits, _, transform = model(points, with_transform=True)
    assert torch.equal(logits, model(points)[0])
    assert torch.equal(transform, torch.eye(64).expand(2, 64, 64))


def test_every_parameter_learns():
    torch.manual_seed(0)
    model = PointNet(5).double()
    for transform in (model.align_input, model.align_feature):
        nn.init.normal_(transform.matrix.weight, std=0.1)
    logits, _ = model(torch.rand(8, 50, 3, dtype=torch.float64))
    logits.square().sum().backward()
    still = [name for name, p in model.named_parameters() if not p.grad.abs().sum() > 0]
    assert still == []
