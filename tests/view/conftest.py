"""Stores and pages that the tests of this folder share."""

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pointcmt.datasets.selection import Selection
from pointcmt.datasets.sources import list_shapes
from pointcmt.view.contents import ViewOptions
from pointcmt.view.write import write_view
from tests.fake_s3dis import write_s3dis
from tests.render.shapes import BOX_CORNERS, BOX_FACES
from tests.scene_stores import render_rooms
from tests.stores import render_listing, render_scenes
from tests.view.browser import Browser, find_browser

WIDE, NARROW = 1280, 390  # pixels of the pages
HOSTILE = "</script><img src=x onerror=hacked=1><!--<script>&amp;\u2028{{index}}"


@pytest.fixture(scope="module")
def browser():
    path = find_browser()
    if path is None:
        pytest.skip("no Chromium here: apt-get install chromium-headless-shell")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        opened = Browser(path, Path(profile))
        opened.resize(WIDE)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def toy_page(toy_store, tmp_path_factory):
    """The folder of a page of five toy shapes."""
    out = tmp_path_factory.mktemp("view") / "P"
    write_view(toy_store, out, ViewOptions(Selection(limit=5)))
    return out


@pytest.fixture(scope="session")
def room_store(tmp_path_factory):
    return render_rooms(tmp_path_factory.mktemp("rooms") / "R", count=1, shard=1)


@pytest.fixture(scope="session")
def hostile_store(tmp_path_factory):
    """A cube and a broken file, whose names, class and dataset are HTML; with normals."""
    meshes = tmp_path_factory.mktemp("meshes")
    lines = [f"OFF\n{len(BOX_CORNERS)} {len(BOX_FACES)} 0"]
    lines += [" ".join(map(str, corner)) for corner in BOX_CORNERS]
    lines += [f"3 {a} {b} {c}" for a, b, c in BOX_FACES]
    (meshes / "box.off").write_text("\n".join(lines) + "\n")
    (meshes / "broken.off").write_text("OFF\n<b>\n")
    listing = list_shapes("folder", meshes)
    shapes = [replace(s, id=f"{HOSTILE}{s.id}", class_name=HOSTILE) for s in listing.shapes]
    listing = replace(listing, shapes=tuple(shapes), class_names=(HOSTILE,))
    out = tmp_path_factory.mktemp("hostile") / "S"
    store = render_listing(listing, out, layers=("normal",))
    store.attributes["source"]["name"] = HOSTILE  # as a forged root would say
    return store


@pytest.fixture(scope="session")
def bare_room_store(tmp_path_factory):
    """A room of points that no frame shows."""
    root = tmp_path_factory.mktemp("s3dis")
    write_s3dis(root, ["Area_1/office_1"])
    return render_scenes(list_shapes("s3dis", root), root / "R", points=4096, voxel=0.1)


def on_command_line(app, *words):
    """Run `pointcmt view` in this process; return its exit code and what it printed."""
    done = CliRunner().invoke(app, ["view", *map(str, words)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output
