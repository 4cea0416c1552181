"""images.backbone=auto: the files of weights that are read from folders and from the hub."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pointcmt.errors import UsageError
from pointcmt.training.images.building import build_network
from pointcmt.training.images.features import teacher_key
from pointcmt.training.images.levels import build_levels
from pointcmt.training.images.weights import weights_key
from tests.training.image_folders import SMALL, change, same
from tests.training.images.hub import publish
from tests.training.images.test_levels import images


def test_unused_tensors_may_be_missing(copy_of, folder_of):
    folder = copy_of("siglip")
    stored = load_file(folder / "model.safetensors")
    left = {key: t for key, t in stored.items() if "vision_model.head" not in key}
    assert len(stored) - len(left) > 5
    save_file(left, folder / "model.safetensors", {"format": "pt"})
    built = []
    for seed, path in enumerate((folder, folder, folder_of("siglip"))):
        torch.manual_seed(seed)
        built.append(build_levels("auto", str(path), [0.5, 1.0], 0, stored=(32, 32)))
    one, other, whole = built
    for mine, theirs in zip(one(images(2)), whole(images(2)), strict=True):
        assert torch.equal(mine, theirs)
    assert teacher_key(one.network, "", 0) == teacher_key(other.network, "", 0)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("dinov3_vit", "layer.1.mlp.up_proj.weight"),
        ("clip", "vision_model.embeddings.position_embedding.weight"),
        ("efficientnet", "efficientnet.encoder.blocks.1.expansion.expand_conv.weight"),
        ("sam", "vision_encoder.layers.1.attn.qkv.bias"),
    ],
)
def test_missing_and_misshapen_tensors_are_reported(name, tensor, copy_of):
    folder = copy_of(name)
    stored = load_file(folder / "model.safetensors")
    for damage, says in (("cut", "have other shapes in 1 tensors"), ("drop", "lack 1 tensors")):
        whole = stored.pop(tensor)
        if damage == "cut":
            stored[tensor] = torch.cat([whole, whole])
        save_file(stored, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(UsageError, match=says) as caught:
            build_network("auto", str(folder))
        assert caught.value.where == str(folder)


def shards(folder, name, tmp_path):
    """A copy of the folder with its weights in several files."""
    import transformers

    network = getattr(transformers, SMALL[name][0]).from_pretrained(folder)
    network.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    shutil.copy(folder / "preprocessor_config.json", tmp_path / "shards")
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 2
    assert not (tmp_path / "shards/model.safetensors").exists()
    return tmp_path / "shards"


def test_weights_in_several_files_are_read_from_folder_and_hub(
    folder_of,
    hub,
    tmp_path,
    monkeypatch,
):
    from huggingface_hub import constants

    folder = shards(folder_of("dinov3_vit"), "dinov3_vit", tmp_path)
    expected = build_network("auto", str(folder_of("dinov3_vit")))
    assert same(build_network("auto", str(folder)), expected)
    publish(hub, "some/net", folder, "v2", [path.name for path in folder.iterdir()])
    assert same(build_network("auto", "some/net@v2"), expected)
    key = weights_key("auto", str(folder))
    assert weights_key("auto", "some/net@v2") == key
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.asked)
    assert same(build_network("auto", "some/net@v2"), expected)
    assert weights_key("auto", "some/net@v2") == key
    assert len(hub.asked) == asked


def indexed(folder, file):
    """Remove the file of weights; write an index that says they are in another file."""
    whole = folder / "model.safetensors"
    names = dict.fromkeys(load_file(whole), file)
    index = json.dumps({"metadata": {}, "weight_map": names})
    (folder / "model.safetensors.index.json").write_text(index)
    whole.unlink()
    return folder


class Mark:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("source", ["folder", "hub"])
@pytest.mark.parametrize(
    "file", ["evil.bin", "../other/model.safetensors", "part-1.safetensors", "a/model.safetensors"]
)
def test_an_index_may_only_name_files_beside_it(
    file,
    source,
    copy_of,
    hub,
    tmp_path,
):
    folder = copy_of("dinov3_vit")
    for other in ("other/model.safetensors", "dinov3_vit-copy/a/model.safetensors"):
        (tmp_path / other).parent.mkdir()
        shutil.copy(folder / "model.safetensors", tmp_path / other)
    shutil.copy(folder / "model.safetensors", folder / "part-1.safetensors")
    (folder / "evil.bin").write_bytes(pickle.dumps(Mark(tmp_path / "ran")))
    (folder / "model-decoy.safetensors").write_bytes(b"")
    weights = str(indexed(folder, file))
    if source == "hub":
        publish(hub, "bad/net", folder, files=("config.json", "model.safetensors.index.json"))
        weights = "bad/net"
    for use in (build_network, weights_key):
        with pytest.raises(
            UsageError, match=r"index\.json cannot be used: it refers to files other"
        ) as caught:
            use("auto", weights)
        assert caught.value.where == weights
    assert not (tmp_path / "ran").exists()


def test_files_named_in_an_index_must_exist(copy_of):
    folder = indexed(copy_of("vit"), "model-00001-of-00001.safetensors")
    with pytest.raises(UsageError, match=r"model-00001-of-00001\.safetensors not found \(pickled"):
        build_network("auto", str(folder))
    index = folder / "model.safetensors.index.json"
    for text, says in (("[]", "is not a table"), ('{"weight_map": {}}', "refers to files other")):
        index.write_text(text)
        with pytest.raises(UsageError, match=says):
            build_network("auto", str(folder))


@pytest.mark.parametrize("names", ["evil.bin", "other.safetensors", "adapter_model.bin"])
def test_files_beside_the_weights_are_neither_read_nor_hashed(names, copy_of, folder_of, tmp_path):
    """Half-precision copies, adapters, and files that the configuration points to."""
    folder, expected = copy_of("dinov2"), build_network("auto", str(folder_of("dinov2")))
    change(folder, transformers_weights=names)
    key = weights_key("auto", str(folder))
    stored = load_file(folder / "model.safetensors")
    double = {name: 2 * tensor for name, tensor in stored.items()}
    for file in ("other.safetensors", "model.fp16.safetensors", "adapter_model.safetensors"):
        save_file(double, folder / file, {"format": "pt"})
    for file in ("evil.bin", "adapter_model.bin", "pytorch_model.bin"):
        (folder / file).write_bytes(pickle.dumps(Mark(tmp_path / "ran")))
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "somebody/net"}
    (folder / "adapter_config.json").write_text(json.dumps(adapter))
    assert same(build_network("auto", str(folder)), expected)
    assert weights_key("auto", str(folder)) == key
    assert not (tmp_path / "ran").exists()


def test_a_complete_download_is_used_without_the_hub(
    folder_of,
    hub,
    tmp_path,
    monkeypatch,
):
    """As made by snapshot_download, which does not record files the model does not have."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    whole = folder_of("dinov3_vit")
    for name, folder in (("one", whole), ("parts", shards(whole, "dinov3_vit", tmp_path))):
        cache = tmp_path / f"cache/models--some--{name}"
        shutil.copytree(folder, cache / "snapshots" / ("a" * 40))
        (cache / "refs").mkdir()
        (cache / "refs/main").write_text("a" * 40)
        found = build_levels("auto", f"some/{name}", [1.0], 0, stored=(32, 32))
        assert same(found.network, build_network("auto", str(whole)))
        assert found.known.guessed == ""
        assert weights_key("auto", f"some/{name}") == weights_key("auto", str(folder))
        (cache / "snapshots" / ("a" * 40) / "preprocessor_config.json").unlink()
        said = build_levels("auto", f"some/{name}", [1.0], 0, stored=(32, 32)).known.guessed
        assert said.startswith("the hub cannot be reached")
        assert f"no preprocessor_config.json of some/{name}" in said
    (cache / "snapshots" / ("a" * 40) / "model.safetensors.index.json").unlink()
    with pytest.raises(UsageError, match=r"cannot be reached, and .* has no model\.safetensors of"):
        build_network("auto", "some/parts")
    assert hub.asked == []


