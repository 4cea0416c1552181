"""The recipe mvnet: what its losses compare, what it reads, and that the loop's promises hold."""

import itertools
import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch.nn.functional import adaptive_avg_pool2d

from pointcmt.correspondences import match_pixels, pixels_to_points
from pointcmt.datasets.sources import list_shapes, select
from pointcmt.datasets.store.streaming import ViewStream
from pointcmt.errors import StoreError, UsageError
from pointcmt.training import loop
from pointcmt.training.config.files import load_config
from pointcmt.training.evaluation.evaluate import evaluation_config
from pointcmt.training.evaluation.probe import probe
from pointcmt.training.figures.pretraining import draw_features
from pointcmt.training.images.building import build_network
from pointcmt.training.loop import train
from pointcmt.training.networks.backbones import BACKBONES, DENSE
from pointcmt.training.networks.backbones.pointvit import DensePointViT, Size
from pointcmt.training.networks.view_consistency import (
    MVNetOutput,
    centers,
    sample_keys,
    without_classes,
)
from pointcmt.training.ops.augment import keep_patches
from pointcmt.training.ops.losses import info_nce
from pointcmt.training.ops.projection import splat_radius
from pointcmt.training.recipes import RECIPES, mvnet_pictures
from pointcmt.training.recipes.mvnet import GEOMETRY, keep_points
from pointcmt.training.recipes.mvnet_pictures import choose_pairs, most_similar
from pointcmt.training.recipes.mvnet_terms import GUESS
from pointcmt.training.recipes.recipe import RecipeContext
from pointcmt.training.runs.splits import split_shapes
from tests.stores import render_box, render_listing, render_toy
from tests.training.plain_dense import PlainDense, pretrain_plain
from tests.training.stores import small_config
from tests.training.test_loop import assert_equal_runs, metrics

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("small_resnet")


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """`dgcnn` stands for something that takes a millisecond."""
    monkeypatch.setitem(DENSE, "dgcnn", PlainDense)
    monkeypatch.setitem(BACKBONES, "dgcnn", PlainDense)


def prepared(store, *overrides, shapes=None):
    """The recipe with these settings, ready to train."""
    torch.manual_seed(0)
    recipe = RECIPES["mvnet"](small_config("mvnet", *overrides), 1, True)
    shapes = np.arange(store.schema.shapes) if shapes is None else shapes
    context = RecipeContext(store, shapes, {}, CPU, Accelerator(cpu=True))
    return recipe.prepare(context)


def evaluation_stream(recipe, store, shapes, batch_size, all_views=True, **share):
    """What is validated: these shapes in order. share: rank and world_size."""
    config = evaluation_config(recipe.stream, batch_size, all_views)
    return ViewStream(store, shapes, replace(config, **share))


def batch_of(recipe, store, shapes=range(6)):
    (batch,) = ViewStream(store, np.array(shapes), replace(recipe.stream, batch_size=len(shapes)))
    return batch


# What is compared


def test_each_pixel_shows_the_point_that_correspondences_say(rendered):
    recipe = prepared(rendered, "projection.size=32", "projection.fill=false")
    batch = batch_of(recipe, rendered)
    maps = recipe.project(batch)
    for row, shape in enumerate(batch["shape"].tolist()):
        views = batch["view"][row].numpy()
        points, camera = rendered.read("points", shape), rendered.camera(shape)[views]
        visible = rendered.visible(shape)[views]
        expected = pixels_to_points(points, visible, camera, splat_radius(256, 32))
        np.testing.assert_array_equal(maps.nearest[row, ..., 0], expected)
    smaller = prepared(rendered, "projection.size=16").project(batch)
    share = adaptive_avg_pool2d((batch["depth"] > 0).float().flatten(0, 1)[:, None], 16)
    assert torch.equal(smaller.covered, share.view(6, 2, 16, 16) >= 0.5)


def test_matches_are_those_of_correspondences_for_each_view_in_its_pair(rendered):
    recipe = prepared(rendered, "data.views=4", "projection.size=32", "matching.stride=1")
    batch = batch_of(recipe, rendered, range(3))
    found = recipe.match(batch)
    for number in range(12):
        shape, view = divmod(number, 4)
        rows = batch["shape"][shape].item()
        one, other = (int(batch["view"][shape, v]) for v in (view, view ^ 1))
        camera, depth = rendered.camera(rows), rendered.depth(rows)
        uv, valid = match_pixels((depth[one], depth[other]), (camera[one], camera[other]))
        np.testing.assert_array_equal(found.valid[number], valid)
        np.testing.assert_allclose(found.uv[number][valid], uv[valid], atol=1e-9)
        np.testing.assert_array_equal(found.foreground[number], depth[one] > 0)


