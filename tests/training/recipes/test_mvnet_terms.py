"""The terms of mvnet's loss, against plain references."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d

from pointcmt.correspondences import match_pixels, pixels_to_points
from pointcmt.training.loop import train
from pointcmt.training.networks.view_consistency import (
    MVNetOutput,
    sample_keys,
)
from pointcmt.training.ops.augment import keep_patches
from pointcmt.training.ops.losses import info_nce
from pointcmt.training.ops.projection import splat_radius
from pointcmt.training.recipes.mvnet import keep_points
from pointcmt.training.recipes.mvnet_terms import GUESS
from tests.training.equal_runs import metrics
from tests.training.recipes.mvnet_batches import batch_of, front_and_back, prepared
from tests.training.stores import small_config

pytestmark = pytest.mark.usefixtures("small_resnet", "plain_dgcnn")


def test_index_maps_equal_correspondences(rendered):
    recipe = prepared(rendered, "projection.size=32", "projection.fill=false")
    batch = batch_of(recipe, rendered)
    maps = recipe.project(batch)
    for row, shape in enumerate(batch["shape"].tolist()):
        views = batch["view"][row].numpy()
        points, camera = rendered.read("points", shape), rendered.camera(shape)[views]
        visible = rendered.visible(shape)[views]
        expected = pixels_to_points(points, visible, camera, splat_radius(256, (32, 32)))
        np.testing.assert_array_equal(maps.nearest[row, ..., 0], expected)
    smaller = prepared(rendered, "projection.size=16").project(batch)
    share = adaptive_avg_pool2d((batch["depth"] > 0).float().flatten(0, 1)[:, None], 16)
    assert torch.equal(smaller.covered, share.view(6, 2, 16, 16) >= 0.5)


def test_matches_within_pairs_equal_correspondences(rendered):
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


def test_predicting_the_mean_feature_is_costly_after_standardization(rendered):
    """Predicting the mean of all patches costs about 1; with raw features, almost nothing."""
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
def test_both_losses_are_0_for_perfect_predictions(distance, rendered):
    """L_k = 0 if the head equals the 2D network, and L_m = 0 if M = M*."""
    recipe = prepared(rendered, f"transfer.distance={distance}")
    batch = batch_of(recipe, rendered)
    # A view without matches does not count, nor does the other view of its pair.
    batch["depth"][0, 1] = 0
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


def test_predicting_one_position_per_view_costs_about_1(rendered):
    """Like L_k for a head that predicts the mean, so both terms start at about 1."""
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
    """A recipe and a batch of six shapes, with maps of the points that masking keeps."""
    recipe = prepared(store, "transfer.weight=0", f"data.views={views}", *overrides)
    batch = batch_of(recipe, store)
    kept = keep_patches(batch["points"], 0.4, torch.Generator().manual_seed(0))
    _, maps = keep_points(batch["points"], recipe.project(batch), kept)
    return recipe, batch, maps


def test_tokens_without_points_after_masking_do_not_count(rendered):
    """They affect neither L_m nor its gradient, as there is nothing to match."""
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
    assert counts.sum() < 0.9 * matches.valid.sum()  # masking does leave out matches
    assert terms["matching"].value.item() == pytest.approx(np.mean(distances) / GUESS, rel=1e-5)
    assert terms["matched"].value.item() == pytest.approx(np.mean(shares), rel=1e-5)
    assert torch.equal((found.grad != 0).any(dim=-1), counts)


def smooth_keys(batch, size):
    """Keys [B·V,64,h,w] that are smooth functions of the surface point in a pixel."""
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


def test_negatives_of_info_nce_are_only_from_the_other_view(rendered):
    """A pixel's neighbors in its own view are the most similar, so they must not be negatives.

    The plain reference uses the tokens of each pair's first view whose pixel shows a point, and
    whose match does so too.
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


def test_masking_removes_points_from_maps_and_keeps_the_others_in_place(rendered):
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


def test_only_points_in_the_maps_get_gradients(rendered):
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


def test_views_without_points_or_matches_have_no_loss_and_finite_gradients(rendered):
    for overrides in ((), ("matching.method=infonce",), ("transfer.distance=smooth-l1",)):
        recipe = prepared(rendered, *overrides)
        batch = batch_of(recipe, rendered)
        batch["visible"], batch["depth"] = batch["visible"] & False, batch["depth"] * 0
        loss, terms = recipe.loss(recipe.model, batch, torch.Generator())
        loss.backward()
        assert loss == 0
        assert terms.keys() == {"transfer", "matching", "matched"}
        assert all(term.isnan() for term in terms.values())  # so that they are not logged
        grads = (p.grad for p in recipe.model.parameters() if p.grad is not None)
        assert all(grad.isfinite().all() for grad in grads)


def test_a_single_match_has_no_negatives_and_no_matching_loss(rendered):
    recipe = prepared(rendered, "matching.method=infonce", "matching.matches=1")
    _, terms = recipe.loss(recipe.model, batch_of(recipe, rendered), torch.Generator())
    assert terms["matching"].isnan()
    assert terms["matched"] > 0.1


def test_an_epoch_without_matches_logs_no_matching_loss(tmp_path):
    """A loss of 0 would look perfect."""
    store = front_and_back(tmp_path, 8)
    train(store, small_config("mvnet", epochs=1), tmp_path / "run", device="cpu")
    (record,) = metrics(tmp_path / "run")
    assert record["matched"] == record["val_matched"] == 0
    assert not {"matching", "val_matching"} & record.keys()
    assert record["loss"] == pytest.approx(record["transfer"], rel=1e-6)
