"""Image networks: transformers' own, from a folder or the hub, and never another one."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from pointcmt.errors import UsageError
from pointcmt.training.config.files import load_config
from pointcmt.training.images.building import build_network
from pointcmt.training.images.networks import NETWORKS
from pointcmt.training.networks.mvcnn import build_mvcnn
from tests.training.hub import publish
from tests.training.image_folders import same

TINY_TRANSFORMER = {
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "patch_size": 8,
    "image_size": 32,
}
TINY = {
    "resnet-18": {"layer_type": "basic", "depths": [1, 1], "hidden_sizes": [8, 16]}
    | {"embedding_size": 8},
    "vit-base": TINY_TRANSFORMER | {"intermediate_size": 48},
    "dinov2-small": TINY_TRANSFORMER,
    "clip-vit-b32": TINY_TRANSFORMER | {"intermediate_size": 48},
}
TRANSFORMERS = ("vit-base", "dinov2-small", "clip-vit-b32")


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Names stand for thousandths of their networks."""
    for name, config in TINY.items():
        known = NETWORKS[name]
        config = {**known.config, **config} if name != "resnet-18" else config
        monkeypatch.setitem(NETWORKS, name, replace(known, config=config))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Networks as they are downloaded: classifiers with heads, and a CLIP with its text tower."""
    import transformers as t

    torch.manual_seed(1)
    clip = t.CLIPVisionConfig(**TINY["clip-vit-b32"])
    text = t.CLIPTextConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=20
    )
    both = t.CLIPConfig(text_config=text.to_dict(), vision_config=clip.to_dict())
    made = {
        "resnet-18": t.ResNetForImageClassification(t.ResNetConfig(**TINY["resnet-18"])),
        "vit-base": t.ViTForImageClassification(t.ViTConfig(**TINY["vit-base"])),
        "dinov2-small": t.Dinov2ForImageClassification(t.Dinov2Config(**TINY["dinov2-small"])),
        "clip-vit-b32": t.CLIPVisionModel(clip),
        "whole-clip": t.CLIPModel(both),
    }
    found = {}
    for name, network in made.items():
        with torch.no_grad():
            for parameter in network.parameters():  # biases too are something
                parameter.add_(0.02 * torch.randn_like(parameter))
        found[name] = tmp_path_factory.mktemp(name)
        network.save_pretrained(found[name])
    return found


def views(B, V, size=32):
    return torch.randint(256, (B, V, size, size, 3), dtype=torch.uint8)


def reference(name, folder, pixels):
    """What transformers' own classes make of normalized pixels [n, 3, H, W]: [n, D]."""
    import transformers as t

    if name == "resnet-18":
        whole = t.ResNetForImageClassification.from_pretrained(folder).double().eval()
        return whole.resnet(pixels).last_hidden_state.mean(dim=(2, 3))
    if name == "vit-base":
        whole = t.ViTForImageClassification.from_pretrained(folder).double().eval()
        return whole.vit(pixels, interpolate_pos_encoding=True).last_hidden_state[:, 0]
    if name == "dinov2-small":
        whole = t.Dinov2ForImageClassification.from_pretrained(folder).double().eval()
        return whole.dinov2(pixels).last_hidden_state[:, 0]
    if name == "whole-clip":
        whole = t.CLIPModel.from_pretrained(folder).double().eval().vision_model
    else:
        whole = t.CLIPVisionModel.from_pretrained(folder).double().eval()
    found = whole(pixels, interpolate_pos_encoding=True).last_hidden_state[:, 0]
    return next(m for n, m in whole.named_modules() if n.endswith("post_layernorm"))(found)


def normalized(name, images):
    """Pixels as the network was trained on: transformers' constants, in float64."""
    from transformers import image_utils

    mean, std = {
        "vit-base": (image_utils.IMAGENET_STANDARD_MEAN, image_utils.IMAGENET_STANDARD_STD),
        "clip-vit-b32": (image_utils.OPENAI_CLIP_MEAN, image_utils.OPENAI_CLIP_STD),
    }.get(name, (image_utils.IMAGENET_DEFAULT_MEAN, image_utils.IMAGENET_DEFAULT_STD))
    rgb = images.flatten(0, 1).double() / 255
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (mean, std))
    return ((rgb - mean) / std).permute(0, 3, 1, 2)


def test_the_configuration_knows_all_of_them():
    for name in NETWORKS:
        assert load_config("teacher", None, [f"model.backbone={name}"]).model.backbone == name
    with pytest.raises(UsageError) as caught:
        load_config("teacher", None, ["model.backbone=alexnet"])
    assert all(name in str(caught.value) for name in NETWORKS)


