"""Dense backbones: a feature of each point, each held against a plain textbook version."""

from functools import partial
from itertools import pairwise

import pytest
import torch

from pointcmt.errors import UsageError
from pointcmt.training import ops
from pointcmt.training.networks.backbones import BACKBONES, DENSE
from pointcmt.training.networks.backbones.pointnet2 import DensePointNet2
from pointcmt.training.networks.backbones.pointvit import (
    BASE,
    LARGE,
    SMALL,
    DensePointViT,
    PointViT,
    Size,
)
from tests.training import textbooks
from tests.training.test_backbones import clouds, pairs

TINY = Size(width=128, depth=6)  # two heads, two blocks to each third
SMALLER = DENSE | {"pointvit-s": partial(DensePointViT, size=TINY)}
NAMES = ("pointnet2", "dgcnn", "pointvit-s")
STUDENTS = {"pointnet2": "pointnet2-ssg"}  # the other ones have the same name in both lists
TEXTBOOKS = {
    "pointnet2": textbooks.DensePointNet2,
    "pointvit-s": partial(textbooks.PointViT, width=TINY.width, depth=TINY.depth),
}


def build(name):
    """A network in float64, the PointViT a tiny one, as after some training."""
    torch.manual_seed(0)
    model = SMALLER[name](5).double()
    textbooks.disturb(model)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_local_features_are_there_where_asked_for_and_change_nothing_else(name):
    model, points = build(name).eval(), clouds(2, 600)
    with torch.no_grad():
        asked, plain = model(points, local=True), model(points)
    assert asked.local.shape == (2, 600, model.local_width)
    assert torch.equal(asked.logits, plain.logits)
    assert torch.equal(asked.feature, plain.feature)
    assert plain.local is None or name == "dgcnn"  # which has them anyway
    assert (asked.local[0, 0] - asked.local[0, 300]).abs().max() > 1e-3  # not one for the cloud
    assert (asked.local[0] - asked.local[1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_without_its_decoder_it_is_the_student_of_its_name(name):
    with torch.device("meta"):
        dense, student = DENSE[name](7), BACKBONES[STUDENTS.get(name, name)](7)
    shapes = {key: value.shape for key, value in dense.state_dict().items()}
    encoder = {key: shape for key, shape in shapes.items() if not key.startswith("decoder.")}
    assert encoder == {key: value.shape for key, value in student.state_dict().items()}
    assert (encoder != shapes) == (name != "dgcnn")


@pytest.mark.parametrize("name", NAMES)
def test_a_clouds_local_features_do_not_depend_on_its_batch_in_evaluation(name):
    model, points = build(name).eval(), clouds(3, 512)
    with torch.no_grad():
        whole, part = model(points, local=True).local, model(points[1:2], local=True).local
    torch.testing.assert_close(part, whole[1:2], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_who_only_classifies_asks_nothing_of_the_decoder(name):
    """And who only wants local features leaves the head alone: every other weight learns."""
    for local, idle in ((False, ("decoder.",)), (True, ("head.", "classifier."))):
        model = build(name).eval()
        found = model(clouds(2, 512), local=True) if local else model(clouds(2, 512))
        (found.local if local else found.logits).square().sum().backward()
        for key, parameter in model.named_parameters():
            if key.startswith(idle):
                assert parameter.grad is None, key
            elif name == "pointnet2" or not key.startswith("class_"):
                assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", TEXTBOOKS)
@pytest.mark.parametrize("training", [True, False])
def test_equals_the_textbook(name, training):
    """Predictions, gradients of all weights, and the running statistics after it."""
    ours, textbook = build(name).train(training), TEXTBOOKS[name](5).double().train(training)
    with torch.no_grad():
        for one, other in matched(ours, textbook, "state_dict"):
            other.copy_(one.view_as(other))
    points = clouds(3, 512)
    found, wanted = ours(points, local=True), textbook(points)
    for one, other in zip(found, wanted, strict=False):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)
    for one, other in matched(ours, textbook, "state_dict"):
        torch.testing.assert_close(one, other.view_as(one), rtol=1e-9, atol=1e-10)
    generator = torch.Generator().manual_seed(2)
    weights = [torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in wanted]
    for results in (found, wanted):
        sum((r * w).sum() for r, w in zip(results, weights, strict=False)).backward()
    steepest = max(p.grad.abs().max().item() for p in textbook.parameters())
    for one, other in matched(ours, textbook, "named_parameters"):
        torch.testing.assert_close(one.grad, other.grad.view_as(one), rtol=0, atol=1e-8 * steepest)
        assert training or one.grad.abs().max() > 1e-6  # see test_backbones


def matched(ours, textbook, kind):
    """Tensors of both in the order of definition, which is the same in both."""
    return pairs(dict(getattr(ours, kind)()), dict(getattr(textbook, kind)()))


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def published_vit(width, depth):
    """Parameters of ViT's blocks and last norm; q, k and v have no biases (Point-MAE)."""
    block = 2 * 2 * width + 3 * width**2 + width**2 + width + 8 * width**2 + 4 * width + width
    return depth * block + 2 * width


PUBLISHED = {SMALL: 22_050_664, BASE: 86_567_656, LARGE: 304_326_632}  # ViT-S, B, L/16 of images


@pytest.mark.parametrize("size", PUBLISHED)
def test_vits_have_their_published_sizes(size):
    with torch.device("meta"):
        model = PointViT(40, size)
    W, depth = size
    images = 16 * 16 * 3 * W + W + W + 197 * W + 1000 * W + 1000  # patches, tokens, places, head
    assert published_vit(W, depth) + depth * 3 * W + images == PUBLISHED[size]
    tokens = 3 * 128 + 256 + 128 * 256 + 512 * 512 + 1024 + 512 * W + W  # the mini-PointNet
    place = 3 * 128 + 128 + 128 * W + W
    encoder = published_vit(W, depth) + tokens + place + 2 * W
    assert parameters(model) == encoder + 2 * W * 512 + 2 * 512 + 512 * 40 + 40
    if size == SMALL:  # Point-MAE's "22.1 M", with biases that batch norms take away again
        head = 2 * W * 256 + 256 + 512 + 256 * 256 + 256 + 512 + 256 * 40 + 40
        assert encoder + 128 + 256 + 512 + head == 22_099_752


def test_pointnet2s_decoder_has_its_layers():
    def block(*widths):
        return sum(a * b + 2 * b for a, b in pairwise(widths))

    decoder = block(1280, 256, 256) + block(384, 256, 128) + block(131, 128, 128, 128)
    assert parameters(DensePointNet2(5).decoder) == decoder


@pytest.mark.parametrize("name", NAMES)
def test_any_number_of_points_from_the_least_on(name):
    least = {"pointnet2": 512, "dgcnn": 20, "pointvit-s": 32}[name]
    model = build(name).eval()
    with torch.no_grad():
        for size in (least, 777):
            found = model(clouds(1, size), local=True).local
            assert found.shape == (1, size, model.local_width)
            assert found.isfinite().all()
    with pytest.raises(UsageError, match=f"at least {least} points"):
        model(clouds(1, least - 1), local=True)


def test_a_dense_network_compiles_into_one_graph():
    points, model = clouds(2, 64), build("pointvit-s")
    expected = model(points, local=True).local
    model = build("pointvit-s")
    model.compile(backend="aot_eager", fullgraph=True)
    found = model(points, local=True).local
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_interpolated_features_are_weighted_means_of_three_neighbours():
    points, places = clouds(2, 40), clouds(2, 70, seed=1)
    features = torch.randn(2, 40, 6, dtype=torch.float64, requires_grad=True)
    index, weight = ops.three_nearest_weights(points, places)
    found = ops.interpolate(features, index, weight)
    expected = (textbooks.take(features, index) * weight[..., None]).sum(2)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    other = torch.randn_like(found)
    grads = [torch.autograd.grad((r * other).sum(), features)[0] for r in (found, expected)]
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-12)
    at_points = ops.interpolate(features, *ops.three_nearest_weights(points, points))
    torch.testing.assert_close(at_points, features, rtol=1e-3, atol=1e-3)  # d² + 1e-8
    ones = ops.interpolate(torch.ones(2, 40, 1), index, weight.float())
    torch.testing.assert_close(ones, torch.ones(2, 70, 1))
