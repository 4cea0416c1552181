"""Stores to export: meshes, clouds, views with lenses of their own."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import pointcmt as pc
from pointcmt.datasets.sources import list_shapes
from tests.clouds import text_of
from tests.stores import render_listing, render_toy

TRIANGLE = "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"


@pytest.fixture(scope="session")
def meshes(tmp_path_factory):
    """Six toy shapes with every layer, in three shards."""
    out = tmp_path_factory.mktemp("meshes") / "S"
    settings = {"size": 48, "points": 200, "layers": ("albedo", "normal")}
    return pc.open_store(render_toy(out, limit=6, shard=2, **settings).path)


@pytest.fixture(scope="session")
def clouds(tmp_path_factory):
    """Two balls of points, without faces."""
    root = tmp_path_factory.mktemp("clouds")
    (root / "in").mkdir()
    for number in range(2):
        points = np.random.default_rng(number).normal(size=(400, 3))
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        (root / f"in/ball{number}.xyz").write_text(text_of(points))
    listing = list_shapes("clouds", root / "in")
    return pc.open_store(render_listing(listing, root / "S", points=100).path)


@pytest.fixture(scope="session")
def lenses(tmp_path_factory):
    """A shape seen by three cameras with different fields of view."""
    folder = tmp_path_factory.mktemp("lenses")
    views = [f"[[views]]\nazimuth = {30 * i}\nelevation = {20 * i}\nfov = {40 + i}" for i in (0, 1)]
    views.append("[[views]]\nposition = [0, 0, 3.5]\nfov = 40")
    (folder / "rig.toml").write_text("\n".join(views))
    return pc.open_store(render_toy(folder / "S", limit=1, rig=str(folder / "rig.toml")).path)


@pytest.fixture
def broken(tmp_path):
    """A folder of two good shapes and one that failed."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/good.off").write_text(TRIANGLE)
    (tmp_path / "in/other.off").write_text(TRIANGLE)
    (tmp_path / "in/torn.off").write_text(TRIANGLE[:-8])
    return pc.open_store(
        render_listing(list_shapes("folder", tmp_path / "in"), tmp_path / "B").path
    )


@pytest.fixture
def copy(meshes, tmp_path):
    """A copy of the meshes' store, to change."""
    shutil.copytree(meshes.path, tmp_path / "S")
    return pc.open_store(tmp_path / "S")


def transforms(folder):
    return json.loads((Path(folder) / "transforms.json").read_text("utf-8"))