def test_standardized_features_have_no_mean_to_be_content_with(rendered):
    """To say what all patches have in common costs 1, and of raw features almost nothing."""
    lost = {}
    for standardize in ("true", "false"):
        recipe = prepared(rendered, f"images.standardize={standardize}", "matching.weight=0")
        batch = batch_of(recipe, rendered, range(24))
        maps, levels = recipe.project(batch), recipe.teacher.image_features(batch)
        shown = [
            adaptive_avg_pool2d((batch["depth"].flatten(0, 1) > 0).float()[:, None], x.shape[-2:])
            for x in levels
        ]
        means = [
            (x * (s >= 0.25)).sum(dim=(0, 2, 3)) / (s >= 0.25).sum()
            for x, s in zip(levels, shown, strict=True)
        ]
        same = [m[None, :, None, None].expand_as(x) for m, x in zip(means, levels, strict=True)]
        lost[standardize] = recipe.terms(MVNetOutput(same, torch.zeros(0)), maps, batch)[
            "transfer"
        ].value
    assert lost["true"] > 0.6
    assert lost["false"] < 0.3


@pytest.mark.parametrize("distance", ["cosine", "smooth-l1"])
def test_nothing_is_lost_where_all_is_as_it_should_be(distance, rendered):
    """L_k = 0 when the head says what the 2D network says, L_m = 0 when M = M*."""
    recipe = prepared(rendered, f"transfer.distance={distance}")
    batch = batch_of(recipe, rendered)
    batch["depth"][0, 1] = 0  # a view without a match does not count, nor does its pair's other one
    maps, matches = recipe.project(batch), recipe.match(batch)
    right = MVNetOutput(recipe.teacher.image_features(batch), (matches.uv / 32).float())
    terms = recipe.terms(right, maps, batch)
    assert terms["transfer"].value == pytest.approx(0, abs=1e-6)
    assert terms["matching"].value == pytest.approx(0, abs=1e-6)
    assert 0.1 < terms["matched"].value < 1
    wrong = MVNetOutput([-level for level in right.levels], right.matching + 0.25)
    terms = recipe.terms(wrong, maps, batch)
    assert terms["transfer"].value > 0.1
    assert terms["matching"].value == pytest.approx(0.25 / GUESS, rel=1e-5)


def test_to_say_the_same_place_for_all_of_a_view_costs_about_one(rendered):
    """As L_k does of a head that says the mean: both terms begin at about 1."""
    recipe = prepared(rendered, "transfer.weight=0")
    batch = batch_of(recipe, rendered, range(24))
    matches = recipe.match(batch)
    places = torch.zeros(48, 8, 8, 2)
    for view, valid in enumerate(matches.valid):
        if valid.any():
            places[view] = (matches.uv[view][valid] / 32).mean(dim=0)
    cost = recipe.terms(MVNetOutput([], places), recipe.project(batch), batch)["matching"].value
    assert 0.7 < cost < 1.4


def masked(store, *overrides, views=2):
    """A recipe, and a batch of six shapes with the maps of the points that masking keeps."""
    recipe = prepared(store, "transfer.weight=0", f"data.views={views}", *overrides)
    batch = batch_of(recipe, store)
    kept = keep_patches(batch["points"], 0.4, torch.Generator().manual_seed(0))
    _, maps = keep_points(batch["points"], recipe.project(batch), kept)
    return recipe, batch, maps


