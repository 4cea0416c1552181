"""Figures are drawn for any length of run and any number of classes."""

import io

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from PIL import Image

from pointcmt.training.figures.confusion import confusion_figure, draw_confusion
from pointcmt.training.figures.plots import (
    PARTS,
    Segmented,
    draw_clouds,
    draw_curve,
    draw_parts,
    to_png,
)
from pointcmt.training.figures.pretraining import (
    LABEL_WIDTH,
    Look,
    Pair,
    draw_features,
    draw_matches,
    in_label,
    in_title,
    principal_colors,
    spread_out,
)


def size(png):
    with Image.open(io.BytesIO(png)) as image:
        image.verify()
        return image.size


@pytest.mark.parametrize("epochs", [1, 2, 1000])
def test_curves_of_any_length_are_drawn(epochs):
    keys = ("loss", "accuracy", "val_loss", "val_accuracy")
    records = [{"epoch": e, **dict.fromkeys(keys, 1 / e)} for e in range(1, epochs + 1)]
    assert size(draw_curve(records, best=1, title="student")) == (1080, 432)


@pytest.mark.parametrize("keys", [("matching",), ("val_matching",), ()])
def test_a_term_that_some_epochs_lack_is_drawn_with_gaps(keys):
    """A term that all epochs lack is not drawn."""
    every = dict.fromkeys(("loss", "val_loss", "transfer", "val_transfer"), 0.5)
    records = [{"epoch": 1, **every}, {"epoch": 2, **every, **dict.fromkeys(keys, 0.7)}]
    panels = 3 if keys else 2
    assert size(draw_curve(records, best=1, title="mvnet")) == (60 + 510 * panels, 432)


@pytest.mark.parametrize("classes", [2, 10, 40, 100])
def test_confusion_matrices_of_any_size_are_drawn(classes):
    names = [f"class {i}" for i in range(classes)]
    confusion = np.random.default_rng(0).integers(0, 9, (classes, classes))
    width, height = size(draw_confusion(confusion, names, "test"))
    assert width > height > 500
    assert width < 2600


def texts(figure):
    """The texts of a confusion matrix by row and column, and the color bar's label."""
    axes, bar = figure.axes
    places = [tuple(round(x) for x in text.get_position()[::-1]) for text in axes.texts]
    cells = dict(zip(places, (text.get_text() for text in axes.texts), strict=True))
    return cells, bar.get_ylabel()


def test_few_classes_show_counts_and_many_show_percentages():
    few = np.array([[3, 1], [0, 120_000]])
    cells, label = texts(confusion_figure(few, ["a", "b"], "test"))
    assert cells == {(0, 0): "3", (0, 1): "1", (1, 1): "120k"}
    assert label == "share of the true class; numbers: counts"
    many = np.eye(40, dtype=np.int64) * 75
    many[2, 5] = 25
    many[3, 7] = 0
    many[4] *= 0
    many[4, 4], many[4, 6] = 999, 1  # 0.1 %: not written
    cells, label = texts(confusion_figure(many, [f"class {i}" for i in range(40)], "test"))
    assert (cells[2, 2], cells[2, 5], cells[0, 0], cells[4, 4]) == ("75", "25", "100", "100")
    assert (4, 6) not in cells
    assert label == "share of the true class; numbers: percent"


@pytest.mark.parametrize("classes", [3, 40, 60])
def test_numbers_and_names_of_a_confusion_matrix_do_not_overlap(classes):
    confusion = np.full((classes, classes), 1)
    figure = confusion_figure(confusion, ["a class with a long name"] * classes, "test")
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    (axes, _), (_, height) = figure.axes, figure.canvas.get_width_height()
    cell = axes.get_window_extent(renderer).width / classes
    for text in axes.texts:
        box = text.get_window_extent(renderer)
        assert max(box.width, box.height) <= cell
    for label in axes.get_xticklabels():
        box = label.get_window_extent(renderer)
        assert box.width <= 1.2 * cell
        assert 0 <= box.y0 <= box.y1 <= height
    for label in axes.get_yticklabels():
        assert label.get_window_extent(renderer).x0 >= 0


def test_absent_classes_are_left_out_of_a_confusion_matrix():
    confusion = np.array([[2, 0, 1, 0], [0, 0, 0, 0], [0, 0, 4, 0], [0, 0, 0, 0]])
    axes, _ = confusion_figure(confusion, ["a", "b", "c", "d"], "test").axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "c"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "c"]
    assert "left out, neither true nor predicted: 2 classes" in axes.get_title()


def test_generated_clouds_are_drawn_with_their_distance():
    cloud = np.random.default_rng(0).random((50, 3), np.float32) - 0.5
    assert size(draw_clouds([(cloud, cloud)] * 2, [0.0, 0.123]))[1] > 400
    assert draw_clouds([(cloud, cloud)], [0.0]) != draw_clouds([(cloud, cloud)], [0.123])


