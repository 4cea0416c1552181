"""Exported networks: the same weights, the same neighbors, the same predictions as the run's."""

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from pointcmt import cli
from pointcmt.errors import StoreError, UsageError
from pointcmt.extras import install
from pointcmt.training import ops
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.export.networks import FORMATS, as_strings, export, load_exported
from pointcmt.training.export.onnx import TOLERANCE, largest_difference, to_onnx
from pointcmt.training.export.onnx_ops import OPSET, TRANSLATIONS
from pointcmt.training.export.target import is_exported
from pointcmt.training.loop import train
from pointcmt.training.networks.backbones import BACKBONES
from pointcmt.training.recipes import RECIPES
from pointcmt.training.runs import checkpoint
from tests.training.stores import CLASSES, small_config

pytestmark = pytest.mark.usefixtures("small_resnet")

RUNS = {
    "pointnet": ("student", (), 3),
    "dgcnn": ("student", ("model.backbone=dgcnn",), 1),
    "teacher": ("teacher", ("model.pooling=attention", "data.image_size=32"), 1),
}
LEAST = {  # clouds of the fewest points that each network takes, where they are quick
    "pointnet": 16,
    "pointnet2-ssg": 512,
    "pointnet2-msg": 512,
    "dgcnn": 40,
    "pointmlp": 192,
    "pointnext-s": 40,
    "pointvit-s": 64,
}
HEAVY = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("pointnet2-msg", "pointmlp", "pointnext-s", "pointvit-s")
]


@pytest.fixture(scope="module")
def runs(small_resnet, store, tmp_path_factory):
    """Runs that still make mistakes."""
    folders = {}
    for name, (recipe, overrides, epochs) in RUNS.items():
        folders[name] = tmp_path_factory.mktemp(name)
        config = small_config(recipe, *overrides, "loop.keep_every=1", epochs=epochs)
        train(store, config, folders[name], device="cpu")
    return folders


def session(model):
    """ONNX Runtime on a file or its bytes; nothing of it reaches the tests' output."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def clouds(count, points, seed=0):
    """Clouds on ellipsoids; a third of each one's points are there twice."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(count, points, 3))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    directions[:, -(points // 3) :] = directions[:, : points // 3]
    return (directions * rng.uniform(0.3, 1, (count, 1, 3))).astype(np.float32)


def used_backbone(name, points):
    """A network whose batch norms have seen data, in evaluation mode."""
    torch.manual_seed(0)
    model = BACKBONES[name](5).train()
    with torch.no_grad():
        for seed in range(2):
            model(torch.from_numpy(clouds(4, points, seed)))
    return model.eval()


class EveryOp(nn.Module):
    """All point operations, in one graph."""

    def forward(self, points, centers, features):
        ball, wide = ops.ball_query(points, centers, 0.5, 8), ops.ball_query(points, centers, 9, 40)
        some, every = (ops.farthest_points(points, n, 2) for n in (5, points.shape[1]))
        near, squared = ops.k_nearest(points, centers, 7)
        far, there = ops.k_nearest(features, features, 7)
        deviation = features.flatten(1).std(dim=1)
        return ball, wide, some, every, near, squared, far, there, deviation


@pytest.fixture(scope="module")
def every_op():
    """(points, centers, features) → what EveryOp gives in ONNX Runtime."""
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    example = (torch.rand(2, 32, 3), torch.rand(2, 9, 3), torch.rand(2, 24, 16))
    with pytest.warns(FutureWarning, match="treespec"):
        program = torch.onnx.export(
            EveryOp().eval(),
            example,
            dynamic_shapes=(free, free, free),
            custom_translation_table=TRANSLATIONS,
            opset_version=OPSET,
            verbose=False,
        )
    ready = session(program.model_proto.SerializeToString())
    names = [value.name for value in ready.get_inputs()]
    return lambda *arrays: ready.run(None, dict(zip(names, arrays, strict=True)))


LATTICE = np.stack(np.meshgrid(*[np.arange(4) * 0.25] * 3), axis=-1).reshape(1, 64, 3)


@pytest.mark.parametrize(
    ("points", "centers"),
    [
        pytest.param(clouds(3, 50), clouds(3, 20, 1), id="curved"),
        pytest.param(clouds(1, 30), clouds(1, 30), id="fewer-points-than-slots"),
        pytest.param(LATTICE, LATTICE[:, ::5], id="lattice: ties, points on the sphere itself"),
        pytest.param(LATTICE, LATTICE[:, :7] + 5, id="empty balls"),
        pytest.param(np.zeros((2, 40, 3)), np.zeros((2, 3, 3)), id="one place"),
    ],
)
def test_neighbours_in_onnx_are_those_of_the_point_operations(points, centers, every_op):
    points, centers = points.astype(np.float32), centers.astype(np.float32)
    features = np.random.default_rng(2).normal(size=(len(points), 30, 16)).astype(np.float32)
    found = every_op(points, centers, features)
    wanted = EveryOp()(*map(torch.from_numpy, (points, centers, features)))
    for ours, theirs in zip(found[:6], wanted, strict=False):
        assert np.array_equal(ours, theirs.numpy())
    exact = features.astype(np.float64)
    squared = ((exact[:, None] - exact[:, :, None]) ** 2).sum(axis=-1)
    assert np.array_equal(found[6], np.argsort(squared, axis=-1, kind="stable")[..., :7])
    np.testing.assert_allclose(found[7], np.sort(squared)[..., :7], rtol=1e-6, atol=1e-12)
    deviation = exact.reshape(len(exact), -1).std(axis=1, ddof=1)
    np.testing.assert_allclose(found[8], deviation, rtol=1e-7)


