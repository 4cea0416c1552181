"""ONNX networks: the neighbors and the numbers of torch, for any batch."""

import re

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from pointcmt.training import ops
from pointcmt.training.export.onnx import TOLERANCE, largest_difference, to_onnx
from pointcmt.training.export.onnx_ops import OPSET, TRANSLATIONS
from tests.training.export.onnx_inputs import LEAST, clouds, session, used_backbone

pytestmark = pytest.mark.usefixtures("small_resnet")

HEAVY = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("pointnet2-msg", "pointmlp", "pointnext-s", "pointvit-s")
]


class EveryOp(nn.Module):
    """All point operations, in one graph."""

    def forward(self, points, centers, features):
        ball, wide = ops.ball_query(points, centers, 0.5, 8), ops.ball_query(points, centers, 9, 40)
        some, every = (ops.farthest_points(points, n, 2) for n in (5, points.shape[1]))
        near, squared = ops.k_nearest(points, centers, 7)
        far, there = ops.k_nearest(features, features, 7)
        deviation = features.flatten(1).std(dim=1)
        return ball, wide, some, every, near, squared, far, there, deviation


@pytest.fixture(scope="module")
def every_op():
    """A function: (points, centers, features) → results of EveryOp in ONNX Runtime."""
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    example = (torch.rand(2, 32, 3), torch.rand(2, 9, 3), torch.rand(2, 24, 16))
    with pytest.warns(FutureWarning, match="treespec"):
        program = torch.onnx.export(
            EveryOp().eval(),
            example,
            dynamic_shapes=(free, free, free),
            custom_translation_table=TRANSLATIONS,
            opset_version=OPSET,
            verbose=False,
        )
    ready = session(program.model_proto.SerializeToString())
    names = [value.name for value in ready.get_inputs()]
    return lambda *arrays: ready.run(None, dict(zip(names, arrays, strict=True)))


LATTICE = np.stack(np.meshgrid(*[np.arange(4) * 0.25] * 3), axis=-1).reshape(1, 64, 3)


@pytest.mark.parametrize(
    ("points", "centers"),
    [
        pytest.param(clouds(3, 50), clouds(3, 20, 1), id="curved"),
        pytest.param(clouds(1, 30), clouds(1, 30), id="fewer-points-than-slots"),
        pytest.param(LATTICE, LATTICE[:, ::5], id="lattice: ties, points on the sphere itself"),
        pytest.param(LATTICE, LATTICE[:, :7] + 5, id="empty balls"),
        pytest.param(np.zeros((2, 40, 3)), np.zeros((2, 3, 3)), id="one place"),
    ],
)
def test_neighbors_in_onnx_equal_those_of_the_point_operations(points, centers, every_op):
    points, centers = points.astype(np.float32), centers.astype(np.float32)
    features = np.random.default_rng(2).normal(size=(len(points), 30, 16)).astype(np.float32)
    found = every_op(points, centers, features)
    wanted = EveryOp()(*map(torch.from_numpy, (points, centers, features)))
    for ours, theirs in zip(found[:6], wanted, strict=False):
        assert np.array_equal(ours, theirs.numpy())
    exact = features.astype(np.float64)
    squared = ((exact[:, None] - exact[:, :, None]) ** 2).sum(axis=-1)
    assert np.array_equal(found[6], np.argsort(squared, axis=-1, kind="stable")[..., :7])
    np.testing.assert_allclose(found[7], np.sort(squared)[..., :7], rtol=1e-6, atol=1e-12)
    deviation = exact.reshape(len(exact), -1).std(axis=1, ddof=1)
    np.testing.assert_allclose(found[8], deviation, rtol=1e-7)


@pytest.mark.parametrize("name", ["pointnet", "pointnet2-ssg", "dgcnn", *HEAVY])
def test_each_backbone_equals_torch_for_any_batch_and_number_of_points(name):
    points = LEAST[name]
    model = used_backbone(name, points)
    data, difference = to_onnx(model, points, {"made": "here"}, name)
    assert difference <= 2e-5
    ready = session(data)
    for count, total in ((1, points), (5, points), (2, points + 33)):
        batch = clouds(count, total, seed=count)
        logits, feature = ready.run(["logits", "feature"], {"points": batch})
        with torch.no_grad():
            wanted = model(torch.from_numpy(batch))
        for ours, theirs in ((logits, wanted.logits), (feature, wanted.feature)):
            assert ours.shape == theirs.shape
            assert np.abs(ours - theirs.numpy()).max() <= 2e-5 * theirs.abs().max()

    parsed = onnx.load_from_string(data)
    onnx.checker.check_model(parsed, full_check=True)
    assert {(o.domain, o.version) for o in parsed.opset_import} == {("", OPSET)}
    assert not parsed.functions
    assert [v.name for v in parsed.graph.output] == ["logits", "feature"]
    (given,) = parsed.graph.input
    shape = given.type.tensor_type.shape.dim
    assert (shape[0].dim_param, shape[1].dim_param, shape[2].dim_value) == ("B", "N", 3)
    # Otherwise the exporter records the lines of code of each node.
    assert not re.search(rb"\w{5}\.py", data)
    assert len(data) < 4 * sum(t.numel() for t in model.state_dict().values()) + 100_000

    with torch.no_grad():
        model.classifier.weight[0] += 0.01
    assert largest_difference(model, data, points) > TOLERANCE
