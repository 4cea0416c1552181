"""MVCNN: pooling over views, and weights from a folder, never from elsewhere."""

import json

import pytest
import torch

from pointcmt.errors import UsageError
from pointcmt.training.image_networks import NETWORKS
from pointcmt.training.mvcnn import build_mvcnn


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


def test_no_such_folder_is_said_and_nothing_is_downloaded():
    with pytest.raises(UsageError, match="no such folder of weights") as caught:
        build_mvcnn("resnet-18", "microsoft/resnet-18", classes=5, image_size=0)
    assert "model.weights" in caught.value.fix


def test_another_layout_is_refused(folder):
    with pytest.raises(UsageError, match="this is no resnet-50"):
        build_mvcnn("resnet-50", str(folder), classes=5, image_size=0)


def test_another_network_is_refused(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "vit"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="this is no resnet-18: vit"):
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
