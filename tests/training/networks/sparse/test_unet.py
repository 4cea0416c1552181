"""Sparse U-Nets: their published layers and size, a dense twin, and learning."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pointcmt.errors import UsageError
from pointcmt.training.networks.sparse.layers import ConvNorm, Norm, SparseConv
from pointcmt.training.networks.sparse.unet import (
    MINKUNET_14A,
    MINKUNET_34C,
    TINY,
    SparseUNet,
    SparseUNetConfig,
    build_pyramid,
)
from pointcmt.training.ops.sparse import VoxelGrid, voxelize

SMALL = SparseUNetConfig((6, 7, 8, 9, 8, 7, 6, 5), (1, 2, 1, 1, 2, 1, 1, 1), base=4, stem=3)
SPAN = 32  # voxels of the dense twin, so that the coarsest level has 2³


def cloud(count=500, clouds=2, span=SPAN, seed=0):
    """A grid of voxels of random points near a plane, and rows [n, 3]."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(count, 3, generator=generator) * span
    points[:, 2] = points[:, 2] / 8 + span / 3
    batch = torch.randint(clouds, (count,), generator=generator)
    grid = voxelize(points, batch, 1.0).grid
    return grid, torch.randn(len(grid), 3, generator=generator)


def published_parameters(config, inputs, outputs):
    """Count Res16UNet's parameters layer by layer."""

    def conv(before, after, offsets):
        return before * after * offsets + 2 * after  # with batch norm

    def stage(before, after, blocks):
        total = conv(before, after, 1) if before != after else 0
        for _ in range(blocks):
            total += conv(before, after, 27) + conv(after, after, 27)
            before = after
        return total

    skips, before = [config.base], config.base
    total = conv(inputs, config.base, config.stem**3)
    for width, blocks in zip(config.widths[:4], config.blocks[:4], strict=True):
        total += conv(before, before, 8) + stage(before, width, blocks)
        skips.append(width)
        before = width
    for width, blocks, skip in zip(
        config.widths[4:], config.blocks[4:], skips[-2::-1], strict=True
    ):
        total += conv(before, width, 8) + stage(width + skip, width, blocks)
        before = width
    return total + before * outputs + outputs


@pytest.mark.parametrize(
    ("config", "total"),
    [(MINKUNET_34C, 37_868_052), (MINKUNET_14A, 8_036_500), (TINY, 2_329_380)],
)
def test_the_family_has_its_published_sizes(config, total):
    """With color and normal as inputs, and ScanNet's 20 classes."""
    with torch.device("meta"):
        model = SparseUNet(6, 20, config)
    assert sum(p.numel() for p in model.parameters()) == total
    assert published_parameters(config, 6, 20) == total


def test_minkunet_34c_has_its_layers_in_order():
    with torch.device("meta"):
        model = SparseUNet(3, 20, MINKUNET_34C)
    convolutions = [m for m in model.modules() if isinstance(m, SparseConv)]
    strided = [tuple(m.weight.shape) for m in convolutions if len(m.weight) == 8]
    assert strided == [
        *[(8, 32, 32), (8, 32, 32), (8, 64, 64), (8, 128, 128)],
        *[(8, 256, 256), (8, 256, 128), (8, 128, 96), (8, 96, 96)],
    ]
    assert tuple(convolutions[0].weight.shape) == (125, 3, 32)
    blocks = [len(s.blocks) for part in (model.encoder, model.decoder) for s in part.stages]
    assert blocks == [2, 3, 4, 6, 2, 2, 2, 2]
    firsts = [s.blocks[0].first.convolution.weight.shape[1] for s in model.decoder.stages]
    assert firsts == [256 + 128, 128 + 64, 96 + 32, 96 + 32]
    biases = [n for n, _ in model.named_parameters() if n.endswith("bias") and "norm" not in n]
    assert [n for n in biases if ".shortcut." not in n] == ["output.bias"]


def test_batch_norms_have_the_chosen_options():
    norm = Norm(momentum=0.02, eps=1e-3)
    model = SparseUNet(3, 5, SparseUNetConfig(SMALL.widths, SMALL.blocks, norm=norm))
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d)]
    assert len(norms) == 1 + 8 + 2 * 10 + 8  # stem, strided, blocks, shortcuts
    assert {(m.momentum, m.eps) for m in norms} == {(0.02, 1e-3)}


def test_initial_weights_are_he_etal_with_half_of_the_neighbors():
    torch.manual_seed(0)
    model = SparseUNet(3, 20, TINY)
    for m in model.modules():
        if isinstance(m, SparseConv):
            offsets, before, _ = m.weight.shape
            ups = [part.convolution for part in model.decoder.ups]
            summed = 1 if m in ups else offsets / 2
            std = (2 / (before * summed)) ** 0.5
            assert m.weight.std().item() == pytest.approx(std, rel=0.05)


