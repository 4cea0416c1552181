"""Files in the layouts of published networks: all of them is loaded, with their outputs."""

import pytest
import torch
from torch import nn

from pointcmt.errors import MisfitError, StoreError, UsageError
from pointcmt.training.networks.backbones import BACKBONES, build_backbone
from pointcmt.training.networks.part_seg import PART_NETWORKS
from pointcmt.training.runs.pretrained import load_parts
from pointcmt.training.runs.published.files import WRAPPERS
from pointcmt.training.runs.published_weights import (
    find_backbone_of,
    load_published,
    peek,
    read_published,
)
from tests.training import textbooks
from tests.training.runs.published_files import (
    PointMAE,
    PublishedPointMLP,
    PublishedPointNeXt,
    Yanx27,
)
from tests.training.runs.yanx27_files import (
    CATEGORIES,
    Yanx27Parts,
    Yanx27PointNet,
    Yanx27PointNetParts,
)

PARTS = 50
POINTS = torch.randn(2, 512, 3, generator=torch.Generator().manual_seed(0)).double() * 0.4
ROWS = torch.cat([POINTS, nn.functional.normalize(POINTS.flip(2), dim=2)], dim=2)
CLASSIFIERS = {  # name and values of each point → its plain network
    ("pointnet-yanx27", 3): Yanx27PointNet,
    ("pointnet-yanx27", 6): lambda: Yanx27PointNet(6),
    ("pointnet2-ssg", 6): lambda: Yanx27(False, 6),
    ("pointnet2-msg", 6): lambda: Yanx27(True, 6),
    ("pointmlp", 3): PublishedPointMLP,
    ("pointnext-s", 3): PublishedPointNeXt,
    ("pointnext-s-c64", 3): lambda: PublishedPointNeXt(64),
    ("pointvit-s", 3): lambda: PointMAE(classes=40),
    ("point-bert", 3): lambda: PointMAE(between=256, classes=40),
}
SEGMENTERS = {
    "pointnet-part-seg": Yanx27PointNetParts,
    "pointnet2-part-seg-ssg": lambda *given: Yanx27Parts(False, *given),
    "pointnet2-part-seg-msg": lambda *given: Yanx27Parts(True, *given),
}


class Unaligned(nn.Module):
    """The identity, in place of an alignment of 64 features."""

    def forward(self, x):
        return torch.eye(64, dtype=x.dtype)


def made(build, *given):
    """A plain network with random weights and statistics, and its weights by published names."""
    torch.manual_seed(0)
    theirs = build(*given).double().eval()
    textbooks.disturb(theirs)
    return theirs, theirs.published() if hasattr(theirs, "published") else theirs.state_dict()


def require_equal(found, expected):
    """Two clouds have these scores, and different ones."""
    scale = expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * scale)
    assert (expected[0] - expected[1]).abs().max() > 1e-3 * scale


@pytest.mark.parametrize(("name", "values"), CLASSIFIERS)
def test_a_classifier_is_loaded_whole_with_its_outputs(name, values, tmp_path):
    theirs, named = made(CLASSIFIERS[name, values])
    torch.save(
        {"net": {f"module.{k}": x for k, x in named.items()}, "acc": 93.1}, tmp_path / "a.t7"
    )
    assert find_backbone_of(tmp_path / "a.t7") == name
    assert peek(tmp_path / "a.t7").inputs == values - 3
    model = build_backbone(name, 40, "published", inputs=values - 3).double().eval()
    assert load_published(tmp_path / "a.t7", model) == ()
    points = ROWS[..., :values]
    with torch.no_grad():
        require_equal(model(points).logits, theirs.logits(points))


def test_a_pointnet_without_an_alignment_of_features_gets_the_identity(tmp_path):
    theirs, named = made(Yanx27PointNet)
    theirs.feat.fstn = Unaligned()
    named = {name: x for name, x in named.items() if ".fstn." not in name}
    torch.save(named, tmp_path / "cls_model.pth")
    assert find_backbone_of(tmp_path / "cls_model.pth") == "pointnet-yanx27"
    model = build_backbone("pointnet-yanx27", 40, "published").double().eval()
    (note,) = load_published(tmp_path / "cls_model.pth", model)
    assert "set to the identity" in note
    with torch.no_grad():
        require_equal(model(POINTS).logits, theirs.logits(POINTS))