def test_tokens_whose_points_are_left_out_take_no_part(rendered):
    """Neither in L_m nor in its gradient: where nothing is shown there is nothing to match."""
    recipe, batch, maps = masked(rendered, views=4)
    matches, covered = recipe.match(batch), maps.covered.flatten(0, 1)
    found = torch.rand(24, 8, 8, 2, requires_grad=True)
    terms = recipe.terms(MVNetOutput([], found), maps, batch)
    terms["matching"].value.backward()
    counts, distances, shares = torch.zeros(24, 8, 8, dtype=torch.bool), [], []
    for view in range(24):
        errors, shown = [], 0
        for row, column in itertools.product(range(8), range(8)):
            pixels = covered[view, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            shown += bool(pixels.any() and matches.foreground[view, row, column])
            if pixels.any() and matches.valid[view, row, column]:
                counts[view, row, column] = True
                truth = matches.uv[view, row, column] / 32
                errors.append((found[view, row, column] - truth).abs().mean().item())
        distances += [np.mean(errors)] if errors else []
        shares.append(len(errors) / max(shown, 1))
    assert counts.sum() < 0.9 * matches.valid.sum()  # so it is something that is left out
    assert terms["matching"].value.item() == pytest.approx(np.mean(distances) / GUESS, rel=1e-5)
    assert terms["matched"].value.item() == pytest.approx(np.mean(shares), rel=1e-5)
    assert torch.equal((found.grad != 0).any(dim=-1), counts)


def smooth_keys(batch, size):
    """Keys [B·V,64,h,w] that are smooth functions of the surface point that a pixel shows."""
    generator = torch.Generator().manual_seed(3)
    waves, phases = 3 * torch.randn(3, 64, generator=generator), 7 * torch.rand(64, 1, 1)
    depth = batch["depth"].flatten(0, 1)
    step = depth.shape[-1] // size
    at = step * torch.arange(size) + step // 2
    depth = depth[:, at][:, :, at].double()
    columns, rows = torch.meshgrid(at + 0.5, at + 0.5, indexing="xy")
    pixel = torch.stack([columns, rows, torch.ones_like(rows)]).double()  # [3, h, w]
    K, pose = batch["K"].flatten(0, 1).double(), batch["world_to_camera"].flatten(0, 1).double()
    local = torch.einsum("nij,jhw->nihw", torch.linalg.inv(K), pixel) * depth[:, None]
    points = torch.einsum("nji,njhw->nihw", pose[:, :3, :3], local - pose[:, :3, 3, None, None])
    return (torch.einsum("nihw,ik->nkhw", points.float(), waves) + phases).cos()


def test_info_nce_sets_a_pixel_against_the_other_view_and_never_against_its_own(rendered):
    """With keys of surface points its own neighbors are what a pixel is most like: not negatives.

    Against a plain reference: of each pair the first view's tokens whose pixel shows a point, where
    they fall on one that does.
    """
    overrides = ("matching.method=infonce", "matching.stride=1", "projection.size=32")
    recipe, batch, maps = masked(rendered, *overrides)
    keys = smooth_keys(batch, 32).requires_grad_()
    found = recipe.terms(MVNetOutput([], keys), maps, batch)["matching"].value
    matches, covered = recipe.match(batch), maps.covered.flatten(0, 1)
    anchors, positives = [], []
    for view in range(0, 12, 2):
        for row, column in matches.valid[view].nonzero().tolist():
            u, v = matches.uv[view, row, column].tolist()
            if covered[view, row, column] and covered[view + 1, int(v), int(u)]:
                anchors.append(keys[view, :, row, column])
                place = matches.uv[None, view, row, column][None] / 32
                positives.append(sample_keys(keys[view + 1 : view + 2], place)[0, 0])
    a, b = torch.stack(anchors), torch.stack(positives)
    assert len(a) > 200
    expected = info_nce(a, b, recipe.config.matching.temperature)
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found, keys, retain_graph=True)
    (reference,) = torch.autograd.grad(expected, keys)
    torch.testing.assert_close(gradient, reference)


def test_a_point_that_is_left_out_shows_nowhere_and_the_others_where_they_did(rendered):
    for splat in (1, 3):
        recipe = prepared(rendered, f"projection.splat={splat}")
        batch = batch_of(recipe, rendered)
        maps = recipe.project(batch)
        kept = keep_patches(batch["points"], 0.3, torch.Generator().manual_seed(0))
        points, left = keep_points(batch["points"], maps, kept)
        for row in range(6):
            assert torch.equal(points[row], batch["points"][row, kept[row]])
            place = {old: new for new, old in enumerate(kept[row].tolist())} | {-1: -1}
            before = maps.nearest[row].flatten().tolist()
            expected = [place.get(point, -1) for point in before]
            assert left.nearest[row].flatten().tolist() == expected
            assert torch.equal(left.uv[row], maps.uv[row][:, kept[row]])
        assert 0.5 < left.covered.float().sum() / maps.covered.float().sum() < 0.95


def test_gradients_reach_the_points_that_are_shown_and_no_others(rendered):
    recipe = prepared(rendered, "transfer.weight=0", "masking=0")
    batch = batch_of(recipe, rendered)
    features = []
    recipe.model.lift.register_forward_hook(lambda *call: features.append(call[2]))
    recipe.model.lift[1].register_full_backward_hook(lambda *call: features.append(call[2][0]))
    maps = recipe.project(batch)
    answer = recipe.model(batch["points"], maps, [])
    answer.matching.square().sum().backward()
    reached = (features[1] != 0).any(dim=2)
    shown = torch.zeros(6, 257, dtype=torch.bool)
    shown.scatter_(1, maps.nearest.flatten(1).remainder(257), True)  # -1 is the last one
    assert torch.equal(reached, shown[:, :256])
    assert 0.2 < shown.float().mean() < 0.99


def test_views_without_points_or_matches_cost_nothing_and_break_nothing(rendered):
    for overrides in ((), ("matching.method=infonce",), ("transfer.distance=smooth-l1",)):
        recipe = prepared(rendered, *overrides)
        batch = batch_of(recipe, rendered)
        batch["visible"], batch["depth"] = batch["visible"] & False, batch["depth"] * 0
        loss, terms = recipe.loss(recipe.model, batch, torch.Generator())
        loss.backward()
        assert loss == 0
        assert terms.keys() == {"transfer", "matching", "matched"}
        assert all(term.isnan() for term in terms.values())  # to be left out, as nothing was judged
        grads = (p.grad for p in recipe.model.parameters() if p.grad is not None)
        assert all(grad.isfinite().all() for grad in grads)


