"""The page in a real browser: clicks, keys and addresses, against the store."""

import numpy as np
import pytest

from pointcmt.correspondences import pixels_to_points
from pointcmt.datasets.selection import Selection
from pointcmt.render.preview import preview
from pointcmt.scenes import box_corners
from pointcmt.view import write
from pointcmt.view.contents import ViewOptions
from pointcmt.view.overlay import PredictedClasses
from pointcmt.view.packing import unpack
from pointcmt.view.serve import serving
from pointcmt.view.write import write_view
from tests.pages import Page
from tests.view.browser import pixel_of
from tests.view.conftest import HOSTILE, NARROW, WIDE


@pytest.fixture
def opened(browser, toy_page):
    """The page of toy shapes; afterwards, it must have logged no error and asked for nothing."""
    browser.resize(WIDE)
    url = (toy_page / "index.html").as_uri()
    browser.open(url)
    yield browser
    assert browser.problems() == []
    assert {request.partition("#")[0] for request in browser.requests()} == {url}


class Toy:
    """The shape that the page shows first, from the store, with the points of the page."""

    def __init__(self, store, folder):
        page = Page(folder / "index.html")
        self.line = page.json("index")["shapes"][0]
        self.index = [record.id for record in store.shapes].index(self.line["id"])
        data = page.json("shape-0")["points"]
        steps = np.array(data["step"])[:, None] * unpack(data)
        self.points = (np.array(data["low"])[:, None] + steps).T
        self.camera, self.visible = store.camera(self.index), store.visible(self.index)
        self.depth = store.depth(self.index)


@pytest.fixture(scope="module")
def toy(toy_store, toy_page):
    return Toy(toy_store, toy_page)


def rings(browser):
    return browser.evaluate(
        "state.shape.cameras.map((_, v) => inView(state.shape, v, state.chosen))"
    )


def test_projection_and_arrays_are_those_of_the_store(opened, toy, toy_store):
    points = np.random.default_rng(0).uniform(-1, 1, (20, 3))
    uv, depth = toy.camera.project(points)
    code = f"state.shape.cameras.map((c) => {points.tolist()}.map((p) => project(c, p)))"
    projected = np.array(opened.evaluate(code))
    assert np.abs(projected - np.dstack([uv, depth])).max() < 1e-10
    code = "state.shape.cameras.map((c, v) => %s[v].map((p) => unproject(c, ...p)))"
    again = np.array(opened.evaluate(code % projected.tolist()))
    assert np.abs(again - points).max() < 1e-12
    for name, key in (("depth", "depth"), ("face_index", "ids"), ("point_face", "point_face")):
        values = opened.evaluate(f"Array.from(state.shape.{key})")
        assert np.array_equal(values, toy_store.read(name, toy.index).ravel()), name
    seen = "state.shape.cameras.map((_, v) => Array.from({length: state.shape.count}, (_, n) => "
    assert np.array_equal(opened.evaluate(seen + "sees(state.shape, v, n)))"), toy.visible)
    assert np.abs(np.reshape(opened.evaluate("Array.from(state.shape.points)"), (3, -1)).T
                  - toy.points).max() < 1e-12  # fmt: skip


