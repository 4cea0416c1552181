"""The contrastive baseline: its losses, what it learns from, and what follows it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from pointcmt.datasets.store.streaming import ViewStream
from pointcmt.errors import UsageError
from pointcmt.input_frame import AS_STORED
from pointcmt.training.evaluation.probe import probe
from pointcmt.training.loop import train, validate
from pointcmt.training.ops.losses import nt_xent
from pointcmt.training.recipes import RECIPES
from pointcmt.training.recipes.augmentation import augment
from pointcmt.training.recipes.recipe import RecipeContext
from tests.training.equal_runs import assert_equal_runs
from tests.training.stores import small_config

pytestmark = pytest.mark.usefixtures("small_resnet", "plain_dgcnn")


def prepared(store, *overrides):
    torch.manual_seed(0)
    recipe = RECIPES["crosspoint"](small_config("crosspoint", *overrides), 1, True)
    shapes = np.flatnonzero(store.splits == 0)
    return recipe.prepare(
        RecipeContext(store, shapes, {}, torch.device("cpu"), Accelerator(cpu=True))
    )


def batch_of(recipe, store):
    return next(iter(ViewStream(store, np.flatnonzero(store.splits == 0), recipe.stream)))


@pytest.mark.parametrize(
    ("weights", "names"),
    [((1, 1), {"intra", "cross"}), ((2, 0), {"intra"}), ((0, 0.5), {"cross"})],
)
def test_the_loss_compares_two_augmentations_and_their_mean_with_a_view(weights, names, rendered):
    recipe = prepared(rendered, f"intra={weights[0]}", f"cross={weights[1]}")
    batch, model = batch_of(recipe, rendered), recipe.model.eval()
    assert ("rgb" in batch) == ("cross" in names)
    loss, terms = recipe.loss(model, batch, torch.Generator().manual_seed(5))
    generator, settings = torch.Generator().manual_seed(5), recipe.config.augmentation
    one, two = (model(augment(batch["points"], settings, AS_STORED, generator)) for _ in range(2))
    expected = {"intra": nt_xent(one, two, 0.1)}
    if "cross" in names:
        view = recipe.teacher.image_features(batch)[-1].mean(dim=(2, 3))
        expected["cross"] = nt_xent((one + two) / 2, model.of_images(view), 0.1)
    assert terms.keys() == names
    for name in names:
        torch.testing.assert_close(terms[name], expected[name])
    total = sum(w * expected[n] for w, n in zip(weights, ("intra", "cross"), strict=True) if w)
    torch.testing.assert_close(loss, total)


def test_a_validation_batch_of_one_shape_is_left_out(rendered):
    """It has no negatives, so that its loss is 0, which would look perfect."""
    recipe = prepared(rendered, "cross=0")
    batch, model = batch_of(recipe, rendered), recipe.model.eval()
    one = {name: values[:1] for name, values in batch.items()}
    assert recipe.loss(model, one, torch.Generator())[0].item() == 0
    whole = recipe.measure(model, batch)
    batches = SimpleNamespace(validation=[batch, one], recipe=recipe, device=torch.device("cpu"),
                              accelerator=Accelerator(cpu=True),
                              state=SimpleNamespace(eval_model=model))  # fmt: skip
    assert validate(batches) == {f"val_{name}": value.item() for name, value in whole.items()}


def test_without_a_loss_it_is_refused():
    with pytest.raises(UsageError, match="no loss to train with"):
        small_config("crosspoint", "intra=0", "cross=0")


def test_a_run_resumes_and_can_be_probed_and_fine_tuned(rendered, tmp_path):
    config = small_config("crosspoint", "images.cache=true", epochs=2)
    train(rendered, config, tmp_path / "whole", "cpu")
    train(rendered, config, tmp_path / "run", "cpu", until=1)
    train(rendered, config, tmp_path / "run", "cpu")
    assert_equal_runs(tmp_path / "whole", tmp_path / "run")
    (found,) = probe(tmp_path / "run", rendered, device="cpu")
    assert found.frozen.features["trained"].shape[1] == 2 * found.frozen.network.build().local_width
    tuned = small_config("finetune", "schedule.warmup=0", epochs=1, init=str(tmp_path / "run"))
    train(rendered, tuned, tmp_path / "tuned", "cpu")
