"""The 2D teacher: levels of transformers' networks, computed during training or cached."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from pointcmt.datasets.store.features import FRESH, STALE, list_features, open_features
from pointcmt.datasets.store.streaming import StreamConfig, ViewStream
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import DamageError, StoreError, UsageError
from pointcmt.training.images import levels
from pointcmt.training.images.levels import Online, Standardized, build_levels, cache_levels, cost
from tests.training.images.test_networks import folders, normalized, tiny  # noqa: F401, fixtures

CPU = torch.device("cpu")
CASES = {  # shares of the depth → layers
    "resnet-18": ([0.5, 1.0], [1, 2]),
    "vit-base": ([0.5, 1.0], [1, 2]),
    "dinov2-small": ([0.5, 1.0], [1, 2]),
    "clip-vit-b32": ([1.0], [2]),
}


def images(count, size=(32, 32), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, *size, 3), dtype=torch.uint8, generator=generator)


def reference(name, folder, pixels, layers):
    """transformers' hidden states of normalized pixels as [n, D, h, w], patch by patch."""
    import transformers as t

    kinds = {
        "resnet-18": t.ResNetModel,
        "vit-base": t.ViTModel,
        "dinov2-small": t.Dinov2Model,
        "clip-vit-b32": t.CLIPVisionModel,
    }
    whole = kinds[name].from_pretrained(folder).double().eval()
    seen = []
    blocks = getattr(whole, "encoder", whole)
    for kind in ("stages", "layers", "layer"):
        blocks = getattr(blocks, kind, blocks)
    for block in blocks:
        block.register_forward_hook(lambda _, __, output: seen.append(output))
    more = {"interpolate_pos_encoding": True} if name in ("vit-base", "clip-vit-b32") else {}
    whole(pixels, **more)
    if name == "resnet-18":
        return [seen[layer - 1] for layer in layers]
    norm = whole.post_layernorm if name == "clip-vit-b32" else whole.layernorm
    found, (rows, columns) = [], (side // 8 for side in pixels.shape[-2:])
    for layer in layers:
        output = seen[layer - 1]
        tokens = norm(output if isinstance(output, torch.Tensor) else output[0])
        level = torch.empty(len(pixels), tokens.shape[-1], rows, columns, dtype=tokens.dtype)
        for row, column in np.ndindex(rows, columns):
            level[:, :, row, column] = tokens[:, 1 + row * columns + column]
        found.append(level)
    return found


@pytest.mark.filterwarnings("ignore:.*were not used")
@pytest.mark.parametrize(("size", "stored"), [(0, (32, 32)), (48, (48, 48)), (48, (32, 48))])
@pytest.mark.parametrize("name", CASES)
def test_levels_equal_hidden_states_of_transformers(name, size, stored, folders):  # noqa: F811
    """Nothing is resized here: the longer side of the stored views has the requested size."""
    levels, layers = CASES[name]
    found = build_levels(name, str(folders[name]), levels, size, stored)
    assert found.layers == layers
    views = images(3, stored)
    wanted = reference(name, folders[name], normalized(name, views[None]), layers)
    for one, other, shape in zip(found.double()(views), wanted, found.shapes, strict=True):
        assert one.dtype == torch.float32
        assert one.shape == other.shape == (3, *shape)
        torch.testing.assert_close(one, other.float(), rtol=1e-5, atol=1e-5)
    assert found.width == sum(level[0].numel() for level in wanted)


def test_views_are_resized_to_the_requested_size():
    network = build_levels("dinov2-small", "random", [1.0], 16, stored=(32, 32))
    assert network.shapes == [(32, 2, 2)]
    assert network(images(2))[0].shape == (2, 32, 2, 2)
    one_color = torch.full((1, 32, 32, 3), 77, dtype=torch.uint8)
    there = build_levels("dinov2-small", "random", [1.0], 0, stored=(16, 16))(
        one_color[:, :16, :16]
    )
    torch.testing.assert_close(network(one_color)[0], there[0], rtol=1e-5, atol=1e-5)


def test_frames_keep_their_aspect_ratio_up_to_whole_patches():
    network = build_levels("dinov2-small", "random", [1.0], 64, stored=(61, 80))
    assert network.input == (48, 64)  # 48.8: six patches of 8
    assert network.shapes == [(32, 6, 8)]
    assert network(images(2, (61, 80)))[0].shape == (2, 32, 6, 8)
    with pytest.raises(UsageError, match="do not tile 80 × 60 pixels"):
        build_levels("dinov2-small", "random", [1.0], 0, stored=(60, 80))
    upright = build_levels("resnet-18", "random", [1.0], 64, stored=(80, 60))
    assert upright.input == (64, 48)


def test_the_network_stays_frozen_in_training_mode():
    network = build_levels("vit-base", "random", [0.5, 1.0], 0, stored=(32, 32)).train()
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not any(level.requires_grad for level in network(images(2)))
    one, other = (network(images(2))[1] for _ in range(2))
    assert torch.equal(one, other)
    alone = network(images(2)[:1])[1]
    torch.testing.assert_close(alone, one[:1], rtol=1e-5, atol=1e-5)


def test_a_random_network_is_deterministic_and_leaves_the_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one = build_levels("resnet-18", "random", [1.0], 0, stored=(32, 32))
    assert torch.equal(torch.rand(3), expected)
    other = build_levels("resnet-18", "random", [1.0], 0, stored=(32, 32))
    for mine, its in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, its)


