"""What a run adds to the page: labels, boxes, features of points, and matches of views."""

import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

import pointcmt as pc
from pointcmt.api.viewing.features import without_output
from pointcmt.api.viewing.overlays import open_overlay
from pointcmt.api.viewing.predictions import compare_boxes
from pointcmt.cli import app
from pointcmt.correspondences import match_pixels
from pointcmt.datasets.streams import read_batch
from pointcmt.errors import StoreError, UsageError
from pointcmt.training.config.files import load_config
from pointcmt.training.evaluation.classifier import open_trained
from pointcmt.training.figures.pretraining import principal_colors
from pointcmt.training.images.networks import NETWORKS
from pointcmt.training.loop import train
from pointcmt.training.networks.backbones import BACKBONES, DENSE
from pointcmt.training.networks.backbones.sparse_unet import DenseSparseUNet, SparseUNetEncoder
from pointcmt.training.ops.detection.scores import TrueBoxes
from pointcmt.view.packing import unpack
from tests.pages import Page
from tests.scene_stores import CONFIG, render_rooms
from tests.training.conftest import SMALL_RESNET
from tests.training.detectors import GUESSING, config, small_networks
from tests.training.networks.test_sparse_backbones import SMALL
from tests.training.plain_dense import PlainDense
from tests.training.recipes.test_mvnet_scenes import SEMSEG, UNET
from tests.training.recipes.test_mvnet_scenes import config as pairs_config
from tests.training.stores import small_config
from tests.view.conftest import on_command_line

CHOSEN = ["chair/0000", "chair/0001", "lamp/0000"]


@pytest.fixture(scope="module", autouse=True)
def _small_networks():
    """Replace all networks by smaller ones, also for runs that are opened again."""
    with small_networks(), pytest.MonkeyPatch.context() as patch:
        for table in (DENSE, BACKBONES):
            patch.setitem(table, "dgcnn", PlainDense)
        patch.setitem(DENSE, UNET, partial(DenseSparseUNet, config=SMALL))
        patch.setitem(BACKBONES, UNET, partial(SparseUNetEncoder, config=SMALL))
        patch.setitem(NETWORKS, "resnet-18", replace(NETWORKS["resnet-18"], config=SMALL_RESNET))
        yield


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    out = tmp_path_factory.mktemp("rooms") / "S"
    return pc.open_store(render_rooms(out, 5, config=replace(CONFIG, frames=6, voxel=0.1)).path)


@pytest.fixture(scope="module")
def run_of(toy_store, rooms, tmp_path_factory):
    """A function: recipe → a run of one epoch."""
    settings = {
        "partseg": (toy_store, ("model.backbone=dgcnn", "load=none", "data.points=200")),
        "student": (toy_store, ("model.backbone=dgcnn", "data.points=100")),
        "mvnet": (toy_store, ("data.points=200",)),
        "crosspoint": (toy_store, ("data.points=200", "cross=0")),
        "infonce": (toy_store, ("data.points=200", "matching.method=infonce")),
        "semseg": (rooms, (f"model.backbone={UNET}", *SEMSEG)),
        "pairs": (rooms, ("data.batch_size=6",)),
        "detect": (rooms, ()),
    }
    folder, made = tmp_path_factory.mktemp("runs"), {}

    def make(name):
        if name not in made:
            store, own = settings[name]
            if name == "detect":
                chosen = config(f"model.headings={GUESSING}", "model.proposals=64", epochs=1)
            elif name == "pairs":
                chosen = pairs_config(*own)
            elif name == "semseg":
                chosen = load_config("semseg", None, own, epochs=1)
            else:
                recipe = "mvnet" if name == "infonce" else name
                chosen = small_config(recipe, *own, epochs=1)
            train(store, chosen, folder / name, device="cpu")
            made[name] = folder / name
        return made[name]

    return make


def page_of(store, run, folder, **chosen):
    return Page(pc.view(store, folder, run=run, device="cpu", **chosen))


def numbers_of(store, page):
    ids = [record.id for record in store.shapes]
    return [ids.index(line["id"]) for line in page.json("index")["shapes"]]


def test_parts_are_those_that_predict_gives_beside_the_stored_ones(toy_store, run_of, tmp_path):
    run = run_of("partseg")
    page = page_of(toy_store.path, run, tmp_path / "P", ids=CHOSEN)
    index, found = page.json("index"), pc.predict(run, toy_store.path, device="cpu")
    predicted = {shape.id: shape.parts for shape in found.shapes}
    assert index["segments"] is True
    for place, number in enumerate(numbers_of(toy_store, page)):
        line, data = index["shapes"][place], page.json(f"shape-{place}")["labeling"]
        labels, true = unpack(data["predicted"])[0], unpack(data["true"])[0]
        assert data["names"] == list(predicted[line["id"]].names)
        assert np.array_equal(labels, predicted[line["id"]].labels)
        assert np.array_equal(true, toy_store.read("part", number)[:200])
        assert line["share"] == pytest.approx(np.mean(true == labels), abs=1e-4)
        assert sum(line["confused"].values()) == np.sum(true != labels)
        for name, count in line["confused"].items():
            a, b = (data["names"].index(part) for part in name.split(" → "))
            assert count == np.sum((true == a) & (labels == b))