def dense_run(model, rows, grid):
    """The same network by torch's dense convolutions; empty voxels are set to 0 after each."""
    mask = {}

    def apply(convolution, volume, level):
        weight = convolution.weight
        size = round(len(weight) ** (1 / 3))
        kernel = weight.view(size, size, size, *weight.shape[1:])
        if size > 2:
            return F.conv3d(volume, kernel.permute(4, 3, 0, 1, 2), padding=size // 2)
        if volume.shape[-1] > mask[level].shape[-1]:
            return F.conv3d(volume, kernel.permute(4, 3, 0, 1, 2), stride=2)
        return F.conv_transpose3d(volume, kernel.permute(3, 4, 0, 1, 2), stride=2)

    def normed(norm, volume, level):
        occupied = mask[level]
        values = volume.movedim(1, -1)[occupied]
        empty = values.new_zeros(*occupied.shape, values.shape[1])
        return empty.index_put(occupied.nonzero(as_tuple=True), norm(values)).movedim(-1, 1)

    def conv_norm(layer, volume, level):
        assert isinstance(layer, ConvNorm)
        return normed(layer.norm, apply(layer.convolution, volume, level), level).relu()

    def staged(stage, volume, level):
        for block in stage.blocks:
            found = apply(block.second, conv_norm(block.first, volume, level), level)
            if len(block.shortcut):
                linear, norm = block.shortcut
                straight = torch.einsum("bcxyz,dc->bdxyz", volume, linear.weight)
                volume = normed(norm, straight, level)
            volume = (normed(block.norm, found, level) + volume).relu()
        return volume

    where = grid.coords.unbind(1)
    mask[0] = torch.zeros(2, SPAN, SPAN, SPAN, dtype=torch.bool)
    mask[0][where] = True
    for level in range(4):
        mask[level + 1] = F.max_pool3d(mask[level].double(), 2).bool()
    volume = rows.new_zeros(2, SPAN, SPAN, SPAN, rows.shape[1])
    volume = volume.index_put(where, rows).movedim(-1, 1)
    encoder, decoder = model.encoder, model.decoder
    levels = [conv_norm(encoder.stem, volume, 0)]
    for level, (step, stage) in enumerate(zip(encoder.downs, encoder.stages, strict=True), 1):
        levels.append(staged(stage, conv_norm(step, levels[-1], level), level))
    volume = levels.pop()
    for level, step, stage in zip((3, 2, 1, 0), decoder.ups, decoder.stages, strict=True):
        volume = torch.cat([conv_norm(step, volume, level), levels.pop()], dim=1)
        volume = staged(stage, volume, level)
    return model.output(volume.movedim(1, -1)[where])


def test_a_unet_equals_its_dense_twin():
    """Predictions and running statistics in training mode."""
    torch.manual_seed(0)
    model, twin = (SparseUNet(3, 4, SMALL).double() for _ in range(2))
    twin.load_state_dict(model.state_dict())
    grid, rows = cloud()
    rows = rows.double()
    torch.testing.assert_close(
        model(rows, grid), dense_run(twin, rows, grid), rtol=1e-9, atol=1e-10
    )
    expected = twin.state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-10, msg=name)


def test_every_parameter_gets_a_gradient():
    torch.manual_seed(0)
    model = SparseUNet(3, 4, SMALL)
    grid, rows = cloud()
    model(rows, grid).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_a_cloud_does_not_depend_on_its_batch_in_evaluation():
    torch.manual_seed(0)
    model = SparseUNet(3, 4, SMALL).double().eval()
    grid, rows = cloud()
    first = grid.coords[:, 0] == 0
    alone, _ = VoxelGrid.from_coords(grid.coords[first])
    with torch.no_grad():
        both = model(rows.double(), grid)[first]
        torch.testing.assert_close(model(rows.double()[first], alone), both)


def test_one_voxel_can_be_evaluated_but_not_trained_on():
    model = SparseUNet(3, 4, SMALL)
    grid, _ = VoxelGrid.from_coords(torch.tensor([[0, 5, -3, 2]]))
    with torch.no_grad():
        assert model.eval()(torch.ones(1, 3), grid).isfinite().all()
    with pytest.raises(UsageError, match="a single voxel of 16 times") as caught:
        model.train()(torch.ones(1, 3), grid)
    assert "smaller voxels" in caught.value.fix


def test_the_network_is_one_graph_once_maps_are_computed():
    torch.manual_seed(0)
    model = SparseUNet(3, 4, SMALL)
    grid, rows = cloud()
    pyramid, _ = build_pyramid(grid, SMALL.stem)
    expected = model(rows, grid)
    run = torch.compile(model.predict, backend="eager", fullgraph=True)
    found = run(rows, pyramid)
    torch.testing.assert_close(found, expected)
    found.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_tiny_unet_learns_two_labeled_clouds_by_heart():
    """Labels follow from the shape around a voxel: floor or wall; inputs are constant."""
    torch.manual_seed(0)
    side = torch.arange(12)
    floor = torch.cartesian_prod(torch.arange(2), side, side, torch.tensor([0]))
    wall = torch.cartesian_prod(torch.arange(2), torch.tensor([0]), side, torch.arange(1, 12))
    floor[floor[:, 0] == 1, 1:] += 20
    wall[wall[:, 0] == 1, 1:] += 20
    grid, order = VoxelGrid.from_coords(torch.cat([floor, wall]))
    labels = torch.cat([torch.zeros(len(floor)), torch.ones(len(wall))]).long()[order]
    model, rows = SparseUNet(1, 2, TINY), torch.ones(len(grid), 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    pyramid, _ = build_pyramid(grid, TINY.stem)
    for _ in range(25):
        optimizer.zero_grad()
        loss = F.cross_entropy(model.predict(rows, pyramid), labels)
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    assert torch.equal(model.predict(rows, pyramid).argmax(dim=1), labels)
