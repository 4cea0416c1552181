"""images.backbone=auto: networks and weights that are refused, each with a way out."""

import json
import os
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
from pointcmt.training.images.levels import build_levels, level_widths
from pointcmt.training.images.networks import ImageNetwork
from tests.training.image_folders import TRANSFORMER, change

BENCHMARK = Path(__file__).parents[3] / "benchmarks/image_weights.py"


def test_auto_needs_weights():
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


def test_the_error_for_another_network_suggests_auto(folder_of):
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
def test_models_that_are_not_image_backbones_are_refused_unbuilt(kind, says, tmp_path):
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
def test_networks_that_return_no_maps_are_refused(kind, says, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(UsageError, match=says) as caught:
        level_widths("auto", str(tmp_path), [1.0], 224)
    assert "another network" in caught.value.fix


def test_sizes_and_levels_that_do_not_fit_are_refused_with_the_option(folder_of):
    with pytest.raises(UsageError, match="vit cuts images into patches of 8²") as caught:
        build_levels("auto", str(folder_of("vit")), [1.0], 36, stored=(32, 32))
    assert (caught.value.where, "32 or 40" in caught.value.fix) == ("images.size", True)
    with pytest.raises(
        UsageError, match="sam_vision_model does not accept images of 32² pixels"
    ) as caught:
        build_levels("auto", str(folder_of("sam")), [1.0], 0, stored=(32, 32))
    assert (caught.value.where, "images.size to 64" in caught.value.fix) == ("images.size", True)
    with pytest.raises(UsageError, match=r"levels .* of vit select the layers \[2, 2\]") as caught:
        build_levels("auto", str(folder_of("vit")), [0.9, 1.0], 0, stored=(32, 32))
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
        lambda: build_levels("auto", str(tmp_path), [1.0], 0, stored=(32, 32)),
    ):
        with pytest.raises(UsageError, match="it mixes the images of a batch") as caught:
            find()
        assert caught.value.where == str(tmp_path)
        assert "another network" in caught.value.fix


def test_a_network_with_batch_norm_in_training_is_refused():
    """It mixes the images of a batch, which the shapes of its outputs do not reveal."""
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
    assert blocks.shapes((64, 64), [2]) == [(8, 16, 16)]
    network.train()
    assert blocks.shapes((64, 64), [1]) == [(8, 16, 16)]
    with pytest.raises(UsageError, match="it mixes the images of a batch"):
        blocks.shapes((64, 64), [2])


def test_a_network_without_blocks_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "vit", "num_hidden_layers": 0}')
    with pytest.raises(UsageError, match="vit has no list of blocks") as caught:
        level_widths("auto", str(tmp_path), [1.0], 224)
    assert caught.value.where == str(tmp_path)


def test_the_default_size_is_a_multiple_of_the_patch_size(copy_of):
    """SigLIP SO400M's 384 pixels are not a multiple of its patches of 14: 378 are used."""
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
def test_networks_that_cannot_be_built_are_refused_with_a_fix(kind, says, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(kind))
    with pytest.raises(UsageError, match=says) as caught:
        level_widths("auto", str(tmp_path), [1.0], 224)
    assert caught.value.where == str(tmp_path)
    assert caught.value.fix.startswith("choose another network")


@pytest.mark.skipif(not BENCHMARK.exists(), reason="a source distribution has no benchmarks")
def test_the_benchmark_reports_weights_that_pip_cannot_find(tmp_path):
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
