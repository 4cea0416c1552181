"""Pictures of a store: there, of the right size, and points painted where they belong."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from pointcmt.errors import StoreError
from pointcmt.render.preview import choose_shapes, paint_points, preview
from tests.stores import tree


def test_a_preview_has_its_pictures_and_a_page_that_shows_them(toy_store, tmp_path):
    written = preview(toy_store, tmp_path / "P", shapes=6, views=3)
    assert [path.name for path in written] == ["contact_sheet.png", "points.png", "index.html"]
    sheet = np.asarray(Image.open(written[0]))
    assert sheet.shape[0] >= 32
    assert len(np.unique(sheet.reshape(-1, 3), axis=0)) > 50
    page = written[2].read_text()
    for name in ("contact_sheet.png", "points.png", "chair"):
        assert name in page


def test_shapes_are_taken_from_each_class_in_turn(toy_store):
    chosen = choose_shapes(toy_store, 10)
    assert len({toy_store.labels[shape] for shape in chosen}) == 10
    assert len(choose_shapes(toy_store, 1000)) == 40


def test_points_are_painted_on_the_pixels_they_project_to():
    image = np.full((10, 20, 3), 255, np.uint8)
    red = np.array([[255, 0, 0]], np.uint8)
    painted = paint_points(image, np.array([[15.5, 3.5]]), red, scale=2)
    assert painted.shape == (20, 40, 3)
    rows, columns = np.nonzero(painted[..., 1] < 128)
    assert (rows.mean(), columns.mean()) == (7, 31)  # the center of that pixel, twice as large


def test_a_preview_takes_the_place_of_an_earlier_one(toy_store, tmp_path):
    first = preview(toy_store, tmp_path / "P", shapes=2, views=1)
    pages = [path.read_bytes() for path in first]
    (tmp_path / "P/notes.txt").write_text("mine")
    assert preview(toy_store, tmp_path / "P", shapes=3, views=1) == first
    assert [path.read_bytes() for path in first] != pages
    names = {*(path.name for path in first), "notes.txt"}
    assert {path.name for path in (tmp_path / "P").iterdir()} == names


@pytest.mark.parametrize("name", ["index.html", "contact_sheet.png", "points.png"])
@pytest.mark.parametrize("kind", ["file", "link", "pipe", "folder"])
def test_files_that_no_preview_has_written_are_replaced_only_if_asked(
    toy_store, tmp_path, name, kind
):
    out, target = tmp_path / "P", tmp_path / "thesis.html"
    target.write_text("dear")
    out.mkdir()
    if kind == "link":
        (out / name).symlink_to(target)
    elif kind == "pipe":
        os.mkfifo(out / name)
    elif kind == "folder":
        (out / name).mkdir()
    else:
        (out / name).write_text("<!doctype html>\n<p>pointcmt preview</p>")
    with pytest.raises(StoreError, match=name):
        preview(toy_store, out, shapes=2, views=1)
    assert os.listdir(out) == [name]
    if kind == "folder":
        with pytest.raises(StoreError, match="a folder has the name of a file to write"):
            preview(toy_store, out, shapes=2, views=1, overwrite=True)
    else:
        preview(toy_store, out, shapes=2, views=1, overwrite=True)
        assert sorted(os.listdir(out)) == ["contact_sheet.png", "index.html", "points.png"]
    assert target.read_text() == "dear"


@pytest.mark.parametrize("place", ["", "preview", "rgb/c", "link"])
def test_no_preview_is_written_into_a_store(toy_store, tmp_path, place):
    store = shutil.copytree(toy_store.path, tmp_path / "S")
    (tmp_path / "link").symlink_to(tmp_path / "S/depth")
    before = tree(store)
    out = tmp_path / "link" if place == "link" else tmp_path / "S" / place
    with pytest.raises(StoreError, match=r"cannot be written into the view store .*S"):
        preview(toy_store, out, shapes=2, views=1, overwrite=True)
    assert tree(store) == before


@pytest.mark.parametrize("place", ["", "best"])
def test_no_preview_is_written_into_a_run(toy_store, tmp_path, place):
    (tmp_path / "RUN").mkdir()
    (tmp_path / "RUN/run.json").write_text('{"recipe": "student"}')
    with pytest.raises(StoreError, match=r"cannot be written into the run .*RUN"):
        preview(toy_store, tmp_path / "RUN" / place, shapes=2, views=1, overwrite=True)
    assert os.listdir(tmp_path / "RUN") == ["run.json"]
