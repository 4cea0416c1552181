"""The data in the page is that of the store, and nothing in it can run or be fetched."""

import base64
import io
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from pointcmt.datasets.export.shapes import read_shape
from pointcmt.datasets.selection import Selection
from pointcmt.datasets.store.schema import CORRESPONDENCES, pack_visible, shard_key
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import DamageError, StoreError, UsageError
from pointcmt.view import write
from pointcmt.view.contents import ViewOptions
from pointcmt.view.packing import STEPS, pack, unpack
from pointcmt.view.shapes import shape_data, spread_views
from pointcmt.view.write import write_view
from tests.pages import Page, sha256_source, shape_of_script
from tests.stores import render_toy, tree
from tests.view.conftest import HOSTILE


def images(uris):
    data = [base64.b64decode(uri.removeprefix("data:image/webp;base64,")) for uri in uris]
    return np.stack([np.asarray(Image.open(io.BytesIO(each))) for each in data])


def placed(packed):
    """Points [N,3] as the page computes them."""
    return (np.array(packed["low"])[:, None] + np.array(packed["step"])[:, None] * unpack(packed)).T


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "u4", "i4"])
@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("shape", [(7,), (1, 1), (2, 3, 5), (2, 0)])
def test_arrays_are_unpacked_as_they_were(dtype, smooth, shape):
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(0)
    array = rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    again = unpack(pack(array, smooth))
    assert again.dtype == array.dtype
    assert np.array_equal(again.reshape(shape), array)


def test_the_page_holds_the_arrays_of_the_store(toy_store, toy_page):
    page = Page(toy_page / "index.html")
    index = page.json("index")
    assert len(index["shapes"]) == 5
    place, line = 3, index["shapes"][3]
    (number,) = [n for n, record in enumerate(toy_store.shapes) if record.id == line["id"]]
    record = toy_store.shapes[number]
    assert (line["class"], line["split"]) == (record.class_name, record.split)
    data, shape = page.json(f"shape-{place}"), read_shape(toy_store, number, visible=True)
    assert np.array_equal(images(data["images"]["rgb"]), shape.rgb)
    assert np.array_equal(unpack(data["depth"]).reshape(shape.depth.shape), shape.depth)
    assert np.array_equal(unpack(data["ids"]).reshape(shape.face_index.shape), shape.face_index)
    assert np.array_equal(unpack(data["visible"]), pack_visible(shape.visible))
    assert np.array_equal(unpack(data["point_face"])[0], shape.point_face)
    assert np.array_equal(unpack(data["part"])[0], shape.part)
    assert np.array_equal(unpack(data["color"]).T, shape.colors)
    assert np.array_equal(np.reshape(data["K"], (-1, 3, 3)), shape.camera.K)
    pose = np.reshape(data["world_to_camera"], (-1, 4, 4))
    assert np.array_equal(pose, shape.camera.world_to_camera)
    extent = np.ptp(shape.points.astype(np.float64), axis=0)
    assert np.all(np.abs(placed(data["points"]) - shape.points) <= extent / STEPS * 0.5000001)
    assert np.abs(unpack(data["normals"]).T / 127 - shape.normals).max() <= 0.5 / 127 + 1e-6
    assert (index["depth_scale"], index["width"]) == (toy_store.schema.depth_scale, 32)


def test_the_page_holds_a_scene(room_store, tmp_path):
    write_view(room_store, tmp_path, ViewOptions(views=4))
    page = Page(tmp_path / "index.html")
    index, data = page.json("index"), page.json("shape-0")
    frames = room_store.counts(0)["view_count"]
    assert data["views"] == spread_views(frames, 4)
    views, size = data["views"], (4, *room_store.schema.image)
    for name, key in (("depth", "depth"), ("instance_image", "ids"), ("semantic_image", "labels")):
        stored = room_store.read(name, 0)[views]
        assert np.array_equal(unpack(data[key]).reshape(size), stored)
    difference = images(data["images"]["rgb"]).astype(int) - room_store.read("rgb", 0)[views]
    assert np.abs(difference).mean() < 3
    assert np.array_equal(data["boxes"], room_store.read("boxes", 0))
    assert np.array_equal(data["box_label"], room_store.read("box_label", 0))
    points = room_store.read("points", 0)
    assert np.abs(placed(data["points"]) - points).max() <= np.ptp(points, axis=0).max() / STEPS
    assert np.array_equal(unpack(data["color"]).T, room_store.read("color", 0))
    assert np.array_equal(unpack(data["semantic"])[0], room_store.read("semantic", 0))
    assert np.array_equal(unpack(data["visible"]), pack_visible(room_store.visible(0)[views]))
    assert (index["kind"], index["box_names"]) == ("scenes", room_store.box_names)


def test_names_of_strangers_are_only_data(hostile_store, toy_page, tmp_path):
    write_view(hostile_store, tmp_path)
    page, plain = Page(tmp_path / "index.html"), Page(toy_page / "index.html")
    index = page.json("index")
    assert index["name"] == HOSTILE
    assert {line["class"] for line in index["shapes"]} == {HOSTILE}
    assert [line["id"] for line in index["shapes"]] == [s.id for s in hostile_store.shapes]
    others = [tag for tag, attributes in plain.tags if "id" not in attributes or tag != "script"]
    assert [t for t, a in page.tags if "id" not in a or t != "script"] == others
    assert page.code("script") == plain.code("script")
    assert not any(name.startswith("on") for _, a in page.tags for name in a)


