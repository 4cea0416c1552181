"""Voxel grids and kernel maps, against their definitions."""

from itertools import pairwise, product

import pytest
import torch

from pointcmt.errors import UsageError
from pointcmt.training.ops.sparse import VoxelGrid
from pointcmt.training.ops.sparse.keys import FARTHEST, MOST_CLOUDS, pack, unpack


def random_coords(count, span=8, clouds=2, seed=0):
    """Distinct coordinates [count, 4] around the origin, in no order."""
    generator = torch.Generator().manual_seed(seed)
    index = torch.randperm(clouds * span**3, generator=generator)[:count]
    axes = [index // span**k % span - span // 2 for k in (2, 1, 0)]
    return torch.stack([index // span**3, *axes], dim=1)


def grid_of(coords):
    return VoxelGrid.from_coords(coords)[0]


def listed(kernel_map):
    """All pairs of a map as a set of (offset, source, target), those not stored included."""
    found = set()
    for k, (start, end) in enumerate(pairwise(kernel_map.starts.tolist())):
        pairs = torch.stack([kernel_map.source, kernel_map.target], dim=1)[start:end].tolist()
        for source, target in pairs:
            found.add((k, source, target))
            if kernel_map.mirrored:
                found.add((kernel_map.offsets - 1 - k, target, source))
    if kernel_map.mirrored:
        found |= {(kernel_map.offsets // 2, row, row) for row in range(kernel_map.sources)}
    return found


def test_keys_keep_coordinates_and_their_order():
    far = torch.tensor([-FARTHEST, -1, 0, 1, FARTHEST])
    coords = torch.cartesian_prod(torch.tensor([0, 7, MOST_CLOUDS - 1]), far, far, far)
    keys = pack(coords)
    assert torch.equal(unpack(keys), coords)
    assert (keys >= 0).all()
    assert (keys.diff() > 0).all()  # cartesian_prod is in lexicographic order


def test_a_grid_is_sorted_and_says_how():
    coords = random_coords(300)
    grid, order = VoxelGrid.from_coords(coords)
    assert len(grid) == 300
    assert torch.equal(grid.coords, coords[order])
    assert sorted(map(tuple, coords.tolist())) == [tuple(row) for row in grid.coords.tolist()]


def test_the_type_of_integers_does_not_matter():
    coords = random_coords(50)
    assert torch.equal(grid_of(coords.int()).keys, grid_of(coords).keys)


@pytest.mark.parametrize("size", [3, 5])
def test_neighbors_are_those_within_the_kernel(size):
    """Both clouds have voxels at the same places, so mixing them would show."""
    coords = random_coords(200, span=6)
    grid = grid_of(coords)
    rows = {tuple(row): n for n, row in enumerate(grid.coords.tolist())}
    reach = range(-(size // 2), size // 2 + 1)
    expected = {
        (k, rows[b, x + dx, y + dy, z + dz], row)
        for (b, x, y, z), row in rows.items()
        for k, (dx, dy, dz) in enumerate(product(reach, repeat=3))
        if (b, x + dx, y + dy, z + dz) in rows
    }
    kernel_map = grid.neighbors(size)
    assert listed(kernel_map) == expected
    assert kernel_map.pairs == len(expected)
    assert kernel_map.offsets == size**3
    swapped = {(k, target, source) for k, source, target in expected}
    assert listed(kernel_map.swapped()) == swapped


def test_parents_have_halved_coordinates():
    grid = grid_of(random_coords(300))
    coarser, kernel_map = grid.coarser
    rows = {tuple(row): n for n, row in enumerate(coarser.coords.tolist())}
    expected = {
        (4 * (x % 2) + 2 * (y % 2) + z % 2, row, rows[b, x // 2, y // 2, z // 2])
        for row, (b, x, y, z) in enumerate(grid.coords.tolist())
    }
    assert listed(kernel_map) == expected
    assert len(rows) == len({target for _, _, target in expected})  # none is without a child
    assert (kernel_map.sources, kernel_map.targets) == (300, len(rows))
    assert kernel_map.pairs == 300


def test_maps_are_computed_once():
    grid = grid_of(random_coords(30))
    assert grid.neighbors(3) is grid.neighbors(3)
    assert grid.neighbors(3) is not grid.neighbors(5)
    assert grid.coarser is grid.coarser


def test_voxels_at_the_ends_of_the_range_have_no_neighbors_beyond():
    """With a plain packed key, the end of one row would touch the beginning of the next."""
    ends = torch.tensor([-FARTHEST, FARTHEST])
    grid = grid_of(torch.cartesian_prod(torch.tensor([0, 1, MOST_CLOUDS - 1]), ends, ends, ends))
    for size in (3, 17):
        assert grid.neighbors(size).pairs == len(grid)


def test_a_grids_parents_do_not_depend_on_the_rest_of_the_batch():
    coords = random_coords(100, clouds=1)
    other = torch.tensor([[1, 7, -5, 3], [1, 6, 1, 1]])
    alone, both = grid_of(coords).coarser[0], grid_of(torch.cat([coords, other])).coarser[0]
    assert torch.equal(alone.keys, both.keys[: len(alone)])


@pytest.mark.parametrize(
    ("coords", "what", "fix"),
    [
        ([[0, 1, 2, 3], [0, 1, 2, 4], [0, 1, 2, 3]], r"such as \[0, 1, 2, 3\]", "voxelize"),
        ([[0, FARTHEST + 1, 0, 0]], f"beyond ±{FARTHEST}", "larger voxels"),
        ([[0, 0, 0, -FARTHEST - 1]], f"beyond ±{FARTHEST}", "move the clouds"),
        ([[-1, 0, 0, 0]], "batch indices are within -1", "from 0"),
        ([[MOST_CLOUDS, 0, 0, 0]], f"within {MOST_CLOUDS}", f"at most {MOST_CLOUDS - 1}"),
        ([[0, 1, 2]], r"\[1, 3\]", "batch, x, y, z"),
        ([[0.0, 1.0, 2.0, 3.0]], "float32", "integers"),
    ],
)
def test_coordinates_that_cannot_be_used_are_refused(coords, what, fix):
    with pytest.raises(UsageError, match=what) as caught:
        VoxelGrid.from_coords(torch.tensor(coords))
    assert fix in caught.value.fix


def test_a_grid_without_voxels_is_refused():
    with pytest.raises(UsageError, match="no voxels"):
        VoxelGrid.from_coords(torch.zeros(0, 4, dtype=torch.int64))


@pytest.mark.parametrize("size", [1, 2, 4, 19, -3])
def test_other_sizes_of_kernels_are_refused(size):
    with pytest.raises(UsageError, match=f"kernel: {size}"):
        grid_of(random_coords(3)).neighbors(size)
