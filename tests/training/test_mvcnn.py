"""MVCNN: encoders, poolings over the views, and weights from a folder."""

import json

import numpy as np
import pytest
import torch

from pointcmt.errors import UsageError
from pointcmt.training.images.networks import NETWORKS
from pointcmt.training.loop import train
from pointcmt.training.networks.mvcnn import build_mvcnn
from tests.training.stores import small_config


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_mvcnn("resnet-18", "random", classes=5, image_size=0).double().eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A classifier as it is downloaded: with a head that we do not want."""
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights")
    whole = ResNetForImageClassification(ResNetConfig(**NETWORKS["resnet-18"].config, num_labels=9))
    whole.save_pretrained(path)
    return path


def views(B, V, size=32):
    return torch.randint(256, (B, V, size, size, 3), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("backbone", "parameters"),  # torchvision's, without its last layer
    [("resnet-18", 11_176_512), ("resnet-34", 21_284_672), ("resnet-50", 23_508_032)],
)
def test_layouts_are_those_of_the_paper(backbone, parameters):
    built = build_mvcnn(backbone, "random", classes=5, image_size=0)
    assert sum(p.numel() for p in built.encoder.parameters()) == parameters
    assert built.classifier.in_features == 512


def test_the_feature_is_the_largest_over_the_views(model):
    images = views(3, 4)
    logits, feature = model(images)
    single = torch.stack([model(images[:, v : v + 1])[1] for v in range(4)])  # [V, B, D]
    torch.testing.assert_close(feature, single.amax(dim=0))
    assert feature.shape == (3, 512)
    assert feature.min() >= 0
    torch.testing.assert_close(logits, model.classifier(feature))


def test_the_order_of_views_does_not_matter(model):
    images = views(2, 5)
    for one, other in zip(model(images), model(images[:, torch.randperm(5)]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_images_are_normalised_as_for_imagenet(model):
    images, seen = views(1, 2), []
    hook = model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(images)
    hook.remove()
    rgb = images[0].double() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = ((rgb - mean) / std).permute(0, 3, 1, 2)
    torch.testing.assert_close(seen[0], expected, rtol=1e-6, atol=1e-6)


def test_image_size_resizes_on_the_way_in(model):
    seen = []
    hook = model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    model.image_size = 16
    model(torch.full((1, 2, 32, 32, 3), 200, dtype=torch.uint8))
    model.image_size = 0
    hook.remove()
    assert seen == [(2, 3, 16, 16)]


def test_weights_come_from_a_folder_without_noise(folder, capfd):
    from safetensors.torch import load_file

    torch.manual_seed(2)
    built = build_mvcnn("resnet-18", str(folder), classes=5, image_size=0)
    assert capfd.readouterr() == ("", "")
    stored = load_file(folder / "model.safetensors")
    loaded = built.encoder.state_dict()
    assert {f"resnet.{name}" for name in loaded} == {k for k in stored if "classifier" not in k}
    assert all(torch.equal(stored[f"resnet.{name}"], value) for name, value in loaded.items())
    assert built.encoder.training


@pytest.mark.parametrize(
    "weights", ["weights", "/nowhere/resnet", "./a/b/c", "a/b/c", "../nowhere"]
)
def test_no_such_folder_is_said(weights):
    with pytest.raises(UsageError, match="no such folder of weights") as caught:
        build_mvcnn("resnet-18", weights, classes=5, image_size=0)
    assert "model.weights" in caught.value.fix


def test_another_layout_is_refused(folder):
    with pytest.raises(UsageError, match="not of resnet-50, but of"):
        build_mvcnn("resnet-50", str(folder), classes=5, image_size=0)


def test_another_network_is_refused(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "vit"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="not of resnet-18, but of vit"):
        build_mvcnn("resnet-18", str(tmp_path), classes=5, image_size=0)


@pytest.mark.parametrize("content", [None, b"", b"half of a file"])
def test_missing_or_damaged_weights_are_said(folder, tmp_path, content):
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle that nobody opens")
    if content is not None:
        (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UsageError, match="the weights cannot be read"):
        build_mvcnn("resnet-18", str(tmp_path), classes=5, image_size=0)


def test_incomplete_weights_are_said(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    stored = load_file(folder / "model.safetensors")
    dropped = next(iter(key for key in stored if "encoder" in key))
    del stored[dropped]
    save_file(stored, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UsageError, match="lack 1 tensors"):
        build_mvcnn("resnet-18", str(tmp_path), classes=5, image_size=0)


POOLINGS = ("max", "mean", "attention")


@pytest.fixture(scope="module")
def small(small_resnet):
    """One small model per pooling, in float64, 32 wide before its projection."""
    torch.manual_seed(3)
    return {
        pooling: build_mvcnn("resnet-18", "random", 5, 0, pooling).double().eval()
        for pooling in POOLINGS
    }


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("V", [1, 2, 7])
def test_no_pooling_sees_the_order_of_views(pooling, V, small):
    model, images = small[pooling], views(2, V)
    with torch.no_grad():
        for one, other in zip(model(images), model(images[:, torch.randperm(V)]), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_forward_is_encode_pool_and_classify(small):
    for model in small.values():
        images = views(2, 3)
        with torch.no_grad():
            per_view = model.encode(images)
            single = torch.cat([model.encode(images[:, v : v + 1]) for v in range(3)], dim=1)
            logits, feature = model(images)
            assert per_view.shape == (2, 3, 32)
            torch.testing.assert_close(per_view, single, rtol=1e-12, atol=1e-12)
            assert torch.equal(model.pool(per_view), feature)
            assert torch.equal(model.classifier(feature), logits)
        assert isinstance(model.classifier, torch.nn.Linear)
        assert (model.classifier.in_features, model.classifier.out_features) == (512, 5)


def test_attention_is_the_papers_formula(small):
    """Ilse et al. 2018, equations 7 and 9, a view at a time, with numpy."""
    rng = np.random.default_rng(0)
    attention = small["attention"].pooling
    weights = {name: tensor.numpy() for name, tensor in attention.state_dict().items()}
    bag = rng.normal(size=(3, 6, 32))
    expected = np.zeros((3, 32))
    for b, h in enumerate(bag):
        scores = []
        for view in h:
            tanh = np.tanh(weights["key.weight"] @ view + weights["key.bias"])
            gate = 1 / (1 + np.exp(-(weights["gate.weight"] @ view + weights["gate.bias"])))
            scores.append(float(weights["query.weight"][0] @ (tanh * gate)))
        shares = np.exp(scores) / np.sum(np.exp(scores))
        expected[b] = sum(share * view for share, view in zip(shares, h, strict=True))
    with torch.no_grad():
        found = attention(torch.from_numpy(bag)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_other_widths_are_projected_to_512_and_never_negative(small):
    rng = np.random.default_rng(1)
    per_view = rng.normal(size=(4, 3, 32))
    for pooling, over_views in (("max", np.max), ("mean", np.mean)):
        linear = small[pooling].projection[0]
        expected = over_views(per_view, axis=1) @ linear.weight.detach().numpy().T
        expected = np.maximum(expected + linear.bias.detach().numpy(), 0)
        with torch.no_grad():
            found = small[pooling].pool(torch.from_numpy(per_view)).numpy()
        assert found.shape == (4, 512)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_512_wide_resnets_are_exactly_the_papers(model):
    names = {name.split(".")[0] for name in model.state_dict()}
    assert names == {"encoder", "classifier"}
    per_view = torch.rand(2, 3, 512, dtype=torch.float64)
    assert torch.equal(model.pool(per_view), per_view.amax(dim=1))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_frozen_encoder_stays_as_it_is(pooling, small_resnet):
    torch.manual_seed(4)
    model = build_mvcnn("resnet-18", "random", 5, 0, pooling, encoder="frozen")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, weight_decay=0.1)
    model.train()
    assert model.training
    assert not any(module.training for module in model.encoder.modules())
    model(views(4, 2))[0].square().sum().backward()
    optimizer.step()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == name.startswith("encoder."), name


@pytest.mark.parametrize(
    "overrides",
    [
        ("model.encoder=frozen",),
        ("model.pooling=attention", "data.image_size=16"),
    ],
)
def test_a_run_of_either_kind_resumes_to_the_same_bits(overrides, store, small_resnet, tmp_path):
    config = small_config("teacher", *overrides, epochs=2)
    train(store, config, tmp_path / "whole", device="cpu")
    train(store, config, tmp_path / "halves", device="cpu", until=1)
    train(store, config, tmp_path / "halves", device="cpu")
    for name in ("weights", "training"):
        whole, halves = (
            next((tmp_path / run / "last").glob(f"{name}-*")) for run in ("whole", "halves")
        )
        assert whole.read_bytes() == halves.read_bytes()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_compiles_without_a_break(pooling, small):
    model, per_view = small[pooling], torch.rand(2, 3, 32, dtype=torch.float64)
    with torch.no_grad():
        compiled = torch.compile(model.pool, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(per_view), model.pool(per_view))
