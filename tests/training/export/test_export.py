"""Exported files: they load as the run's network, and never replace other files."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress

import numpy as np
import onnx
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from pointcmt import cli
from pointcmt.errors import StoreError, UsageError
from pointcmt.extras import install
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.export.networks import FORMATS, as_strings, export, load_exported
from pointcmt.training.export.onnx import TOLERANCE
from pointcmt.training.export.target import is_exported
from pointcmt.training.loop import train
from pointcmt.training.networks.backbones import BACKBONES
from pointcmt.training.recipes import RECIPES
from pointcmt.training.runs import checkpoint
from tests.commands import pointcmt
from tests.training.export.onnx_inputs import session
from tests.training.stores import CLASSES, small_config

pytestmark = pytest.mark.usefixtures("small_resnet")

RUNS = {
    "pointnet": ("student", (), 3),
    "dgcnn": ("student", ("model.backbone=dgcnn",), 1),
    "teacher": ("teacher", ("model.pooling=attention", "data.image_size=32"), 1),
}


@pytest.fixture(scope="module")
def runs(small_resnet, store, tmp_path_factory):
    """Runs whose predictions still contain mistakes."""
    folders = {}
    for name, (recipe, overrides, epochs) in RUNS.items():
        folders[name] = tmp_path_factory.mktemp(name)
        config = small_config(recipe, *overrides, "loop.keep_every=1", epochs=epochs)
        train(store, config, folders[name], device="cpu")
    return folders


@pytest.mark.parametrize("name", ["pointnet", "dgcnn"])
def test_onnx_runtime_classifies_the_test_split_as_evaluate_does(name, runs, store, tmp_path):
    report = evaluate(runs[name], store, device="cpu")
    assert report.overall_accuracy > 0
    exported = export(runs[name], "onnx", tmp_path / "new" / "S.onnx")
    ready = session(exported.path)
    rows = np.flatnonzero(store.splits == 1)
    points = np.stack([store.read("points", int(row)) for row in rows])
    logits, feature = ready.run(["logits", "feature"], {"points": points})
    assert np.array_equal(logits.argmax(axis=1), report.predicted)
    assert (feature >= 0).all()
    said = ready.get_modelmeta().custom_metadata_map
    assert {key: json.loads(value) for key, value in said.items()} == exported.facts
    assert exported.facts["epoch"] == report.epoch
    assert exported.difference <= TOLERANCE
    assert exported.size == exported.path.stat().st_size
    assert [path.name for path in exported.path.parent.iterdir()] == ["S.onnx"]


@pytest.mark.parametrize("name", ["pointnet", "teacher"])
@pytest.mark.parametrize("which", ["best", "last", "1"])
def test_a_network_is_loaded_from_its_exported_file_alone(name, which, runs, store, tmp_path):
    recipe, overrides, _ = RUNS[name]
    out = tmp_path / "weights.safetensors"
    exported = export(runs[name], "safetensors", out, which)
    model, facts = load_exported(out)

    task = RECIPES[recipe](small_config(recipe, *overrides), len(CLASSES), False)
    folder = runs[name] / ("epoch-000001" if which == "1" else which)
    epoch = checkpoint.load_weights(folder, task.model)["epoch"]
    wanted = task.model.state_dict()
    found = model.state_dict()
    assert list(found) == list(wanted)
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    array = {"student": "points", "teacher": "rgb"}[recipe]
    batch = torch.from_numpy(np.stack([store.read(array, row) for row in (0, 20, 40)]))
    with torch.no_grad():
        assert torch.equal(model(batch)[0], task.model.eval()(batch)[0])

    assert facts == exported.facts
    assert facts["class_names"] == list(CLASSES)
    assert (facts["recipe"], facts["checkpoint"], facts["epoch"]) == (recipe, which, epoch)
    assert facts.get("points") == (64 if recipe == "student" else None)
    with safe_open(out, framework="np") as file:
        header = file.metadata()
    assert {key: json.loads(value) for key, value in header.items()} == facts
    for secret in (store.path, runs[name], tmp_path):
        assert str(secret) not in json.dumps(facts)
    assert {path.name for path in tmp_path.iterdir()} == {out.name}


def test_files_that_are_not_exports_are_reported(runs, tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(StoreError, match="cannot be read as safetensors"):
        load_exported(path)
    path.write_text("no such thing")
    with pytest.raises(StoreError, match="cannot be read as safetensors"):
        load_exported(path)
    facts = export(runs["pointnet"], "safetensors", path, overwrite=True).facts
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StoreError, match="cannot be read as safetensors"):
        load_exported(path)

    weights = BACKBONES["pointnet"](3).state_dict()
    for header, says in (
        ({}, "not written by"),
        ({"version": "one"}, "not written by"),
        (as_strings({**facts, "version": 2}), "version 2"),
        (as_strings({**facts, "recipe": "baker"}), "holds a baker"),
        (as_strings({**facts, "backbone": "dgcnn"}), "a different architecture"),
        (as_strings({**facts, "classes": 4}), "does not have the 4 classes"),
    ):
        save_file(weights, path, header)
        with pytest.raises(StoreError, match=says):
            load_exported(path)


@pytest.mark.parametrize("name", ["pointnet", "teacher"])
def test_missing_or_wrong_header_fields_raise_our_errors(name, runs, tmp_path):
    """Or make no difference, for fields that are only displayed."""
    path = tmp_path / "x.safetensors"
    facts = export(runs[name], "safetensors", path).facts
    weights = load_exported(path)[0].state_dict()
    needed = {"version", "recipe", "backbone", "classes", "class_names"}
    needed |= {"pooling", "image_size"} if name == "teacher" else set()
    deep = "[" * 99_999
    for key in facts:
        header = as_strings(facts)
        own = header.pop(key)
        for value in (None, "null", "x", '"x"', "-1", str(10**30), "[]", '{"a": 1}', "NaN", deep):
            if value == own:
                continue
            save_file(weights, path, header if value is None else {**header, key: value})
            if key in needed and value not in ("[]",):
                with pytest.raises(StoreError):
                    load_exported(path)
            elif key not in needed:
                with suppress(StoreError):  # not JSON
                    load_exported(path)


def test_no_file_is_written_if_the_weights_give_nan(runs, store, tmp_path):
    train(store, small_config("student", epochs=1), tmp_path / "RUN", device="cpu")
    model = BACKBONES["pointnet"](len(CLASSES))
    with torch.no_grad():
        model.classifier.weight[1] = 3e38  # finite, but its outputs are not
    checkpoint.save(tmp_path / "RUN/best", 99, {"epoch": 1}, model)
    out = tmp_path / "x.onnx"
    out.write_text("the old one")
    with pytest.raises(StoreError, match="and torch differ by nan"):
        export(tmp_path / "RUN", "onnx", out, overwrite=True)
    assert out.read_text() == "the old one"
    assert {path.name for path in tmp_path.iterdir()} == {"RUN", "x.onnx"}


def test_runs_that_cannot_be_exported_are_reported(runs, store, tmp_path):
    run, out = runs["pointnet"], tmp_path / "x"
    for arguments, says in (
        ((run, "onxx", out), "did you mean 'onnx'"),
        ((run, "png", out), "png only applies to view stores"),
        ((store.path, "onnx", out), "onnx only applies to runs"),
        ((store.path, "safetensors", out), "safetensors only applies to runs"),
        ((run, "onnx", tmp_path), "this is a folder"),
        ((run, "onnx", out, "bets"), "did you mean 'best'"),
        ((runs["teacher"], "onnx", out), "'teacher' cannot be exported to onnx"),
    ):
        with pytest.raises(UsageError, match=says):
            cli.export(str(arguments[0]), *arguments[1:])
    with pytest.raises(StoreError, match="no run here"):
        cli.export(str(tmp_path), "onnx", out)
    with pytest.raises(UsageError, match="unknown format 'png'"):
        export(run, "png", out)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot write here"):
        export(run, "safetensors", tmp_path / "file" / "x")
    assert not out.exists()


def test_only_earlier_exports_are_replaced_without_overwrite(runs, tmp_path):
    """The other format and torch's weights are kept; --overwrite replaces them."""
    empty = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], []))
    foreign = {
        "thesis": b"years",
        "empty": b"",
        "weights": next((runs["pointnet"] / "best").glob("weights-*")).read_bytes(),
        "model": empty.SerializeToString(),
    }
    exported = {to: export(runs["pointnet"], to, tmp_path / to).path.read_bytes() for to in FORMATS}
    assert all(is_exported(tmp_path / to, to) for to in FORMATS)
    for to, other in (FORMATS, FORMATS[::-1]):
        path = tmp_path / f"x-{to}"
        for content in {**foreign, "format": exported[other]}.values():
            path.write_bytes(content)
            with pytest.raises(UsageError, match="this file exists") as caught:
                export(runs["pointnet"], to, path)
            assert "--overwrite" in caught.value.fix
            assert path.read_bytes() == content
    for to, overwrite in (("safetensors", True), ("safetensors", False), ("onnx", True)):
        export(runs["pointnet"], to, tmp_path / f"x-{to}", overwrite=overwrite)
        assert is_exported(tmp_path / f"x-{to}", to)


