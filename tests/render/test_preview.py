"""Previews of a store: they exist, have the right size, and paint points on their pixels."""

import os
import shutil

import numpy as np
import pytest
import trimesh
from PIL import Image

from pointcmt.commands.inspect import preview as preview_command
from pointcmt.datasets.selection import Selection, in_turn
from pointcmt.datasets.sources import list_shapes
from pointcmt.errors import StoreError, UsageError
from pointcmt.render.preview import Choice, preview
from pointcmt.render.preview_layers import layer_images
from pointcmt.render.preview_sheets import (
    CAPTION,
    HIDDEN,
    PAGE,
    SHARE_OF_DOTS,
    caption_of,
    caption_size,
    contact_sheet,
    grid,
    paint_points,
    points_to_draw,
    strip,
)
from tests.render.shapes import BOX_CORNERS, BOX_FACES
from tests.stores import render_listing, tree


def test_a_preview_has_images_and_a_page_that_shows_them(toy_store, tmp_path):
    written = preview(toy_store, tmp_path / "P", shapes=6, views=3)
    assert [path.name for path in written] == ["contact_sheet.png", "points.png", "index.html"]
    sheet = np.asarray(Image.open(written[0]))
    assert sheet.shape[0] >= 32
    assert len(np.unique(sheet.reshape(-1, 3), axis=0)) > 50
    page = written[2].read_text()
    for name in ("contact_sheet.png", "points.png", "chair", 'name="viewport"'):
        assert name in page


def test_shapes_are_taken_from_each_class_in_turn(toy_store):
    chosen = in_turn(np.arange(40), toy_store.labels, 10)
    assert len({toy_store.labels[shape] for shape in chosen}) == 10
    assert len(in_turn(np.arange(40), toy_store.labels, 1000)) == 40


def test_points_are_painted_on_the_pixels_they_project_to():
    image = np.full((10, 20, 3), 255, np.uint8)
    red = np.array([[255, 0, 0]], np.uint8)
    painted = paint_points(image, np.array([[15.5, 3.5]]), red, scale=2)
    assert painted.shape == (20, 40, 3)
    rows, columns = np.nonzero(painted[..., 1] < 128)
    assert (rows.mean(), columns.mean()) == (7, 31)  # the center of that pixel, at twice the size


def test_hidden_points_are_gray_rings_below_the_visible_ones():
    image, red = np.full((10, 20, 3), 255, np.uint8), np.array([[255, 0, 0]], np.uint8)
    hidden = np.array([[5.0, 5.0], [15.5, 3.5]])
    painted = paint_points(image, np.array([[15.5, 3.5]]), red, 2, hidden)
    rows, columns = np.nonzero(np.all(painted == HIDDEN, axis=-1))
    assert len(rows) > 3
    assert abs(rows.mean() - 10) <= 0.5  # the other one is below a dot
    assert abs(columns.mean() - 10) <= 0.5
    assert not np.all(painted[10, 10] == HIDDEN)  # a ring, not a disc


@pytest.mark.parametrize("area", [300, 2000, 10_000])
@pytest.mark.parametrize("scale", [2, 6])
def test_dots_leave_most_of_a_thin_shape_visible(area, scale):
    """Dots side by side on a plate of this area, at the most points that are drawn."""
    side = int(np.sqrt(area))
    image = np.zeros((side, side, 3), np.uint8)
    count = points_to_draw(side * side, scale)
    places = np.stack(np.meshgrid(*[np.linspace(2, side - 2, int(np.sqrt(count)))] * 2), -1)
    uv = places.reshape(-1, 2)
    painted = paint_points(image, uv, np.tile(np.uint8([255, 0, 0]), (len(uv), 1)), scale)
    share = np.mean(np.all(painted == (255, 0, 0), axis=-1))
    assert 0 < share <= 1.2 * SHARE_OF_DOTS


def test_captions_name_id_class_and_split_and_are_legible_on_the_page(toy_store):
    record = toy_store.shapes[0]
    assert caption_of(toy_store, 0) == f"{record.id} · {record.class_name} · {record.split}"
    for width in (300, 1200, 4480):
        assert caption_size(width) * min(1, PAGE / width) >= CAPTION - 0.5
    images = np.full((2, 100, 100, 3), 255, np.uint8)
    for text in ("chair/0000 · chair · train", "a/very/long/path/" * 9 + "x · chair · train"):
        drawn = np.asarray(strip(images, text, 14))
        assert drawn.shape[1] == 200
        ink = np.flatnonzero((drawn[:21] < 128).any(axis=(0, 2)))
        assert ink.max() < 198  # the end of the text, class and split, is never cut
        assert len(ink) > 80