def test_the_policy_allows_this_script_and_style_and_no_request(toy_page):
    page = Page(toy_page / "index.html")
    assert page.policy == {
        "default-src": ["'none'"],
        "img-src": ["data:"],
        "style-src": [sha256_source(page.code("style"))],
        "script-src": [sha256_source(page.code("script"))],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }
    assert not {"src", "href"} & {name for _, attributes in page.tags for name in attributes}
    code = page.code("script") + page.code("style")
    assert not re.search(r"https?:|url\(|@import|innerHTML|\beval\b|fetch\(|XMLHttp", code)


def test_failed_pending_and_unmatched_shapes_are_told(hostile_store, tmp_path):
    write_view(hostile_store, tmp_path / "P")
    lines = Page(tmp_path / "P/index.html").json("index")["shapes"]
    (failure,) = hostile_store.failures()
    assert [line["state"] for line in lines] == ["done", "failed"]
    assert (lines[1]["reason"], lines[1]["detail"]) == (failure.reason, failure.detail)
    store = render_toy(tmp_path / "S", limit=2, shard=1, correspondences=False)
    store.forget(1)
    write_view(store, tmp_path / "Q")
    page = Page(tmp_path / "Q/index.html")
    assert [line["state"] for line in page.json("index")["shapes"]] == ["done", "pending"]
    assert page.json("shape-0")["visible"] is None
    assert store.committed(CORRESPONDENCES) == []
    store.forget(0)
    with pytest.raises(StoreError, match="none of these shapes is rendered yet"):
        write_view(store, tmp_path / "N")


def test_a_damaged_shape_is_told_and_does_not_stop_the_page(toy_store, tmp_path):
    folder = shutil.copytree(toy_store.path, tmp_path / "S")
    (folder / shard_key(toy_store.specs["depth"], "depth", 0)).unlink()
    write_view(ViewStore.open(folder), tmp_path / "P", ViewOptions(Selection(limit=20)))
    lines = Page(tmp_path / "P/index.html").json("index")["shapes"]
    damaged = [line for line in lines if line["reason"] == "damaged"]
    assert 0 < len(damaged) < len(lines)
    assert all(line["state"] == "failed" and "depth" in line["detail"] for line in damaged)


@pytest.mark.parametrize(
    ("selection", "chosen"),
    [
        (Selection(shapes=["chair/0001", "chair/0000"]), ["chair/0000", "chair/0001"]),
        (Selection(classes=["chair"], split="test"), ["chair/0200", "chair/0201"]),
        (Selection(classes=["lamp", "chair"], limit=2), ["chair/0000", "lamp/0000"]),
    ],
)
def test_shapes_are_chosen(toy_store, tmp_path, selection, chosen):
    write_view(toy_store, tmp_path, ViewOptions(selection, views=2))
    page = Page(tmp_path / "index.html")
    assert sorted(line["id"] for line in page.json("index")["shapes"]) == chosen
    assert page.json("shape-0")["views"] == [0, 5]


@pytest.mark.parametrize(
    ("selection", "says"),
    [
        (Selection(shapes=["chair/000"]), "no shape is called 'chair/000'"),
        (Selection(classes=["char"]), "no class is called 'char'"),
        (Selection(split="tests"), "unknown split 'tests'"),
        (Selection(split="val"), "no shape is chosen"),
    ],
)
def test_invalid_choices_are_usage_errors(toy_store, tmp_path, selection, says):
    with pytest.raises(UsageError, match=says):
        write_view(toy_store, tmp_path / "P", ViewOptions(selection))
    assert not (tmp_path / "P").exists()


def test_many_shapes_are_in_files_beside_the_page(toy_store, toy_page, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "MOST_INLINE", 50_000)
    options = ViewOptions(Selection(limit=5))
    paths = write_view(toy_store, tmp_path, options)
    whole, page = Page(toy_page / "index.html"), Page(tmp_path / "index.html")
    names = [f"shape-{place:06d}.js" for place in range(5)]
    assert [path.name for path in paths] == ["index.html", *names]
    assert page.json("index") == whole.json("index")
    for place, path in enumerate(paths[1:]):
        assert shape_of_script(path) == (place, whole.json(f"shape-{place}"))
    assert page.policy["script-src"] == [*whole.policy["script-src"], "'self'", "file:"]
    before = tree(tmp_path)
    write_view(toy_store, tmp_path, options)
    assert tree(tmp_path) == before  # the same bytes again
    monkeypatch.setattr(write, "MOST_INLINE", 1 << 24)
    (tmp_path / "shape-mine.js").write_text("mine")
    write_view(toy_store, tmp_path, options)
    assert set(tree(tmp_path)) == {"index.html", "shape-mine.js"}


def test_files_of_others_and_stores_are_left_alone(toy_store, tmp_path):
    (tmp_path / "index.html").write_text("<p>pointcmt view</p>")
    with pytest.raises(StoreError, match=r"not from a view: index\.html"):
        write_view(toy_store, tmp_path)
    store = shutil.copytree(toy_store.path, tmp_path / "S")
    before = tree(store)
    with pytest.raises(StoreError, match="cannot be written into the view store"):
        write_view(toy_store, store / "P", overwrite=True)
    assert tree(store) == before
    write_view(toy_store, tmp_path, ViewOptions(Selection(limit=1)), overwrite=True)
    write_view(toy_store, tmp_path, ViewOptions(Selection(limit=2)))


@pytest.mark.parametrize("name", ["points", "normals", "K", "world_to_camera"])
def test_values_that_are_not_finite_are_damage(toy_store, tmp_path, name):
    store = ViewStore.open(shutil.copytree(toy_store.path, tmp_path / "S"))
    own = store.read(name, slice(0, store.schema.shard)).copy()
    own[0].flat[5] = np.nan
    store.write_shard(0, {name: own})
    with pytest.raises(DamageError, match=f"(?s)not finite.*{name} of {store.shapes[0].id}"):
        shape_data(store, 0, True, 24)
    assert shape_data(store, 1, True, 24)
