"""Published checkpoints with code, damage or other contents are refused and never executed."""

import os
import pickle
import warnings
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pointcmt.errors import StoreError
from pointcmt.training.runs.published_weights import load_published
from tests.training.runs.published_files import Yanx27, ours, prefixed, reference, save


class Harmful:
    """An object that creates a file when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (str(self.trace), "w")


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_objects_are_refused_and_not_created(tmp_path, zipped):
    trace, path = tmp_path / "trace", tmp_path / "a.pth"
    found = {"model_state": reference("ssg").state_dict(), "extra": Harmful(trace)}
    torch.save(found, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(StoreError, match="unpickling it would run") as caught:
        load_published(path, ours("pointnet2-ssg"))
    assert caught.value.where == str(path)
    assert not trace.exists()


class Calls:
    """An object that calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def scripted(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(nn.Linear(2, 2)).save(path)


def old_class(path):
    """Write protocol 0 opcodes that create an instance into a current archive."""
    torch.save({"a": torch.zeros(2)}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            harmful = b"\x80\x02(X\x02\x00\x00\x00hiisubprocess\nPopen\n."
            archive.writestr(name, harmful if name.endswith("data.pkl") else data)


CODE = {  # name: (a function that writes the file, what the error names)
    "a class": (lambda path: torch.save(Yanx27(False), path), "published_files.Yanx27"),
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
def test_code_in_a_checkpoint_is_refused_by_name_with_a_fix(tmp_path, monkeypatch, kind):
    """It is not called damage, and torch's advice to load it unsafely is not repeated."""
    monkeypatch.chdir(tmp_path)
    write, named = CODE[kind]
    write("a.pth")
    with pytest.raises(StoreError, match="unpickling it would run") as caught:
        load_published(tmp_path / "a.pth", ours("pointnet2-ssg"))
    said = str(caught.value)
    assert named in said
    assert "damaged" not in said
    assert "If you trust its source" in said
    assert f"torch.load({str(tmp_path / 'a.pth')!r}" in said
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


def test_damaged_checkpoints_are_not_mistaken_for_code(tmp_path):
    """The bytes of the pickle inside are changed or cut off."""
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


def test_files_that_are_not_checkpoints_are_refused(tmp_path):
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
def test_a_file_without_weights_is_refused_with_its_contents(tmp_path, found):
    torch.save(found, tmp_path / "a.pt")
    with pytest.raises(StoreError, match="not contain weights by name, but"):
        load_published(tmp_path / "a.pt", ours("pointnet2-ssg"))


def test_an_entry_that_cannot_be_unpacked_does_not_hide_code(tmp_path):
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
