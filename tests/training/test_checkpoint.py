"""Checkpoints: the same bits back, whole after any kill, and no other architecture's."""

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from pointcmt.errors import StoreError
from pointcmt.training.runs import checkpoint

KINDS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def small_model(classes=3, seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, classes)
    )
    return model.to(memory_format=torch.channels_last)  # strides that a file does not keep


def step(model, optimizer, seed):
    torch.manual_seed(seed)
    optimizer.zero_grad()
    model(torch.randn(8, 3, 4, 4)).square().sum().backward()
    optimizer.step()


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on_with_the_same_bits(kind, tmp_path):
    model = small_model()
    optimizer = KINDS[kind](model.parameters(), lr=0.1, weight_decay=0.1)
    for seed in range(3):
        step(model, optimizer, seed)
    saved = {"epoch": 3, "stream": {"epoch": 3}}
    checkpoint.save(tmp_path, 3, saved, model, checkpoint.training_state(model, optimizer, False))

    other = small_model(seed=9)
    restored = KINDS[kind](other.parameters(), lr=0.1, weight_decay=0.1)
    scalars = checkpoint.load_training(tmp_path, other, restored)
    assert (scalars["epoch"], scalars["stream"]) == (3, {"epoch": 3})
    assert same(model.state_dict(), other.state_dict())
    for seed in range(3, 6):
        step(model, optimizer, seed)
        step(other, restored, seed)
    assert same(model.state_dict(), other.state_dict())
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert optimizer.state[p]["exp_avg"].stride() == restored.state[q]["exp_avg"].stride()


def test_moments_go_to_their_parameters_device_and_step_counts_stay():
    """Of a scalar parameter too, whose moments have the shape of the count."""
    scalar = nn.Parameter(torch.empty((), device="meta"))
    assert checkpoint._as_state("exp_avg", torch.tensor(0.5), scalar).device.type == "meta"
    assert checkpoint._as_state("step", torch.tensor(3.0), scalar).device.type == "cpu"


def test_an_average_is_kept_beside_the_model(tmp_path):
    """What is evaluated is the average; training goes on from the model's own weights."""
    model, average = small_model(seed=1), small_model(seed=2)
    optimizer = torch.optim.Adam(model.parameters())
    step(model, optimizer, seed=0)
    checkpoint.save(tmp_path, 1, {}, average, checkpoint.training_state(model, optimizer, True))
    shown, other, averaged = small_model(seed=3), small_model(seed=4), small_model(seed=5)
    checkpoint.load_weights(tmp_path, shown)
    restored = torch.optim.Adam(other.parameters())
    checkpoint.load_training(tmp_path, other, restored, averaged)
    assert same(shown.state_dict(), average.state_dict())
    assert same(averaged.state_dict(), average.state_dict())
    assert same(other.state_dict(), model.state_dict())
    for each, restore in ((model, optimizer), (other, restored)):
        step(each, restore, seed=1)
    assert same(other.state_dict(), model.state_dict())


def test_one_checkpoint_replaces_the_other(tmp_path):
    model = small_model()
    for epoch in (1, 2):
        checkpoint.save(tmp_path, epoch, {}, model)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.json", "weights-000000002.safetensors"]


def test_a_folder_without_a_checkpoint_is_said(tmp_path):
    assert checkpoint.read_scalars(tmp_path) is None
    with pytest.raises(StoreError, match="no checkpoint here"):
        checkpoint.load_weights(tmp_path, small_model())


class Killed(Exception):
    pass


MOMENTS = 14  # one more than the calls of `save` that change the disk


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_killed_at_any_moment_a_whole_checkpoint_is_left(tmp_path, monkeypatch, moment):
    """Every call that changes the disk is a moment; at the last one nothing is killed.

    Files that others have put there stay as they are, and what the killed process left is swept.
    """
    foreign = put_foreign_things(tmp_path)
    old, new = small_model(seed=1), small_model(seed=2)
    optimizers = [torch.optim.Adam(model.parameters()) for model in (old, new)]
    for model, optimizer in zip((old, new), optimizers, strict=True):
        step(model, optimizer, seed=0)
    states = [
        checkpoint.training_state(model, optimizer, False)
        for model, optimizer in zip((old, new), optimizers, strict=True)
    ]
    checkpoint.save(tmp_path, 1, {"name": "old"}, old, states[0])
    calls = 0

    def killer(function):
        def wrapped(*arguments, **keywords):
            nonlocal calls
            calls += 1
            if calls > moment:
                raise Killed
            return function(*arguments, **keywords)

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", killer(checkpoint.save_file))
        patch.setattr(os, "replace", killer(os.replace))
        patch.setattr(os, "fsync", killer(os.fsync))
        patch.setattr("pathlib.Path.unlink", killer(os.unlink))
        try:
            checkpoint.save(tmp_path, 2, {"name": "new"}, new, states[1])
        except Killed:
            pass
        else:
            assert calls == moment == MOMENTS - 1
    found = small_model(seed=3)
    scalars = checkpoint.load_training(tmp_path, found, torch.optim.Adam(found.parameters()))
    expected = {"old": old, "new": new}[scalars["name"]]
    assert same(found.state_dict(), expected.state_dict())
    checkpoint.save(tmp_path, 3, {"name": "new"}, new, states[1])  # and it goes on
    assert contents(tmp_path).items() >= foreign.items()
    left = set(os.listdir(tmp_path)) - {name.split("/")[0] for name in foreign}
    assert left == {
        "checkpoint.json", "weights-000000003.safetensors", "training-000000003.safetensors"
    }  # fmt: skip