def test_one_match_has_no_negatives_and_is_no_perfect_answer(rendered):
    recipe = prepared(rendered, "matching.method=infonce", "matching.matches=1")
    _, terms = recipe.loss(recipe.model, batch_of(recipe, rendered), torch.Generator())
    assert terms["matching"].isnan()
    assert terms["matched"] > 0.1


def front_and_back(folder, count):
    """A store of cubes, of which no face is seen in two of the views."""
    (folder / "two.toml").write_text("".join(f"[[views]]\nazimuth = {a}\n" for a in (0, 180)))
    (folder / "meshes").mkdir()
    return render_box(folder / "S", folder / "meshes", count, rig=str(folder / "two.toml"))


def test_an_epoch_without_a_match_has_no_l_m(tmp_path):
    """Rather than one of 0, which would look perfect."""
    store = front_and_back(tmp_path, 8)
    train(store, small_config("mvnet", epochs=1), tmp_path / "run", device="cpu")
    (record,) = metrics(tmp_path / "run")
    assert record["matched"] == record["val_matched"] == 0
    assert not {"matching", "val_matching"} & record.keys()
    assert record["loss"] == pytest.approx(record["transfer"], rel=1e-6)


def test_maps_that_no_point_reaches_are_refused(rendered):
    with pytest.raises(UsageError, match="no point is visible in the maps") as caught:
        prepared(rendered, "projection.radius=0.001", "projection.fill=false")
    assert "projection.radius=0" in caught.value.fix


def test_cached_features_are_part_of_the_cost(tmp_path):
    store = render_toy(tmp_path / "S", limit=24, rig="circle12", shard=8)
    costs = {}
    for cache in ("false", "true"):
        config = small_config("mvnet", f"images.cache={cache}", epochs=1)
        costs[cache] = train(store, config, tmp_path / cache, device="cpu").cost
    files = [path for path in (tmp_path / "S" / "features").rglob("*") if path.is_file()]
    assert costs["false"].feature_bytes == 0
    kept = sum(path.stat().st_size for path in files if path.parent.name != "features")
    assert costs["true"].feature_bytes == kept > 2**16
    assert "of features in the store" in costs["true"].describe()


def test_what_is_used_afterwards_gives_features_of_points(rendered):
    """So its cost counts a decoder, and no head for classes."""
    recipe = prepared(rendered, "model.backbone=pointvit-s")
    batch = batch_of(recipe, rendered)
    network, inputs = recipe.deployable(recipe.model.eval(), batch)
    assert network(*inputs).shape == (6, 256, 256)
    whole = DENSE["pointvit-s"](1)
    left_out = [*whole.head.parameters(), *whole.classifier.parameters()]
    counts = [sum(p.numel() for p in some) for some in (whole.parameters(), left_out)]
    assert sum(p.numel() for p in network.parameters()) == counts[0] - counts[1]


def test_what_is_validated_is_the_same_each_time(rendered):
    recipe = prepared(
        rendered, "matching.method=infonce", "matching.matches=50", "matching.weight=1"
    )
    stream = evaluation_stream(recipe, rendered, np.arange(7), 4, all_views=False)
    passes = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        batches = list(stream)
        assert [batch["view"].shape[1] for batch in batches] == [2, 2]
        passes.append([recipe.measure(recipe.model.eval(), batch) for batch in batches])
    assert passes[0] == passes[1]
    assert passes[0][0]["loss"] == passes[0][0]["transfer"] + passes[0][0]["matching"]
    halves = evaluation_stream(
        recipe, rendered, np.arange(7), 4, rank=1, world_size=2, all_views=False
    )
    mine = [batch["view"] for batch in halves]
    assert torch.equal(mine[0], batches[0]["view"][2:])


# Data without labels


def test_labels_are_never_looked_at(rendered, tmp_path):
    """The same shapes without a class train the same network, bit for bit."""
    listing = select(list_shapes("toy", None), None, 24)
    unknown = tuple(replace(shape, class_name=None) for shape in listing.shapes)
    bare = replace(listing, shapes=unknown, class_names=())
    store = render_listing(bare, tmp_path / "S", rig="circle12", shard=8)
    assert (store.labels == -1).all()
    for name, each in (("known", rendered), ("unknown", store)):
        train(each, small_config("mvnet", epochs=1), tmp_path / name, device="cpu")
    assert_equal_runs(tmp_path / "known", tmp_path / "unknown")


