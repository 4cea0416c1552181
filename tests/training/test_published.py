"""Published checkpoints: read exactly, in every wrapping; nothing else is read, and why is said."""

import os
import pickle
import warnings
import zipfile
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from pointcmt.errors import StoreError
from pointcmt.training.networks.backbones import BACKBONES
from pointcmt.training.runs.published import load_published
from tests.training import textbooks

CLASSES = 6
NAMES = [name for name in BACKBONES if name not in ("pointvit-b", "pointvit-l")]  # as -s, but large
POINTS = torch.randn(2, 512, 3, generator=torch.Generator().manual_seed(0)).double() * 0.4


def reference(name="msg", **names):
    """A network in the reference's naming, weights and running statistics at random, float64."""
    torch.manual_seed(0)
    model = getattr(textbooks, name)(CLASSES, **names).double()
    textbooks.disturb(model)
    return model


def ours(name="pointnet2-msg"):
    torch.manual_seed(1)
    return BACKBONES[name](CLASSES).double()


def prefixed(model, prefix="module.model."):
    return {prefix + key: value for key, value in model.state_dict().items()}


def save(path, weights, **beside):
    torch.save({"epoch": 3, "model_state": weights, **beside}, path)
    return path


def test_the_reference_codes_msg_gives_its_outputs(tmp_path):
    theirs, model = reference().eval(), ours().eval()
    assert load_published(save(tmp_path / "best.pth", prefixed(theirs)), model) == ()
    with torch.no_grad():
        (logits, feature), found = theirs(POINTS), model(POINTS)
    torch.testing.assert_close(found.logits, logits, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.feature, feature, rtol=1e-10, atol=1e-10)
    assert (logits[0] - logits[1]).abs().max() > 1e-3


def test_and_its_gradients_and_statistics_in_training(tmp_path):
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
def test_every_release_of_its_layers_and_every_prefix(tmp_path, norm, fc_norm, prefix):
    theirs, model = reference("ssg", norm=norm, fc_norm=fc_norm), ours("pointnet2-ssg")
    load_published(save(tmp_path / "best.pth", prefixed(theirs, prefix)), model)
    for one, other in zip(model.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.equal(one, other.view_as(one))


WRAPPED = [("pointnet2-ssg", k) for k in ("model_state", "model_state_dict", "state_dict", "model")]


@pytest.mark.parametrize(("name", "key"), [*WRAPPED, *((name, None) for name in NAMES)])
def test_our_own_weights_in_any_wrapping(tmp_path, name, key):
    torch.manual_seed(0)
    source, model = BACKBONES[name](CLASSES), ours(name).float()
    weights = source.state_dict()
    torch.save({key: weights, "epoch": 1} if key else weights, tmp_path / "weights.pt")
    assert load_published(tmp_path / "weights.pt", model) == ()
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())


def test_safetensors_and_torchs_older_format(tmp_path):
    source = reference("ssg")
    save_file(prefixed(source), tmp_path / "a.safetensors")
    torch.save(prefixed(source), tmp_path / "b.pth.tar", _use_new_zipfile_serialization=False)
    for name in ("a.safetensors", "b.pth.tar"):
        model = ours("pointnet2-ssg")
        load_published(tmp_path / name, model)
        assert torch.equal(model.classifier.weight, source.fc_layer2[0].weight)


def test_accuracies_of_numpy_beside_the_weights_do_no_harm(tmp_path):
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