def test_classes_of_points_are_those_that_predict_gives(rooms, run_of, tmp_path):
    run = run_of("semseg")
    page = page_of(rooms, run, tmp_path / "P", ids=["rooms/0", "rooms/2"])
    index, found = page.json("index"), pc.predict(run, rooms.path, device="cpu")
    assert index["run_palette"] == [list(color) for color in found.palette]
    for place, number in enumerate((0, 2)):
        own, data = found.shapes[number].points, page.json(f"shape-{place}")["labeling"]
        assert np.array_equal(unpack(data["predicted"])[0], own.labels)
        assert np.array_equal(unpack(data["true"])[0], own.true)
        share = index["shapes"][place]["share"]
        assert share == pytest.approx(own.correct / own.labeled, abs=1e-4)


def test_boxes_are_those_that_predict_gives(rooms, run_of, tmp_path):
    run = run_of("detect")
    page = page_of(rooms, run, tmp_path / "P", limit=2)
    index, found = page.json("index"), pc.predict(run, rooms.path, device="cpu")
    assert index["run_names"] == list(found.class_names)
    for place, number in enumerate(numbers_of(rooms, page)):
        own, data = found.shapes[number].boxes, page.json(f"shape-{place}")["found"]
        assert np.allclose(data["boxes"], own.boxes, atol=1e-4)
        assert data["label"] == own.label.tolist()
        assert np.allclose(data["score"], own.score, atol=1e-4)
        stored = TrueBoxes(rooms.read("boxes", number), rooms.read("box_label", number))
        assert index["shapes"][place]["confused"] == compare_boxes(own, stored)


def test_confusions_of_boxes_name_what_is_missed_and_what_is_not_there():
    near, far = np.array([[0, 0, 0, 1, 1, 1, 0.0]]), np.array([[9, 0, 0, 1, 1, 1, 0.0]])
    found = pc.PredictedBoxes(
        ("a", "b"), np.concatenate([near, far]), np.array([1, 0]), np.array([0.9, 0.8]), np.zeros(0)
    )
    true = TrueBoxes(np.concatenate([near, far + 5]), np.array([0, 1]))
    assert compare_boxes(found, true) == {"a → b": 1, "nothing → a": 1, "b → not found": 1}


@pytest.mark.parametrize("recipe", ["mvnet", "crosspoint", "partseg", "student"])
def test_features_have_one_palette_of_principal_components(
    recipe, toy_store, run_of, tmp_path
):  # fmt: skip
    run = run_of(recipe)
    page = page_of(toy_store.path, run, tmp_path / "P", ids=CHOSEN)
    model = pc.load_run(run).network
    network, numbers = getattr(model, "backbone", model), numbers_of(toy_store, page)
    count = 100 if recipe == "student" else 200
    points = torch.from_numpy(toy_store.read("points", np.array(numbers))[:, :count])
    with torch.no_grad():
        features = network(points, local=True).local.numpy()
    palette = principal_colors(features.reshape(-1, features.shape[-1]))
    for place, own in enumerate(features):
        colors = unpack(page.json(f"shape-{place}")["feature_color"]).T
        assert colors.shape == (count, 3)
        assert np.abs(colors - 255 * palette.paint(own)).max() < 2
        assert np.ptp(colors[:, 0]) > 50


@pytest.mark.parametrize("recipe", ["semseg", "pairs"])
def test_features_of_scenes_are_those_of_all_shown_points(recipe, rooms, run_of, tmp_path):
    page = page_of(rooms, run_of(recipe), tmp_path / "P", limit=1)
    colors = unpack(page.json("shape-0")["feature_color"]).T
    assert colors.shape == (len(rooms.read("points", 0)), 3)
    assert np.all(np.ptp(colors.astype(int), axis=0) > 50)


def test_features_are_what_the_last_layer_of_a_network_of_scenes_reads(run_of):
    model = open_trained(run_of("semseg"), "best", "cpu").recipe.model.eval()
    points = torch.rand(400, 3, generator=torch.Generator().manual_seed(0)) * 3
    inputs = (points, torch.zeros(400, dtype=torch.long), torch.zeros(400, model.backbone.inputs))
    with torch.no_grad():
        logits, features = model(*inputs), without_output(model)(*inputs)
        again = model(*inputs)
    assert torch.equal(logits, again)  # the model is as it was
    torch.testing.assert_close(model.output(features), logits)