def test_sheets_of_small_images_are_enlarged_so_that_captions_fit(toy_store):
    sheet = contact_sheet(toy_store, [0, 1], [0, 1])
    assert sheet.size == (4 * 96, 96 + 21)


def test_tiles_of_different_sizes_are_whole():
    small, wide = np.zeros((1, 10, 10, 3), np.uint8), np.zeros((3, 10, 10, 3), np.uint8)
    sheet = np.asarray(grid([strip(small, "", 10), strip(wide, "", 10)], columns=1))
    assert sheet.shape == (50, 30, 3)
    assert not sheet[40:, :].any()


def test_shapes_are_chosen_by_id_class_and_split(toy_store, tmp_path):
    ids = [record.id for record in toy_store.shapes if record.class_name == "mug"]
    one = preview(toy_store, tmp_path / "A", 9, 1, choice=Choice(Selection(shapes=ids[:1])))
    same = preview(toy_store, tmp_path / "B", 1, 1, choice=Choice(Selection(classes=["mug"])))
    assert one[0].read_bytes() == same[0].read_bytes()
    with pytest.raises(UsageError, match="no class is called 'mugg'"):
        preview(toy_store, tmp_path / "C", 9, 1, choice=Choice(Selection(classes=["mugg"])))
    assert not (tmp_path / "C").exists()


@pytest.mark.parametrize("layer", ["depth", "ids"])
def test_other_layers_have_the_silhouette_of_the_images(toy_store, tmp_path, layer):
    shown = layer_images(toy_store, 2, [0, 3], layer)
    covered = toy_store.read("face_index", 2)[[0, 3]] >= 0
    assert np.array_equal(np.any(shown < 255, axis=-1), covered)
    files = [
        preview(toy_store, tmp_path / name, 2, 2, choice=Choice(layer=name))[0]
        for name in ("rgb", layer)
    ]
    assert files[0].read_bytes() != files[1].read_bytes()


def test_a_layer_that_the_store_lacks_is_refused(toy_store, tmp_path):
    with pytest.raises(UsageError, match="no layer 'albedo'"):
        preview(toy_store, tmp_path / "P", 2, 2, choice=Choice(layer="albedo"))


def test_only_failed_shapes_are_listed_with_their_reasons(tmp_path, toy_store):
    for name in ("good", "bad", "worse"):
        (tmp_path / "D" / name).mkdir(parents=True)
    trimesh.Trimesh(BOX_CORNERS, BOX_FACES).export(tmp_path / "D/good/box.off")
    (tmp_path / "D/bad/broken.off").write_text("OFF\n<b>\n")
    (tmp_path / "D/worse/empty.off").write_text("")
    store = render_listing(list_shapes("folder", tmp_path / "D"), tmp_path / "S")
    (page,) = preview(store, tmp_path / "P", 9, 1, choice=Choice(failed=True))
    assert "broken" in page.read_text()
    assert "Failed: 2" in page.read_text()
    only = Choice(Selection(classes=["worse"]), failed=True)
    (page,) = preview(store, tmp_path / "P", 9, 1, choice=only)
    assert "broken" not in page.read_text()
    assert "Failed: 1" in page.read_text()
    with pytest.raises(UsageError, match="none of these shapes has failed"):
        preview(toy_store, tmp_path / "Q", 9, 1, choice=Choice(failed=True))


def test_the_command_passes_its_choices_on(toy_store, tmp_path, capsys):
    preview_command(
        str(toy_store.path), tmp_path / "P", classes=["sofa"], split="train", layer="ids"
    )
    assert capsys.readouterr().out.count("\n") == 3
    wanted = Choice(Selection("train", classes=["sofa"]), layer="ids")
    written = preview(toy_store, tmp_path / "Q", 20, 10, choice=wanted)
    assert (tmp_path / "P/contact_sheet.png").read_bytes() == written[0].read_bytes()


def test_a_preview_replaces_an_earlier_one(toy_store, tmp_path):
    first = preview(toy_store, tmp_path / "P", shapes=2, views=1)
    pages = [path.read_bytes() for path in first]
    (tmp_path / "P/notes.txt").write_text("mine")
    assert preview(toy_store, tmp_path / "P", shapes=3, views=1) == first
    assert [path.read_bytes() for path in first] != pages
    names = {*(path.name for path in first), "notes.txt"}
    assert {path.name for path in (tmp_path / "P").iterdir()} == names


@pytest.mark.parametrize("name", ["index.html", "contact_sheet.png", "points.png"])
@pytest.mark.parametrize("kind", ["file", "link", "pipe", "folder"])
def test_foreign_files_in_the_preview_folder_need_the_overwrite_flag(
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
