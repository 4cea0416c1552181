"""Pre-training on scenes: runs on box rooms, what they read, and the segmentation after them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from pointcmt.cameras import Camera
from pointcmt.correspondences import match_pixels, pixels_to_points
from pointcmt.datasets.joint import open_stores
from pointcmt.datasets.store.features import list_features, open_features, view_counts
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.datasets.streams import open_stream
from pointcmt.errors import UsageError
from pointcmt.training import loop
from pointcmt.training.config.files import load_config
from pointcmt.training.evaluation.probe import probe
from pointcmt.training.export.networks import export
from pointcmt.training.images import levels
from pointcmt.training.loop import train
from pointcmt.training.ops.projection import splat_radius
from pointcmt.training.recipes import build_recipe
from pointcmt.training.recipes.recipe import RecipeContext
from pointcmt.training.runs.folder import open_run
from pointcmt.training.runs.pretrained import open_network, part_of
from pointcmt.training.session import plan_session
from tests.scene_stores import CONFIG, render_rooms
from tests.training.equal_runs import assert_equal_runs, metrics
from tests.training.recipes.mvnet_batches import CPU
from tests.training.stores import small_config

pytestmark = pytest.mark.usefixtures("small_resnet", "small_unet", "plain_dgcnn")

UNET = "sparse-unet-tiny"
SETTINGS = (
    f"model.backbone={UNET}",
    "data.batch_size=2",
    "data.points=600",
    "data.validation=0.25",
    "scenes.voxel=0.2",
    "scenes.pairs=2",
    "images.size=64",
    "schedule.warmup=0",
    "optimizer.learning_rate=0.01",
)
SEMSEG = ("data.voxel=0.2", "data.crop=500", "data.batch_size=2", "data.validation=0.25")


def config(*overrides, **flags):
    return small_config("mvnet", *SETTINGS, *overrides, **{"epochs": 1, **flags})


def prepared(store, *overrides, shapes=None):
    """The recipe with these settings, ready to train on scenes, and a batch of two pairs."""
    torch.manual_seed(0)
    recipe = build_recipe(config(*overrides), 1, True)
    shapes = np.array(range(store.schema.shapes) if shapes is None else shapes)
    recipe = recipe.prepare(RecipeContext(store, shapes, {}, CPU, Accelerator(cpu=True)))
    return recipe, next(iter(open_stream(store, shapes, recipe.stream)))


@pytest.fixture(scope="module")
def pre(rooms, small_resnet, small_unet, tmp_path_factory):
    """Some epochs of pre-training."""
    folder = tmp_path_factory.mktemp("pre") / "run"
    train(rooms, config(epochs=6), folder, device="cpu")
    return folder


def test_both_losses_fall_on_rooms(pre):
    records = metrics(pre)
    assert all(record["matched"] > 0.3 for record in records)  # frames of a pair overlap
    for name in ("transfer", "val_transfer", "matching"):
        assert records[-1][name] < 0.85 * records[0][name], name
    pictures = {path.name for path in pre.glob("*.png")}
    assert pictures == {"curve.png", "features.png", "matches.png"}
    assert open_run(pre).config.reads == "scenes"


def test_a_run_on_rooms_interrupted_in_mid_epoch_ends_with_the_same_bits(
    rooms, tmp_path, monkeypatch
):
    more = "images.cache=true", "matching.method=infonce", "loop.precision=bf16"
    settings = config(*more, "optimizer.accumulate=2")
    train(rooms, settings, tmp_path / "straight", device="cpu")
    monkeypatch.setattr(loop, "SAVE", 0.0)
    original = loop.learning_rate

    def interrupting(settings, step, steps):
        if step == steps - 1:
            raise KeyboardInterrupt
        return original(settings, step, steps)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "learning_rate", interrupting)
        with pytest.raises(KeyboardInterrupt):
            train(rooms, settings, tmp_path / "parts", device="cpu")
    torch.manual_seed(999)  # earlier random state must not matter
    train(rooms, settings, tmp_path / "parts", device="cpu")
    assert_equal_runs(tmp_path / "straight", tmp_path / "parts")


# What segmentation takes over.


@pytest.mark.parametrize("load", ["encoder", "all"])
def test_segmentation_starts_with_exactly_the_pretrained_weights(load, pre, rooms, tmp_path):
    overrides = (*SEMSEG, f"load={load}", "schedule.warmup=0")
    settings = load_config("semseg", None, overrides, init=str(pre))
    plan = plan_session(rooms, settings, tmp_path / "run", Accelerator(cpu=True))
    assert plan.config.model.backbone == UNET
    assert not any("voxels" in note for note in plan.notes)
    theirs = open_network(pre).weights
    mine = plan.recipe.model.backbone.state_dict()
    same = {name for name in mine if torch.equal(mine[name], theirs[name])}
    encoder = {name for name in mine if part_of(name) == "encoder"}
    assert encoder < mine.keys() == theirs.keys()
    assert encoder <= same
    assert (same == mine.keys()) == (load == "all")
    finer = settings.model_copy(update={"data": settings.data.model_copy(update={"voxel": 0.1})})
    notes = plan_session(rooms, finer, tmp_path / "run", Accelerator(cpu=True)).notes
    assert any("its voxels are of 0.2 m, those of this run of 0.1 m" in note for note in notes)


def test_a_frozen_encoder_stays_as_it_was_pretrained(pre, rooms, tmp_path):
    overrides = (*SEMSEG, "model.encoder=frozen", "schedule.warmup=0")
    settings = load_config("semseg", None, overrides, epochs=1, init=str(pre))
    train(rooms, settings, tmp_path, device="cpu")
    theirs, mine = open_network(pre).weights, open_network(tmp_path).weights
    equal = {part_of(name): True for name in mine}
    for name in mine:
        equal[part_of(name)] &= torch.equal(mine[name], theirs[name])
    assert equal == {"encoder": True, "decoder": False}


@pytest.mark.parametrize("normals", ["false", "true"])
def test_the_inputs_of_segmentation_are_the_same_function_of_points(normals, rooms):
    """The voxels of a pair's points and their rows [n, 2 + F], from the places in the room."""
    mvnet, batch = prepared(rooms, f"scenes.normals={normals}", "transfer.weight=0")
    overrides = (*SEMSEG, f"model.backbone={UNET}", f"data.normals={normals}")
    semseg = build_recipe(load_config("semseg", None, overrides), 4, False)
    clouds = torch.arange(len(batch["shape"])).repeat_interleave(600)
    points, features = mvnet.inputs(batch)
    ours = mvnet.model.backbone.prepare(points.flatten(0, 1), clouds, features.flatten(0, 1))
    packed = {
        "points": batch["points"].flatten(0, 1),
        "color": batch["color"].flatten(0, 1),
        "batch": clouds,
        "shape": batch["shape"],
    }
    if normals == "true":
        packed["normal"] = batch["normals"].flatten(0, 1)
    _, inputs = semseg.deployable(semseg.model, packed)
    theirs = semseg.model.backbone.prepare(*inputs)
    assert torch.equal(ours.rows, theirs.rows)
    assert ours.rows.shape[1] == (8 if normals == "true" else 5)
    assert torch.equal(ours.voxels.grid.coords, theirs.voxels.grid.coords)
    scene = int(batch["shape"][0])
    height = rooms.read("points", scene)[:, 2]
    assert np.isin(batch["points"][0, :, 2].numpy(), height).all()  # over the floor, as in crops