@pytest.mark.parametrize("recipe", ["mvnet", "infonce"])
def test_matches_are_true_and_as_the_network_predicts_them(recipe, toy_store, run_of, tmp_path):
    run = run_of(recipe)
    page = page_of(toy_store.path, run, tmp_path / "P", ids=["chair/0000"])
    data = page.json("shape-0")["matching"]
    size = (6, len(data["v"]), len(data["u"]))
    valid = unpack(data["valid"]).reshape(size).astype(bool)
    true, predicted = (unpack(data[n]).reshape(*size, 2) / 100 for n in ("true", "predicted"))
    camera, depth = toy_store.camera(0), toy_store.depth(0)
    rows, columns = np.array(data["v"]).astype(int), np.array(data["u"]).astype(int)
    for view, partner in enumerate(data["partner"]):
        uv, matched = match_pixels((depth[view], depth[partner]), (camera[view], camera[partner]))
        own, matched = uv[np.ix_(rows, columns)], matched[np.ix_(rows, columns)]
        assert not np.any(valid[view] & ~matched)
        assert np.abs(true[view] - own)[valid[view]].max(initial=0) < 0.01
    assert valid.sum() > 20
    shown = open_trained(run, "best", "cpu").recipe  # the whole network, a pair at a time
    shown.model.eval().head.levels = torch.nn.ModuleList()
    batch = read_batch(toy_store, np.array([0]), shown.stream)
    pair = [1, data["partner"][1]]
    one = {n: t[:, pair] if t.ndim > 2 and t.shape[1] == 6 else t for n, t in batch.items()}
    with torch.no_grad():
        output = shown.model(one["points"], shown.project(one), []).matching
    if recipe == "mvnet":
        assert np.abs(predicted[1] - 32 * output[0].numpy()).max() < 0.01
    else:
        assert set(predicted[1][..., 0].ravel()) <= set(data["u"])


def test_frames_are_matched_with_frames_that_overlap(rooms, run_of, tmp_path):
    page = page_of(rooms, run_of("pairs"), tmp_path / "P", limit=1)
    data = page.json("shape-0")["matching"]
    size = (len(data["partner"]), len(data["v"]), len(data["u"]))
    valid, true = unpack(data["valid"]).reshape(size), unpack(data["true"]).reshape(*size, 2) / 100
    camera, depth = rooms[0].camera, rooms[0].depth
    rows, columns = np.array(data["v"]).astype(int), np.array(data["u"]).astype(int)
    assert max(data["partner"]) >= 0
    for view, partner in enumerate(data["partner"]):
        if partner < 0:
            assert not valid[view].any()
            continue
        uv, matched = match_pixels((depth[view], depth[partner]), (camera[view], camera[partner]))
        found = valid[view].astype(bool)
        assert found.any()
        assert np.mean(matched[np.ix_(rows, columns)][found]) > 0.95  # depth moves by rounding
        assert np.median(np.abs(true[view] - uv[np.ix_(rows, columns)])[found]) < 0.01


def test_lost_visibility_is_not_taken_for_frames_that_do_not_overlap(rooms, run_of, tmp_path):
    shutil.copytree(rooms.path, tmp_path / "S")
    store = pc.open_store(tmp_path / "S")
    overlay = open_overlay(run_of("pairs"), store, range(1), "best", "cpu")
    for path in (tmp_path / "S/visible/c").rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(pc.DamageError):
        overlay.data(0, range(6))


def test_the_command_writes_the_same_page(toy_store, run_of, tmp_path):
    run = run_of("student")
    written = pc.view(toy_store.path, tmp_path / "P", run=run, classes=["lamp"], device="cpu")
    options = ("--run", str(run), "--class", "lamp", "--device", "cpu")
    assert on_command_line(app, toy_store.path, "--out", tmp_path / "Q", *options)[0] == 0
    assert written.read_bytes() == (tmp_path / "Q/index.html").read_bytes()


def test_a_run_of_scenes_does_not_fit_a_store_of_objects(toy_store, run_of, tmp_path):
    says = "this is a store of objects, which the recipe 'semseg' cannot use"
    with pytest.raises(UsageError, match=says):
        pc.view(toy_store.path, tmp_path / "P", run=run_of("semseg"))
    assert not (tmp_path / "P").exists()


def test_a_generator_has_nothing_to_show(toy_store, run_of, tmp_path):
    facts = json.loads((run_of("student") / "run.json").read_text())
    generator = load_config("cmpg", None, [], teacher="T").model_dump(mode="json")
    (tmp_path / "run.json").write_text(json.dumps({**facts, "recipe": "cmpg", "config": generator}))
    with pytest.raises(UsageError, match="the recipe 'cmpg' has nothing that the page can show"):
        pc.view(toy_store.path, tmp_path / "P", run=tmp_path)


def test_a_folder_without_a_run_is_refused(toy_store, tmp_path):
    with pytest.raises(StoreError):
        pc.view(toy_store.path, tmp_path / "P", run=tmp_path)


def test_features_and_matches_of_a_served_shape_are_computed_when_it_is_shown(toy_store, run_of):
    store = pc.open_store(toy_store.path)
    overlay = open_overlay(run_of("mvnet"), store, range(3), "best", "cpu")
    first, again = (overlay.data(39, [0, 2, 4]) for _ in range(2))
    assert first == again
    assert len(first["matching"]["partner"]) == 3
