"""Untrusted files of runs, weights and configurations: refused quickly, or read exactly."""

import json
import os
import time
import zipfile

import pytest
import torch
from torch import nn

from pointcmt.cameras import find_rig
from pointcmt.errors import MOST_TEXT, PointcmtError, StoreError, UsageError
from pointcmt.training.config.files import load_config
from pointcmt.training.config.yaml_values import LONGEST_NUMBER, MOST_DEEP, MOST_VALUES, parse_yaml
from pointcmt.training.export.networks import load_exported
from pointcmt.training.images.weights import find_weights
from pointcmt.training.runs import checkpoint
from pointcmt.training.runs.cost import read_cost
from pointcmt.training.runs.folder import (
    LOCK,
    begin_run,
    open_run,
    weights_digest,
)
from pointcmt.training.runs.metrics import METRICS, append_metrics, read_metrics
from pointcmt.training.runs.published_weights import load_published

pytestmark = pytest.mark.timeout(60)
MODEL = nn.Linear(2, 2)


def fifo(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def ring(path):
    path.symlink_to(path)


def folder(path):
    path.mkdir()


def sparse(path):
    with path.open("wb") as file:
        file.truncate(1 << 40)


def deep(path):
    path.write_text("[" * 100_000 + "]" * 100_000)


# The name of a file, and a function that reads it from its folder.
READERS = {
    "rig.toml": lambda at: find_rig(str(at / "rig.toml")),
    "config.yaml": lambda at: load_config("student", at / "config.yaml"),
    "run.json": open_run,
    "checkpoint.json": checkpoint.read_scalars,
    "metrics.jsonl": lambda at: read_metrics(at, 1),
    "weights.safetensors": lambda at: load_published(at / "weights.safetensors", MODEL),
    "weights.pth": lambda at: load_published(at / "weights.pth", MODEL),
    "exported.safetensors": lambda at: load_exported(at / "exported.safetensors"),
    "config.json": lambda at: find_weights("auto", str(at)),
}


@pytest.mark.parametrize("make", [fifo, device, ring, folder, sparse, deep])
@pytest.mark.parametrize("name", READERS)
def test_special_and_oversized_files_are_refused_at_once(tmp_path, name, make):
    make(tmp_path / name)
    began = time.monotonic()
    with pytest.raises(PointcmtError):
        READERS[name](tmp_path)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("make", [fifo, device, ring, folder, deep])
def test_a_cost_that_cannot_be_read_is_measured_again(tmp_path, make):
    make(tmp_path / "cost.json")
    assert read_cost(tmp_path, 1) is None


@pytest.mark.parametrize("make", [fifo, device])
def test_weights_named_in_a_checkpoint_must_be_regular_files(tmp_path, make):
    checkpoint.save(tmp_path / "best", 1, {"epoch": 1}, MODEL)
    weights = next((tmp_path / "best").glob("weights*"))
    weights.unlink()
    make(weights)
    with pytest.raises(StoreError, match="not a regular file"):
        checkpoint.read_weights(tmp_path / "best")
    with pytest.raises(StoreError):
        weights_digest(weights)


@pytest.mark.parametrize("make", [fifo, device])
def test_a_run_writes_only_to_regular_files(tmp_path, make):
    make(tmp_path / METRICS)
    with pytest.raises(StoreError, match="not a regular file"):
        append_metrics(tmp_path, {"epoch": 1})


def test_a_lock_that_is_a_pipe_is_not_waited_for(tmp_path):
    from pointcmt.training.runs.folder import Run

    os.mkfifo(tmp_path / LOCK)
    with (
        pytest.raises(StoreError, match="not a regular file"),
        begin_run(Run(tmp_path, load_config("student"), {})),
    ):
        pass


# Published weights


def test_a_state_dict_that_contains_itself_is_refused(tmp_path):
    table = {"epoch": 3}
    table["model"] = table
    first, second = {}, {}
    first["state_dict"], second["model_state"] = second, first
    for number, found in enumerate((table, first)):
        path = tmp_path / f"{number}.pth"
        torch.save(found, path)
        began = time.monotonic()
        with pytest.raises(StoreError, match="does not contain weights by name, but the keys"):
            load_published(path, MODEL)
        assert time.monotonic() - began < 5


def test_nested_wrappers_of_weights_are_removed(tmp_path):
    found = MODEL.state_dict()
    for name in ("model", "state_dict", "model_state_dict", "model_state"):
        found = {name: found, "epoch": 3}
    torch.save(found, tmp_path / "a.pth")
    model = nn.Linear(2, 2)
    assert load_published(tmp_path / "a.pth", model) == ()
    assert torch.equal(model.weight, MODEL.weight)


def test_a_compressed_checkpoint_is_refused_before_it_is_unpacked(tmp_path):
    """200 kB that would expand to 200 MB."""
    torch.save({"w": torch.zeros(50_000_000)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    (tmp_path / "plain.pth").unlink()
    with pytest.raises(StoreError, match="would expand to 2000"):
        load_published(tmp_path / "packed.pth", MODEL)


def test_tensors_that_repeat_one_number_are_refused(tmp_path):
    torch.save({"w": torch.zeros(1).expand(100_000, 100_000)}, tmp_path / "a.pth")
    with pytest.raises(StoreError, match="need 40000000000 bytes"):
        load_published(tmp_path / "a.pth", MODEL)


def test_very_long_keys_are_shortened_in_messages(tmp_path):
    torch.save({"k" * 10_000_000: 1, ("a", "b"): 2}, tmp_path / "a.pth")
    with pytest.raises(StoreError) as refused:
        load_published(tmp_path / "a.pth", MODEL)
    assert len(refused.value.what) <= MOST_TEXT


# YAML


def laughs(levels, width=10):
    lines = ["a0: &a0 [x, x]"]
    for i in range(1, levels):
        lines.append(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]")
    return "\n".join(lines) + "\n"


def merges(levels):
    lines = ["a0: &a0 {k: 1}"]
    lines += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, levels)]
    return "\n".join(lines) + "\n"


BOMBS = {
    "aliases": laughs(30),
    "merges": merges(12),
    "itself": "a: &a [*a]\n",
    "nested": "a: " + "[" * 100_000 + "]" * 100_000,
    "tables": "".join(" " * i + f"k{i}:\n" for i in range(300)),
    "hexadecimal": "epochs: 0x" + "f" * 100_000,
    "decimal": "epochs: " + "9" * 100_000,
    "base 60": "epochs: 1" + ":1" * 200_000,
    "binary": "epochs: 0b" + "1" * 500_000,
    "values": "a: [" + "1," * 400_000 + "]",
    "long": "a: " + "x" * 2_000_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_yaml_with_exploding_aliases_is_refused(tmp_path, name):
    (tmp_path / "a.yaml").write_text(BOMBS[name])
    began = time.monotonic()
    with pytest.raises(UsageError) as refused:
        load_config("student", tmp_path / "a.yaml")
    assert time.monotonic() - began < 5
    assert len(str(refused.value)) <= 4 * MOST_TEXT


@pytest.mark.parametrize("name", ["itself", "nested", "hexadecimal", "base 60", "decimal"])
def test_an_override_with_exploding_aliases_is_refused(name):
    value = BOMBS[name].partition(":")[2].strip()
    value = value if name != "itself" else "&a [*a]"
    with pytest.raises(UsageError, match="is not a valid YAML value"):
        load_config("student", None, [f"epochs={value}"])


def test_an_override_with_a_very_long_key_is_refused():
    with pytest.raises(UsageError, match="a key with 100000 parts, more than the maximum of 33"):
        load_config("student", None, [".".join("a" * 100_000) + "=1"])


def test_yaml_with_few_aliases_is_read():
    assert parse_yaml("a: &x {k: [1, 2]}\nb: *x\nc: {<<: *x, l: 3}\n") == {
        "a": {"k": [1, 2]},
        "b": {"k": [1, 2]},
        "c": {"k": [1, 2], "l": 3},
    }
    assert parse_yaml("[" * MOST_DEEP + "]" * MOST_DEEP)
    assert parse_yaml("1" * LONGEST_NUMBER) == int("1" * LONGEST_NUMBER)
    assert len(parse_yaml("[" + "1," * (MOST_VALUES - 1) + "]")) == MOST_VALUES - 1
    assert parse_yaml("&x a") == "a"
    assert parse_yaml("") is None


# Rigs


@pytest.mark.parametrize(
    "text",
    [
        "a." * 100_000 + "a = 1",  # took 70 GB
        '"a,b".' * 30_000 + "a = 1",
        "[" + "a." * 100_000 + "a]",
        'name = """x"""" \n' + "a." * 1000 + "a = 1",
        "a = " + "[" * 50_000,
        "[[views]]\nazimuth = 0x" + "f" * 100_000,
        "[[views]]\nazimuth = 1\nup = [1, 2, [[[[]]]]]",
    ],
)
def test_rig_files_that_expand_too_much_are_refused(tmp_path, text):
    (tmp_path / "a.toml").write_text(text)
    began = time.monotonic()
    with pytest.raises(UsageError):
        find_rig(str(tmp_path / "a.toml"))
    assert time.monotonic() - began < 5


def test_rigs_written_on_one_line_are_read(tmp_path):
    views = ", ".join(f"{{azimuth = {i}.5, elevation = 20.25}}" for i in range(300))
    (tmp_path / "a.toml").write_text(f"# {'. ' * 100}\nname = 'a.b.c'\nviews = [{views}]\n")
    assert len(find_rig(str(tmp_path / "a.toml")).views) == 300


def test_huge_run_facts_are_refused_before_reading(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"recipe": "student"}))
    os.truncate(tmp_path / "run.json", 10 << 30)
    with pytest.raises(StoreError, match="more than the maximum of 16777216"):
        open_run(tmp_path)


@pytest.mark.parametrize("value", ["!!bool foo", "!!timestamp foo", "!!int ''", "!!float ''"])
def test_a_yaml_tag_on_a_value_of_another_kind_is_a_usage_error(value):
    with pytest.raises(UsageError):
        load_config("student", None, [f"optimizer.clip_norm={value}"])