def test_labels_beside_features_fit():
    assert in_label("chair/0000") == "chair/0000"
    long = in_label("a_very_long/path/" * 12 + "chair_0001")
    lines = long.splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= LABEL_WIDTH
    assert long.startswith("…")
    assert long.endswith("chair_0001")


def test_parts_have_colors_and_wrong_parts_are_marked():
    """One shape with correct parts, and one with a wrongly predicted part."""
    rng = np.random.default_rng(0)
    cloud = rng.uniform(-0.5, 0.5, (400, 3)).astype(np.float32)
    true = (cloud[:, 2] > 0).astype(np.int64)
    wrong = np.zeros_like(true)
    shapes = [
        Segmented(cloud, true, true, "lamp", ("foot", "shade"), 1.0),
        Segmented(cloud, true, wrong, "mug", ("cup", "handle", "lid"), 0.42),
    ]
    figure = draw_parts(shapes)
    assert size(to_png(figure))[1] > 400
    panels = np.reshape(figure.axes, (2, 2))
    blue, orange = (tuple(to_rgba(color)) for color in PARTS[:2])
    for column, shape in enumerate(shapes):
        assert panels[0, column].get_title() == shape.name
        assert panels[1, column].get_xlabel() == f"IoU {shape.iou:.0%}"
        legend = panels[1, column].get_legend()
        assert [text.get_text() for text in legend.get_texts()] == list(shape.parts)
        for row, parts in enumerate((shape.true, shape.predicted)):
            (dots,) = panels[row, column].collections
            colors = [tuple(color) for color in dots.get_facecolors()]
            assert colors.count(blue) == (parts == 0).sum()
            assert colors.count(orange) == (parts == 1).sum()


def test_feature_colors_are_principal_components_and_deterministic():
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    scores = rng.normal(size=(500, 8)) * [9, 5, 3, 0.1, 0.1, 0.1, 0.1, 0.1]
    features = scores @ axes.T + 4
    palette = principal_colors(features)
    for place in range(3):  # up to one of two signs
        assert abs(palette.axes[:, place] @ axes[:, place]) > 0.99
    colors = palette.paint(features)
    assert ((colors >= 0) & (colors <= 1)).all()
    assert np.array_equal(palette.paint(features[:7]), colors[:7])
    order = np.argsort(features @ palette.axes[:, 0])
    assert np.all(np.diff(colors[order, 0]) >= 0)
    flipped = principal_colors(features[::-1]).paint(features)
    np.testing.assert_allclose(flipped, colors, atol=1e-6)
    assert principal_colors(np.ones((5, 2))).paint(np.ones((4, 2))).shape == (4, 3)
    assert not principal_colors(np.ones((0, 5))).paint(np.ones((4, 5))).any()


def test_drawn_matches_are_far_from_each_other():
    places = np.stack(np.meshgrid(np.arange(10), np.arange(10)), -1).reshape(-1, 2) / 10
    chosen = places[spread_out(places, 5)]
    away = np.linalg.norm(chosen[:, None] - chosen, axis=2) + 9 * np.eye(5)
    assert away.min() > 0.4
    assert spread_out(places[:3], 5) in ([0, 2, 1], [0, 1, 2])
    assert spread_out(places[:0], 5) == []


@pytest.mark.parametrize(("shapes", "network"), [(1, True), (4, True), (2, False)])
def test_pretraining_figures_of_any_number_of_shapes_are_drawn(shapes, network):
    image, points = np.ones((20, 20, 3), np.float32), np.full((7, 7, 3), np.nan, np.float32)
    level = np.full((3, 3, 3), 0.5, np.float32) if network else None
    looks = [Look("a shape", image, points, level, level)] * (2 * shapes)
    wide, tall = size(draw_features(looks, "net"))
    assert tall > 400 * shapes
    assert wide > (900 if network else 400)
    ends = np.random.default_rng(0).random((3, 9, 2)).astype(np.float32)
    pairs = [Pair("a/1", (image, image), *some) for some in (ends, ends[:, :0])]
    error = 100 * np.abs(ends[1] - ends[2]).mean()
    assert in_title(pairs[0]) == f"a/1\n9 matches, off by {error:.1f}% of the image"
    assert in_title(pairs[1]) == "a/1\nno match"
    assert min(size(draw_matches(pairs[: min(shapes, 2)]))) > 300


def test_names_from_data_sets_are_drawn_literally():
    names = [r"$\frac$", "a$b", "_hidden", "two\nlines", "\x1b[2J"]
    draw_confusion(np.eye(5, dtype=np.int64), names, "title")  # which would raise for a formula
    cloud, parts = np.zeros((4, 3), np.float32), np.arange(4)
    shape = Segmented(cloud, parts, parts, r"$\frac$", tuple(names[:4]), 1.0)
    figure = draw_parts([shape])
    to_png(figure)
    shown = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert len(shown) == 4