@pytest.mark.parametrize("overwrite", [False, True])
def test_files_of_stores_and_runs_are_never_replaced(runs, store, tmp_path, overwrite):
    """Whether they exist or not, by their own path or through links."""
    run, view_store, study = tmp_path / "run", tmp_path / "S", tmp_path / "study"
    shutil.copytree(runs["pointnet"], run)
    shutil.copytree(store.path, view_store)
    evaluate(run, store, device="cpu")
    study.mkdir()
    (study / "study.json").write_text("{}")
    own = [path for path in run.rglob("*") if path.is_file()]
    assert len(own) > 10
    own += [run / name for name in ("probe.json", "last/weights-000009999.safetensors")]
    own += [study / "study.json"]
    own += [view_store / name for name in ("zarr.json", "shapes.jsonl", "x", "a/x", "rgb/c/0")]
    for number, path in enumerate(own):
        (tmp_path / f"link{number}").symlink_to(path)
    (tmp_path / "best").symlink_to(run / "best")
    own += [tmp_path / f"link{number}" for number in range(len(own))]
    own += [tmp_path / "best" / "checkpoint.json", run / "best" / ".." / "run.json"]
    before = contents(tmp_path)
    for path in own:
        with pytest.raises(UsageError, match=r"one of the run's own files|into a view store"):
            export(runs["pointnet"], "safetensors", path, overwrite=overwrite)
    assert contents(tmp_path) == before
    for path in (run / "best" / "x.onnx", run / "x", study / "x"):  # names of their own
        export(runs["pointnet"], "safetensors", path, overwrite=overwrite)
        assert load_exported(path)