def test_every_pixel_has_the_point_that_the_package_gives_it(opened, toy):
    expected = pixels_to_points(toy.points, toy.visible, toy.camera)
    code = (
        "state.shape.cameras.map((_, v) => Array.from({length: 1024}, (_, i) => "
        "nearestPoint(state.shape, v, i % 32 + 0.5, (i >> 5) + 0.5, 2)))"
    )
    assert np.array_equal(np.reshape(opened.evaluate(code), expected.shape), expected)


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_a_click_on_a_pixel_rings_the_same_point_in_all_views(opened, toy, width):
    opened.resize(width)
    nearest = pixels_to_points(toy.points, toy.visible, toy.camera)[0]
    seen = toy.visible[:, nearest.clip(0)].sum(axis=0)
    row, column = np.argwhere((nearest >= 0) & (seen > 1) & (seen < len(toy.visible)))[7]
    point = nearest[row, column]
    opened.click(*pixel_of(opened, "$('large')", column, row))
    assert opened.evaluate("state.chosen.point") == point
    uv, _ = toy.camera.project(toy.points[[point]])
    found = rings(opened)
    assert np.abs([[ring["u"], ring["v"]] for ring in found] - uv[:, 0]).max() < 1e-10
    assert [ring["where"] for ring in found] == [
        "seen" if sees else "hidden" for sees in toy.visible[:, point]
    ]
    facts = opened.evaluate("$('facts').innerText")
    assert f"in {seen[row, column]} of 6 views" in facts
    assert opened.evaluate("$('heading').textContent") == f"Point {point}"
    captions = opened.evaluate(
        "[...document.querySelectorAll('#views figcaption')].map((c) => c.textContent)"
    )
    assert captions == [f"view {v} · {ring['where']}" for v, ring in enumerate(found)]
    ring = opened.evaluate(
        """(() => { const c = document.querySelectorAll('#views canvas')[0];
            const ring = inView(state.shape, 0, state.chosen), scale = c.width / state.shape.width;
            return Array.from(c.getContext('2d').getImageData(
                ring.u * scale + 6 * devicePixelRatio, ring.v * scale, 1, 1).data); })()"""
    )
    assert ring[0] > 200 and ring[1] < 100  # noqa: PT018 - the ring's color
    assert opened.evaluate("document.documentElement.scrollWidth") == width