class Yanx27(nn.Module):
    """PointNet++ in the layout of yanx27's repository: biases before norms; MSG: features first."""

    def __init__(self, multi):
        super().__init__()
        near = [(3, 32, 32, 64), (3, 64, 64, 128), (3, 64, 96, 128)]
        far = [(323, 64, 64, 128), (323, 128, 128, 256), (323, 128, 128, 256)]
        if not multi:
            near, far = [(3, 64, 64, 128)], [(131, 128, 128, 256)]
        self.multi, self.sa1, self.sa2, self.sa3 = multi, nn.Module(), nn.Module(), nn.Module()
        every = [[], near, far, [(3 + sum(w[-1] for w in far), 256, 512, 1024)]]
        for stage, mlps in zip((self.sa1, self.sa2, self.sa3), every[1:], strict=True):
            convs = [[nn.Conv2d(a, b, 1) for a, b in pairwise(w)] for w in mlps]
            norms = [[nn.BatchNorm2d(b) for b in w[1:]] for w in mlps]
            if multi and stage is not self.sa3:
                stage.conv_blocks = nn.ModuleList(map(nn.ModuleList, convs))
                stage.bn_blocks = nn.ModuleList(map(nn.ModuleList, norms))
            else:
                stage.mlp_convs, stage.mlp_bns = map(nn.ModuleList, (convs[0], norms[0]))
        self.fc1, self.bn1 = nn.Linear(1024, 512), nn.BatchNorm1d(512)
        self.fc2, self.bn2 = nn.Linear(512, 256), nn.BatchNorm1d(256)
        self.fc3 = nn.Linear(256, 40)

    def forward(self, points):
        """points [B, N, 3] → the 512-d feature after fc1."""
        near = (0.1, 16), (0.2, 32), (0.4, 128)
        far = (0.2, 32), (0.4, 64), (0.8, 128)
        near, far = (near, far) if self.multi else (((0.2, 32),), ((0.4, 64),))
        features = None
        for stage, count, scales in ((self.sa1, 512, near), (self.sa2, 128, far)):
            centers = textbooks.take(points, textbooks.farthest(points, count))
            found = []
            for (radius, neighbors), layers in zip(scales, self.layers(stage), strict=True):
                index = textbooks.balls(points, centers, radius, neighbors)
                group = textbooks.take(points, index) - centers[:, :, None]
                if features is not None:
                    parts = [group, textbooks.take(features, index)]
                    group = torch.cat(parts[::-1] if self.multi else parts, dim=-1)
                found.append(self.run(layers, group).amax(dim=-1).mT)
            points, features = centers, torch.cat(found, dim=-1)
        rest = torch.cat([points, features], dim=-1)[:, None]
        pooled = self.run(self.layers(self.sa3)[0], rest).amax(dim=-1)[..., 0]
        return F.relu(self.bn1(self.fc1(pooled)))

    def layers(self, stage):
        if hasattr(stage, "conv_blocks"):
            return list(zip(stage.conv_blocks, stage.bn_blocks, strict=True))
        return [(stage.mlp_convs, stage.mlp_bns)]

    def run(self, layers, group):
        x = group.permute(0, 3, 1, 2)
        for conv, norm in zip(*layers, strict=True):
            x = F.relu(norm(conv(x)))
        return x


@pytest.mark.parametrize("name", ["pointnet2-ssg", "pointnet2-msg"])
def test_yanx27s_encoder_gives_its_feature_and_the_classifier_stays(tmp_path, name):
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


def test_what_does_not_fit_is_named_and_changes_nothing(tmp_path):
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


def test_another_networks_checkpoint_is_refused(tmp_path):
    path = save(tmp_path / "a.pth", reference("ssg").state_dict())
    for name in NAMES:
        if name != "pointnet2-ssg":
            with pytest.raises(StoreError, match="a different architecture"):
                load_published(path, ours(name))