def test_the_hubs_image_processor_is_used_or_its_absence_is_known(
    folder_of,
    hub,
    monkeypatch,
):
    from huggingface_hub import constants

    folder = folder_of("vit")
    publish(hub, "some/vit", folder)
    publish(hub, "other/vit", folder, files=[path.name for path in folder.iterdir()])
    for offline in (False, True):  # a missing file is remembered, too
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        networks = [
            build_levels("auto", name, [1.0], 0, stored=(32, 32))
            for name in ("some/vit", "other/vit")
        ]
        assert [network.known.guessed for network in networks] == [
            "some/vit has no image normalization settings",
            "",
        ]
        asked = [file for name, _, file in hub.asked if name == "other/vit"]
        assert "processor_config.json" not in asked  # according to the first file
    with pytest.raises(UsageError, match="the hub cannot be reached") as caught:
        build_levels("auto", "third/vit", [1.0], 0, stored=(32, 32))
    assert "save_pretrained" in caught.value.fix


def test_a_folder_is_read_without_the_internet_and_without_running_code(
    hub, copy_of, folder_of, tmp_path
):
    folder = copy_of("dinov3_vit")
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    code = {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}
    change(folder, auto_map=code, attn_implementation="somebody/kernels")
    expected = build_network("auto", str(folder_of("dinov3_vit")))
    found = build_network("auto", str(folder))
    assert same(found, expected)
    assert found.config._attn_implementation == "sdpa"
    assert not (tmp_path / "ran").exists()
    change(folder, model_type="mine")
    with pytest.raises(UsageError, match="has no 'mine'"):
        build_network("auto", str(folder))
    assert not (tmp_path / "ran").exists()
    assert hub.asked == []
