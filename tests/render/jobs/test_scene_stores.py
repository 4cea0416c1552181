"""Stores of scenes: rows with counts of their own; resumed, repaired and grown like others."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pointcmt import plugins
from pointcmt.cameras import find_rig
from pointcmt.datasets import sources
from pointcmt.datasets.store.schema import CORRESPONDENCES, RENDER, array_specs
from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import Reason, ShapeRefused, StoreError, UsageError
from pointcmt.render.config import RenderConfig
from pointcmt.render.jobs.job import create_store, job_of_listing, tasks
from pointcmt.render.jobs.repair import repair
from pointcmt.render.jobs.run import Options
from pointcmt.render.jobs.shards import ShardRunner
from pointcmt.scenes import Boxes
from tests.render.scenes import box_room
from tests.scene_stores import CONFIG, NAME, render_rooms
from tests.stores import tree


@pytest.fixture(autouse=True)
def rooms():
    """Allow the data source of box rooms."""
    plugins.trust(NAME)


@pytest.fixture
def store(tmp_path):
    return render_rooms(tmp_path / "S")


def test_rows_hold_what_the_frames_show(store):
    assert store.attributes["schema_version"] == 2
    assert store.schema.image == (60, 80)
    for shape, frames in enumerate((6, 7, 8)):
        assert store.counts(shape)["view_count"] == frames
        points = store.read("points", shape)
        assert 2000 < len(points) < 8000
        away = box_room.on_a_surface(points)
        assert np.quantile(away, 0.85) < 1e-3
        assert away.max() < 0.04  # at corners; pixels are 7 cm wide at 4 m
        assert store.read("frame", shape).tolist() == [10 * i for i in range(frames)]
        assert store.read("rgb", shape).shape == (frames, 60, 80, 3)
        assert store.read("semantic", shape).min() >= 0
        assert set(store.read("instance", shape).tolist()) == {-1, 7}
        exact = [frame.read() for frame in box_room.frames(frames)]
        for view, image in enumerate(exact):
            assert np.abs(store.depth(shape, view) - image.depth).max() <= 0.5001e-3
            assert np.array_equal(store.read("semantic_image", shape, view), image.semantic)
            assert np.array_equal(store.read("instance_image", shape, view), image.instance)
            assert np.array_equal(store.read("rgb", shape, view), image.color)
    assert verify(store.path).ok


def test_visible_points_are_at_their_pixels(store):
    visible, camera = store.visible(0), store.camera(0)
    points, depth = store.read("points", 0), store.depth(0)
    assert visible.shape == (6, len(points))
    for view in range(6):
        uv, z = camera[view].project(points[visible[view]])
        column, row = np.floor(uv).astype(int).T
        assert (np.abs(depth[view, row, column] - z) <= np.maximum(0.02, 0.02 * z) + 1e-6).all()
    assert visible.any(axis=0).mean() > 0.95


def test_boxes_hold_their_instance(store):
    box = store.read("boxes", 0)
    assert box.shape == (1, 7)
    assert store.read("box_label", 0).tolist() == [0]
    own = store.read("points", 0)[store.read("instance", 0) == 7]
    assert (np.abs(own - box[0, :3]) <= box[0, 3:6] / 2 + 0.02).all()


def test_points_are_in_voxel_order(store):
    points = store.read("points", 0)
    coarse = np.unique(np.floor(points / 0.8), axis=0)
    first = np.unique(np.floor(points[: len(coarse)] / 0.8), axis=0)
    assert np.array_equal(coarse, first)
    attributes = json.loads((store.storage.folder / "points/zarr.json").read_text())["attributes"]
    assert attributes["order"] == "voxel"


def test_indices_are_within_the_counts(store):
    assert store.read("points", 0, slice(0, 10)).shape == (10, 3)
    assert store.read("points", 0, slice(-5, None)).shape == (5, 3)
    assert np.array_equal(store.read("points", 0, slice(-1, None))[0], store.read("points", 0)[-1])
    assert store.read("rgb", 2, slice(None, None, 4)).shape[0] == 2
    assert store.read("visible", 0, 1).shape == (-(-store.counts(0)["point_count"] // 8),)
    assert store.read("points").shape == (3, 8000, 3)  # all scenes: with their padding


def test_a_store_without_room_keeps_an_even_sample_and_says_so(tmp_path, monkeypatch):
    small = replace(CONFIG, points=500, frames=3, boxes=1)
    boxes = np.repeat(box_room.boxes().boxes, 2, axis=0)
    two = Boxes(boxes, np.zeros(2, np.int16), np.full(2, 7, np.int32))
    scene = replace(box_room.scene(), boxes=two)
    whole = render_rooms(tmp_path / "S", 1)
    with_two = sources.Source(box_room.source.list_shapes, lambda *_: scene)
    monkeypatch.setitem(sources.SOURCES, "full", with_two)
    store = render_rooms(tmp_path / "T", 1, config=small, name="full")
    assert store.counts(0) == {"view_count": 3, "point_count": 500, "box_count": 1}
    notes = store.outcomes()[0].notes
    assert "3 of 8 frames are used" in notes
    assert any(note.startswith("500 of ") for note in notes)
    assert "1 of 2 boxes are used: the store has no room" in notes
    assert whole.counts(0)["point_count"] > 500
    assert verify(tmp_path / "T").ok


def test_the_same_bytes_again_and_after_a_kill(store, tmp_path):
    listing = box_room.listing(NAME)
    job = job_of_listing(listing, str(tmp_path / "T"), CONFIG)
    again = create_store(listing, job, 2)
    first, *_ = tasks(again, render=True, correspondences=True)
    ShardRunner(job)(first, {}, lambda shape: None)  # and then it is killed
    (tmp_path / "T/commits/visible/000000.json").unlink()
    assert ViewStore.open(tmp_path / "T").pending(CORRESPONDENCES) == [0, 1]
    render_rooms(tmp_path / "T")
    assert tree(tmp_path / "T") == tree(store.path)


def test_a_store_of_scenes_grows(store, tmp_path):
    assert tree(render_rooms(tmp_path / "T", 2).path) != tree(store.path)
    grown = render_rooms(tmp_path / "T", 3)
    assert [record.id for record in grown.shapes] == ["rooms/0", "rooms/1", "rooms/2"]
    for name in array_specs(grown.schema):
        assert np.array_equal(grown.read(name), store.read(name)), name
    assert verify(tmp_path / "T").ok


@pytest.mark.parametrize("name", ["points", "rgb", "visible", "boxes", "point_count"])
def test_lost_files_are_found_and_made_again(store, name):
    before = tree(store.path)
    folder = store.storage.folder / name / "c"
    next(path for path in sorted(folder.rglob("*")) if path.is_file()).unlink()
    assert not verify(store.path).ok
    assert repair(store.path, None, Options(workers=1)).verdict.ok
    assert tree(store.path) == before


def test_a_scene_that_cannot_be_read_is_recorded_and_harms_no_other(tmp_path, monkeypatch):
    def load(record, root):
        if record.id == "rooms/1":
            return replace(box_room.scene(), frames=())
        return box_room.load(record, root)

    broken = sources.Source(box_room.source.list_shapes, load)
    monkeypatch.setitem(sources.SOURCES, "broken", broken)
    store = render_rooms(tmp_path / "S", name="broken")
    assert store.status().tolist() == [1, 2, 1]
    failure = store.failures()[0]
    assert (failure.id, failure.reason) == ("rooms/1", Reason.EMPTY_FILE)
    assert store.counts(1) == {"view_count": 0, "point_count": 0, "box_count": 0}
    assert verify(store.path).ok


@pytest.mark.parametrize(
    ("name", "index", "value", "says"),
    [
        ("point_count", 0, 9000, "point_count is 9000, but the row has room for 8000"),
        ("semantic", (0, 5), 4, "semantic ranges from -1 to 4, but there are 4 classes"),
        ("semantic", (0, 7999), 1, "semantic is not empty behind point_count"),
        ("boxes", (0, 0, 3), 0, "a box has no volume"),
        ("box_instance", (0, 0), 3, "a box belongs to an instance without points"),
        ("normals", (0, 0), [0, 0, 2], "normals are not unit vectors"),
        ("frame", (0, 0), 40, "the frames are not in order"),
    ],
)
def test_verify_finds_what_cannot_be(store, name, index, value, says):
    from pointcmt.datasets.store.scene_checks import check_scene

    arrays = {each: store.read(each)[0] for each in array_specs(store.schema)}
    assert list(check_scene(store.schema, {"semantic": 4, "box_label": 1}, arrays, True)) == []
    wrong = np.array(store.read(name))
    wrong[index] = value
    arrays[name] = wrong[0]
    found = list(check_scene(store.schema, {"semantic": 4, "box_label": 1}, arrays, True))
    assert found == [says]


def test_scenes_need_their_own_settings(tmp_path):
    listing = box_room.listing(NAME)
    with pytest.raises(UsageError, match="the kind 'scene'"):
        job_of_listing(listing, str(tmp_path / "S"), RenderConfig(find_rig("ortho6")))
    with pytest.raises(UsageError, match="always stored"):
        job_of_listing(listing, str(tmp_path / "S"), CONFIG, correspondences=False)
    with pytest.raises(UsageError, match="does not use a GPU"):
        job_of_listing(listing, str(tmp_path / "S"), CONFIG, device="0")


def test_other_labels_or_settings_are_another_store(store, tmp_path):
    with pytest.raises(StoreError, match=r"render\.voxel: 0\.05 in the store, 0\.04 requested"):
        render_rooms(store.path, config=replace(CONFIG, voxel=0.04))
    listing = box_room.listing(NAME)
    names = replace(listing.labels, semantic=("floor", "ceiling", "wall", "crate"))
    with pytest.raises(StoreError, match="semantic_names"):
        render_rooms(store.path, labels=names)


def test_stores_of_scenes_open_in_xarray_and_zarr(store):
    import xarray
    import zarr

    opened = xarray.open_zarr(store.path)
    assert opened["points"].dims == ("shape", "point", "axis")
    assert np.array_equal(opened["points"][0].values, store.read("points", slice(0, 1))[0])
    group = zarr.open_group(store.path, mode="r")
    assert np.array_equal(group["visible"][:], store.read("visible"))


def test_the_status_of_every_stage_is_committed(store):
    assert store.committed(RENDER) == store.committed(CORRESPONDENCES) == [0, 1]


def test_a_frame_that_cannot_be_read_is_left_out_with_its_reason(tmp_path, monkeypatch):
    def damaged():
        raise ShapeRefused(Reason.TRUNCATED, "0003.png is damaged")

    def load(record, root):
        frames = list(box_room.frames(6))
        broken = range(6) if record.id == "rooms/1" else (3,)
        for number in broken:
            frames[number] = replace(frames[number], read=damaged)
        return replace(box_room.scene(), frames=tuple(frames))

    some = sources.Source(box_room.source.list_shapes, load)
    monkeypatch.setitem(sources.SOURCES, "some", some)
    store = render_rooms(tmp_path / "S", 2, name="some")
    assert store.read("frame", 0).tolist() == [0, 10, 20, 40, 50]
    notes = store.outcomes()[0].notes
    assert "1 frames cannot be read: 0003.png is damaged" in notes
    failure = store.failures()[0]
    assert (failure.id, failure.reason) == ("rooms/1", Reason.TRUNCATED)
