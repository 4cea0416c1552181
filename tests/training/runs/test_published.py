"""Published checkpoints: the same outputs as the published code's, in every wrapping."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pointcmt.errors import StoreError
from pointcmt.training.networks.backbones import BACKBONES
from pointcmt.training.runs.published_weights import load_published
from tests.training import textbooks
from tests.training.runs.published_files import (
    CLASSES,
    NAMES,
    POINTS,
    Yanx27,
    ours,
    prefixed,
    reference,
    save,
)


def test_a_pointnet2_msg_of_the_reference_code_gives_its_outputs(tmp_path):
    theirs, model = reference().eval(), ours().eval()
    assert load_published(save(tmp_path / "best.pth", prefixed(theirs)), model) == ()
    with torch.no_grad():
        (logits, feature), found = theirs(POINTS), model(POINTS)
    torch.testing.assert_close(found.logits, logits, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.feature, feature, rtol=1e-10, atol=1e-10)
    assert (logits[0] - logits[1]).abs().max() > 1e-3


def test_a_pointnet2_msg_of_the_reference_code_trains_equally(tmp_path):
    theirs, model = reference(), ours()
    load_published(save(tmp_path / "best.pth", prefixed(theirs)), model)
    points = torch.cat([POINTS, POINTS[:1].flip(2)])
    weight = torch.randn(3, CLASSES, generator=torch.Generator().manual_seed(1)).double()
    (logits, _), found = theirs(points), model(points)
    torch.testing.assert_close(found.logits, logits, rtol=1e-9, atol=1e-9)
    for result in (logits, found.logits):
        (result * weight).sum().backward()
    steepest = max(p.grad.abs().max().item() for p in theirs.parameters())
    for one, other in zip(model.parameters(), theirs.parameters(), strict=True):
        difference = (one.grad - other.grad.view_as(one)).abs().max()
        assert difference < 1e-10 * max(1, steepest)
    for one, other in zip(model.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("norm", ["normlayer", "bn"])
@pytest.mark.parametrize("fc_norm", ["normlayer", "bn"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "model.module.", "module.model."])
def test_all_layer_names_and_prefixes_of_the_reference_code_are_read(
    tmp_path, norm, fc_norm, prefix
):
    theirs, model = reference("ssg", norm=norm, fc_norm=fc_norm), ours("pointnet2-ssg")
    load_published(save(tmp_path / "best.pth", prefixed(theirs, prefix)), model)
    for one, other in zip(model.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.equal(one, other.view_as(one))


@pytest.mark.parametrize("name", NAMES)
def test_weights_with_our_names_are_read(tmp_path, name):
    torch.manual_seed(0)
    source, model = BACKBONES[name](CLASSES), ours(name).float()
    weights = source.state_dict()
    torch.save(weights, tmp_path / "weights.pt")
    assert load_published(tmp_path / "weights.pt", model) == ()
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())


def test_safetensors_and_the_older_torch_format_are_read(tmp_path):
    source = reference("ssg")
    save_file(prefixed(source), tmp_path / "a.safetensors")
    torch.save(prefixed(source), tmp_path / "b.pth.tar", _use_new_zipfile_serialization=False)
    for name in ("a.safetensors", "b.pth.tar"):
        model = ours("pointnet2-ssg")
        load_published(tmp_path / name, model)
        assert torch.equal(model.classifier.weight, source.fc_layer2[0].weight)


def test_numpy_numbers_beside_the_weights_are_accepted(tmp_path):
    beside = {"acc": np.float64(0.93), "loss": np.float32(1.5), "all": np.arange(3.0)}
    path, old = tmp_path / "a.pth", tmp_path / "old.pth"
    found = {"model_state": prefixed(reference("ssg")), "test_perf": beside, "cfg": {"lr": 0.1}}
    torch.save(found, path)
    torch.save(found, old, _use_new_zipfile_serialization=False)
    numpy_1 = old.read_bytes().replace(b"cnumpy._core.", b"cnumpy.core.")
    old.write_bytes(numpy_1)
    assert b"numpy.core.multiarray" in numpy_1
    for file in (path, old):
        load_published(file, ours("pointnet2-ssg"))


@pytest.mark.parametrize("name", ["pointnet2-ssg", "pointnet2-msg"])
def test_the_encoder_of_yanx27_is_loaded_without_its_classifier(tmp_path, name):
    torch.manual_seed(0)
    theirs = Yanx27(multi=name.endswith("msg")).double().eval()
    textbooks.disturb(theirs)
    model = ours(name).eval()
    before = model.classifier.weight.clone()
    torch.save(
        {"model_state_dict": theirs.state_dict(), "instance_acc": np.float64(0.9)},
        tmp_path / "best_model.pth",
    )
    (note,) = load_published(tmp_path / "best_model.pth", model)
    assert "the classifier was not loaded" in note
    assert torch.equal(model.classifier.weight, before)
    with torch.no_grad():
        expected = theirs(POINTS)
        torch.testing.assert_close(model(POINTS).feature, expected, rtol=1e-10, atol=1e-10)


def test_weights_that_do_not_fit_are_reported_and_change_nothing(tmp_path):
    theirs = reference("ssg").state_dict()
    wide = torch.zeros(64, 6, 1, 1)  # with normals
    changes = {
        "near.mlps.0.first.weight: [64, 6] in the checkpoint, [64, 3]": {
            "SA_modules.0.mlps.0.layer0.conv.weight": wide
        },
        "classifier.weight: [40, 512] in the checkpoint, [6, 512]": {
            "fc_layer2.0.weight": torch.zeros(40, 512)
        },
        "SA_modules.9.mlps.0.layer0.conv.weight: not in the model": {
            "SA_modules.9.mlps.0.layer0.conv.weight": wide
        },
    }
    for number, (text, change) in enumerate(changes.items()):
        model = ours("pointnet2-ssg")
        before = {key: value.clone() for key, value in model.state_dict().items()}
        with pytest.raises(StoreError) as caught:
            load_published(save(tmp_path / f"{number}.pth", {**theirs, **change}), model)
        assert text in caught.value.what
        assert caught.value.fix
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_the_checkpoint_of_another_network_is_refused(tmp_path):
    path = save(tmp_path / "a.pth", reference("ssg").state_dict())
    for name in NAMES:
        if name != "pointnet2-ssg":
            with pytest.raises(StoreError, match="a different architecture"):
                load_published(path, ours(name))
