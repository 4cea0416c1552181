"""Points to voxels and back."""

import pytest
import torch

from pointcmt.errors import UsageError
from pointcmt.training.ops.sparse import voxelize

SIZE = 0.25


def batch_of_points(count=400, clouds=2):
    generator = torch.Generator().manual_seed(count)
    points = torch.rand(count, 3, generator=generator) * 2 - 1
    return points, torch.randint(clouds, (count,), generator=generator)


def test_a_points_voxel_is_the_one_that_contains_it():
    points, batch = batch_of_points()
    voxels = voxelize(points, batch, SIZE)
    places = voxels.grid.coords[voxels.index]
    assert torch.equal(places[:, 0], batch)
    low = places[:, 1:] * SIZE
    assert ((low <= points) & (points < low + SIZE)).all()
    assert torch.equal(voxels.index.unique(), torch.arange(len(voxels.grid)))  # none is empty
    assert (voxels.grid.keys.diff() > 0).all()


def test_rows_are_the_average_or_the_first_of_a_voxels_points():
    points, batch = batch_of_points()
    features = torch.randn(400, 3, dtype=torch.float64, requires_grad=True)
    voxels = voxelize(points, batch, SIZE)
    average, first = voxels.average(features), voxels.first(torch.arange(400))
    for row in range(len(voxels.grid)):
        members = (voxels.index == row).nonzero()[:, 0]
        torch.testing.assert_close(average[row], features[members].mean(dim=0))
        assert first[row] == members[0]
    weight = torch.randn_like(average)
    (found,) = torch.autograd.grad((average * weight).sum(), features)
    count = torch.bincount(voxels.index).double()
    torch.testing.assert_close(found, (weight / count[:, None])[voxels.index])


def test_points_get_the_row_of_their_voxel():
    points, batch = batch_of_points()
    voxels = voxelize(points, batch, SIZE)
    rows = torch.randn(len(voxels.grid), 5, requires_grad=True)
    found = voxels.to_points(rows)
    assert torch.equal(found, rows[voxels.index])
    (grad,) = torch.autograd.grad(found.sum(), rows)
    assert torch.equal(grad, torch.bincount(voxels.index).float()[:, None].expand(-1, 5))


def test_another_order_of_points_gives_the_same_voxels():
    points, batch = batch_of_points()
    order = torch.randperm(400, generator=torch.Generator().manual_seed(1))
    base, other = voxelize(points, batch, SIZE), voxelize(points[order], batch[order], SIZE)
    assert torch.equal(base.grid.keys, other.grid.keys)
    assert torch.equal(base.index[order], other.index)
    torch.testing.assert_close(base.average(points), other.average(points[order]))


def test_voxels_are_found_in_float64():
    """In float32, a coordinate divided by 2 cm may be rounded up into the next voxel."""
    points = (torch.arange(1, 3000)[:, None] * torch.tensor([0.02, -0.02, 0.0])).float()
    expected = (points.double() / 0.02).floor().long()
    assert not torch.equal((points / 0.02).floor().long(), expected)
    voxels = voxelize(points, torch.zeros(len(points), dtype=torch.int64), 0.02)
    assert torch.equal(voxels.grid.coords[voxels.index, 1:], expected)


@pytest.mark.parametrize(
    ("change", "what", "fix"),
    [
        ({"points": torch.zeros(4, 2)}, r"\[4, 2\]", r"\[N, 3\]"),
        ({"points": torch.zeros(4, 3, dtype=torch.int64)}, "int64", "floats"),
        ({"batch": torch.zeros(3, dtype=torch.int64)}, r"\[3\] for 4 points", "every point"),
        ({"batch": torch.zeros(4)}, "float32", "int64"),
        ({"points": torch.zeros(0, 3), "batch": torch.zeros(0).long()}, "no points", "one"),
        ({"size": 0.0}, "voxel: 0.0", "positive"),
        ({"size": float("nan")}, "voxel: nan", "positive"),
        ({"points": torch.full((4, 3), torch.nan)}, "NaN", "come from"),
        ({"points": torch.full((4, 3), torch.inf)}, "infinite", "come from"),
        ({"points": torch.full((4, 3), 5e6)}, "beyond", "move the clouds"),
        ({"points": torch.full((4, 3), -1e30)}, "beyond", "larger voxels"),
        ({"size": 1e-300}, "beyond|infinite", "larger voxels|come from"),
        ({"batch": torch.tensor([0, 0, 0, -1])}, "batch", "from 0"),
    ],
)
def test_points_that_cannot_be_used_are_refused(change, what, fix):
    given = {"points": torch.ones(4, 3), "batch": torch.zeros(4).long(), "size": 0.05} | change
    with pytest.raises(UsageError, match=what) as caught:
        voxelize(**given)
    assert any(each.replace("\\", "") in caught.value.fix for each in fix.split("|"))
