"""What a run adds to the page, in a real browser: layers, clicks, and lists of confusions."""

import numpy as np
import pytest

from pointcmt.datasets.selection import Selection
from pointcmt.view.contents import ViewOptions
from pointcmt.view.overlay import (
    Boxes,
    Labels,
    Overlays,
    PredictedBoxes,
    PredictedLabels,
    ViewMatches,
    pack_colors,
)
from pointcmt.view.packing import unpack
from pointcmt.view.write import write_view
from tests.view.browser import pixel_of
from tests.view.conftest import NARROW, WIDE

COUNT = 200  # of 256 points that the run reads
NAMES = ("seat", "back", "leg")
CHOSEN = ["chair/0000", "chair/0001", "lamp/0000"]


class Extra:
    """Features that are the points' places, and matches of each view with the next one."""

    def __init__(self, store, matches):
        self.store, self.matches = store, matches

    def about(self):
        return {}

    def line(self, shape):
        return {}

    def data(self, shape, views):
        places = self.store.read("points", shape)[:COUNT]
        return {"feature_color": pack_colors((places + 1) / 2), **self.matches.data()}


@pytest.fixture(scope="module")
def matches():
    rng = np.random.default_rng(0)
    true = rng.uniform(0, 32, (6, 4, 4, 2)).round(2)
    valid = np.ones((6, 4, 4), bool)
    valid[:, 0] = False
    tokens = np.arange(4) * 8 + 4.5
    partner = np.array([1, 2, 3, 4, 5, -1])
    return ViewMatches(partner, tokens, tokens, valid, true, (true + np.array([3, 4])).round(2))


@pytest.fixture(scope="module")
def labeled(toy_store, matches):
    """By number of a shape: predicted and true parts; and the overlay with them."""
    ids = [record.id for record in toy_store.shapes]
    numbers = [ids.index(shape) for shape in CHOSEN]
    rng = np.random.default_rng(1)
    labels = {n: Labels(NAMES, *rng.integers(0, 3, (2, COUNT))) for n in numbers}
    confusions = [{"seat → back": 5, "leg → back": 1}, {"seat → back": 9}, {}]
    shares = dict(zip(numbers, (0.5, 0.25, 1.0), strict=True))
    predicted = PredictedLabels(labels, shares, dict(zip(numbers, confusions, strict=True)))
    return labels, Overlays((predicted, Extra(toy_store, matches)))


@pytest.fixture
def opened(browser, toy_store, labeled, tmp_path):
    options = ViewOptions(Selection(shapes=CHOSEN), overlay=labeled[1])
    (page,) = write_view(toy_store, tmp_path / "P", options)
    browser.resize(WIDE)
    browser.open(page.as_uri())
    browser.evaluate("state.turning = false")
    yield browser
    assert browser.problems() == []


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_predicted_parts_stand_beside_the_true_ones(opened, labeled, toy_store, width):
    opened.resize(width)
    opened.evaluate("setLayer('predicted')")
    number = next(iter(labeled[0]))
    own, visible = labeled[0][number], toy_store.visible(number)
    shown = [label for label in range(3) if label in own.predicted or label in own.true]
    legend = opened.evaluate("[...document.querySelectorAll('#legend li')].map((l) => l.innerText)")
    assert legend == [NAMES[label] for label in shown]
    again = "legendOf(state.shape, index.shapes[state.place], state.layer)"
    assert opened.evaluate(f"{again} === {again}")  # pixels are not counted on every pointer move
    boxes = opened.evaluate(
        "['large', 'other', 'cloud', 'twin'].map((id) => $(id).getBoundingClientRect().toJSON())"
    )
    assert all(box["width"] > 100 for box in boxes)
    assert boxes[0]["top"] == boxes[1]["top"]  # side by side
    assert boxes[2]["right"] < boxes[3]["left"]
    assert opened.evaluate("document.documentElement.scrollWidth") == width
    colors = [opened.evaluate(f"idColor({label})") for label in range(3)]
    for layer, labels in (("predicted", own.predicted), ("truth", own.true)):
        code = f"Array.from({{length: 256}}, (_, n) => pointColor(state.shape, '{layer}', n))"
        assert opened.evaluate(code) == [colors[label] for label in labels] + [None] * 56
    # Every pixel has the color of the nearest point that the view sees, or of none.
    painted = opened.evaluate(f"Array.from(pointMap(state.shape, 0, {COUNT}))")
    uv, _ = toy_store.camera(number).project(toy_store.read("points", number)[:COUNT])
    depth = toy_store.depth(number)[0]
    for pixel, point in enumerate(painted):
        row, column = divmod(pixel, 32)
        assert point < 0 or (depth[row, column] > 0 and visible[0, point])
        if point >= 0:
            assert np.abs(uv[0, point] - [column + 0.5, row + 0.5]).max() < 8
    covered = np.array(painted)[depth.ravel() > 0]
    assert np.mean(covered >= 0) > 0.8