class Harmful:
    """An object whose unpickling leaves a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (str(self.trace), "w")


@pytest.mark.parametrize("zipped", [True, False])
def test_objects_are_refused_and_not_made(tmp_path, zipped):
    trace, path = tmp_path / "trace", tmp_path / "a.pth"
    found = {"model_state": reference("ssg").state_dict(), "extra": Harmful(trace)}
    torch.save(found, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(StoreError, match="unpickling it would run") as caught:
        load_published(path, ours("pointnet2-ssg"))
    assert caught.value.where == str(path)
    assert not trace.exists()


class Calls:
    """Unpickled, it calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def scripted(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(nn.Linear(2, 2)).save(path)


def old_class(path):
    """The opcodes of protocol 0 that make an instance, in today's archive."""
    torch.save({"a": torch.zeros(2)}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            harmful = b"\x80\x02(X\x02\x00\x00\x00hiisubprocess\nPopen\n."
            archive.writestr(name, harmful if name.endswith("data.pkl") else data)


CODE = {  # how it is written → what is named
    "a class": (lambda path: torch.save(Yanx27(False), path), "test_published.Yanx27"),
    "torch's module": (lambda path: torch.save(nn.Linear(2, 2), path), "torch.nn.modules.linear"),
    "a blocked module": (
        lambda path: torch.save({"a": Calls(os.system, "touch trace")}, path),
        "posix.system",
    ),
    "an older format": (
        lambda path: torch.save(
            {"a": Calls(os.system, "touch trace")}, path, _use_new_zipfile_serialization=False
        ),
        "posix.system",
    ),
    "a newer protocol": (
        lambda path: torch.save(
            {"b": torch.zeros(2), "a": Calls(os.system, "touch trace")}, path, pickle_protocol=4
        ),
        "posix.system",
    ),
    "a builtin": (lambda path: torch.save([Calls(eval, "open('trace', 'w')")], path), "eval"),
    "opcodes of old": (old_class, "subprocess.Popen"),
    "TorchScript": (scripted, "the program that TorchScript stores in it"),
}


@pytest.mark.parametrize("kind", CODE)
def test_what_would_run_is_named_with_the_way_out(tmp_path, monkeypatch, kind):
    """As a refusal, not as damage, and without torch's advice to load it unsafely."""
    monkeypatch.chdir(tmp_path)
    write, named = CODE[kind]
    write("a.pth")
    with pytest.raises(StoreError, match="unpickling it would run") as caught:
        load_published(tmp_path / "a.pth", ours("pointnet2-ssg"))
    said = str(caught.value)
    assert named in said
    assert "damaged" not in said
    assert "weights_only" not in said
    assert "from safetensors.torch import save_file\n" in said
    assert 'save_file(model.state_dict(), "weights.safetensors")' in said
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


def test_a_name_in_a_checkpoint_cannot_write_to_the_terminal(tmp_path):
    torch.save({"a": Calls(os.system, "true")}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        for name, data in parts.items():
            archive.writestr(
                name, data.replace(b"cposix\nsystem\n", b"cx\n\x1b[31m" + b"y" * 999 + b"\n")
            )
    with pytest.raises(StoreError, match=r"run x\.\\x1b\[31my+\n") as caught:
        load_published(tmp_path / "a.pth", ours("pointnet2-ssg"))
    assert len(caught.value.what) < 200


def test_damage_is_not_mistaken_for_code_and_repeats_no_advice(tmp_path):
    """Bytes of the pickle inside, changed or cut off."""
    path = tmp_path / "a.pth"
    torch.save({"model_state": {"a": torch.zeros(2)}}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    (inside,) = (name for name in parts if name.endswith("data.pkl"))
    whole = parts[inside]
    for place in range(0, len(whole), 3):
        for data in (whole[:place], whole[:place] + b"\xff" + whole[place + 1 :]):
            with zipfile.ZipFile(path, "w") as archive:
                for name, part in {**parts, inside: data}.items():
                    archive.writestr(name, part)
            with pytest.raises(StoreError) as caught:
                load_published(path, ours("pointnet2-ssg"))
            said = str(caught.value)
            assert "unpickling" not in said
            assert "weights_only" not in said
            assert "add_safe_globals" not in said


def test_files_that_are_no_checkpoints(tmp_path):
    whole = save(tmp_path / "whole.pth", prefixed(reference("ssg"))).read_bytes()
    old = tmp_path / "old.pth"
    torch.save(prefixed(reference("ssg")), old, _use_new_zipfile_serialization=False)
    save_file(prefixed(reference("ssg")), tmp_path / "whole.safetensors")
    tensors = (tmp_path / "whole.safetensors").read_bytes()
    cases = {
        "page.pth": (b"<!DOCTYPE html><html>Sign in</html>", "not a torch or safetensors file"),
        "empty.pth": (b"", "not a torch or safetensors file"),
        "cut.pth": (whole[: len(whole) // 2], "damaged"),
        "start.pth": (whole[:100], "damaged"),
        "cut_old.pth": (old.read_bytes()[: len(whole) // 2], "damaged"),
        "plain.pth": (pickle.dumps({"a": 1}, protocol=2), "damaged|not contain weights"),
        "cut.safetensors": (tensors[: len(tensors) // 2], "cannot be read"),
        "page.safetensors": (b"<!DOCTYPE html><html>Sign in</html>", "cannot be read"),
    }
    for name, (content, text) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(StoreError, match=text) as caught:
            load_published(tmp_path / name, ours("pointnet2-ssg"))
        assert caught.value.where == str(tmp_path / name)
    for name in ("none.pth", "none.safetensors"):
        with pytest.raises(StoreError, match="cannot be read"):
            load_published(tmp_path / name, ours("pointnet2-ssg"))


@pytest.mark.parametrize("found", [{"epoch": 3, "lr": 0.1}, [1, 2], torch.zeros(3), {}])
def test_a_file_without_weights_says_what_it_holds(tmp_path, found):
    torch.save(found, tmp_path / "a.pt")
    with pytest.raises(StoreError, match="not contain weights by name, but"):
        load_published(tmp_path / "a.pt", ours("pointnet2-ssg"))


def test_an_entry_that_cannot_be_unpacked_does_not_hide_what_would_run(tmp_path):
    path = tmp_path / "c.pth"
    torch.save({"a": torch.zeros(2), "b": Harmful(tmp_path / "trace")}, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("c/z.pkl", b"never read")
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")  # of the last file in the directory
    data[entry + 8] |= 1  # it says that it is encrypted
    path.write_bytes(data)
    with pytest.raises(StoreError, match="would run"):
        load_published(path, ours("pointnet2-ssg"))


def test_tensors_in_a_newer_pickle_protocol_are_not_called_code(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "c.pth", pickle_protocol=4)
    with pytest.raises(StoreError, match="newer pickle protocol"):
        load_published(tmp_path / "c.pth", ours("pointnet2-ssg"))
