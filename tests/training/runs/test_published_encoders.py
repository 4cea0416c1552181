"""Published encoders without our heads, and PointCMT's own files: the outputs of plain networks."""

import re

import pytest
import torch
from torch import nn

from pointcmt.errors import StoreError
from pointcmt.training.networks.backbones import BACKBONES
from pointcmt.training.networks.generator import PointGenerator
from pointcmt.training.networks.mvcnn import build_mvcnn
from pointcmt.training.runs.pretrained import load_parts
from pointcmt.training.runs.published_weights import (
    find_backbone_of,
    load_published,
    read_published,
)
from tests.training import textbooks
from tests.training.runs.published_files import POINTS, PointMAE, ResNet18


@pytest.fixture(scope="module")
def point_mae():
    torch.manual_seed(0)
    model = PointMAE().double().eval()
    textbooks.disturb(model)
    return model


def encoded(model, points):
    """The class token after all blocks and the maximum over the patches."""
    tokens = model.encode(points)[1][-1]
    return torch.cat([tokens[:, 0], tokens[:, 1:].amax(dim=1)], dim=1)


def test_the_encoder_of_point_mae_gives_its_outputs(point_mae, tmp_path):
    """As `finetune` loads it, from a file of fine-tuning, whose head is left out."""
    path = tmp_path / "modelnet.pth"
    named = {f"module.{name}": tensor for name, tensor in point_mae.state_dict().items()}
    head = {"module.cls_head_finetune.0.weight": torch.zeros(256, 768)}
    torch.save({"base_model": named | head, "epoch": 1}, path)
    assert find_backbone_of(path) == "pointvit-s"
    model = BACKBONES["pointvit-s"](40).double().eval()
    found = read_published(path, model)
    note = load_parts(model, found.weights, "encoder", False, "the file")
    loaded, needed = re.search(r"encoder (\d+) of (\d+) tensors", note).groups()
    assert loaded == needed
    with torch.no_grad():
        expected = point_mae(POINTS)
        torch.testing.assert_close(encoded(model, POINTS), expected, rtol=1e-9, atol=1e-9)
    assert (expected[0] - expected[1]).abs().max() > 1e-3
    with pytest.raises(StoreError, match=r"head\.0\.weight") as caught:
        load_published(path, model)
    assert "train finetune" in caught.value.fix


def test_pre_training_of_point_mae_has_no_class_token(point_mae, tmp_path):
    """The rest is loaded, and the token is the same each time."""
    named = {
        f"module.MAE_encoder.{k}": x for k, x in point_mae.state_dict().items() if "cls" not in k
    }
    named["module.mask_token"] = torch.zeros(1, 1, 384)
    named["module.MAE_decoder.blocks.0.norm1.weight"] = torch.ones(384)
    torch.save({"base_model": named}, tmp_path / "pretrain.pth")
    model = BACKBONES["pointvit-s"](40).double().eval()
    found, again = (read_published(tmp_path / "pretrain.pth", model) for _ in "12")
    assert any("no class token" in note for note in found.notes)
    assert torch.equal(found.weights["class_token"], again.weights["class_token"])
    theirs = PointMAE().double().eval()
    theirs.load_state_dict(point_mae.state_dict())
    with torch.no_grad():
        theirs.cls_token.copy_(found.weights["class_token"])
        theirs.cls_pos.copy_(found.weights["class_place"])
        load_parts(model, found.weights, "encoder", False, "the file")
        torch.testing.assert_close(encoded(model, POINTS), theirs(POINTS), rtol=1e-9, atol=1e-9)


def test_the_mvcnn_of_pointcmt_gives_its_outputs(tmp_path):
    torch.manual_seed(0)
    theirs = ResNet18(6).double().eval()
    textbooks.disturb(theirs)
    named = {f"module.{name}": tensor for name, tensor in theirs.state_dict().items()}
    torch.save(named, tmp_path / "model.t7")
    model = build_mvcnn("resnet-18", "random", 6, 64).double().eval()
    assert load_published(tmp_path / "model.t7", model) == ()
    images = torch.randint(0, 256, (2, 3, 64, 64, 3), dtype=torch.uint8)
    pixels = (images.permute(0, 1, 4, 2, 3).double() - model.mean) / model.std
    with torch.no_grad():
        expected = theirs(pixels)
        torch.testing.assert_close(model(images)[0], expected, rtol=1e-6, atol=1e-6)
    assert (expected[0] - expected[1]).abs().max() > 1e-3


def test_the_generator_of_pointcmt_gives_its_outputs(tmp_path):
    theirs = nn.Sequential(nn.Dropout(), nn.Linear(512, 3 * 1024, bias=False)).eval()
    torch.save({"model_state": {"module.fc_l.1.weight": theirs[1].weight}}, tmp_path / "cmpg.pth")
    model = PointGenerator(1024).eval()
    assert load_published(tmp_path / "cmpg.pth", model) == ()
    feature = torch.rand(2, 512)
    assert torch.equal(model(feature), theirs(feature).view(2, 1024, 3))
    with pytest.raises(StoreError, match=r"decode\.weight"):
        load_published(tmp_path / "cmpg.pth", PointGenerator(512))


def test_a_damaged_file_of_point_mae_is_refused(point_mae, tmp_path):
    """Parts that are missing, or of another shape, do not fit, and are told."""
    whole = point_mae.state_dict()
    for number, change in enumerate(("norm.weight", "encoder.first_conv.3.bias")):
        weights = {name: x for name, x in whole.items() if name != change}
        torch.save(weights, tmp_path / f"{number}.pth")
        model = BACKBONES["pointvit-s"](40)
        with pytest.raises(StoreError):
            load_published(tmp_path / f"{number}.pth", model)
