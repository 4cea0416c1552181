"""Point networks: the interface, plain textbook versions, and published sizes."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from pointcmt.errors import UsageError
from pointcmt.training import ops
from pointcmt.training.config.sections import DENSE_BACKBONES, POINT_BACKBONES
from pointcmt.training.networks.backbones import BACKBONES, DENSE, build_backbone
from pointcmt.training.networks.backbones.blocks import GroupMLP
from pointcmt.training.networks.backbones.pointnet import TransformNet
from tests.training import textbooks
from tests.training.textbooks import disturb

# Only the smallest of each family; for all sizes, see test_vits_have_their_published_sizes and
# sparse/test_unet.py.
LARGER = (
    *("pointvit-b", "pointvit-l", "point-bert", "pointnext-s-c64"),
    *("sparse-unet-14a", "sparse-unet-34c"),
)
NAMES = [name for name in BACKBONES if name not in LARGER]
LEAST = {
    "pointnet2-ssg": 512,
    "pointnet2-msg": 512,
    "dgcnn": 20,
    "pointmlp": 192,
    "pointnext-s": 16,
    "pointvit-s": 32,
}
TEXTBOOKS = {  # PointNet++ MSG: runs/test_published.py; PointViT: test_dense_backbones.py
    "pointnet2-ssg": textbooks.ssg,
    "dgcnn": textbooks.DGCNN,
    "pointmlp": textbooks.PointMLP,
    "pointnext-s": textbooks.PointNeXtS,
}
UNORDERED = (
    "pointnet",
    "pointnet-yanx27",
    "dgcnn",
    "sparse-unet-tiny",
)  # they do not depend on the order of points
FIRST_ALONE = ("pointmlp", "pointvit-s")  # they depend only on which point is the first


def clouds(batch, size, seed=0):
    """Points [batch, size, 3] in the unit sphere, float64."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(batch, size, 3, generator=generator, dtype=torch.float64)
    length = torch.rand(batch, size, 1, generator=generator, dtype=torch.float64)
    return points / points.norm(dim=-1, keepdim=True) * (0.5 + 0.5 * length)


def build(name, classes=5):
    """A network in float64 with weights, norms and statistics as after training."""
    torch.manual_seed(0)
    model = BACKBONES[name](classes).double()
    disturb(model)
    return model


def test_the_configuration_lists_every_backbone():
    assert tuple(BACKBONES) == POINT_BACKBONES
    assert tuple(DENSE) == DENSE_BACKBONES


@pytest.mark.parametrize("name", NAMES)
def test_a_backbone_returns_a_feature_and_a_linear_classification(name):
    torch.manual_seed(0)
    model = BACKBONES[name](7)
    found = model(clouds(2, 512).float())
    assert found.logits.shape == (2, 7)
    assert found.feature.shape == (2, 512)
    assert (found.feature >= 0).all()
    assert type(model.classifier) is nn.Linear
    assert torch.equal(model.classifier(found.feature), found.logits)
    assert not any(isinstance(module, nn.Dropout) for module in model.modules())