def test_special_files_are_reported_without_waiting(runs, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "to-folder").symlink_to(tmp_path)
    for name, kind, says in (
        ("fifo", UsageError, "not a regular file"),
        ("/dev/null", UsageError, "not a regular file"),
        ("to-folder", UsageError, "this is a folder"),
        ("loop", StoreError, "symbolic links"),
    ):
        with pytest.raises(kind, match=says):
            export(runs["pointnet"], "safetensors", tmp_path / name, overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"fifo", "loop", "to-folder"}


def test_exporting_to_a_link_writes_its_target(runs, tmp_path):
    (tmp_path / "latest").symlink_to(tmp_path / "models" / "v1")
    for _ in range(2):  # made, then replaced
        export(runs["pointnet"], "safetensors", tmp_path / "latest")
        assert (tmp_path / "latest").is_symlink()
        assert load_exported(tmp_path / "models" / "v1")
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["v1"]


def test_a_killed_export_keeps_the_old_file_and_the_next_one_cleans_up(runs, tmp_path, monkeypatch):
    """Leftovers have names of ours; similar files of others are kept."""
    path, foreign = tmp_path / "x", tmp_path / "x.part"
    export(runs["pointnet"], "safetensors", path, "last")
    foreign.write_text("a download")
    before = path.read_bytes()

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            export(runs["pointnet"], "safetensors", path, "1")
    assert path.read_bytes() == before
    export(runs["pointnet"], "safetensors", path, "1")
    assert path.read_bytes() != before
    assert {path.name for path in tmp_path.iterdir()} == {"x", "x.part"}
    assert foreign.read_text() == "a download"


def contents(folder):
    """The contents of every file and link of a folder."""
    return {
        path: os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() or path.is_symlink()
    }


def python(*arguments):
    command = [sys.executable, "-W", "error", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("to", FORMATS)
def test_the_command_prints_only_what_it_wrote(to, runs, tmp_path):
    out = tmp_path / "x"
    done = pointcmt("export", runs["pointnet"], "--to", to, "--out", out, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    *told, last = done.stdout.splitlines()
    facts = json.loads(last)
    assert (facts["path"], facts["bytes"]) == (str(out), out.stat().st_size)
    assert told[0].startswith(f"{out}: ")
    assert (len(told), facts["difference"] is None) == ((2, False) if to == "onnx" else (1, True))


def test_a_missing_library_is_reported(runs, tmp_path):
    code = "import sys; sys.modules['onnxruntime'] = None; from pointcmt.cli import main; main()"
    done = python("-c", code, "export", runs["pointnet"], "--to", "onnx", "--out", tmp_path / "x")
    assert done.returncode == 1
    assert "needs onnxruntime, which is not installed" in done.stderr
    assert install("export") in done.stderr