def test_a_point_says_what_is_predicted_for_it(opened, labeled):
    own = next(iter(labeled[0].values()))
    wrong = int(np.flatnonzero(own.predicted != own.true)[0])
    opened.evaluate(f"setLayer('predicted'); choosePoint({wrong})")
    facts = opened.evaluate("$('facts').innerText")
    assert f"predicted\n{NAMES[own.predicted[wrong]]}" in facts
    assert (
        opened.evaluate("$('facts').querySelector('.wrong').textContent")
        == (NAMES[own.predicted[wrong]])
    )
    assert "50.0 % of the labeled points" in facts
    opened.evaluate("choosePoint(250)")
    assert "the run reads fewer points" in opened.evaluate("$('facts').innerText")


def test_confusions_are_lists_with_the_worst_first(opened):
    options = opened.evaluate("[...$('confused').options].map((o) => o.text)")
    assert options == ["any confusion", "seat → back (2)", "leg → back (1)"]
    opened.evaluate("$('confused').value = 'seat → back'; $('confused').onchange()")
    opened.wait("state.shape !== null")
    shown = opened.evaluate("[...$('shape').options].map((o) => o.text)")
    assert shown == ["chair/0001 · 25.0 %", "chair/0000 · 50.0 %"]
    opened.press("ArrowRight")
    opened.wait("index.shapes[state.place].id === 'chair/0001' && state.shape")


def test_features_color_points_and_views(opened, toy_store):
    opened.evaluate("setLayer('features')")
    expected = np.rint(255 * (toy_store.read("points", 0)[:COUNT] + 1) / 2)
    code = f"Array.from({{length: {COUNT}}}, (_, n) => pointColor(state.shape, 'features', n))"
    assert np.array_equal(opened.evaluate(code), expected)
    row, column, point = opened.evaluate(
        f"((map) => {{ const i = map.findIndex((n) => n >= 0); return [i >> 5, i % 32, map[i]]; }})"
        f"(pointMap(state.shape, 0, {COUNT}))"
    )
    code = f"pixelColor(state.shape, 'features', 0, {column}, {row})"
    assert np.array_equal(opened.evaluate(code), expected[point])


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_a_pixel_is_matched_with_the_other_view(opened, matches, toy_store, width):
    opened.resize(width)
    opened.evaluate("setLayer('matches')")
    assert opened.evaluate("$('other-caption').textContent") == "view 1"
    facts = opened.evaluate("$('facts').innerText")
    assert "12 in view 1, off by 5.0 pixels on average" in facts
    depth = toy_store.depth(0)[0]
    covered = [(r, c) for r in range(1, 4) for c in range(4) if depth[8 * r + 4, 8 * c + 4] > 0]
    row, column = covered[0]
    opened.click(*pixel_of(opened, "$('large')", 8 * column + 4, 8 * row + 4))
    facts = opened.evaluate("$('facts').innerText")
    u, v = matches.true[0, row, column]
    assert f"({u:.1f}, {v:.1f}) in view 1" in facts or "off by\n5.0 pixels" in facts
    assert "off by\n5.0 pixels" in facts
    marks = opened.evaluate(
        "(() => { const c = $('other'); return Array.from(c.getContext('2d').getImageData("
        f"Math.round({u} * c.width / 32), Math.round({v} * c.width / 32), 1, 1).data); }})()"
    )
    assert marks[2] > 120  # blue: the true place
    opened.evaluate("choose(null, 5)")
    assert opened.evaluate("document.querySelector('.other').hidden") is True
    assert "none: no other view shows the same surface" in opened.evaluate("$('facts').innerText")
    assert opened.evaluate("document.documentElement.scrollWidth") == width


def test_predicted_boxes_stand_beside_the_true_ones(browser, room_store, tmp_path):
    true = room_store.read("boxes", 0)
    moved = true + np.array([0.1, 0, 0, 0, 0, 0, 0])
    label = room_store.read("box_label", 0)
    names = tuple(room_store.box_names)
    found = Boxes(moved, label, np.linspace(0.9, 0.5, len(moved)))
    overlay = PredictedBoxes(names, {0: found}, {0: {f"{names[0]} → not found": 1}})
    (page,) = write_view(room_store, tmp_path / "P", ViewOptions(overlay=overlay))
    browser.resize(WIDE)
    browser.open(page.as_uri())
    browser.evaluate("setLayer('predicted')")
    for layer, boxes in (("predicted", moved), ("truth", true), ("rgb", true)):
        code = f"boxesOf(state.shape, '{layer}').map((one) => one.box)"
        assert np.allclose(browser.evaluate(code), boxes, atol=1e-4)
    texts = browser.evaluate("boxesOf(state.shape, 'predicted').map((one) => one.text)")
    assert texts[0] == f"{names[label[0]]} 0.90"
    assert browser.evaluate("layerImage(state.shape, 'predicted', 0) === state.shape.images.rgb[0]")
    shown = "['other', 'twin'].map((id) => $(id).parentElement.hidden)"
    assert browser.evaluate(shown) == [False, False]
    assert f"{len(true)} predicted, {len(true)} true" in browser.evaluate("$('facts').innerText")
    assert "not found (1)" in browser.evaluate("$('confused').innerText")
    assert browser.problems() == []


def test_packed_matches_are_the_same_up_to_a_hundredth_of_a_pixel(matches):
    data = matches.data()["matching"]
    assert np.array_equal(unpack(data["true"]).reshape(matches.true.shape) / 100, matches.true)
    assert data["partner"] == [1, 2, 3, 4, 5, -1]