def shown_depth(views, seed=0):
    """Depth [1, views, 32, 32] of images that are half covered, on alternating sides."""
    depth = torch.zeros(1, views, 32, 32)
    for view in range(views):
        depth[0, view, :, (view % 2) * 16 : 16 + (view % 2) * 16] = 2.0
    return depth


def test_standardized_channels_have_mean_0_and_variance_1_on_foreground():
    network = build_levels("dinov2-small", "random", [0.5, 1.0], 0, stored=(32, 32))
    batches = [{"rgb": images(4, seed=s)[None], "depth": shown_depth(4)} for s in range(3)]
    teach = Standardized(Online(network), batches, 0.25)
    found = [teach(batch) for batch in batches]
    for level in range(2):
        raw = torch.cat([network(batch["rgb"][0])[level] for batch in batches])
        rows, own = [], []
        for view in range(12):
            half = slice(0, 2) if view % 2 == 0 else slice(2, 4)
            rows.append(torch.cat([f[level] for f in found])[view, :, :, half].flatten(1))
            own.append(raw[view, :, :, half].flatten(1))
        rows, own = torch.cat(rows, dim=1), torch.cat(own, dim=1)  # [D, m]
        torch.testing.assert_close(rows.mean(dim=1), torch.zeros(32), rtol=0, atol=1e-5)
        torch.testing.assert_close(rows.std(dim=1, correction=0), torch.ones(32), rtol=1e-4, atol=0)
        expected = (own - own.mean(1, True)) / own.std(1, correction=0, keepdim=True)
        torch.testing.assert_close(rows, expected, rtol=1e-3, atol=1e-4)


def test_a_constant_channel_is_not_amplified():
    still = torch.zeros(4, 2, 4, 4)
    still[:, 0] = torch.randn(4, 4, 4)
    still[:, 1] = 7.0
    batch = {"rgb": images(4)[None], "depth": shown_depth(4)}
    found = Standardized(lambda _: [still], [batch], 0.25)(batch)[0]
    assert found.isfinite().all()
    assert found[:, 1].abs().max() < 1e-4
    constant = Standardized(lambda _: [torch.full((4, 2, 4, 4), 3.0)], [batch], 0.25)(batch)[0]
    assert (constant == 0).all()
    with pytest.raises(UsageError, match="none of the sampled views") as caught:
        Standardized(lambda _: [still], [{**batch, "depth": batch["depth"] * 0}], 0.25)
    assert caught.value.where == "images.standardize"


def test_bad_settings_are_refused_with_the_option():
    with pytest.raises(UsageError, match="do not tile 36²") as caught:
        build_levels("vit-base", "random", [1.0], 36, stored=(32, 32))
    assert caught.value.where == "images.size"
    assert "32 or 40" in caught.value.fix
    with pytest.raises(UsageError, match="one of them twice") as caught:
        build_levels("vit-base", "random", [0.9, 1.0], 0, stored=(32, 32))
    assert caught.value.where == "images.levels"
    with pytest.raises(UsageError, match="no such folder") as caught:
        build_levels("vit-base", "nowhere", [1.0], 0, stored=(32, 32))
    assert "images.weights" in caught.value.fix