def test_a_pixel_without_a_point_gives_the_surface(opened, toy):
    nearest = pixels_to_points(toy.points, toy.visible, toy.camera)[2]
    places = np.argwhere((nearest < 0) & (toy.depth[2] > 0))
    if not len(places):  # choose by depth nevertheless
        opened.evaluate("nearestPoint = () => -1")
        places = np.argwhere(toy.depth[2] > 0)
    row, column = places[len(places) // 2]
    canvas = "document.querySelectorAll('#views canvas')[2]"
    opened.click(*pixel_of(opened, canvas, column, row))
    position = opened.evaluate("state.chosen.position")
    center = np.array([[column + 0.5, row + 0.5]])
    expected = toy.camera[2].unproject(center, toy.depth[2][row, column][None].astype(np.float64))
    assert np.abs(position - expected[0]).max() < 1e-6
    uv, depth = toy.camera.project(expected)
    pixel = np.floor(uv[:, 0]).astype(int)
    shown = toy.depth[np.arange(6), pixel[:, 1], pixel[:, 0]]
    agree = (shown > 0) & (np.abs(shown - depth[:, 0]) <= 0.02 * depth[:, 0])
    assert [ring["where"] == "seen" for ring in rings(opened)] == agree.tolist()
    assert rings(opened)[2]["where"] == "seen"
    assert opened.evaluate("location.hash").endswith(f"&view=2&pixel={column}%2C{row}")


def test_a_click_on_the_cloud_chooses_its_point(opened, toy):
    opened.evaluate("state.turning = false")
    x, y, point = opened.evaluate(
        """(() => { const c = $('cloud'), b = c.getBoundingClientRect();
            const eye = orbitCamera(c.clientWidth, c.clientHeight);
            const all = Array.from({length: state.shape.count}, (_, n) =>
                [...project(eye, pointAt(state.shape, n)), n]).sort((p, q) => p[2] - q[2]);
            return [b.left + all[0][0], b.top + all[0][1], all[0][3]]; })()"""
    )  # the front point: nothing can hide it
    opened.click(x, y)
    assert opened.evaluate("state.chosen.point") == point
    assert [ring["where"] == "seen" for ring in rings(opened)] == toy.visible[:, point].tolist()


def test_an_address_shows_the_same_again(browser, toy, toy_page):
    url = (toy_page / "index.html").as_uri()
    third = Page(toy_page / "index.html").json("index")["shapes"][2]["id"]
    address = f"#shape={third.replace('/', '%2F')}&view=4&point=17&layer=depth"
    browser.open(url + address, ready="state.chosen !== null")
    found = browser.evaluate("[index.shapes[state.place].id, state.view, state.chosen.point]")
    assert found == [third, 4, 17]
    assert browser.evaluate("location.hash") == address
    assert browser.evaluate(
        "document.querySelector('#layers [aria-pressed=true]').textContent"
    ) == ("depth")
    browser.evaluate(f"location.hash = '#shape={toy.line['id']}&view=1&point=3'")
    browser.wait("state.place === 0 && state.chosen?.point === 3")
    browser.open(f"{url}#shape=no%2Fsuch&view=99&point=1e9")
    assert browser.evaluate("[state.place, state.view, state.chosen]") == [0, 0, None]


def test_keys_and_filters_step_through_shapes(opened, toy_page):
    lines = Page(toy_page / "index.html").json("index")["shapes"]
    opened.press("ArrowRight")
    opened.wait("state.place === 1 && state.shape")
    opened.press("ArrowLeft")
    opened.press("ArrowLeft")
    opened.wait(f"state.place === {len(lines) - 1} && state.shape")
    for key in ("j", "2", "c", "."):
        opened.press(key)
    assert opened.evaluate("[state.view, state.layer, state.cameras, state.chosen.point]") == [
        1, "depth", True, 0
    ]  # fmt: skip
    opened.press("Escape")
    assert opened.evaluate("state.chosen") is None
    wanted = lines[2]["class"]
    opened.evaluate(f"$('class').value = {wanted!r}; $('class').onchange()")
    own = [place for place, line in enumerate(lines) if line["class"] == wanted]
    opened.wait(f"state.place === {own[0]} && state.shape")
    assert opened.evaluate("shown") == own


def test_hostile_names_are_shown_as_text(browser, hostile_store, tmp_path):
    write_view(hostile_store, tmp_path)
    browser.open((tmp_path / "index.html").as_uri())
    assert browser.evaluate("typeof hacked") == "undefined"
    assert browser.evaluate("document.querySelectorAll('img').length") == 0
    assert browser.evaluate("$('title').textContent") == HOSTILE
    assert browser.evaluate("$('class').hidden") is True
    normal = hostile_store.read("normal", 0).astype(int)
    code = "state.shape.images.normal = undefined; Array.from({length: 1024}, (_, i) => "
    code += "pixelColor(state.shape, 'normals', 0, i % 32, i >> 5))"
    made = np.reshape(browser.evaluate(code), (32, 32, 3))
    inside = np.zeros((32, 32), bool)
    inside[12:20, 12:20] = True  # the middle of a face of the cube
    assert np.abs(made[inside] - normal[0][inside]).max() <= 2
    browser.press("ArrowRight")
    browser.wait("$('message').textContent.includes('failed')")
    (failure,) = hostile_store.failures()
    assert failure.detail in browser.evaluate("$('message').textContent")
    assert browser.problems() == []


def test_shapes_in_files_are_loaded_when_asked_for(browser, toy_store, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "MOST_INLINE", 1)
    write_view(toy_store, tmp_path, ViewOptions(Selection(limit=3), views=3))
    browser.open((tmp_path / "index.html").as_uri())
    browser.press("ArrowRight")
    browser.wait("state.place === 1 && state.shape")
    asked = [request.rpartition("/")[2] for request in browser.requests()]
    assert asked == ["index.html", "shape-000000.js", "shape-000001.js"]
    assert browser.problems() == []
    (tmp_path / "shape-000002.js").unlink()
    browser.press("ArrowRight")
    browser.wait("$('message').textContent.includes('shape-000002.js is missing')")


def test_served_shapes_are_loaded_when_asked_for(browser, toy_store, toy):
    with serving(toy_store, ViewOptions(views=3)) as url:
        browser.open(f"{url}#shape={toy.line['id']}&view=5&point=3", ready="state.chosen !== null")
        assert browser.evaluate("[state.shape.views, state.view]") == [[0, 2, 5], 2]
        seen = [ring["where"] == "seen" for ring in rings(browser)]
        assert seen == toy.visible[[0, 2, 5], 3].tolist()
        assert browser.evaluate("$('count').textContent") == "40 of 40"
        assert all(request.startswith(url) for request in browser.requests())
    assert browser.problems() == []


def test_a_scene_has_its_boxes_and_frames(browser, room_store, tmp_path):
    write_view(room_store, tmp_path)
    browser.open((tmp_path / "index.html").as_uri())
    boxes = room_store.read("boxes", 0)
    edges = np.array(browser.evaluate("state.shape.boxes.map(boxEdges)"))
    for box, own in zip(boxes, edges, strict=True):
        found = np.unique(own.reshape(-1, 3).round(5), axis=0)
        expected = box_corners(box[None])[0]
        assert np.abs(found[:, None] - expected).max(axis=-1).min(axis=1).max() < 1e-4
        assert len(found) == 8
        lengths = np.sort(np.linalg.norm(own[:, 0] - own[:, 1], axis=1))
        assert np.abs(lengths - np.sort(np.repeat(box[3:6], 4))).max() < 1e-4
    browser.evaluate("choosePixel(1, 40, 30)")
    assert browser.evaluate("state.chosen !== null")
    assert browser.problems() == []


def test_a_room_without_frames_is_a_cloud(browser, bare_room_store, tmp_path):
    write_view(bare_room_store, tmp_path)
    browser.open((tmp_path / "index.html").as_uri())
    browser.press(".")
    browser.press("j")
    assert browser.evaluate("[state.shape.cameras.length, state.chosen.point]") == [0, 0]
    assert "position" in browser.evaluate("$('facts').innerText")
    assert browser.evaluate("document.querySelector('.large').clientWidth") == 0
    assert browser.problems() == []


def test_confusions_are_lists_of_shapes(browser, toy_store, tmp_path):
    chairs, lamps = ([f"{name}/0000", f"{name}/0001"] for name in ("chair", "lamp"))
    scores = {shape: {"lamp": 0.75, "chair": 0.25} for shape in (*chairs, lamps[0])}
    overlay = PredictedClasses(toy_store, scores, frozenset(("chair", "lamp")))
    options = ViewOptions(Selection(shapes=[*chairs, *lamps]), views=1, overlay=overlay)
    write_view(toy_store, tmp_path, options)
    browser.open((tmp_path / "index.html").as_uri())
    browser.evaluate("for (const [id, value] of [['class', 'chair'], ['predicted', 'lamp']]) "
                     "$(id).value = value; filter()")  # fmt: skip
    assert browser.evaluate("shown.map((place) => index.shapes[place].id)") == chairs
    assert "lamp 75.0 %, chair 25.0 %" in browser.evaluate("$('facts').innerText")
    for state, ids in (("wrong", chairs), ("right", lamps[:1])):
        browser.evaluate(f"clearFilters(); $('state').value = '{state}'; filter()")
        assert browser.evaluate("shown.map((place) => index.shapes[place].id)") == ids


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_a_preview_shows_its_pictures_under_its_policy(browser, toy_store, tmp_path, width):
    preview(toy_store, tmp_path, shapes=2, views=2)
    policy = Page(tmp_path / "index.html").policy
    assert policy["default-src"] == ["'none'"]
    assert "script-src" not in policy
    browser.resize(width)
    browser.open((tmp_path / "index.html").as_uri(), ready="document.images.length === 2")
    browser.wait("[...document.images].every((image) => image.complete)")
    assert browser.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    assert browser.problems() == []