def test_every_parameter_of_pointnet_gets_a_gradient():
    """For the other networks, see test_backbones_equal_their_textbook_versions."""
    model = build("pointnet").eval()
    model(clouds(8, 50)).logits.square().sum().backward()
    assert all(p.grad.abs().max() > 1e-6 for p in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_cloud_does_not_depend_on_its_batch_in_evaluation(name):
    model, points = build(name).eval(), clouds(3, 512)
    with torch.no_grad():
        whole, part = model(points), model(points[:1])
    torch.testing.assert_close(part.logits, whole.logits[:1], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(part.feature, whole.feature[:1], rtol=1e-10, atol=1e-10)
    assert (whole.logits[0] - whole.logits[1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [16, 20, 64, 192, 512, 1111, 2048])
def test_backbones_accept_any_sufficient_number_of_points(name, size):
    torch.manual_seed(0)
    model, points = BACKBONES[name](4).eval(), clouds(1, size).float()
    if size >= LEAST.get(name, 1):
        with torch.no_grad():
            assert model(points).logits.isfinite().all()
    else:
        with pytest.raises(UsageError, match=f"at least {LEAST[name]} points") as caught:
            model(points)
        assert caught.value.where == "data.points"


@pytest.mark.parametrize("name", LEAST)
def test_too_few_points_are_refused(name):
    with pytest.raises(UsageError, match=f"points, not {LEAST[name] - 1}"):
        BACKBONES[name](4)(clouds(2, LEAST[name] - 1).float())


@pytest.mark.parametrize("name", NAMES)
def test_predictions_depend_on_the_order_of_points_as_documented(name):
    model, points = build(name).eval(), clouds(1, 600) * 0.3  # balls overflow
    later = 1 + torch.randperm(599, generator=torch.Generator().manual_seed(1))
    behind_first = points[:, torch.cat([torch.zeros(1, dtype=torch.long), later])]
    with torch.no_grad():
        base, swapped, flipped = (model(p).logits for p in (points, behind_first, points.flip(1)))
    if name in UNORDERED:
        torch.testing.assert_close(flipped, base, rtol=1e-9, atol=1e-9)
    else:
        assert (flipped - base).abs().max() > 1e-4
    if name in (*UNORDERED, *FIRST_ALONE):
        torch.testing.assert_close(swapped, base, rtol=1e-9, atol=1e-9)
    else:  # an overflowing ball keeps the first of its points
        assert (swapped - base).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["pointnet", "dgcnn"])
def test_local_features_follow_their_points(name):
    """For sparse U-Nets, see test_sparse_backbones.py."""
    model, points = build(name), clouds(3, 100)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(1))
    base, other = model(points), model(points[:, order])
    assert base.local.shape[:2] == (3, 100)
    torch.testing.assert_close(other.local, base.local[:, order], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(other.logits, base.logits, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", TEXTBOOKS)
@pytest.mark.parametrize("training", [True, False])
def test_backbones_equal_their_textbook_versions(name, training):
    """Logits, features, gradients of all weights, and running statistics are equal."""
    ours = build(name).train(training)
    textbook = TEXTBOOKS[name](5).double().train(training)
    with torch.no_grad():
        for one, other in pairs(ours.state_dict(), textbook.state_dict()):
            other.copy_(one.view_as(other))
    points = clouds(2 + training, 512 if name.startswith("pointnet2") else 256)
    found, (logits, feature) = ours(points), textbook(points)
    torch.testing.assert_close(found.logits, logits, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(found.feature, feature, rtol=1e-8, atol=1e-9)
    for one, other in pairs(ours.state_dict(), textbook.state_dict()):
        torch.testing.assert_close(one, other.view_as(one), rtol=1e-9, atol=1e-10)
    weight = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2)).double()
    for result in (found.logits, logits):
        (result * weight).sum().backward()
    steepest = max(p.grad.abs().max().item() for p in textbook.parameters())
    for key, (one, other) in zip(
        dict(ours.named_parameters()),
        pairs(dict(ours.named_parameters()), dict(textbook.named_parameters())),
        strict=True,
    ):
        torch.testing.assert_close(one.grad, other.grad.view_as(one), rtol=0, atol=1e-8 * steepest)
        # In training, a constant added to all rows before a batch norm has no effect.
        assert training or one.grad.abs().max() > 1e-6, key


def pairs(ours, textbook):
    """Pairs of tensors in order of definition, which is the same in both."""
    return list(zip(ours.values(), textbook.values(), strict=True))


def norm(width):
    return 2 * width


def published_head(before, bias):
    """Parameters of the head width-512-256-40, with or without biases before batch norms."""
    hidden = before * 512 + 512 * 256 + norm(512) + norm(256) + bias
    return hidden + 256 * 40 + 40


SSG_BIASES = 64 + 64 + 128 + 128 + 128 + 256 + 256 + 512 + 1024
PUBLISHED = {  # parameters with 40 classes, of the networks with their published heads
    "pointnet2-ssg": (1_475_688, SSG_BIASES + published_head(1024, 768)),
    "dgcnn": (1_809_576, published_head(2048, 256)),  # "1.81 M"
    "pointmlp": (13_238_504, published_head(1024, 768)),  # "13.2 M"; 12.6 without the head
    "pointnext-s": (1_373_512, published_head(512, 0)),  # "1.374 M"
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_all_but_the_head_has_the_published_size(name):
    model = BACKBONES[name](40)
    cut = {id(p) for part in (model.head, model.classifier) for p in part.parameters()}
    encoder = sum(p.numel() for p in model.parameters() if id(p) not in cut)
    total, head = PUBLISHED[name]
    assert encoder + head == total


def test_the_wider_pointnext_has_the_size_in_its_paper():
    with torch.device("meta"):
        model = build_backbone("pointnext-s-c64", 40, "published")
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == 4.5


def test_pointnet_and_msg_have_their_layers():
    def block(*widths):
        return sum(a * b + norm(b) for a, b in pairwise(widths))

    def transform_net(k):
        return block(k, 64, 128, 1024) + block(1024, 512, 256) + (256 + 1) * k * k

    names = ("pointnet", "pointnet2-msg")
    size = {name: sum(p.numel() for p in BACKBONES[name](40).parameters()) for name in names}
    end = block(1024, 512) + (512 + 1) * 40
    lift = block(3, 64, 64) + block(64, 64, 128, 1024)
    assert size["pointnet"] == transform_net(3) + transform_net(64) + lift + end
    near = block(3, 32, 32, 64) + block(3, 64, 64, 128) + block(3, 64, 96, 128)
    far = block(323, 64, 64, 128) + 2 * block(323, 128, 128, 256)
    assert size["pointnet2-msg"] == near + far + block(643, 256, 512, 1024) + end


def test_transforms_start_as_the_identity_and_then_depend_on_the_cloud():
    torch.manual_seed(0)
    net, points = TransformNet(3), torch.rand(4, 50, 3)
    assert torch.equal(net(points), torch.eye(3).expand(4, 3, 3))
    nn.init.normal_(net.matrix.weight, std=0.1)
    assert not torch.allclose(net(points)[0], net(points)[1])


def test_only_pointnet_returns_a_transform():
    for name in NAMES:
        torch.manual_seed(0)
        transform = BACKBONES[name](5).eval()(clouds(1, 512).float()).transform
        if name in ("pointnet", "pointnet-yanx27"):
            assert torch.equal(transform, torch.eye(64).expand(1, 64, 64))
        else:
            assert transform is None


def test_group_maximum_sends_the_gradient_to_one_point():
    rows = torch.randn(12, 5, dtype=torch.float64, requires_grad=True)
    expected = rows.view(3, 4, 5).max(dim=1).values
    assert torch.equal(ops.maximum(rows, 3), expected)
    sums = ops.maximum(rows, 3).sum(), expected.sum()
    assert torch.equal(*(torch.autograd.grad(each, rows)[0] for each in sums))
    ties = torch.ones(4, 2, requires_grad=True)
    ops.maximum(ties, 1).sum().backward()
    assert torch.equal(ties.grad, torch.eye(4)[:, :1].expand(4, 2))  # all of it goes to the first


def test_applying_the_first_layer_before_grouping_is_equivalent():
    mlp = GroupMLP(3 + 6, 16, 8).double()
    points, features = clouds(2, 40), torch.randn(2, 40, 6, dtype=torch.float64)
    centers, index = points[:, :7], torch.randint(0, 40, (2, 7, 5))
    offsets = (textbooks.take(points, index) - centers[:, :, None]) / 0.3
    grouped = torch.cat([offsets, textbooks.take(features, index)], dim=-1)
    expected = mlp.rest(mlp.first(grouped).flatten(0, 2)).view(2, 7, 5, 8).amax(dim=2)
    found = mlp(points, features, centers, index, radius=0.3)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["pointnet2-ssg", "dgcnn"])
def test_a_network_compiles_into_one_graph(name):
    model, points = build(name), clouds(2, 512)
    expected = model(points)
    model = build(name)
    model.compile(backend="aot_eager", fullgraph=True)
    found = model(points)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-9, atol=1e-9)
    found.logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())
