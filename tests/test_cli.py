"""The command line: light to start, and clear about what it cannot do."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "open3d", "OpenGL", "dask", "trimesh", "tensorstore", "transformers")


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def pointcmt(*arguments):
    command = [sys.executable, "-m", "pointcmt", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("code", ["import pointcmt", "import pointcmt.cli"])
def test_importing_loads_nothing_heavy(code):
    loaded = python(f"{code}; import sys; print(*sys.modules)").stdout.split()
    assert [name for name in HEAVY if name in loaded] == []


def test_help_names_every_command():
    shown = pointcmt("--help")
    assert shown.returncode == 0
    for command in ("render", "build-correspondences", "train", "evaluate", "info", "verify"):
        assert command in shown.stdout
    assert pointcmt("--version").stdout.startswith("pointcmt 0.")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--dataset", "modelnet4"), "did you mean 'modelnet40'?"),
        (("--dataset", "toy", "--rig", "dodeca"), "did you mean 'dodeca20'?"),
        (("--dataset", "toy", "--backend", "embre"), "did you mean 'embree'?"),
        (("--dataset", "toy", "--layers", "normals"), "did you mean 'normal'?"),
        (("--dataset", "toy", "--light", "cam"), "did you mean 'camera'?"),
        (("--dataset", "toy", "--size", "0"), "outside of 8 to 4096"),
        (("--dataset", "toy", "--size", "20000"), "outside of 8 to 4096"),
        (("--dataset", "toy", "--points", "0"), "outside of 1 to"),
        (("--dataset", "toy", "--background", "beige"), "no colour"),
        (("--dataset", "toy", "--log-format", "yaml"), "known: auto, plain, json"),
        (("--dataset", "folder", "--root", "/nowhere/at/all"), "/nowhere/at/all"),
        (("--dataset", "modelnet40"), "--root"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error_with_a_way_out(arguments, says, tmp_path):
    done = pointcmt("render", *arguments, "--out", tmp_path / "S")
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "S").exists()


@pytest.mark.parametrize("command", ["info", "verify", "preview", "build-correspondences"])
def test_a_store_that_is_not_there_is_said(command, tmp_path):
    more = ("--out", tmp_path / "P") if command == "preview" else ()
    done = pointcmt(command, tmp_path / "none", *more)
    assert done.returncode == 1
    assert "there is no view store here" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_empty_folder_is_said(tmp_path):
    done = pointcmt("render", "--dataset", "folder", "--root", tmp_path, "--out", tmp_path / "S")
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr


def test_doctor_finds_the_renderer_working():
    done = pointcmt("doctor")
    assert done.returncode == 0, done.stdout
    assert any(line.startswith("ok      embree") for line in done.stdout.splitlines())
