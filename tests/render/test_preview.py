"""Pictures of a store: there, of the right size, and points painted where they belong."""

import numpy as np
from PIL import Image

from pointcmt.render.preview import choose_shapes, paint_points, preview


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
    assert (rows.mean(), columns.mean()) == (7, 31)  # the centre of that pixel, twice as large
