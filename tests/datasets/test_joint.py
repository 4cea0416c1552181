"""Several stores, read as one."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from pointcmt.cameras import find_rig
from pointcmt.datasets.joint import JointStore, open_stores
from pointcmt.datasets.store.schema import DONE, SPLITS
from pointcmt.datasets.store.streaming import StreamConfig, ViewDataset, ViewStream
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import StoreError, UsageError
from pointcmt.render.config import RenderConfig
from tests.training.stores import POINTS, SIZE, Plan, shapes_of, write_store

RENDER = RenderConfig(find_rig("ortho6"), size=SIZE, points=POINTS)
FIRST = Plan(train=(4, 5, 6), test=(2, 2, 1), parts=True, render=RENDER)
SECOND = Plan(
    class_names=("rod", "cone", "ball"),
    train=(3, 4, 5),
    test=(1, 2, 1),
    unlabeled=2,
    failed=("rod-train-1",),
    render=RENDER,
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two stores with common classes in another order, and ids that repeat."""
    folder = tmp_path_factory.mktemp("pair")
    write_store(folder / "A", replace(FIRST, parts=False))
    write_store(folder / "B", SECOND)
    return ViewStore.open(folder / "A"), ViewStore.open(folder / "B")


def test_one_place_is_a_plain_store(pair):
    assert type(open_stores([pair[0].path])) is ViewStore
    assert open_stores(pair[:1]) is pair[0]


def test_every_array_holds_the_rows_of_each_store(pair):
    first, second = pair
    joint = open_stores([first.path, second.path])
    count = first.schema.shapes
    assert joint.schema.shapes == len(joint.shapes) == count + second.schema.shapes
    rng = np.random.default_rng(0)
    shapes = rng.permutation(joint.schema.shapes)[:20]
    for name in joint.specs.keys() - {"visible"}:  # not in these
        expected = [
            first.read(name, i) if i < count else second.read(name, i - count)
            for i in shapes.tolist()
        ]
        assert np.array_equal(joint.read(name, shapes), np.stack(expected))
    assert list(joint.shapes) == [*first.shapes, *second.shapes]
    assert [joint.shapes[i] for i in range(len(joint.shapes))] == list(joint.shapes)
    assert np.array_equal(joint.splits, np.concatenate([first.splits, second.splits]))
    assert np.array_equal(joint.status(), np.concatenate([first.status(), second.status()]))


def test_classes_are_joined_by_name(pair):
    joint = JointStore(pair)
    assert joint.class_names == ["ball", "plate", "rod", "cone"]
    for record, label in zip(joint.shapes, joint.labels.tolist(), strict=True):
        name = None if label < 0 else joint.class_names[label]
        assert name == record.class_name
    assert JointStore(pair[::-1]).class_names == ["rod", "cone", "ball", "plate"]


def test_names_that_differ_in_case_or_spaces_are_one_class(tmp_path):
    stores = [
        write_store(tmp_path / str(n), Plan(class_names=names))
        for n, names in enumerate((("night_stand", "tv", "b"), ("TV", "Night Stand", "c")))
    ]
    joint = JointStore(stores)
    assert joint.class_names == ["night_stand", "tv", "b", "c"]
    assert joint.labels[stores[0].schema.shapes] == 1


@pytest.mark.parametrize("threads", [1, 3])
def test_a_stream_yields_the_rows_of_each_store(pair, threads):
    joint = JointStore(pair)
    shapes = np.flatnonzero(joint.status() == DONE)
    config = StreamConfig(("rgb", "points", "depth"), batch_size=7, views=2, points=10, seed=3)
    seen = []
    for batch in ViewStream(joint, shapes, replace(config, drop_last=False), threads):
        for row, shape in enumerate(batch["shape"].tolist()):
            store, local = (
                (pair[0], shape) if shape < pair[0].schema.shapes
                else (pair[1], shape - pair[0].schema.shapes)
            )  # fmt: skip
            views = batch["view"][row].numpy()
            assert np.array_equal(batch["rgb"][row], store.read("rgb", local)[views])
            assert np.array_equal(batch["depth"][row], store.depth(local)[views])
            assert np.array_equal(batch["points"][row], store.read("points", local)[:10])
            assert batch["label"][row] == joint.labels[shape]
            seen.append(shape)
    assert sorted(seen) == shapes.tolist()


def test_the_ranks_share_each_batch_and_a_rank_may_get_nothing(pair):
    joint, shapes = JointStore(pair), np.arange(9, 20)
    config = StreamConfig(("points",), batch_size=5, points=0, drop_last=False)
    whole = [batch["points"] for batch in ViewStream(joint, shapes, config)]
    parts = [
        [b["points"] for b in ViewStream(joint, shapes, replace(config, rank=r, world_size=5))]
        for r in range(5)
    ]
    assert min(len(part[-1]) for part in parts) == 0
    for step, batch in enumerate(whole):
        assert torch.equal(torch.cat([part[step] for part in parts]), batch)