def test_shapes_are_split_without_classes(rendered, make_store, tmp_path):
    data = small_config("mvnet").data
    split = split_shapes(rendered, data)
    both = np.concatenate([split.train, split.validation])
    train_shapes = np.flatnonzero(rendered.splits == 0)
    assert np.array_equal(np.sort(both), train_shapes)
    assert len(split.validation) == round(0.2 * len(train_shapes))
    less = split_shapes(rendered, data.model_copy(update={"fraction": 0.5}))
    assert np.array_equal(less.validation, split.validation)
    assert set(less.train) < set(split.train)
    assert len(less.train) == round(0.5 * len(split.train))
    other = split_shapes(rendered, data.model_copy(update={"split_seed": 1}))
    assert not np.array_equal(other.validation, split.validation)
    own = split_shapes(make_store(val=(1, 2, 0)), data)
    assert (len(own.validation), own.notes) == (3, ("validating on the store's val split",))
    with pytest.raises(StoreError, match="one rendered shape"):
        split_shapes(make_store(train=(1, 0, 0), test=(1, 1, 1)), data)


# The loop's promises


OPTIONS = {
    "plain": ("masking=0.3",),
    "averaged": ("optimizer.ema=0.9", "optimizer.accumulate=2", "data.batch_size=2"),
    "bf16": ("loop.precision=bf16", "matching.method=infonce", "matching.matches=20"),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_interrupted_at_any_step_it_ends_with_the_same_bits(
    option, rendered, tmp_path, monkeypatch
):
    config = small_config("mvnet", *OPTIONS[option], epochs=2)
    train(rendered, config, tmp_path / "straight", device="cpu")
    monkeypatch.setattr(loop, "SAVE", 0.0)
    original, last = loop.learning_rate, 0

    def interrupting(settings, step, steps):
        nonlocal last
        if step > last and step % 2:
            last = step
            raise KeyboardInterrupt
        return original(settings, step, steps)

    monkeypatch.setattr(loop, "learning_rate", interrupting)
    interruptions = 0
    while True:
        torch.manual_seed(999)  # nothing may come from what happened before
        try:
            train(rendered, config, tmp_path / "stopped", device="cpu")
            break
        except KeyboardInterrupt:
            interruptions += 1
    assert interruptions >= 2
    assert_equal_runs(tmp_path / "straight", tmp_path / "stopped")


def test_a_run_holds_the_backbone_by_name_and_its_metrics(rendered, tmp_path, messages):
    result = train(rendered, small_config("mvnet", epochs=2), tmp_path / "run", device="cpu")
    assert "random weights and only detects edges and colors" in messages()
    assert result.recipe == "mvnet"
    for record in metrics(tmp_path / "run"):
        assert record.keys() >= {"transfer", "matching", "matched", "val_transfer", "val_matching"}
        total = record["transfer"] + 0.3 * record["matching"]
        assert record["loss"] == pytest.approx(total, rel=1e-5)
    weights = load_file(next((tmp_path / "run" / "best").glob("weights-*")))
    backbone = {k.removeprefix("backbone."): v for k, v in weights.items() if "backbone." in k}
    model = PlainDense(1)
    without_classes(model)
    model.load_state_dict(backbone)
    assert not any("teach" in key or "images" in key for key in weights)
    start = small_config("mvnet", epochs=1, init=str(tmp_path / "run"))
    train(rendered, start, tmp_path / "on", device="cpu")
    assert metrics(tmp_path / "on")[0]["loss"] < metrics(tmp_path / "run")[0]["loss"]


def test_a_resumed_run_learns_from_the_same_2d_network_wherever_it_lies(rendered, tmp_path):
    for name in ("one", "other"):
        build_network("resnet-18", "random").save_pretrained(tmp_path / name)
    shutil.copytree(tmp_path / "one", tmp_path / "moved")
    shutil.copytree(tmp_path / "one", tmp_path / "here")

    def run(weights, until=None):
        config = small_config("mvnet", f"images.weights={tmp_path / weights}", epochs=2)
        return train(rendered, config, tmp_path / "run", device="cpu", until=until)

    run("here", until=1)
    with pytest.raises(StoreError, match=r"images\.weights: \w{64} in the run, \w{64} requested"):
        run("other")
    shutil.rmtree(tmp_path / "here")
    shutil.copytree(tmp_path / "other", tmp_path / "here")  # under the same path
    with pytest.raises(StoreError, match="started with different settings"):
        run("here")
    assert run("moved").epochs == 2


def test_what_follows_starts_from_it(rendered, tmp_path):
    train(rendered, small_config("mvnet", epochs=1), tmp_path / "run", device="cpu")
    overrides = ("data.batch_size=4", "data.points=256", "load=all", "data.validation=0.5")
    config = load_config("finetune", None, overrides, epochs=1, init=str(tmp_path / "run"))
    result = train(rendered, config, tmp_path / "tuned", device="cpu")
    assert math.isfinite(result.last["loss"])


def test_two_processes_make_the_step_that_one_makes(tmp_path):
    """A batch of 5 is 3 and 2: losses are means over shapes, whoever computes them.

    So they are where every pair of views has matches; L_m is a mean over those that do.
    """
    near = "".join(f"[[views]]\nazimuth = {15 * i}\nelevation = 30\n" for i in range(3))
    (tmp_path / "near.toml").write_text(near)
    store = render_toy(tmp_path / "S", limit=12, rig=str(tmp_path / "near.toml"), shard=8)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = ROOT / "tests" / "training" / "plain_dense.py"
    arguments = [str(script), store.path, str(tmp_path / "two"), "5", "1"]
    done = subprocess.run(
        [sys.executable, *launch, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    pretrain_plain(store, tmp_path / "one", 5, 1)
    moments = [
        load_file(next((tmp_path / name / "last").glob("training-*"))) for name in ("two", "one")
    ]
    for name, moment in moments[1].items():
        torch.testing.assert_close(moments[0][name], moment, rtol=1e-3, atol=1e-6)
    (two,), (one,) = metrics(tmp_path / "two"), metrics(tmp_path / "one")
    for name in ("loss", "transfer", "matching", "matched", "val_loss", "val_matched"):
        assert two[name] == pytest.approx(one[name], rel=1e-5)


def test_with_cached_features_the_images_are_not_read_and_the_losses_are_the_same(
    rendered, tmp_path
):
    online, cached = (
        small_config("mvnet", f"images.cache={cache}", epochs=1) for cache in ("false", "true")
    )
    for cache, read in (("false", ["rgb"]), ("true", [])):
        arrays = prepared(rendered, f"images.cache={cache}").stream.arrays
        assert [name for name in arrays if name == "rgb"] == read
        assert len(arrays) == len(GEOMETRY) + 1
    losses = [
        train(rendered, config, tmp_path / str(number), device="cpu").last["transfer"]
        for number, config in enumerate((online, cached))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert not np.array_equal(*losses)


# It learns


@pytest.fixture
def transformer(monkeypatch):
    """`pointvit-s` stands for a tenth of its width and depth."""
    monkeypatch.setitem(DENSE, "pointvit-s", partial(DensePointViT, size=Size(128, 3)))


def fit(recipe, store, shapes, steps, rate=2e-3):
    """Train on the same shapes over and over; returns the terms of each step."""
    model, generator = recipe.model.train(), torch.Generator().manual_seed(0)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0)
    history = []
    stream = ViewStream(store, shapes, replace(recipe.stream, batch_size=len(shapes)))
    while len(history) < steps:
        for batch in stream:
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, (len(history) + 1) / 10)
            loss, terms = recipe.loss(model, batch, generator)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            history.append({name: term.item() for name, term in terms.items()})
    return history


STILL = ("augmentation.scale=[1, 1]", "augmentation.shift=0", "model.backbone=pointvit-s")


@pytest.mark.slow  # a minute
def test_it_can_learn_eight_shapes_by_heart(rendered, transformer):
    """L_k falls to a fifth, and coordinates are predicted within 5 % of the image."""
    shapes = np.arange(0, 24, 3)
    recipe = prepared(rendered, *STILL, "masking=0", shapes=shapes)
    history = fit(recipe, rendered, shapes, steps=250)
    last = {name: np.mean([terms[name] for terms in history[-10:]]) for name in history[0]}
    assert last["transfer"] < history[0]["transfer"] / 5
    recipe.model.eval()
    errors = []
    for batch in ViewStream(rendered, shapes, replace(recipe.stream, batch_size=8)):
        matches = recipe.match(batch)
        found = recipe.model(batch["points"], recipe.project(batch), recipe.grids).matching
        errors.append((found - matches.uv / 32).abs()[matches.valid])
    assert torch.cat(errors).mean() < 0.05


def test_both_losses_fall(rendered, transformer):
    """The same in a few steps."""
    shapes = np.arange(0, 24, 3)
    recipe = prepared(rendered, *STILL, shapes=shapes)
    history = fit(recipe, rendered, shapes, steps=30)
    first, last = history[0], history[-1]
    assert last["transfer"] < first["transfer"] * 0.65
    assert last["matching"] < first["matching"] * 0.75


@pytest.mark.slow  # a minute
def test_linear_probes_of_what_it_has_learned_beat_random_weights(transformer, tmp_path):
    """With few labels, on 200 test shapes, the same episodes for both, of two seeds."""
    store = render_toy(tmp_path / "S", limit=400, rig="circle12")
    gains = []
    for seed in (0, 1):
        overrides = ("data.batch_size=16", "model.backbone=pointvit-s", "schedule.warmup=2")
        rate = "optimizer.learning_rate=0.002"
        config = small_config("mvnet", *overrides, rate, epochs=10, seed=seed)
        train(store, config, tmp_path / str(seed), device="cpu")
        found = probe(
            tmp_path / str(seed), store, svm=False, episodes=((10, 1), (10, 5)), device="cpu"
        )
        gains += [each.gain.mean for each in found]
    assert min(gains) > 0
    assert np.mean(gains) > 0.01


# Bad input


def test_a_store_without_correspondences_is_refused(tmp_path):
    store = render_toy(tmp_path / "S", limit=4, correspondences=False)
    with pytest.raises(StoreError, match="no correspondences") as caught:
        train(store, small_config("mvnet", epochs=1), tmp_path / "run", device="cpu")
    assert "build-correspondences" in caught.value.fix


def test_a_rig_whose_views_do_not_overlap_is_noted(rendered, tmp_path, messages):
    """Of a cube seen from the front and from behind, no face is seen twice."""
    said = "no two of the sampled views"
    store = front_and_back(tmp_path, 1)
    overrides = {"transfer.weight=0": True, "matching.weight=0": False}
    for override, noted in overrides.items():
        recipe = RECIPES["mvnet"](small_config("mvnet", override), 1, True)
        context = RecipeContext(store, np.arange(1), {}, CPU, Accelerator(cpu=True))
        recipe.prepare(context)
        assert (said in messages()) is noted
    recipe = RECIPES["mvnet"](small_config("mvnet", "transfer.weight=0"), 1, True)
    recipe.prepare(RecipeContext(rendered, np.arange(24), {}, CPU, Accelerator(cpu=True)))
    assert said not in messages()


@pytest.mark.parametrize(
    ("override", "message", "where"),
    [
        ("data.views=14", "14 views per shape, but the store has 12", "data.views"),
        ("data.points=512", "512 points per shape, but the store has 256", "data.points"),
        ("projection.size=64", "64² pixels is larger than the images of 32²", "projection.size"),
        ("images.levels=[0.9, 1.0]", "one of them twice", "images.levels"),
    ],
)
def test_what_does_not_fit_the_store_is_said(override, message, where, rendered, tmp_path):
    with pytest.raises(UsageError, match=message) as caught:
        train(rendered, small_config("mvnet", override, epochs=1), tmp_path / "run", device="cpu")
    assert caught.value.where == where
    assert caught.value.fix
    if where.startswith("data."):
        assert f"--set {where}=" in caught.value.fix


def test_an_image_that_patches_do_not_tile_is_refused(rendered, tmp_path):
    overrides = ("images.backbone=dinov2-small", "images.size=30")
    with pytest.raises(UsageError, match=r"patches of 14², which do not tile 30²") as caught:
        train(rendered, small_config("mvnet", *overrides, epochs=1), tmp_path / "run", device="cpu")
    assert (caught.value.where, "28 or 42" in caught.value.fix) == ("images.size", True)


def test_too_few_points_are_left_by_masking():
    overrides = ("model.backbone=pointnet2", "data.points=600", "masking=0.3")
    with pytest.raises(UsageError, match="at least 512 points, but masking leaves 420") as caught:
        RECIPES["mvnet"](small_config("mvnet", *overrides), 1, True)
    assert caught.value.where == "data.points"


def test_weights_that_are_not_there_are_asked_for_by_their_knob(rendered, tmp_path):
    (tmp_path / "empty").mkdir()
    config = small_config("mvnet", f"images.weights={tmp_path / 'empty'}")
    with pytest.raises(UsageError, match="weights cannot be read") as caught:
        train(rendered, config, tmp_path / "run", device="cpu")
    assert "--set images.weights=" in caught.value.fix


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.views=3"], "even, since views are used in pairs"),
        (["data.views=1"], "greater than or equal to 2"),
        (["images.levels=[]"], "increasing fractions"),
        (["images.levels=[1.0, 0.5]"], "increasing fractions"),
        (["images.levels=[12]"], "less than or equal to 1"),
        (["transfer.weight=0", "matching.weight=0"], "both 0, so there is no loss"),
        (["projection.size=57"], "multiple of matching.stride, 2"),
        (["model.width=100", "matching.heads=3"], "multiple of 4 · matching.heads, 12"),
        (["preset=official"], "should be 'mvnet-style'"),
    ],
)
def test_configurations_that_cannot_be_meant(overrides, message):
    with pytest.raises(UsageError) as caught:
        load_config("mvnet", None, overrides)
    assert message in str(caught.value)
    assert "{" not in str(caught.value)  # not all of the configuration


