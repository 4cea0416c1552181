"""images.backbone=auto: which folders and hub models are read, and how the others are refused."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pointcmt.errors import UsageError
from pointcmt.training.config.files import load_config
from pointcmt.training.images.blocks import Blocks
from pointcmt.training.images.building import build_network
from pointcmt.training.images.features import teacher_key
from pointcmt.training.images.levels import build_levels, level_widths
from pointcmt.training.images.networks import ImageNetwork
from pointcmt.training.images.weights import weights_key
from tests.training.hub import publish
from tests.training.image_folders import SMALL, TRANSFORMER, change, same
from tests.training.test_image_levels import images

BENCHMARK = Path(__file__).parents[2] / "benchmarks/image_weights.py"

# Which weights


def test_what_nobody_reads_may_be_missing_and_changes_nothing(copy_of, folder_of):
    folder = copy_of("siglip")
    stored = load_file(folder / "model.safetensors")
    left = {key: t for key, t in stored.items() if "vision_model.head" not in key}
    assert len(stored) - len(left) > 5
    save_file(left, folder / "model.safetensors", {"format": "pt"})
    built = []
    for seed, path in enumerate((folder, folder, folder_of("siglip"))):
        torch.manual_seed(seed)
        built.append(build_levels("auto", str(path), [0.5, 1.0], 0, stored=32))
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
def test_missing_and_misshapen_tensors_are_said(name, tensor, copy_of):
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
    """The same weights in several files."""
    import transformers

    network = getattr(transformers, SMALL[name][0]).from_pretrained(folder)
    network.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    shutil.copy(folder / "preprocessor_config.json", tmp_path / "shards")
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 2
    assert not (tmp_path / "shards/model.safetensors").exists()
    return tmp_path / "shards"


def test_weights_in_several_files_come_from_folder_and_hub(
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
    """The weights' one file is gone; an index says that all of them are in another one."""
    whole = folder / "model.safetensors"
    names = dict.fromkeys(load_file(whole), file)
    index = json.dumps({"metadata": {}, "weight_map": names})
    (folder / "model.safetensors.index.json").write_text(index)
    whole.unlink()
    return folder


class Mark:
    """Unpickled it leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("source", ["folder", "hub"])
@pytest.mark.parametrize(
    "file", ["evil.bin", "../other/model.safetensors", "part-1.safetensors", "a/model.safetensors"]
)
def test_an_index_names_weights_beside_it_alone(
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


def test_what_an_index_names_must_be_there(copy_of):
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
    """Half precision beside the whole one, adapters, and what the configuration points at."""
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


def test_a_complete_download_needs_no_hub(
    folder_of,
    hub,
    tmp_path,
    monkeypatch,
):
    """As snapshot_download leaves it: without a word on files that the model does not have."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    whole = folder_of("dinov3_vit")
    for name, folder in (("one", whole), ("parts", shards(whole, "dinov3_vit", tmp_path))):
        cache = tmp_path / f"cache/models--some--{name}"
        shutil.copytree(folder, cache / "snapshots" / ("a" * 40))
        (cache / "refs").mkdir()
        (cache / "refs/main").write_text("a" * 40)
        found = build_levels("auto", f"some/{name}", [1.0], 0, stored=32)
        assert same(found.network, build_network("auto", str(whole)))
        assert found.known.guessed == ""
        assert weights_key("auto", f"some/{name}") == weights_key("auto", str(folder))
        (cache / "snapshots" / ("a" * 40) / "preprocessor_config.json").unlink()
        said = build_levels("auto", f"some/{name}", [1.0], 0, stored=32).known.guessed
        assert said.startswith("the hub cannot be reached")
        assert f"no preprocessor_config.json of some/{name}" in said
    (cache / "snapshots" / ("a" * 40) / "model.safetensors.index.json").unlink()
    with pytest.raises(UsageError, match=r"cannot be reached, and .* has no model\.safetensors of"):
        build_network("auto", "some/parts")
    assert hub.asked == []


