"""Pictures of mvnet's runs."""

import numpy as np
import pytest
import torch

from pointcmt.correspondences import match_pixels
from pointcmt.training.figures.pretraining import draw_features
from pointcmt.training.loop import train
from pointcmt.training.networks.view_consistency import (
    centers,
)
from pointcmt.training.recipes import mvnet_pictures
from pointcmt.training.recipes.mvnet_pictures import choose_pairs, most_similar
from tests.training.recipes.mvnet_batches import evaluation_stream, prepared
from tests.training.stores import small_config

pytestmark = pytest.mark.usefixtures("small_resnet", "plain_dgcnn")


def test_pictures_show_pairs_of_views_that_overlap_by_half(rendered):
    recipe = prepared(rendered)
    batches = evaluation_stream(recipe, rendered, np.arange(4), 4)
    (batch,) = batches
    batch["features/of-one"] = torch.arange(4 * 12).view(4, 12, 1)
    batch["viewers"] = torch.arange(4)  # per shape, not per view
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
        assert abs(shares[second] - 0.5) < closest + 0.15  # computed on a coarser grid
        for name in ("rgb", "features/of-one"):
            assert torch.equal(pair[name][shape, 1], batch[name][shape, second])


def test_pictures_show_shapes_from_the_whole_batch(rendered, monkeypatch):
    """Not only the first ones, which may be of one class; each row names its shape."""
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


def test_shapes_too_thin_to_cover_a_patch_are_drawn(rendered):
    """A patch of the deepest level is the whole image."""
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


def test_the_most_similar_key_gives_the_matched_position():
    places = centers((4, 6)).view(4, 6, 2)
    keys = torch.randn(2, 8, 4, 6)
    keys[1] = keys[0].roll((1, 0), dims=(1, 2))  # a row further down
    found = most_similar(keys, places)
    torch.testing.assert_close(found[0][:3], places[1:])
    torch.testing.assert_close(found[1][1:], places[:3])
