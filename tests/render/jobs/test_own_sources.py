"""Data sources from outside the package: rendered, repaired and compared like the built-in ones."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import UsageError
from pointcmt.render.jobs.job import job_of_store
from tests.commands import pointcmt
from tests.outside import install
from tests.render.job_commands import SMALL, facts, write_off
from tests.stores import tree

BOXES = """
from pathlib import Path
from outside_parts.boxes import BALLS, BOXES, list_files
Path({mark!r}).touch()
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The environment of a process in which the package is installed."""
    folder = install(tmp_path_factory.mktemp("site"))
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


@pytest.fixture(scope="module")
def boxes(installed, tmp_path_factory):
    """A store of the entry point `outside-boxes`, by two worker processes."""
    out = tmp_path_factory.mktemp("boxes") / "S"
    done = pointcmt(
        "render", "--dataset", "outside-boxes", "--out", out, *SMALL, "--workers", 2, "--json",
        env=installed,
    )  # fmt: skip
    assert facts(done)["done"] == 20, done.stderr
    return out


@pytest.fixture
def module(installed, tmp_path):
    """A folder with a module `own.py` that is not installed, and the file its import writes."""
    folder, mark = tmp_path / "work", tmp_path / "imported"
    folder.mkdir()
    (folder / "own.py").write_text(BOXES.format(mark=str(mark)))
    return folder, mark


def damaged(store, folder):
    copy = shutil.copytree(store, folder / "damaged")
    for name in ("rgb/c/3", "visible/c/5", "shapes.jsonl"):
        place = copy / name
        file = place if place.is_file() else next(p for p in place.rglob("*") if p.is_file())
        file.unlink()
    return copy


def test_an_entry_point_is_rendered_and_recorded_in_the_store(boxes):
    store = ViewStore.open(boxes)
    assert store.attributes["source"]["name"] == "outside-boxes"
    assert store.attributes["versions"]["outside-boxes"] == "outside-parts 1.2"
    assert store.class_names == ["flat", "tall"]
    heights = np.ptp(store.read("points", 0)[:, 2]), np.ptp(store.read("points", 10)[:, 2])
    assert heights[0] < 0.4 < 1.5 < heights[1]  # a flat box and a tall one in the unit sphere


def test_a_repair_renders_shapes_of_a_plugin_to_the_same_bytes(boxes, installed, tmp_path):
    copy = damaged(boxes, tmp_path)
    done = pointcmt("verify", copy, "--repair", "--workers", 2, "--json", env=installed)
    assert facts(done)["ok"], done.stderr
    assert {3, 5} <= set(facts(done)["shards"])
    assert tree(copy) == tree(boxes)


def test_a_repair_without_the_plugin_reports_it(boxes, tmp_path):
    copy = damaged(boxes, tmp_path)
    done = pointcmt("verify", copy, "--repair", "--workers", 1)
    assert done.returncode == 2
    assert "unknown dataset 'outside-boxes'" in done.stderr
    assert str(copy) in done.stderr


def test_code_named_in_a_store_is_imported_only_with_permission(module, installed, tmp_path):
    folder, mark = module
    out = tmp_path / "S"
    name = ("--dataset", "own:BOXES", "--out", out, *SMALL)
    done = pointcmt("render", *name, "--limit", 4, "--workers", 2, env=installed, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert ViewStore.open(out).attributes["versions"]["own:BOXES"].startswith("sha256 ")
    whole = tree(out)
    mark.unlink()
    next(p for p in (out / "depth/c/1").rglob("*") if p.is_file()).unlink()
    for command in (("verify", out, "--repair"), ("build-correspondences", out)):
        refused = pointcmt(*command, env=installed, cwd=folder)
        assert refused.returncode != 0
    assert "--trust own:BOXES" in pointcmt("verify", out, "--repair", env=installed).stderr
    assert pointcmt("info", out, env=installed, cwd=folder).returncode == 1  # it is damaged
    assert not mark.exists()
    trusted = ("--trust", "own:BOXES", "--workers", 2)
    done = pointcmt("verify", out, "--repair", *trusted, env=installed, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert mark.exists()
    assert tree(out) == whole


def test_clouds_made_by_a_plugin_are_rendered_and_resumed(module, installed, tmp_path):
    """With a root: the loader compares what the shapes were made from, not files."""
    folder, out = module[0], tmp_path / "S"
    (tmp_path / "root").mkdir()
    more = ("--root", tmp_path / "root", "--out", out, *SMALL, "--workers", 1, "--json")
    command = ("render", "--dataset", "own:BALLS", *more)
    assert facts(pointcmt(*command, env=installed, cwd=folder))["done"] == 4
    again = facts(pointcmt(*command, env=installed, cwd=folder))
    assert (again["done"], again["skipped"], again["failed"]) == (0, 4, 0)
    trust = ("--trust", "own:BALLS", "--json")
    compared = pointcmt("verify", out, "--sources", *trust, env=installed, cwd=folder)
    assert facts(compared)["ok"], compared.stderr


def test_a_function_that_lists_files_can_be_a_source(installed, tmp_path):
    from pointcmt.shapes import Mesh
    from tests.outside.outside_parts.boxes import CORNERS, FACES

    write_off(tmp_path / "files/a.off", Mesh(CORNERS, FACES))
    (tmp_path / "files/b.off").write_text("no mesh")
    out = tmp_path / "S"
    where = ("--root", tmp_path / "files", "--out", out, *SMALL, "--workers", 1)
    done = pointcmt("render", "--dataset", "outside-files", *where, "--json", env=installed)
    assert done.returncode == 3
    assert [f["id"] for f in facts(done)["failures"]] == ["b"]
    assert ViewStore.open(out).attributes["source"]["name"] == "outside-files"


def test_a_job_of_a_store_checks_before_a_worker_imports(boxes):
    store = ViewStore.open(boxes)
    store.attributes["source"]["name"] = "os:BOXES"
    with pytest.raises(UsageError, match="Python code that a file refers to"):
        job_of_store(store, None)


@pytest.mark.slow
def test_dask_workers_import_the_named_module(module, installed, tmp_path):
    folder, out = module[0], tmp_path / "S"
    name = ("--dataset", "own:BOXES", "--limit", 4, "--out", out, *SMALL)
    local = ("--scheduler", "local", "--workers", 1, "--json")
    done = pointcmt("render", *name, *local, env=installed, cwd=folder)
    assert facts(done)["done"] == 4, done.stderr
    assert json.loads((Path(out) / "zarr.json").read_text())