def test_the_hub_says_how_images_are_made_or_that_it_does_not(
    folder_of,
    hub,
    monkeypatch,
):
    from huggingface_hub import constants

    folder = folder_of("vit")
    publish(hub, "some/vit", folder)
    publish(hub, "other/vit", folder, files=[path.name for path in folder.iterdir()])
    for offline in (False, True):  # that there is no such file is remembered, too
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        networks = [
            build_levels("auto", name, [1.0], 0, stored=32) for name in ("some/vit", "other/vit")
        ]
        assert [network.known.guessed for network in networks] == [
            "some/vit has no image normalization settings",
            "",
        ]
        asked = [file for name, _, file in hub.asked if name == "other/vit"]
        assert "processor_config.json" not in asked  # the first file says it
    with pytest.raises(UsageError, match="the hub cannot be reached") as caught:
        build_levels("auto", "third/vit", [1.0], 0, stored=32)
    assert "save_pretrained" in caught.value.fix


def test_a_folder_needs_no_network_and_brings_no_code(hub, copy_of, folder_of, tmp_path):
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


# What is refused


def test_auto_needs_weights_to_look_at():
    assert load_config("mvnet", None, ["images.backbone=auto", "images.weights=x"]).images
    for overrides in ([], ["images.weights=hub"], ["images.weights=random"]):
        with pytest.raises(UsageError, match="selects the network by its weights") as caught:
            load_config("mvnet", None, ["images.backbone=auto", *overrides])
        assert "--set images.weights=… with a folder" in caught.value.for_command_line()
        assert "images__weights=… with a folder" in str(caught.value)
    with pytest.raises(UsageError, match="auto"):
        load_config("mvnet", None, ["images.backbone=alexnet"])
    with pytest.raises(UsageError):
        load_config("teacher", None, ["model.backbone=auto"])


def test_another_network_than_the_named_one_can_be_had_with_auto(folder_of):
    with pytest.raises(UsageError, match="not of dinov2-base, but of dinov3_vit") as caught:
        build_network("dinov2-base", str(folder_of("dinov3_vit")))
    assert "(or auto)" in caught.value.fix


def empty(folder):
    (folder / "config.json").unlink()


def broken(folder):
    (folder / "config.json").write_text('{"model_type": "vit", ')


def nameless(folder):
    (folder / "config.json").write_text('{"architecture": "vit_base_patch16_224"}')


def unhashable(folder):
    change(folder, model_type=["vit"])


def listed(folder):
    (folder / "config.json").write_text("[]")


def absurd(folder):
    change(folder, hidden_size="many")


def uneven(folder):
    change(folder, num_attention_heads=5)


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def quantized(folder):
    change(folder, quantization_config={"quant_method": "fp8"})


