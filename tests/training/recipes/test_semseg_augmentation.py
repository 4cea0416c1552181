"""Augmented batches of crops: what belongs to a point stays with it."""

import pytest
import torch

from pointcmt.errors import UsageError
from pointcmt.training.config.files import load_config
from pointcmt.training.config.scenes import SceneAugmentation
from pointcmt.training.recipes.scene_inputs import augmented

OFF = {"yaw": 0.0, "flip": 0.0, "scale": (1.0, 1.0), "jitter": 0.0}
OFF |= {"color_shift_probability": 0.0, "color_noise_probability": 0.0}
EVERYTHING = {
    name: 1.0 for name in SceneAugmentation.model_fields if name.endswith("probability")
} | {"autocontrast": 1.0, "mix": 1.0}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def crops(samples=4, each=60):
    """Packed points whose normals point away from the origin, and whose labels are their number."""
    points = torch.randn(samples * each, 3, generator=generator(7))
    return {
        "points": points,
        "normal": torch.nn.functional.normalize(points, dim=1),
        "color": (torch.rand(len(points), 3, generator=generator(8)) * 255).to(torch.uint8),
        "semantic": torch.arange(len(points)),
        "batch": torch.arange(samples).repeat_interleave(each),
        "shape": torch.arange(samples),
        "inverse": torch.arange(len(points)),
    }


def change(batch, seed=0, keep=None, **options):
    return augmented(batch, SceneAugmentation(**{**OFF, **options}), generator(seed), keep)


def test_probabilities_of_0_change_nothing():
    batch = crops()
    found = change(batch)
    for name in ("points", "semantic", "batch", "shape"):
        assert torch.equal(found[name], batch[name])
    torch.testing.assert_close(found["normal"], batch["normal"], rtol=0, atol=1e-6)
    assert torch.equal(found["color"], batch["color"] / 255 - 0.5)
    assert "inverse" not in found


def test_points_normals_and_labels_move_together():
    """Normals are the directions of the points, before and after turns, tilts, flips and scales."""
    batch = crops()
    found = change(batch, yaw=1.0, tilt_probability=1.0, tilt=20.0, flip=0.5, scale=(0.9, 1.1))
    away = torch.nn.functional.normalize(found["points"], dim=1)
    torch.testing.assert_close(found["normal"], away, rtol=0, atol=1e-5)
    assert (found["normal"] - batch["normal"]).abs().max() > 0.5
    assert torch.equal(found["semantic"], batch["semantic"])
    tilted = found["points"][:, 2] / found["points"].norm(dim=1) - batch["normal"][:, 2]
    assert tilted.abs().max() > 0.1  # height changes with a tilt, and not with the others


def test_what_is_left_out_is_left_out_of_all_arrays():
    batch = crops()
    found = change(batch, dropout=0.5, dropout_probability=1.0)
    rows = found["semantic"]
    assert len(rows) == 120
    for name in ("points", "batch"):
        assert torch.equal(found[name], batch[name][rows])
    assert torch.equal(found["color"], batch["color"][rows] / 255 - 0.5)
    keep = torch.zeros(240, dtype=torch.bool)
    keep[::5] = True
    few = change(batch, dropout=0.9, dropout_probability=1.0, keep=keep)["semantic"]
    assert set(range(0, 240, 5)) < set(few.tolist())
    assert len(few) < 48 + 24 + 1


def test_mixed_crops_keep_their_points_and_labels():
    batch = crops(samples=5)
    mixed = change(batch, mix=1.0)
    assert torch.equal(mixed["batch"], batch["batch"] // 2)
    for name in ("points", "semantic", "shape"):
        assert torch.equal(mixed[name], batch[name])


def test_the_same_generator_gives_the_same_batch():
    batch = crops()
    one, same, other = (change(batch, seed, **EVERYTHING) for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["points"], other["points"])


@pytest.mark.gpu
def test_a_gpu_sees_the_same_batch():
    batch = crops()
    on_gpu = {name: tensor.cuda() for name, tensor in batch.items()}
    one, other = change(batch, **EVERYTHING), change(on_gpu, **EVERYTHING)
    for name in one:
        torch.testing.assert_close(other[name].cpu(), one[name], rtol=0, atol=1e-5)


def test_presets_of_data_sets_have_pointcepts_values():
    """configs/s3dis and configs/scannet of Pointcept's semseg-spunet-v1m1-0-base have the same."""
    published = SceneAugmentation(
        dropout=0.2,
        dropout_probability=0.2,
        yaw=0.5,
        tilt=180 / 64,
        tilt_probability=0.5,
        flip=0.5,
        scale=(0.9, 1.1),
        jitter=0.005,
        elastic=((0.2, 0.4), (0.8, 1.6)),
        elastic_probability=0.95,
        autocontrast=0.2,
        color_shift=0.05,
        color_shift_probability=0.95,
        color_noise=0.05,
        color_noise_probability=0.95,
        mix=0.8,
    )
    scannet, s3dis = (load_config("semseg", f"semseg-{name}") for name in ("scannet", "s3dis"))
    assert scannet.augmentation == s3dis.augmentation == published
    for config, rate, voxel, schedule, passes in (
        (scannet, 0.05, 0.02, "onecycle", 800),
        (s3dis, 0.1, 0.05, "poly", 3000),
    ):
        optimizer, data = config.optimizer, config.data
        assert (optimizer.name, optimizer.learning_rate) == ("sgd", rate)
        assert (optimizer.weight_decay, config.loss.label_smoothing) == (1e-4, 0)
        assert (data.voxel, data.batch_size, data.crop) == (voxel, 12, 100_000)
        assert (config.schedule.name, config.epochs * data.crops) == (schedule, passes)
    assert scannet.schedule.warmup == 0.05 * scannet.epochs


@pytest.mark.parametrize("waves", ["[[0.01, 0.4]]", "[[0.2, -1]]", "[[0.2]]"])
def test_waves_that_cannot_be_are_refused(waves):
    with pytest.raises(UsageError, match=r"augmentation\.elastic"):
        load_config("semseg", None, [f"augmentation.elastic={waves}"])