def test_a_stream_resumes_and_other_orders_of_stores_are_other_data(pair):
    joint, shapes = JointStore(pair), np.arange(20)
    config = StreamConfig(("points",), batch_size=4, points=9)
    straight = [batch["shape"].tolist() for batch in ViewStream(joint, shapes, config)]
    stream = ViewStream(joint, shapes, config)
    first = next(iter(stream))["shape"].tolist()
    state = stream.state_dict()
    again = ViewStream(JointStore(pair), shapes, config)
    again.load_state_dict(state)
    assert [first, *(batch["shape"].tolist() for batch in again)] == straight
    with pytest.raises(UsageError, match="other data"):
        ViewStream(JointStore(pair[::-1]), shapes, config).load_state_dict(state)


def test_a_dataset_of_several_stores_passes_to_workers(pair):
    joint = JointStore(pair)
    data = ViewDataset(joint, np.arange(20), StreamConfig(("points",), batch_size=5, points=0))
    copy = pickle.loads(pickle.dumps(joint))
    assert copy.class_names == joint.class_names
    loader = torch.utils.data.DataLoader(
        data, batch_size=None, num_workers=1, multiprocessing_context="spawn"
    )
    for here, there in zip(data, loader, strict=True):
        assert torch.equal(here["points"], there["points"])


def test_parts_in_another_order_get_the_labels_of_the_first_store(tmp_path):
    shapes = shapes_of(FIRST)
    one = write_store(tmp_path / "one", FIRST, shapes)
    other = write_store(tmp_path / "other", replace(FIRST, part_order=-1), shapes)
    assert one.attributes["part_names"] != other.attributes["part_names"]
    joint, count = JointStore([one, other]), len(shapes)
    assert joint.attributes["part_names"] == one.attributes["part_names"]
    expected = one.read("part")
    assert not np.array_equal(other.read("part"), expected)
    assert np.array_equal(joint.read("part", np.arange(count, 2 * count)), expected)
    config = StreamConfig(("part",), batch_size=8, points=0, shuffle=False, drop_last=False)
    stream = ViewStream(joint, np.arange(2 * count), config)
    streamed = np.concatenate([batch["part"] for batch in stream])
    assert np.array_equal(streamed, np.tile(expected, (2, 1)))


def test_other_parts_are_refused(tmp_path, monkeypatch):
    one = write_store(tmp_path / "one", FIRST)
    monkeypatch.setitem(write_store.__globals__["PARTS"], "ball", ["upper", "bottom"])
    other = write_store(tmp_path / "other", replace(FIRST, train=(1, 1, 1)))
    with pytest.raises(StoreError, match="divide ball into different parts: upper, bottom"):
        JointStore([one, other])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rig": find_rig("circle12")}, '"ortho6" in .*/A, "circle12" in .*/C'),
        ({"background": (0, 0, 0)}, "background: .255, 255, 255. in .*/A, .0, 0, 0. in .*/C"),
        ({"light": "world"}, 'light: "camera" in .*/A, "world 2" in'),
        ({"size": 16}, "size: 32 in .*/A, 16 in"),
        ({"points": 32}, "points: 64 in .*/A, 32 in"),
    ],
)
def test_stores_with_other_settings_are_refused_and_these_are_named(pair, tmp_path, change, says):
    other = write_store(tmp_path / "C", Plan(render=replace(RENDER, **change)))
    with pytest.raises(StoreError, match=says) as caught:
        JointStore([pair[0], other])
    assert caught.value.what.count("\n") == 1
    assert "render one of them again" in caught.value.fix


def test_the_seed_further_layers_and_the_backend_may_differ(pair, tmp_path):
    change = {"seed": 1, "layers": ("normal",), "backend": "embree"}
    other = write_store(tmp_path / "C", Plan(render=replace(RENDER, **change)))
    assert JointStore([pair[0], other]).attributes["render_hash"]


def test_a_store_is_joined_once(pair, tmp_path, messages):
    with pytest.raises(UsageError, match="given twice"):
        open_stores([pair[0].path, pair[1].path, pair[0].path + "/"])
    with pytest.raises(UsageError, match="no store is given"):
        open_stores([])
    copy = write_store(tmp_path / "copy", SECOND)
    JointStore([pair[1], copy])
    assert "lists the same shapes as" in messages()


def test_what_only_some_stores_have_is_reported_with_the_store(pair):
    joint = JointStore(pair)
    shapes = np.flatnonzero(joint.splits == SPLITS.index("train"))
    with pytest.raises(UsageError, match="unknown array 'normal'") as caught:
        ViewStream(joint, shapes, StreamConfig(("normal",), batch_size=4, points=0))
    assert caught.value.where == pair[0].path
    with pytest.raises(UsageError, match="the store has 4"):
        ViewStream(joint, shapes, StreamConfig(("rgb",), batch_size=4, points=0, views=5))