def test_augmentation_moves_points_as_in_segmentation(rooms):
    """Turned, mirrored and scaled as a whole: distances keep their ratio, up to the jitter."""
    recipe, batch = prepared(rooms, "transfer.weight=0", "scenes.augmentation.jitter=0")
    still, _ = recipe.inputs(batch)
    moved, features = recipe.inputs(batch, torch.Generator().manual_seed(1))
    ratio = torch.cdist(moved, moved) / torch.cdist(still, still).clamp(min=1e-3)
    far = torch.cdist(still, still) > 0.5
    for sample in range(len(still)):
        own = ratio[sample][far[sample]]
        assert 0.9 <= own.mean() <= 1.1
        torch.testing.assert_close(own, own.mean().expand_as(own), rtol=1e-3, atol=0)
        torch.testing.assert_close(moved[sample, :, 2], still[sample, :, 2] * own.mean())
    assert features.abs().max() <= 0.5


# Frames that are wider than high.


def test_maps_of_frames_equal_correspondences(rooms):
    size = "projection.size=80", "matching.stride=4", "projection.fill=false", "transfer.weight=0"
    recipe, batch = prepared(rooms, *size)
    maps, found = recipe.project(batch), recipe.match(batch)
    assert maps.nearest.shape[2:] == (60, 80, 1)
    assert found.valid.shape[1:] == (15, 20)
    query = found.pixel[..., 1].long(), found.pixel[..., 0].long()
    for row in range(len(batch["shape"])):
        camera = Camera(batch["K"][row].numpy(), batch["world_to_camera"][row].numpy(), 80, 60)
        points, visible = batch["points"][row].double().numpy(), batch["visible"][row].numpy()
        expected = pixels_to_points(points, visible, camera, splat_radius(600, (60, 80)))
        np.testing.assert_array_equal(maps.nearest[row, ..., 0], expected)
        depth = batch["depth"][row].double().numpy()
        uv, valid = match_pixels((depth[0], depth[1]), (camera[0], camera[1]))
        uv, valid = uv[query], valid[query]
        assert np.array_equal(found.valid[2 * row], valid)
        np.testing.assert_allclose(found.uv[2 * row][valid], uv[valid], atol=1e-9)
    assert (maps.nearest >= 0).float().mean() > 0.5