def test_the_defaults_are_those_of_the_specification():
    """But for λ, which docs/pretraining.md gives reasons for."""
    config = load_config("mvnet")
    assert (config.preset, config.epochs, config.masking) == ("mvnet-style", 100, 0.3)
    assert (config.images.backbone, config.images.size) == ("dinov2-base", 224)
    assert (config.transfer.coverage, config.matching.weight) == (0.25, 0.3)
    assert (config.matching.matches, config.matching.temperature) == (4096, 0.07)
    assert config.projection.size // config.matching.stride == 224 // 8
    optimizer, schedule = config.optimizer, config.schedule
    assert (optimizer.name, optimizer.learning_rate, optimizer.weight_decay) == (
        "adamw",
        5e-4,
        0.05,
    )
    assert (optimizer.clip_norm, schedule.name, schedule.warmup) == (1.0, "cosine", 10.0)
    assert config.loop.precision == "bf16"
    assert json.loads(config.model_dump_json())["images"]["levels"] == [0.5, 0.75, 1.0]


# Pictures


def test_pictures_show_pairs_of_which_about_half_is_seen_by_both(rendered):
    recipe = prepared(rendered)
    batches = evaluation_stream(recipe, rendered, np.arange(4), 4)
    (batch,) = batches
    batch["features/of-one"] = torch.arange(4 * 12).view(4, 12, 1)
    batch["viewers"] = torch.arange(4)  # of a shape, not of a view
    pair = choose_pairs(batch)
    assert torch.equal(pair["viewers"], batch["viewers"])
    assert pair["view"].shape == pair["depth"].shape[:2] == (4, 2)
    for shape in range(4):
        first, second = pair["view"][shape].tolist()
        assert first == 0
        camera, depth = rendered.camera(shape), rendered.depth(shape)
        shares = {}
        for other in range(1, 12):
            _, valid = match_pixels((depth[0], depth[other]), (camera[0], camera[other]))
            shares[other] = valid.sum() / (depth[0] > 0).sum()
        closest = min(abs(share - 0.5) for share in shares.values())
        assert abs(shares[second] - 0.5) < closest + 0.15  # there on a coarser grid
        for name in ("rgb", "features/of-one"):
            assert torch.equal(pair[name][shape, 1], batch[name][shape, second])