def test_only_files_of_the_checkpoints_own_list_are_replaced_or_removed(tmp_path):
    """Not even those whose names look like ours; a foreign file of the same name keeps it."""
    checkpoint.save(tmp_path, 1, {}, small_model(seed=1))
    foreign = put_foreign_things(tmp_path)
    (tmp_path / "weights-000000002.safetensors").write_text("a backup")
    foreign |= {"weights-000000002.safetensors": b"a backup"}
    for step in (2, 3):
        checkpoint.save(tmp_path, step, {"epoch": step}, small_model(seed=step))
        assert contents(tmp_path).items() >= foreign.items()
        found = small_model(seed=9)
        assert checkpoint.load_weights(tmp_path, found)["epoch"] == step
        assert same(found.state_dict(), small_model(seed=step).state_dict())
    assert contents(tmp_path).keys() - foreign.keys() == {
        "checkpoint.json", "weights-000000003.safetensors"
    }  # fmt: skip


@pytest.mark.parametrize("listing", ["checkpoint.json", "checkpoint.files.json"])
def test_a_strangers_list_removes_nothing_else(tmp_path, listing):
    folder, victim = tmp_path / "best", tmp_path / "weights-000000001.safetensors"
    checkpoint.save(folder, 1, {}, small_model())
    for path in (victim, folder / "mine.txt"):
        path.write_text("mine")
    (folder / "weights-000000007.safetensors").mkdir()
    names = [f"../{victim.name}", str(victim), "mine.txt", "weights-000000007.safetensors", ".", 5]
    if listing == "checkpoint.json":
        table = {"files": {str(n): name for n, name in enumerate(names)}, "sha256": {}}
    else:
        table = {"files": {str(name): "" for name in names}}
    (folder / listing).write_text(json.dumps(table))
    checkpoint.save(folder, 2, {}, small_model())
    assert [path.read_text() for path in (victim, folder / "mine.txt")] == ["mine", "mine"]
    assert (folder / "weights-000000007.safetensors").is_dir()


def test_the_same_checkpoint_again_changes_nothing_but_mends(tmp_path):
    checkpoint.save(tmp_path, 1, {"epoch": 1}, small_model())
    before = contents(tmp_path)
    checkpoint.save(tmp_path, 1, {"epoch": 1}, small_model())
    assert contents(tmp_path) == before
    (tmp_path / "weights-000000001.safetensors").write_bytes(b"damaged")
    checkpoint.save(tmp_path, 1, {"epoch": 1}, small_model())
    assert contents(tmp_path) == before


def put_foreign_things(folder):
    """Things that users, editors and file systems leave beside a checkpoint; their contents."""
    names = (
        "x.onnx",
        "notes.txt",
        ".nfs000000000a",
        ".ipynb_checkpoints/a.txt",
        "weights-000000009.safetensors",
        "weights-000000001.safetensors.part",
        "training.safetensors",
    )
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "link").symlink_to("notes.txt")
    return {name: name.encode() for name in names} | {"link": b"notes.txt"}


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_another_architecture_is_refused_with_its_tensors(tmp_path):
    checkpoint.save(tmp_path, 1, {}, small_model(classes=3))
    other = small_model(classes=5, seed=1)
    other.append(nn.Linear(5, 2))
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(StoreError, match="a different architecture") as caught:
        checkpoint.load_weights(tmp_path, other)
    assert "3.weight: [3, 16] in the checkpoint, [5, 16] in the model" in str(caught.value)
    assert "4.weight: missing in the checkpoint" in str(caught.value)
    assert same(before, other.state_dict())
    with pytest.raises(StoreError, match=r"3\.bias: not in the model"):
        checkpoint.load_weights(tmp_path, small_model()[:3])


def test_of_many_differences_some_are_shown(tmp_path):
    checkpoint.save(tmp_path, 1, {}, small_model())
    other = nn.Sequential(*[nn.Linear(2, 2) for _ in range(50)])
    with pytest.raises(StoreError, match=r"and \d+ more"):
        checkpoint.load_weights(tmp_path, other)


