"""Sparse U-Nets as dense backbones."""

import pytest
import torch

from pointcmt.errors import UsageError
from pointcmt.training.networks.backbones import BACKBONES, DENSE
from pointcmt.training.networks.backbones.sparse_unet import DenseSparseUNet, pack_clouds
from pointcmt.training.networks.sparse.unet import SparseUNetConfig
from tests.training.textbooks import disturb

NAMES = ("sparse-unet-tiny", "sparse-unet-14a", "sparse-unet-34c")
SMALL = SparseUNetConfig((6, 7, 8, 9, 8, 7, 6, 5), (1,) * 8, base=4, stem=3)


def rooms(batch=2, count=800, seed=0):
    """Points [batch, count, 3] on the floor and two walls of a room of 3 m, float64."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(batch, count, 3, generator=generator, dtype=torch.float64) * 3
    for surface, axis in enumerate((2, 0, 1)):
        points[:, surface::3, axis] /= 100
    return points


def build(**options):
    """A small network in float64, as after training."""
    torch.manual_seed(0)
    model = DenseSparseUNet(5, SMALL, **options).double()
    disturb(model)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_dense_networks_are_the_classifiers_with_a_decoder(name):
    with torch.device("meta"):
        dense, plain = DENSE[name](7), BACKBONES[name](7)
    shapes = {key: value.shape for key, value in dense.state_dict().items()}
    encoder = {key: shape for key, shape in shapes.items() if not key.startswith("decoder.")}
    assert encoder == {key: value.shape for key, value in plain.state_dict().items()}
    assert len(encoder) < len(shapes)
    assert dense.local_width == (48 if name == "sparse-unet-tiny" else 96)


def test_local_features_are_optional_and_follow_their_points():
    model, points = build().eval(), rooms()
    order = torch.randperm(800, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        plain, found = model(points), model(points, local=True)
        other = model(points[:, order], local=True)
    assert plain.local is None
    assert torch.equal(plain.logits, found.logits)
    assert found.local.shape == (2, 800, model.local_width)
    torch.testing.assert_close(other.local, found.local[:, order])
    torch.testing.assert_close(other.logits, found.logits)


def test_points_of_a_voxel_share_their_feature_and_others_do_not():
    points = rooms()
    points[0, 0] = torch.tensor([1.01, 1.01, 1.01])
    points[0, 1] = torch.tensor([1.04, 1.04, 1.04])
    points[0, 2] = torch.tensor([1.06, 1.04, 1.04])
    with torch.no_grad():
        local = build().eval()(points, local=True).local[0]
    assert torch.equal(local[0], local[1])
    assert (local[1] - local[2]).abs().max() > 1e-6


def test_a_cloud_does_not_depend_on_its_batch_in_evaluation():
    model, points = build().eval(), rooms(3)
    with torch.no_grad():
        whole, part = model(points, local=True), model(points[1:2], local=True)
    torch.testing.assert_close(part.local, whole.local[1:2])
    torch.testing.assert_close(part.feature, whole.feature[1:2])
    assert (whole.feature[0] - whole.feature[1]).abs().max() > 1e-6


def test_classification_sends_no_gradient_to_the_decoder():
    for local, idle in ((False, ("decoder.",)), (True, ("head.", "classifier."))):
        model = build()
        found = model(rooms(), local=local)
        (found.local if local else found.logits).square().sum().backward()
        for key, parameter in model.named_parameters():
            assert (parameter.grad is None) == key.startswith(idle), key


def test_larger_voxels_in_proportion_to_larger_clouds_give_the_same():
    """Without heights, which are in the points' unit: the whole cloud is moved to the floor."""
    points = rooms()
    points[..., 2] = 0
    with torch.no_grad():
        base = build().eval()(points, local=True)
        scaled = build(voxel=0.2).eval()(points * 4, local=True)
    assert torch.equal(base.local, scaled.local)


def test_own_features_of_points_are_inputs():
    model, points = build(inputs=3).eval(), rooms()
    color = torch.rand(2, 800, 3, dtype=torch.float64)
    with torch.no_grad():
        one, two = (model(points, local=True, features=c).local for c in (color, 1 - color))
    assert (one - two).abs().max() > 1e-6
    inputs = model.prepare(*pack_clouds(points, color, 3))
    torch.testing.assert_close(inputs.rows[:, 0], torch.ones_like(inputs.rows[:, 0]))
    torch.testing.assert_close(inputs.rows[:, 1], inputs.voxels.average(points.flatten(0, 1))[:, 2])
    torch.testing.assert_close(inputs.rows[:, 2:], inputs.voxels.average(color.flatten(0, 1)))


@pytest.mark.parametrize(
    ("inputs", "shape"), [(3, None), (0, (2, 9, 3)), (3, (2, 9, 4)), (3, (2, 8, 3)), (3, (18, 3))]
)
def test_other_features_are_refused(inputs, shape):
    features = None if shape is None else torch.zeros(shape)
    with pytest.raises(UsageError, match=f"built for {inputs} per point"):
        build(inputs=inputs)(torch.zeros(2, 9, 3), features=features)


def test_a_single_point_has_a_feature():
    with torch.no_grad():
        found = build().eval()(torch.ones(1, 1, 3, dtype=torch.float64), local=True)
    assert found.local.shape == (1, 1, 5)
    assert found.local.isfinite().all()


def test_autocast_trains_in_bfloat16():
    model, points = build().float(), rooms().float()
    expected = model(points, local=True).local
    with torch.autocast("cpu", torch.bfloat16):
        found = model(points, local=True).local
    assert found.dtype == torch.bfloat16
    assert (found - expected).norm() < 0.1 * expected.norm()
    found.float().square().sum().backward()
    stem = model.encoder.stem.convolution.weight
    assert stem.grad.dtype == torch.float32
    assert stem.grad.isfinite().all()


@pytest.mark.slow
def test_a_compiled_backbone_gives_the_same_for_clouds_of_any_size():
    model, compiled = build(), build()
    compiled.compile(backend="eager", dynamic=True)
    for count in (400, 500):
        points = rooms(2, count)
        expected, found = model(points, local=True), compiled(points, local=True)
        torch.testing.assert_close(found.local, expected.local)
        torch.testing.assert_close(found.logits, expected.logits)
