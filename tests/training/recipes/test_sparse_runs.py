"""A sparse U-Net in the recipes: pre-training, what starts from it, and what cannot be done."""

import pytest
import torch

from pointcmt.errors import UsageError
from pointcmt.training.config.files import load_config
from pointcmt.training.export.networks import export, load_exported
from pointcmt.training.loop import train
from pointcmt.training.runs.folder import open_run
from pointcmt.training.runs.pretrained import open_network
from tests.training.stores import small_config

pytestmark = pytest.mark.usefixtures("small_resnet", "small_unet")
NAME = "sparse-unet-tiny"


@pytest.fixture(scope="module")
def pre(small_unet, small_resnet, toy_store, tmp_path_factory):
    """One epoch of pre-training on a few toy shapes."""
    folder = tmp_path_factory.mktemp("sparse") / "run"
    few = f"model.backbone={NAME}", "data.points=128", "data.fraction=0.3"
    train(toy_store, small_config("mvnet", *few, epochs=1), folder, device="cpu")
    return folder


@pytest.mark.parametrize("recipe", ["finetune", "partseg"])
def test_tasks_start_from_a_pretrained_sparse_unet(recipe, pre, toy_store, tmp_path):
    overrides = ["load=all", "data.points=64", "data.batch_size=4", "model.encoder=frozen"]
    overrides += ["schedule.warmup=0", "data.fraction=0.5"]
    config = load_config(recipe, None, overrides, epochs=1, init=str(pre))
    train(toy_store, config, tmp_path, device="cpu")
    assert open_run(tmp_path).config.model.backbone == NAME
    theirs, mine = open_network(pre).weights, open_network(tmp_path).weights
    assert torch.equal(
        theirs["encoder.stem.convolution.weight"], mine["encoder.stem.convolution.weight"]
    )


def test_a_sparse_unet_is_exported_to_safetensors_but_not_to_onnx(pre, tmp_path):
    export(pre, "safetensors", tmp_path / "M.safetensors")
    network, _ = load_exported(tmp_path / "M.safetensors")
    points = torch.rand(1, 100, 3)
    with torch.no_grad():
        found = network.eval()(points)
        assert torch.equal(found, open_network(pre).build()(points, local=True).local)
    with pytest.raises(UsageError, match="no operator for sparse convolution") as caught:
        export(pre, "onnx", tmp_path / "M.onnx")
    assert "safetensors" in caught.value.fix