@pytest.fixture
def store(make_store, tmp_path):
    """60 shapes in 4 shards, one of them failed; 4 views of 32²."""
    whole = make_store(failed=("ball-train-1",))
    return ViewStore.open(shutil.copytree(whole.path, tmp_path / "S"))


def cached(store, shapes, levels=(0.5, 1.0), backbone="dinov2-small"):
    network = build_levels(backbone, "random", levels, 0, stored=(32, 32))
    return network, cache_levels(network, store, shapes, CPU, Accelerator(cpu=True))


def batch_of(store, name, shapes, views):
    array = store.read(name, np.repeat(shapes, views.shape[1]), views.ravel())
    return {name: torch.from_numpy(array.reshape(*views.shape, *array.shape[1:]))}


def streamed(store, levels):
    """All levels of the views of the first 16 shapes, as a run reads them."""
    reads = StreamConfig((levels.reads,), batch_size=16, points=0, shuffle=False)
    (batch,) = ViewStream(store, np.arange(16), reads)
    return levels(batch)


SHAPES, VIEWS = np.array([40, 0, 17]), np.array([[3, 0], [1, 2], [2, 2]])


def test_cached_levels_equal_online_ones_to_16_bits(store, messages):
    rendered = np.flatnonzero(store.status() == 1)
    network, levels = cached(store, rendered)
    kept, images = (batch_of(store, name, SHAPES, VIEWS) for name in (levels.reads, "rgb"))
    for one, other in zip(levels(kept), Online(network)(images), strict=True):
        assert one.shape == other.shape == (6, 32, 4, 4)
        torch.testing.assert_close(one, other, rtol=2**-10, atol=1e-6)
    assert store.specs[levels.reads].shape == (4, 2 * 32 * 4 * 4)
    said = messages()
    assert f"{60 * 4} views takes up to 0.5 MB ({60 * 4 * 1024 * 2:,} bytes)" in said
    cached(store, rendered)  # everything is cached: no message and no computation
    assert "caching" not in messages()


def test_only_missing_levels_are_computed(store, monkeypatch):
    cached(store, SHAPES[:1])
    (key,) = list_features(store)
    assert open_features(store, key).states() == {
        0: "missing",
        1: "missing",
        2: FRESH,
        3: "missing",
    }
    calls, compute = [], levels.compute_features

    def count(encode, *rest):
        compute(lambda views: (calls.append(len(views)), encode(views))[1], *rest)

    monkeypatch.setattr(levels, "compute_features", count)
    cached(store, SHAPES)
    assert sum(calls) == (16 + 15) * 4  # shards 0, without the failed shape, and 1
    calls.clear()
    cached(store, SHAPES, levels=(1.0,))
    cached(store, SHAPES, backbone="vit-base")
    assert len(list_features(store)) == 3
    assert sum(calls) == 2 * (16 + 15 + 16) * 4
    facts = [open_features(store, key).facts for key in list_features(store)]
    assert sorted((f["backbone"], f["layers"]) for f in facts) == [
        ("dinov2-small", [1, 2]),
        ("dinov2-small", [2]),
        ("vit-base", [1, 2]),
    ]


def test_damaged_and_lost_levels_are_computed_again(store):
    _, levels = cached(store, SHAPES)
    (path,) = Path(store.path).glob("features/*/c/0/0/0")
    whole = path.read_bytes()
    good = streamed(store, levels)
    path.write_bytes(whole[:900] + bytes([whole[900] ^ 1]) + whole[901:])
    with pytest.raises(DamageError, match="damaged"):
        streamed(store, levels)
    path.unlink()
    features = open_features(store, *list_features(store))
    assert features.states([0]) == {0: STALE}
    with pytest.raises(StoreError, match="been rendered again, or the file is lost"):
        features.read(SHAPES)
    _, again = cached(store, SHAPES)
    assert path.read_bytes() == whole
    assert all(torch.equal(*pair) for pair in zip(streamed(store, again), good, strict=True))


def test_the_size_of_cached_levels_is_reported():
    assert "600,000 views takes up to 707.8 GB (707,788,800,000 bytes)" in cost(600_000, 589_824)
    assert "1,000,000 views takes up to 1.2 TB" in cost(10**6, 589_824)