MALFORMED = {  # a tensor, and what the file has instead
    "feat.fstn.fc3.bias": (Yanx27PointNet, torch.tensor(0.0)),
    "fp1.mlp_convs.0.weight": (lambda: Yanx27Parts(False, PARTS, 3), torch.zeros(8)),
    "transformer_q.norm.weight": (None, torch.tensor(0.0)),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_tensor_of_another_rank_is_refused_with_the_path(name, tmp_path):
    build, wrong = MALFORMED[name]
    named = made(build)[1] if build else {"transformer_q.norm.bias": torch.zeros(384)}
    torch.save({**named, name: wrong}, tmp_path / "a.pth")
    for read in (find_backbone_of, lambda path: load_published(path, nn.Linear(3, 4))):
        with pytest.raises(MisfitError) as caught:
            read(tmp_path / "a.pth")
        assert caught.value.where == str(tmp_path / "a.pth")


@pytest.mark.parametrize("values", [3, 6])
@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_network_for_parts_is_loaded_whole_with_its_outputs(name, values, tmp_path):
    theirs, named = made(SEGMENTERS[name], PARTS, values)
    torch.save({"model_state_dict": named, "epoch": 250}, tmp_path / "best_model.pth")
    assert find_backbone_of(tmp_path / "best_model.pth") == name
    assert peek(tmp_path / "best_model.pth").inputs == values - 3
    model = PART_NETWORKS[name](CATEGORIES, PARTS, inputs=values - 3).double().eval()
    assert load_published(tmp_path / "best_model.pth", model) == ()
    points, labels = ROWS[..., :values], torch.tensor([3, 15])
    with torch.no_grad():
        found = model(points, labels)
        require_equal(found, theirs(points, labels))
        other = model(points, labels.flip(0))
    assert (found - other).abs().max() > 1e-6  # the category counts


def test_all_usual_wrappers_are_read(tmp_path):
    _, named = made(PublishedPointNeXt)
    wrappers = "model", "net", "state_dict", "model_state_dict", "base_model"
    prefixes = "", "module.", "model.module.", "module.model.", "model."
    for wrapper, prefix in zip(wrappers, prefixes, strict=True):
        assert wrapper in WRAPPERS
        weights = {f"{prefix}{name}": x.float() for name, x in named.items()}
        torch.save({wrapper: weights, "optimizer": {"state": {}}, "epoch": 7}, tmp_path / "a.pth")
        model = build_backbone("pointnext-s", 40, "published")
        assert load_published(tmp_path / "a.pth", model) == ()
        last = named["prediction.head.4.0.weight"].float()
        assert torch.equal(model.classifier.last.weight, last)


@pytest.mark.parametrize("first", ["", "transformer_q."])
def test_the_encoder_of_point_bert_gives_its_outputs(first, tmp_path):
    """What is not part of the encoder is named in a note."""
    theirs, named = made(PointMAE, 384, 12, 256)
    weights = {f"module.{first}{name}": x for name, x in named.items()}
    weights["module.cls_head_finetune.0.weight"] = torch.zeros(256, 768)
    weights[f"module.{first}lm_head.0.weight"] = torch.zeros(384, 384)
    torch.save({"base_model": weights}, tmp_path / "Point-BERT.pth")
    assert find_backbone_of(tmp_path / "Point-BERT.pth") == "point-bert"
    model = BACKBONES["point-bert"](40).double().eval()
    found = read_published(tmp_path / "Point-BERT.pth", model)
    assert "2 tensors of this file are not part of the network" in found.notes[0]
    assert "cls_head_finetune.0" in found.notes[0]
    assert "lm_head" in found.notes[0]
    load_parts(model, found.weights, "encoder", False, "the file")
    with torch.no_grad():
        tokens = model.encode(POINTS)[1][-1]
        ours = torch.cat([tokens[:, 0], tokens[:, 1:].amax(dim=1)], dim=1)
        require_equal(ours, theirs(POINTS))


def test_weights_with_normals_need_a_network_with_normals(tmp_path):
    """And the other way around; the error says which setting fits."""
    for values, inputs in ((6, 0), (3, 3)):
        _, named = made(Yanx27, False, values)
        torch.save(named, tmp_path / "a.pth")
        model = build_backbone("pointnet2-ssg", 40, "published", inputs=inputs)
        with pytest.raises(StoreError, match=r"near\.mlps\.0\.first\.weight") as caught:
            load_published(tmp_path / "a.pth", model)
        assert f"set data.normals={str(values == 6).lower()}" in caught.value.fix
    with pytest.raises(UsageError, match="dgcnn takes no normals") as caught:
        build_backbone("dgcnn", 40, inputs=3)
    assert "pointnet2-msg" in caught.value.fix
    with pytest.raises(UsageError, match="the network takes 6 values of each: its position and"):
        build_backbone("pointnet", 40, inputs=3)(POINTS.float())


def test_tensors_outside_of_the_network_are_named(tmp_path):
    _, named = made(Yanx27PointNet)
    weights = {f"student.{name}": x.float() for name, x in named.items()}
    weights["projector.0.weight"] = torch.zeros(8, 512)
    torch.save(weights, tmp_path / "a.pth")
    model = build_backbone("pointnet-yanx27", 40, "published")
    (note,) = load_published(tmp_path / "a.pth", model)
    assert "1 tensors of this file are not part of the network: projector.0" in note