FORGED = {
    "without a moment": lambda tensors: tensors.pop("optimizer/0.weight/exp_avg"),
    "without a count": lambda tensors: tensors.pop("optimizer/0.weight/step"),
    "of another shape": lambda tensors: tensors.update(
        {"optimizer/0.weight/exp_avg": torch.zeros(5)}
    ),
    "of another optimizer": lambda tensors: tensors.update(
        {"optimizer/0.weight/momentum_buffer": torch.zeros(4, 3, 3, 3)}
    ),
    "without weights": lambda tensors: tensors.pop("model/0.weight"),
}


@pytest.mark.parametrize("how", FORGED)
def test_a_state_that_does_not_fit_is_refused(tmp_path, how):
    """One whose SHA-256 is right, as a stranger can write it."""
    model, average = small_model(), small_model(seed=1)
    optimizer = torch.optim.Adam(model.parameters())
    step(model, optimizer, seed=0)
    training = checkpoint.training_state(model, optimizer, averaged=True)
    FORGED[how](training)
    checkpoint.save(tmp_path, 1, {}, average, training)
    with pytest.raises(StoreError, match=r"does not match|a different architecture"):
        checkpoint.load_training(tmp_path, model, optimizer, average)


def test_weights_alone_cannot_be_resumed(tmp_path):
    model = small_model()
    checkpoint.save(tmp_path, 1, {}, model)
    with pytest.raises(StoreError, match="has no training"):
        checkpoint.load_training(tmp_path, model, torch.optim.Adam(model.parameters()))


@pytest.mark.parametrize("content", [None, b"", b"abc", b"\x00" * 100])
@pytest.mark.parametrize("file", ["checkpoint.json", "weights-000000001.safetensors"])
def test_damage_is_said(tmp_path, file, content):
    checkpoint.save(tmp_path, 1, {}, small_model())
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged|no checkpoint") as caught:
        checkpoint.load_weights(tmp_path, small_model())
    assert str(tmp_path) in caught.value.where


@pytest.mark.parametrize("kind", ["weights", "training"])
def test_a_single_flipped_bit_is_damage(tmp_path, kind):
    model = small_model()
    optimizer = torch.optim.Adam(model.parameters())
    step(model, optimizer, seed=0)
    checkpoint.save(tmp_path, 1, {}, model, checkpoint.training_state(model, optimizer, False))
    file = tmp_path / f"{kind}-000000001.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    with pytest.raises(StoreError, match="damaged: the file has changed") as caught:
        checkpoint.load_training(tmp_path, model, optimizer)
    assert str(file) == caught.value.where


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    checkpoint.save(tmp_path, 1, {"version": 99}, small_model())
    with pytest.raises(StoreError, match="has version 99"):
        checkpoint.load_weights(tmp_path, small_model())


def test_a_disk_that_fills_up_under_the_tensors(tmp_path, monkeypatch):
    """What safetensors says of a full tmpfs; its error has no number of its own."""
    text = "Error while serializing: I/O error: No space left on device (os error 28)"

    def full(*_):
        raise SafetensorError(text)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(StoreError, match="No space left") as caught:
        checkpoint.save(tmp_path, 2, {}, small_model(seed=1))
    assert "free some space" in caught.value.fix


def test_writers_of_a_file_do_not_share_a_half_written_one(tmp_path):
    """Several replace it at the same time: readers always see all of what one of them wrote."""
    path, contents = tmp_path / "metrics.jsonl", [100_000 * letter for letter in (b"a", b"b", b"c")]
    with ThreadPoolExecutor(len(contents)) as pool:
        writers = [pool.submit(checkpoint.write_file, path, data) for data in contents * 30]
        while not all(writer.done() for writer in writers):
            assert not path.exists() or path.read_bytes() in contents
    assert [writer.exception() for writer in writers] == [None] * 90
    assert os.listdir(tmp_path) == ["metrics.jsonl"]


def test_a_half_written_file_is_swept_only_if_its_writer_is_dead(tmp_path):
    """As is one of an older version; files of others are left alone."""
    path, names = tmp_path / "x", (".x.0123abcd.pointcmt-half", ".x.pointcmt-half")
    foreign = tmp_path / ".x.of-mine.pointcmt-half"
    for left in (*(tmp_path / name for name in names), foreign):
        left.write_text("half")
    half, file = checkpoint._create_half(path)
    with file:
        checkpoint.write_file(path, b"whole")
        assert set(os.listdir(tmp_path)) == {"x", foreign.name, half.name}
    checkpoint.write_file(path, b"whole")
    assert set(os.listdir(tmp_path)) == {"x", foreign.name}


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, {"epoch": 1}, small_model())

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left") as caught:
            checkpoint.save(tmp_path, 2, {}, small_model(seed=1))
    assert "free some space" in caught.value.fix
    assert checkpoint.load_weights(tmp_path, small_model(seed=2))["epoch"] == 1
