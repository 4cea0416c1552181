"""Shapes with blank images: they are noted, and none of their points is visible there."""

import shutil

import numpy as np
import pytest

from pointcmt.correspondences import pixels_to_points, points_to_pixels
from pointcmt.datasets.store.schema import CORRESPONDENCES
from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.render.jobs.shards import NO_PIXEL
from pointcmt.shapes import UnitMesh
from tests.commands import pointcmt
from tests.render import shapes
from tests.render.job_commands import render, write_off
from tests.stores import tree

NEEDLE = UnitMesh(
    np.array([[-0.7, 0.1, -0.31], [0.71, 0.2, 0.42], [0.005, 0.15, 0.05501]]),
    np.array([[0, 1, 2]], np.int32),
)


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A ball, a needle much thinner than a pixel, and a wall that four of six views see edge-on."""
    root = tmp_path_factory.mktemp("odd")
    meshes = {"ball": shapes.sphere(6), "needle": NEEDLE, "wall": shapes.wall()}
    for name, mesh in meshes.items():
        write_off(root / f"{name}/train/{name}.off", mesh)
    return root


@pytest.fixture(scope="module")
def finished(odd, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "S"
    done = render(odd, out, "--up", "z", "--workers", 1)
    assert done.returncode == 0, done.stderr
    return out


def test_a_shape_in_no_pixel_is_noted_and_has_no_visible_points(finished):
    store = ViewStore.open(str(finished))
    ball, needle, wall = store.outcomes()
    assert needle.status == "done"
    assert NO_PIXEL in needle.notes
    assert NO_PIXEL not in ball.notes + wall.notes
    assert not np.any(store.read("face_index", 1) >= 0)
    assert not store.visible(1).any()
    points, camera = store.read("points", 1), store.camera(1)
    _, pixel = points_to_pixels(points, store.visible(1), camera)
    assert np.all(pixel == -1)
    assert np.all(pixels_to_points(points, store.visible(1), camera) == -1)
    assert verify(str(finished)).ok


def test_blank_views_have_no_visible_points(finished):
    store = ViewStore.open(str(finished))
    shows = np.any(store.read("face_index", 2) >= 0, axis=(1, 2))
    assert shows.tolist() == [True, True, False, False, False, False]
    np.testing.assert_array_equal(store.visible(2).any(axis=1), shows)
    assert store.visible(2)[shows].all()


def test_correspondences_of_blank_views_built_later_are_the_same(finished, tmp_path):
    out = shutil.copytree(finished, tmp_path / "S")
    shutil.rmtree(out / "visible/c")
    for shard in (0, 1):
        ViewStore.open(str(out)).forget(shard, CORRESPONDENCES)
    done = pointcmt("build-correspondences", out)
    assert done.returncode == 0, done.stderr
    assert tree(out / "visible") == tree(finished / "visible")


def test_pyrender_has_the_same_faces_and_depth(odd, finished, tmp_path):
    done = render(odd, tmp_path / "S", "--up", "z", "--workers", 1, "--backend", "pyrender")
    assert done.returncode == 0, done.stderr
    ours, theirs = ViewStore.open(str(finished)), ViewStore.open(str(tmp_path / "S"))
    assert theirs.outcomes()[0].backend == "pyrender"
    for name in ("face_index", "depth", "visible"):
        np.testing.assert_array_equal(theirs.read(name, slice(3)), ours.read(name, slice(3)))
