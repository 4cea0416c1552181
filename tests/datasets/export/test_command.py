"""`pointcmt export` of stores: what it prints, what it refuses, what does not stop it."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import pointcmt as pc
from pointcmt.cli import app
from pointcmt.console import logger
from pointcmt.datasets.export.folder import FAILURES, INDEX
from pointcmt.datasets.export.job import FORMATS
from pointcmt.datasets.store.schema import CORRESPONDENCES, RENDER, marker_key
from tests.datasets.store.object_storage import SECRETS, s3_server
from tests.stores import tree


def command(*words):
    return CliRunner().invoke(app, ["export", *map(str, words)])


def result(done):
    return json.loads(done.stdout.splitlines()[-1])


def refused(*words):
    error = command(*words).exception
    assert isinstance(error, pc.PointcmtError), error
    return error


@pytest.mark.parametrize("to", FORMATS)
def test_the_command_writes_what_python_writes(meshes, tmp_path, to):
    out = tmp_path / "out"
    done = command(meshes.path, "--to", to, "--out", out, "--json", "--log-format", "plain")
    assert done.exit_code == 0, done.output
    facts = result(done)
    assert facts.pop("seconds") >= 0
    assert facts == {
        "to": to, "out": str(out), "planned": 6, "done": 6, "failed": 0, "skipped": 0,
        "pending": 0, "failures": [],
    }  # fmt: skip
    assert f"{out}: 6 of 6 shapes as {to}" in done.stdout
    assert "exporting: 6/6 shapes" in done.stderr
    assert "ETA" in done.stderr
    pc.export(meshes, to, tmp_path / "python")
    assert tree(out) == tree(tmp_path / "python")
    again = command(meshes.path, "--to", to, "--out", out)
    assert "6 of 6 shapes" in again.stdout
    assert "6 of them were there already" in again.stdout


def test_shapes_are_chosen_by_id_split_and_number(meshes, tmp_path):
    ids = [meshes[4].id, meshes[1].id]
    words = ["--to", "ply", "--out", tmp_path / "ids", "--json"]
    assert result(command(meshes.path, *words, "--shape", ids[0], "--shape", ids[1]))["done"] == 2
    found = [json.loads(line)["id"] for line in (tmp_path / "ids" / INDEX).read_text().splitlines()]
    assert found == [meshes[1].id, meshes[4].id]
    words[3] = tmp_path / "split"
    test = meshes.select(split="test")
    assert result(command(meshes.path, *words, "--split", "test"))["done"] == len(test) > 0
    words[3] = tmp_path / "limit"
    assert result(command(meshes.path, *words, "--limit", 4))["done"] == 4


def test_a_failed_shape_is_recorded_and_the_rest_exported(broken, tmp_path):
    for to in FORMATS:
        out = tmp_path / to
        done = command(broken.path, "--to", to, "--out", out, "--json")
        assert done.exit_code == 3
        facts = result(done)
        assert (facts["planned"], facts["done"], facts["failed"]) == (3, 2, 1)
        assert [failure["id"] for failure in facts["failures"]] == ["torn"]
        assert facts["failures"][0]["reason"] == "truncated"
        assert "failed: torn: truncated: " in done.stdout
        assert json.loads((out / FAILURES).read_text()) == facts["failures"][0]
        assert not list(out.glob("torn*"))
    only = command(
        broken.path, "--to", "png", "--out", tmp_path / "only", "--shape", "torn", "--json"
    )
    assert (only.exit_code, result(only)["failed"]) == (3, 1)


@pytest.mark.parametrize(
    "name", ["rgb/c/1/0/0/0/0", "points/c/1/0/0", "K/c/1/0/0/0", "visible/c/1/0/0"]
)
@pytest.mark.parametrize("how", ["flip", "delete"])
def test_damaged_data_fails_its_shapes_alone(copy, tmp_path, name, how):
    path = Path(copy.path, name)
    data = bytearray(path.read_bytes())
    data[len(data) // 4] ^= 255
    path.write_bytes(data) if how == "flip" else path.unlink()
    done = command(copy.path, "--to", "colmap", "--out", tmp_path / "out", "--json")
    assert done.exit_code == 3, done.output
    facts = result(done)
    failed = {failure["id"]: failure for failure in facts["failures"]}
    assert failed.keys() <= {copy[2].id, copy[3].id}
    assert {failure["reason"] for failure in failed.values()} == {"damaged"}
    assert all(name.split("/")[0] in failure["detail"] for failure in failed.values())
    assert facts["done"] == 6 - len(failed)
    assert how == "flip" or len(failed) == 2


@pytest.mark.parametrize("stage", [RENDER, CORRESPONDENCES])
def test_a_damaged_marker_fails_the_shapes_of_its_shard(copy, tmp_path, stage):
    Path(copy.path, marker_key(stage, 2)).write_bytes(b"{}")
    facts = result(command(copy.path, "--to", "ply", "--out", tmp_path / "out", "--json"))
    assert [failure["id"] for failure in facts["failures"]] == [copy[4].id, copy[5].id]
    assert {failure["reason"] for failure in facts["failures"]} == {"damaged"}
    assert facts["done"] == 4


def test_pending_shapes_are_counted(copy, tmp_path):
    for stage in (RENDER, CORRESPONDENCES):
        Path(copy.path, marker_key(stage, 0)).unlink()
    done = command(copy.path, "--to", "png", "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0
    assert (result(done)["done"], result(done)["pending"]) == (4, 2)
    assert "2 not rendered yet: run this again when they are" in done.stdout


def test_a_store_in_a_zip_file_is_exported(meshes, tmp_path):
    with zipfile.ZipFile(tmp_path / "S.zip", "w") as archive:
        for file in Path(meshes.path).rglob("*"):
            archive.write(file, f"S/{file.relative_to(meshes.path)}")
    assert command(tmp_path / "S.zip", "--to", "colmap", "--out", tmp_path / "out").exit_code == 0
    pc.export(meshes, "colmap", tmp_path / "whole")
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_store_on_object_storage_is_exported(meshes, tmp_path, monkeypatch):
    with s3_server() as bucket:
        found = {**SECRETS, "AWS_ENDPOINT_URL": bucket.server, "AWS_EC2_METADATA_DISABLED": "true"}
        for name, value in found.items():
            monkeypatch.setenv(name, value)
        for file in Path(meshes.path).rglob("*"):
            if file.is_file():
                bucket.put(f"S/{file.relative_to(meshes.path)}", file.read_bytes())
        done = command(bucket.url("S"), "--to", "nerfstudio", "--out", tmp_path / "out")
        assert done.exit_code == 0, done.exception
        error = refused(bucket.url("S"), "--to", "png", "--out", bucket.url("out"))
    assert error.what == "only view stores can be on object storage"
    pc.export(meshes, "nerfstudio", tmp_path / "whole")
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


# What is refused.


def test_unknown_formats_name_the_nearest(meshes, tmp_path):
    error = refused(meshes.path, "--to", "colmpa", "--out", tmp_path / "out")
    assert (error.what, error.where) == ("unknown format 'colmpa'", "--to")
    assert error.fix == "did you mean 'colmap'? known: png, nerfstudio, colmap, ply"
    error = refused(tmp_path / "nothing", "--to", "saftensors", "--out", tmp_path / "out")
    assert "did you mean 'safetensors'? known: png" in error.fix
    with pytest.raises(pc.UsageError, match="unknown format 'webdataset'"):
        pc.export(meshes, "webdataset", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_not_a_store_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    for source in ("nothing", "empty"):
        error = refused(tmp_path / source, "--to", "png", "--out", tmp_path / "out")
        assert error.what == "there is no view store here"
        assert "pointcmt render --out" in error.fix
    (tmp_path / "empty/zarr.json").write_text("{}")
    error = refused(tmp_path / "empty", "--to", "png", "--out", tmp_path / "out")
    assert isinstance(error, pc.DamageError)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--to", "onnx"), "the format onnx only applies to runs; this is a view store"),
        (("--to", "onnx", "--split", "test"), "onnx only applies to runs"),
        (
            ("--to", "png", "--checkpoint", "last"),
            "--checkpoint only applies to runs",
        ),
        (("--to", "png", "--trust", "a:b"), "--trust only applies to runs, not to the format png"),
        (("--to", "ply", "--text"), "--text only applies to colmap, not to the format ply"),
        (("--to", "ply", "--split", "tset"), "unknown split 'tset'"),
        (("--to", "ply", "--split", "val"), "no shape is chosen"),
        (("--to", "ply", "--shape", "chiar/0000"), "no shape is called 'chiar/0000'"),
    ],
)
def test_options_that_do_not_fit_are_refused(meshes, tmp_path, words, what):
    error = refused(meshes.path, *words, "--out", tmp_path / "out")
    assert isinstance(error, pc.UsageError)
    assert what in error.what
    assert error.fix
    assert not (tmp_path / "out").exists()


def test_options_of_stores_are_refused_for_runs(tmp_path):
    (tmp_path / "RUN").mkdir()
    (tmp_path / "RUN/run.json").write_text("{}")
    for option in (
        ("--split", "test"),
        ("--limit", "3"),
        ("--shape", "a"),
        ("--workers", "2"),
        ("--text",),
    ):
        error = refused(tmp_path / "RUN", "--to", "onnx", "--out", tmp_path / "x.onnx", *option)
        assert error.what.startswith(
            f"{option[0]} only applies to view stores, not to the format onnx"
        )
    error = refused(tmp_path / "RUN", "--to", "ply", "--out", tmp_path / "out")
    assert error.what == "the format ply only applies to view stores; this is a run"


def test_a_limit_from_python_is_checked(meshes, tmp_path):
    with pytest.raises(pc.UsageError, match="a limit of 0 leaves no shapes") as error:
        pc.export(meshes, "ply", tmp_path / "out", limit=0)
    assert "limit=" in str(error.value)


def test_nothing_is_printed_from_python_unless_asked(meshes, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(logger, "handlers", [])  # those of commands that ran in this process
    pc.export(meshes, "ply", tmp_path / "quiet")
    assert capsys.readouterr() == ("", "")
    pc.export(meshes, "ply", tmp_path / "loud", progress=True)
    assert "exporting: 6/6 shapes" in capsys.readouterr().err


def test_a_store_is_not_changed(meshes, copy, tmp_path):
    before = tree(copy.path)
    for to in FORMATS:
        pc.export(copy, to, tmp_path / to)
    assert tree(copy.path) == before
    np.testing.assert_array_equal(copy.read("rgb"), meshes.read("rgb"))