def test_pictures_are_of_shapes_from_all_over_the_batch(rendered, monkeypatch):
    """Not of the first ones, which may be of one class; each row says which shape it shows."""
    recipe = prepared(rendered)
    (batch,) = evaluation_stream(recipe, rendered, np.arange(0, 24, 3), 8)
    drawn = {}
    monkeypatch.setattr(mvnet_pictures, "draw_features", lambda looks, _: drawn.update(l=looks))
    monkeypatch.setattr(mvnet_pictures, "draw_matches", lambda pairs: drawn.update(p=pairs))
    recipe.pictures(recipe.model.eval(), batch)
    expected = [rendered.shapes[shape].id for shape in (0, 6, 12, 21)]
    assert [pair.name for pair in drawn["p"]] == expected
    assert [look.name for look in drawn["l"]] == [name for name in expected for _ in range(2)]
    for place, shape in enumerate((0, 6, 12, 21)):
        np.testing.assert_allclose(
            drawn["l"][2 * place].image, rendered.read("rgb", shape)[0] / 255
        )


def test_shapes_too_thin_to_cover_a_patch_are_drawn_without_it(rendered):
    """Of the deepest level one patch is the whole image."""
    recipe = prepared(rendered, "transfer.coverage=1", "images.standardize=false")
    (batch,) = evaluation_stream(recipe, rendered, np.arange(0, 24, 3), 8)
    pictures = recipe.pictures(recipe.model.eval(), batch)
    assert pictures["features.png"].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        ((), {"features.png", "matches.png"}),
        (("matching.method=infonce",), {"features.png", "matches.png"}),
        (("matching.weight=0", "images.cache=true"), {"features.png"}),
        (("transfer.weight=0",), {"features.png", "matches.png"}),
    ],
)
def test_a_finished_run_has_pictures(overrides, names, rendered, tmp_path):
    train(rendered, small_config("mvnet", *overrides, epochs=1), tmp_path, device="cpu")
    assert {path.name for path in tmp_path.glob("*.png")} == names | {"curve.png"}
    for name in names:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_pictures_show_images_that_training_did_not_read(rendered, tmp_path, monkeypatch):
    drawn = []

    def keep(looks, network):
        drawn.extend(looks)
        return draw_features(looks, network)

    monkeypatch.setattr(mvnet_pictures, "draw_features", keep)
    config = small_config("mvnet", "images.cache=true", epochs=1)
    train(rendered, config, tmp_path, device="cpu")
    ids = [shape.id for shape in rendered.shapes]
    assert drawn
    for look in drawn[::2]:  # the first view of each shape
        shown = rendered.read("rgb", ids.index(look.name))[0] / 255
        np.testing.assert_allclose(look.image, shown, rtol=1e-6)


def test_the_key_that_is_most_alike_says_where_it_is():
    places = centers(4).view(4, 4, 2)
    keys = torch.randn(2, 8, 4, 4)
    keys[1] = keys[0].roll((1, 0), dims=(1, 2))  # a row further down
    found = most_similar(keys, places)
    torch.testing.assert_close(found[0][:3], places[1:])
    torch.testing.assert_close(found[1][1:], places[:3])