@pytest.mark.parametrize("name", ["pointnet", "pointnet2-ssg", "dgcnn", *HEAVY])
def test_each_backbone_gives_torchs_numbers_for_any_batch_and_number_of_points(name):
    points = LEAST[name]
    model = used_backbone(name, points)
    data, difference = to_onnx(model, points, {"made": "here"}, name)
    assert difference <= 2e-5
    ready = session(data)
    for count, total in ((1, points), (5, points), (2, points + 33)):
        batch = clouds(count, total, seed=count)
        logits, feature = ready.run(["logits", "feature"], {"points": batch})
        with torch.no_grad():
            wanted = model(torch.from_numpy(batch))
        for ours, theirs in ((logits, wanted.logits), (feature, wanted.feature)):
            assert ours.shape == theirs.shape
            assert np.abs(ours - theirs.numpy()).max() <= 2e-5 * theirs.abs().max()

    parsed = onnx.load_from_string(data)
    onnx.checker.check_model(parsed, full_check=True)
    assert {(o.domain, o.version) for o in parsed.opset_import} == {("", OPSET)}
    assert not parsed.functions
    assert [v.name for v in parsed.graph.output] == ["logits", "feature"]
    (given,) = parsed.graph.input
    shape = given.type.tensor_type.shape.dim
    assert (shape[0].dim_param, shape[1].dim_param, shape[2].dim_value) == ("B", "N", 3)
    # The exporter would note the lines of code behind each node.
    assert not re.search(rb"\w{5}\.py", data)
    assert len(data) < 4 * sum(t.numel() for t in model.state_dict().values()) + 100_000

    with torch.no_grad():
        model.classifier.weight[0] += 0.01
    assert largest_difference(model, data, points) > TOLERANCE


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
def test_a_network_comes_back_from_its_file_alone(name, which, runs, store, tmp_path):
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


def test_what_is_no_exported_file_is_said(runs, tmp_path):
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
def test_each_fact_of_a_header_missing_or_wrong_is_an_error_of_ours(name, runs, tmp_path):
    """Or makes no difference, as that of a fact which is only told."""
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
                with suppress(StoreError):  # of what is no JSON
                    load_exported(path)


def test_weights_that_compute_nothing_leave_no_file(runs, store, tmp_path):
    train(store, small_config("student", epochs=1), tmp_path / "RUN", device="cpu")
    model = BACKBONES["pointnet"](len(CLASSES))
    with torch.no_grad():
        model.classifier.weight[1] = 3e38  # finite, and what it computes is not
    checkpoint.save(tmp_path / "RUN/best", 99, {"epoch": 1}, model)
    out = tmp_path / "x.onnx"
    out.write_text("the old one")
    with pytest.raises(StoreError, match="and torch differ by nan"):
        export(tmp_path / "RUN", "onnx", out, overwrite=True)
    assert out.read_text() == "the old one"
    assert {path.name for path in tmp_path.iterdir()} == {"RUN", "x.onnx"}


def test_what_cannot_be_exported_is_said(runs, store, tmp_path):
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


def test_an_earlier_export_is_replaced_and_nothing_else_unasked(runs, tmp_path):
    """Not even the other format, or weights of torch's; --overwrite replaces them, too."""
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
def test_a_stores_and_a_runs_own_files_are_never_written(runs, store, tmp_path, overwrite):
    """Whether they exist or not, as they are named and as links lead."""
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


def test_what_is_not_a_regular_file_is_said_at_once(runs, tmp_path):
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


def test_a_link_leads_to_the_file_that_is_written(runs, tmp_path):
    (tmp_path / "latest").symlink_to(tmp_path / "models" / "v1")
    for _ in range(2):  # made, then replaced
        export(runs["pointnet"], "safetensors", tmp_path / "latest")
        assert (tmp_path / "latest").is_symlink()
        assert load_exported(tmp_path / "models" / "v1")
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["v1"]


def test_a_killed_export_leaves_the_old_file_and_the_next_one_sweeps(runs, tmp_path, monkeypatch):
    """What it leaves has a name of ours; files of others that look like it are left alone."""
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
    """Every file and link of a folder."""
    return {
        path: os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() or path.is_symlink()
    }


def python(*arguments):
    command = [sys.executable, "-W", "error", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("to", FORMATS)
def test_the_command_says_what_it_wrote_and_nothing_else(to, runs, tmp_path):
    out = tmp_path / "x"
    done = python("-m", "pointcmt", "export", runs["pointnet"], "--to", to, "--out", out, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    *told, last = done.stdout.splitlines()
    facts = json.loads(last)
    assert (facts["path"], facts["bytes"]) == (str(out), out.stat().st_size)
    assert told[0].startswith(f"{out}: ")
    assert (len(told), facts["difference"] is None) == ((2, False) if to == "onnx" else (1, True))


def test_a_missing_library_is_said(runs, tmp_path):
    code = "import sys; sys.modules['onnxruntime'] = None; from pointcmt.cli import main; main()"
    done = python("-c", code, "export", runs["pointnet"], "--to", "onnx", "--out", tmp_path / "x")
    assert done.returncode == 1
    assert "needs onnxruntime, which is not installed" in done.stderr
    assert install("export") in done.stderr