def infinite(folder):
    stored = load_file(folder / "model.safetensors")
    stored["vit.encoder.layer.1.output.dense.bias"][3] = float("nan")
    save_file(stored, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (empty, r"cannot be read: config\.json not found"),
        (broken, "cannot be read: Expecting property name"),
        (nameless, "has no model_type"),
        (unhashable, r"cannot be read: transformers .* has no \['vit'\]"),
        (listed, r"cannot be read: config\.json is not a table"),
        (absurd, "cannot be read: .*hidden_size"),
        (uneven, "have other shapes in 14 tensors"),
        (pickled, r"model\.safetensors not found \(pickled weights are not supported\)"),
        (cut, "cannot be read: .*incomplete metadata"),
        (quantized, "cannot be read: .* says that vit is quantized"),
        (infinite, r"are not finite in 1 tensors, such as layers\.1\.mlp\.fc2\.bias"),
    ],
)
def test_a_damaged_folder_is_refused(damage, says, copy_of):
    folder = copy_of("vit")
    damage(folder)
    with pytest.raises(UsageError, match=says) as caught:
        build_network("auto", str(folder))
    assert caught.value.where == str(folder)
    assert "save_pretrained" in caught.value.fix


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("bert", "it does not take images"),
        ("clip_text_model", "it does not take images"),
        ("whisper", "it does not take images"),
        ("funnel", "it does not take images"),
        ("hiera", "order of its windows"),
        ("vit_mae", "a random quarter of the patches"),
        ("yolos", "object tokens"),
        ("detr", "it has a decoder"),
        ("blip-2", "cannot build a network of the type blip_2_vision_model"),
    ],
)
def test_what_is_no_backbone_is_refused_before_it_is_built(kind, says, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(UsageError, match=says) as caught:
        level_widths("auto", str(tmp_path), [1.0], 224)
    assert caught.value.where == str(tmp_path)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("poolformer", "its blocks do not run one after another"),
        ("siglip2_vision_model", "missing 2 required positional arguments"),
        ("videomae", "not enough values to unpack"),
    ],
)
def test_what_gives_no_maps_is_refused(kind, says, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(UsageError, match=says) as caught:
        level_widths("auto", str(tmp_path), [1.0], 224)
    assert "another network" in caught.value.fix


def test_sizes_and_levels_that_do_not_fit_are_refused_with_the_knob(folder_of):
    with pytest.raises(UsageError, match="vit cuts images into patches of 8²") as caught:
        build_levels("auto", str(folder_of("vit")), [1.0], 36, stored=32)
    assert (caught.value.where, "32 or 40" in caught.value.fix) == ("images.size", True)
    with pytest.raises(
        UsageError, match="sam_vision_model does not accept images of 32² pixels"
    ) as caught:
        build_levels("auto", str(folder_of("sam")), [1.0], 0, stored=32)
    assert (caught.value.where, "images.size to 64" in caught.value.fix) == ("images.size", True)
    with pytest.raises(UsageError, match=r"levels .* of vit select the layers \[2, 2\]") as caught:
        build_levels("auto", str(folder_of("vit")), [0.9, 1.0], 0, stored=32)
    assert caught.value.where == "images.levels"


def test_a_network_that_mixes_the_images_of_a_batch_is_refused(tmp_path):
    import transformers

    torch.manual_seed(0)
    sizes = {name: value for name, value in TRANSFORMER.items() if name != "num_hidden_layers"}
    config = transformers.PixtralVisionConfig(num_hidden_layers=2, **sizes)
    network = transformers.PixtralVisionModel(config)
    network.save_pretrained(tmp_path)
    for find in (
        lambda: level_widths("auto", str(tmp_path), [1.0], 32),
        lambda: build_levels("auto", str(tmp_path), [1.0], 0, stored=32),
    ):
        with pytest.raises(UsageError, match="it mixes the images of a batch") as caught:
            find()
        assert caught.value.where == str(tmp_path)
        assert "another network" in caught.value.fix


def test_a_network_that_mixes_without_a_trace_in_the_shapes_is_refused():
    """Batch norm that is in training, which no network here is."""
    known = ImageNetwork("net", "net", {}, "some/net")
    torch.manual_seed(0)
    network = torch.nn.ModuleList([torch.nn.Conv2d(3, 8, 4, 4), torch.nn.BatchNorm2d(8)])

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = network

        def forward(self, pixels):
            for block in self.blocks:
                pixels = block(pixels)

    blocks = Blocks(known, Net().eval())
    assert blocks.shapes(64, [2]) == [(8, 16, 16)]
    network.train()
    assert blocks.shapes(64, [1]) == [(8, 16, 16)]
    with pytest.raises(UsageError, match="it mixes the images of a batch"):
        blocks.shapes(64, [2])


def test_a_network_without_blocks_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "vit", "num_hidden_layers": 0}')
    with pytest.raises(UsageError, match="vit has no list of blocks") as caught:
        level_widths("auto", str(tmp_path), [1.0], 224)
    assert caught.value.where == str(tmp_path)


def test_the_size_that_nobody_gives_is_in_whole_patches(copy_of):
    """SigLIP SO400M's 384 pixels are no multiple of its 14: six of them are left out."""
    import transformers

    folder = copy_of("vit")
    change(folder, image_size=30, patch_size=7)
    assert level_widths("auto", str(folder), [0.5, 1.0], 0) == [32, 32]
    transformers.SiglipVisionConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=38, patch_size=14
    ).save_pretrained(folder)
    assert level_widths("auto", str(folder), [1.0], 0) == [32]


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ({"model_type": "vit", "patch_size": -8}, "vit cannot be built: .*negative dimension"),
        ({"model_type": "dinov2", "hidden_act": "loud"}, "dinov2 cannot be built: .*loud"),
    ],
)
def test_what_cannot_be_built_is_refused_with_a_way_out(kind, says, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(kind))
    with pytest.raises(UsageError, match=says) as caught:
        level_widths("auto", str(tmp_path), [1.0], 224)
    assert caught.value.where == str(tmp_path)
    assert caught.value.fix.startswith("choose another network")


@pytest.mark.skipif(not BENCHMARK.exists(), reason="a source distribution has no benchmarks")
def test_weights_that_pip_does_not_give_are_said(tmp_path):
    none = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
    run = subprocess.run(
        [sys.executable, BENCHMARK, "--out", tmp_path / "out"],
        env={**os.environ, **none},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith("pip, of ")
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "out").exists()
