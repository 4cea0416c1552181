"""What a network takes of the points of scenes, and how these are changed at random: the same in
pre-training and in segmentation.

Functions work on packed batches: "points" [ΣN,3] with z the height over the floor, "color" [ΣN,3]
and "normal" [ΣN,3] if they are inputs, "batch" [ΣN], the sample of each point, and "shape" [B].
Changes come in the order of Pointcept.
"""

import math
from functools import reduce

import torch
from torch import Tensor, nn

from pointcmt.datasets.store.epochs import Batch
from pointcmt.datasets.store.scene_streams.crops import CHANNELS
from pointcmt.training.config.scenes import SceneAugmentation
from pointcmt.training.ops.augment_scenes import (
    add_color_noise,
    choose_points,
    distort,
    jitter,
    mix_samples,
    move,
    random_sizes,
    random_turns,
    shift_color,
    stretch_contrast,
)


def point_inputs(batch: Batch) -> Tensor:
    """Return the inputs of points besides 1 and their height, [..., F]: color, then normal."""
    columns = [batch["points"][..., :0]]
    if "color" in batch:
        columns.append(centered_color(batch["color"]))
    if "normal" in batch:
        columns.append(batch["normal"])
    return torch.cat(columns, dim=-1)


def augmented(
    batch: Batch,
    options: SceneAugmentation,
    generator: torch.Generator,
    keep: Tensor | None = None,
) -> Batch:
    """Return the points of a batch of crops, changed at random, with colors in -0.5 … 0.5.

    keep: points [ΣN] bool that are never left out. "batch" tells which sample each point belongs
    to: with Mix3D there are fewer than "shape" has. Arrays of whole scenes are left out, since
    they count points that may be gone.
    """
    a, samples = options, len(batch["shape"])
    own = batch["batch"]
    kept = choose_points(own, samples, a.dropout, a.dropout_probability, generator)
    kept = kept if keep is None else kept | keep
    names = [name for name in ("points", "batch", *CHANNELS) if name in batch]
    changed = {name: batch[name][kept] for name in names} | {"shape": batch["shape"]}
    changed = varied(changed, options, generator)
    changed["batch"] = mix_samples(changed["batch"], a.mix, generator)
    return changed


def varied(batch: Batch, options: SceneAugmentation, generator: torch.Generator) -> Batch:
    """Return a batch of the same points, moved at random, with noise and other colors.

    Points are neither left out nor mixed.
    """
    a, samples = options, len(batch["shape"])
    changed = move_at_random(batch, options, generator)
    own, points = changed["batch"], jitter(changed["points"], a.jitter, generator)
    changed["points"] = distort(points, own, samples, a.elastic, a.elastic_probability, generator)
    if "color" in changed:
        color = centered_color(changed["color"])
        color = stretch_contrast(color, own, samples, a.autocontrast, generator)
        shift, noise = a.color_shift_probability, a.color_noise_probability
        color = shift_color(color, own, samples, a.color_shift, shift, generator)
        changed["color"] = add_color_noise(color, own, samples, a.color_noise, noise, generator)
    return changed


def move_at_random(batch: Batch, options: SceneAugmentation, generator: torch.Generator) -> Batch:
    """Return a batch whose samples are turned, tilted, mirrored and scaled at random."""
    return moved(batch, random_motion(len(batch["shape"]), options, generator))


def random_motion(samples: int, options: SceneAugmentation, generator: torch.Generator) -> Tensor:
    """Draw the matrix of each sample, [B, 3, 3]: a turn, two tilts, flips and a scale."""
    a, tilt = options, math.radians(options.tilt)
    parts = [
        random_turns(samples, 2, math.pi, a.yaw, generator),
        random_turns(samples, 0, tilt, a.tilt_probability, generator),
        random_turns(samples, 1, tilt, a.tilt_probability, generator),
        random_sizes(samples, a.flip, a.scale, generator),
    ]
    return reduce(torch.matmul, parts)


def moved(batch: Batch, matrices: Tensor) -> Batch:
    """Return a batch whose samples are moved by these matrices [B, 3, 3], normals included."""
    changed = {**batch, "points": move(batch["points"], batch["batch"], matrices)}
    if "normal" in batch:
        turned = move(batch["normal"], batch["batch"], matrices)
        changed["normal"] = nn.functional.normalize(turned, dim=1)
    return changed


def centered_color(color: Tensor) -> Tensor:
    """Return colors in -0.5 … 0.5, from u8 0 … 255; floats are such already."""
    return color if color.is_floating_point() else color / 255 - 0.5