def test_both_losses_are_0_for_perfect_predictions_of_frames(rooms):
    recipe, batch = prepared(rooms)
    maps, matches = recipe.project(batch), recipe.match(batch)
    points, features = recipe.inputs(batch)
    output = recipe.model(points, maps, recipe.grids, features)
    shares = (matches.uv / torch.tensor([80.0, 60.0])).float()
    perfect = output._replace(levels=recipe.teacher.image_features(batch), matching=shares)
    assert recipe.grids == [tuple(level.shape[-2:]) for level in perfect.levels] == [(6, 8), (2, 2)]
    terms = recipe.terms(perfect, maps, batch)
    assert terms["transfer"].value == pytest.approx(0, abs=1e-6)
    assert terms["matching"].value == pytest.approx(0, abs=1e-6)
    assert output.matching.shape == perfect.matching.shape == (4, 6, 8, 2)
    assert [a.shape for a in output.levels] == [b.shape for b in perfect.levels]


def test_cached_features_of_frames_equal_those_computed_online(rooms, monkeypatch):
    """Frames that a row does not have are neither computed nor stored."""
    seen, forward = [], levels.ImageLevels.forward

    def count(self, images):
        seen.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(levels.ImageLevels, "forward", count)
    options = "images.cache=true", "images.standardize=false", "images.levels=[0.75]"
    before = set(list_features(rooms))
    cached, batch = prepared(rooms, *options)
    frames = view_counts(rooms, range(6))
    assert sum(seen) == frames.sum() < 6 * rooms.schema.views
    assert "rgb" not in cached.stream.arrays
    (key,) = set(list_features(rooms)) - before
    stored = rooms.read(open_features(rooms, key).name)
    for scene, count_of in enumerate(frames):
        assert np.any(stored[scene, :count_of], axis=1).all()
        assert not np.any(stored[scene, count_of:])
    online, _ = prepared(rooms, *options[1:])
    pairs = zip(batch["shape"].tolist(), batch["view"].numpy(), strict=True)
    shown = np.stack([rooms.read("rgb", scene, frames) for scene, frames in pairs])
    wanted = online.teacher.image_features({"rgb": torch.from_numpy(shown)})
    found = cached.teacher.image_features(batch)
    assert found[0].shape[-2:] == cached.teacher.grids[0]
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-3, atol=1e-3)


def test_a_joined_store_may_hold_no_room_to_train_on(rooms, tmp_path):
    """As a store of test rooms beside one of train rooms: its features are not computed."""
    shapes = (ShapeRecord("others/0", "office", "test", "others/0"),)
    other = render_rooms(tmp_path / "S", 1, 1, replace(CONFIG, voxel=0.1), shapes=shapes)
    recipe = prepared(open_stores([rooms, other]), "images.cache=true", shapes=range(6))[0]
    assert open_features(other, recipe.teacher.reads.partition("/")[2]).pending() == [0]


# Other networks, other stores.


def test_networks_of_points_take_colors_unless_they_are_from_outside(rooms):
    for backbone, reads in (("dgcnn", True), ("tests.training.plain_dense:PlainDense", False)):
        recipe, _ = prepared(rooms, f"model.backbone={backbone}", "transfer.weight=0")
        assert ("color" in recipe.stream.arrays) == reads


def test_scenes_need_no_options(rooms, tmp_path):
    few = "data.points=300", "data.batch_size=4", "data.fraction=0.3", "transfer.weight=0"
    train(rooms, small_config("mvnet", *few, epochs=1), tmp_path, device="cpu")
    assert open_run(tmp_path).config.scenes.overlap == (0.3, 0.9)
    assert np.isfinite(metrics(tmp_path)[0]["val_loss"])


def test_options_of_scenes_are_refused_for_shapes(store, tmp_path):
    with pytest.raises(UsageError, match="store of objects, which the recipe 'mvnet' cannot") as no:
        train(store, config(), tmp_path / "run", device="cpu")
    assert "no options of `scenes`" in no.value.fix


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.views=4", "4 views, but the frames of scenes are read in pairs"),
        ("scenes.overlap=[0.5, 0.4]", "0 < least <= most <= 1"),
        ("scenes.overlaps=[0.5, 0.6]", "unknown key 'scenes.overlaps'"),
        ("scenes.voxel=2", "less than or equal to 1"),
    ],
)
def test_invalid_options_of_scenes_are_refused(override, message):
    with pytest.raises(UsageError) as caught:
        build_recipe(config(override), 1, True)
    assert message in str(caught.value)


def test_what_scenes_cannot_do_is_said(pre, store, tmp_path):
    with pytest.raises(UsageError, match="takes scenes in meters, and probes are of shapes"):
        probe(pre, store, device="cpu")
    with pytest.raises(UsageError, match="trained on scenes; `train semseg --init`"):
        export(pre, "safetensors", tmp_path / "M.safetensors")


def test_a_2d_network_that_does_not_take_frames_says_so(rooms):
    overrides = "images.backbone=dinov2-small", "images.size=0"
    with pytest.raises(UsageError, match="which do not tile 80 × 60 pixels") as caught:
        prepared(rooms, *overrides)
    assert caught.value.where == "images.size"
    assert "70 or 84" in caught.value.fix