@pytest.mark.parametrize(
    ("backbone", "parameters"),  # counted in the published weights, without heads and poolers
    [
        ("vit-base", 85_798_656),
        ("dinov2-small", 22_056_576),
        ("dinov2-base", 86_580_480),
        ("dinov2-large", 304_368_640),
        ("clip-vit-b32", 87_456_000),
        ("clip-vit-b16", 85_799_424),
        ("clip-vit-l14", 303_179_776),
    ],
)
def test_networks_have_the_size_of_the_published_ones(backbone, parameters, monkeypatch):
    monkeypatch.undo()
    with torch.device("meta"):
        built = build_network(backbone, "random")
    assert sum(p.numel() for p in built.parameters()) == parameters
    assert built.config.hidden_size == NETWORKS[backbone].width


@pytest.mark.parametrize("size", [32, 48, 16])  # as it was trained; positions interpolated
@pytest.mark.parametrize("source", [*TINY, "whole-clip"])
def test_features_are_transformers_own(source, size, folders, capfd):
    name = {"whole-clip": "clip-vit-b32"}.get(source, source)
    built = build_mvcnn(name, str(folders[source]), classes=3, image_size=0)
    assert capfd.readouterr() == ("", "")
    assert built.encoder.training
    images = views(2, 3, size)
    with torch.no_grad():
        found = built.double().eval().encode(images)
        expected = reference(source, folders[source], normalized(name, images))
    assert found.shape == (2, 3, NETWORKS[name].width)
    # the pixels' mean and deviation are float32 numbers
    torch.testing.assert_close(found.flatten(0, 1), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("source", [*TINY, "whole-clip"])
def test_every_tensor_is_the_stored_one(source, folders):
    from safetensors.torch import load_file

    name = {"whole-clip": "clip-vit-b32"}.get(source, source)
    torch.manual_seed(2)
    loaded = build_network(name, str(folders[source])).state_dict()
    stored = load_file(folders[source] / "model.safetensors").values()
    kept = {(tuple(t.shape), t.cpu().contiguous().numpy().tobytes()) for t in stored}
    for key, tensor in loaded.items():
        assert (tuple(tensor.shape), tensor.contiguous().numpy().tobytes()) in kept, key


def test_weights_in_16_bits_become_float32(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(folders["vit-base"], tmp_path, dirs_exist_ok=True)
    stored = load_file(tmp_path / "model.safetensors")
    halves = {key: tensor.half() for key, tensor in stored.items()}
    save_file(halves, tmp_path / "model.safetensors", {"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"dtype": "float16"}))
    built = build_network("vit-base", str(tmp_path))
    assert {p.dtype for p in built.parameters()} == {torch.float32}
    torch.testing.assert_close(
        built.embeddings.cls_token, halves["vit.embeddings.cls_token"].float()
    )


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_images_that_patches_do_not_tile_are_refused(name):
    built = build_mvcnn(name, "random", classes=3, image_size=0)
    with pytest.raises(UsageError, match="patches of 8²") as caught:
        built(views(1, 2, 36))
    assert caught.value.where == "data.image_size"
    assert "32 or 40" in caught.value.fix
    with pytest.raises(UsageError) as caught:
        built(views(1, 2, 5))
    assert caught.value.fix.endswith("such as 8")
    built.image_size = 24
    assert built(views(1, 2, 36))[0].shape == (1, 3)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_the_same_step_gives_the_same_bits(name):
    """Attention forwards and backwards, on a CPU."""
    gradients = []
    for _ in range(2):
        torch.manual_seed(0)
        built = build_mvcnn(name, "random", classes=3, image_size=0)
        built(views(2, 3, 48))[0].square().sum().backward()
        gradients.append([p.grad for p in built.parameters() if p.grad is not None])
    assert gradients[0]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("name", TINY)
def test_the_whole_network_compiles_without_a_break(name):
    built, images = build_mvcnn(name, "random", classes=3, image_size=0).eval(), views(2, 3)
    with torch.no_grad():
        compiled = torch.compile(built, backend="eager", fullgraph=True)
        for one, other in zip(compiled(images), built(images), strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("other", [name for name in TINY if name != "vit-base"])
def test_another_family_is_refused(other, folders):
    with pytest.raises(UsageError, match="not of vit-base, but of ") as caught:
        build_network("vit-base", str(folders[other]))
    assert caught.value.where == str(folders[other])


@pytest.mark.parametrize(
    ("name", "override", "value"),
    [
        ("vit-base", "num_hidden_layers", 3),
        ("vit-base", "hidden_act", "relu"),  # nothing in the tensors would tell
        ("vit-base", "image_size", 40),
        ("dinov2-small", "use_swiglu_ffn", True),
        ("dinov2-small", "num_attention_heads", 4),
        ("clip-vit-b32", "hidden_act", "gelu"),
        ("resnet-18", "depths", [1, 2]),
    ],
)
def test_what_differs_is_said(name, override, value, folders, tmp_path):
    shutil.copytree(folders[name], tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text()) | {override: value}
    (tmp_path / "config.json").write_text(json.dumps(config))
    expected = NETWORKS[name].config[override]
    with pytest.raises(UsageError) as caught:
        build_network(name, str(tmp_path))
    assert f"not of {name}, but of " in caught.value.what
    assert f"{override} is {value}, not {expected}" in caught.value.what


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Expecting value"),
        ("[]", r"config\.json is not a table"),
        ("{}", r"config\.json has no model_type"),
        ('{"model_type": "vit", "hidden_size": "many"}', ".*hidden_size"),
        (
            '{"model_type": "vit", "quantization_config": {}}',
            r"config\.json says that vit is quantized",
        ),
    ],
)
def test_a_configuration_that_is_none_is_said(text, says, folders, tmp_path):
    shutil.copytree(folders["vit-base"], tmp_path, dirs_exist_ok=True)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UsageError, match=f"the weights cannot be read: {says}"):
        build_network("vit-base", str(tmp_path))


def test_a_teacher_too_reads_no_pickle_that_an_index_names(folders, tmp_path):
    from safetensors.torch import load_file

    shutil.copytree(folders["vit-base"], tmp_path, dirs_exist_ok=True)
    names = dict.fromkeys(load_file(tmp_path / "model.safetensors"), "evil.bin")
    (tmp_path / "model.safetensors").rename(tmp_path / "model-decoy.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    (tmp_path / "evil.bin").write_bytes(b"a pickle that nobody opens")
    with pytest.raises(UsageError, match=r"index\.json cannot be used: it refers to files other"):
        build_mvcnn("vit-base", str(tmp_path), classes=3, image_size=0)


@pytest.mark.parametrize("name", TINY)
def test_missing_and_misshapen_tensors_are_said(name, folders, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(folders[name], tmp_path, dirs_exist_ok=True)
    stored = load_file(tmp_path / "model.safetensors")
    wanted = [key for key, t in stored.items() if t.ndim > 1 and "layer" in key]
    for change, says in (("cut", "have other shapes in 1 tensors"), ("drop", "lack 1 tensors")):
        tensor = stored.pop(wanted[0])
        if change == "cut":
            stored[wanted[0]] = torch.cat([tensor, tensor])
        save_file(stored, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(UsageError, match=says):
            build_network(name, str(tmp_path))


def test_weights_come_from_the_hub_once_and_then_from_its_cache(hub, folders, monkeypatch):
    from huggingface_hub import constants

    hub_id = NETWORKS["vit-base"].hub
    publish(hub, hub_id, folders["vit-base"])
    expected = build_network("vit-base", str(folders["vit-base"]))
    assert same(build_network("vit-base", "hub"), expected)
    assert same(build_network("vit-base", hub_id), expected)
    downloads = len(hub.asked)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert same(build_network("vit-base", "hub"), expected)
    assert len(hub.asked) == downloads


def test_a_revision_is_the_one_that_is_asked_for(hub, folders):
    name, _, revision = NETWORKS["clip-vit-b32"].hub.partition("@")
    publish(hub, name, folders["whole-clip"], revision)
    expected = build_network("clip-vit-b32", str(folders["whole-clip"]))
    assert same(build_network("clip-vit-b32", "hub"), expected)
    assert {asked[1] for asked in hub.asked} == {revision}
    with pytest.raises(UsageError, match="no such revision"):
        build_network("clip-vit-b32", f"{name}@other")


def test_a_folder_wins_over_the_hub(hub, folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folders["vit-base"], tmp_path / "google/vit")
    build_network("vit-base", "google/vit")
    assert hub.asked == []


def test_what_the_hub_does_not_have_is_said(hub, folders):
    with pytest.raises(UsageError, match="no folder with this name and no public model") as caught:
        build_network("vit-base", "somebody/nothing")
    assert caught.value.where == "somebody/nothing"
    hub.files["somebody/pickles", "main", "pytorch_model.bin"] = b"a pickle that nobody opens"
    with pytest.raises(UsageError, match=r"has no config\.json"):
        build_network("vit-base", "somebody/pickles")
    publish(hub, "somebody/pickles", folders["vit-base"], files=("config.json",))
    with pytest.raises(UsageError, match="pickled weights are not supported"):
        build_network("vit-base", "somebody/pickles")
    assert not [file for *_, file in hub.asked if file.endswith(".bin")]


def test_another_network_is_refused_before_its_weights_are_downloaded(hub, folders):
    publish(hub, "some/clip", folders["clip-vit-b32"])
    with pytest.raises(UsageError, match="not of vit-base, but of clip_vision_model") as caught:
        build_network("vit-base", "some/clip")
    assert caught.value.where == "some/clip"
    assert {file for *_, file in hub.asked} == {"config.json"}


def test_a_hub_that_cannot_be_reached_is_said(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for weights in ("hub", "somebody/something"):
        with pytest.raises(UsageError, match="the hub cannot be reached") as caught:
            build_network("resnet-18", weights)
        assert "microsoft/resnet-18" in caught.value.fix
    assert hub.asked == []


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("pooling", ["max", "attention"])
def test_every_parameter_that_trains_gets_a_gradient(name, pooling):
    """Several processes wait for the gradient of each: one that never comes stops them all."""
    model = build_mvcnn(name, "random", 3, 32, pooling)
    logits, _ = model(views(2, 3))
    logits.square().sum().backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
