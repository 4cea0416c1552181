"""What a network takes of the points of scenes: the same in pre-training and in segmentation.

Functions work on packed batches: "points" [ΣN,3] with z the height over the floor, "color" [ΣN,3]
and "normal" [ΣN,3] if they are inputs, "batch" [ΣN], the sample of each point, and "shape" [B].
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from pointcmt.datasets.store.epochs import Batch
from pointcmt.training.config.scenes import SceneAugmentation
from pointcmt.training.ops.augment_scenes import jitter, move, random_motion, vary_color


def point_inputs(batch: Batch) -> Tensor:
    """Return the inputs of points besides 1 and their height, [ΣN, F]: color, then normal."""
    columns = [batch["points"][:, :0]]
    if "color" in batch:
        columns.append(centered_color(batch["color"]))
    if "normal" in batch:
        columns.append(batch["normal"])
    return torch.cat(columns, dim=1)


def augment(batch: Batch, config: SceneAugmentation, generator: torch.Generator) -> Batch:
    """Return a batch that is moved at random, with noise and other colors."""
    batch = move_at_random(batch, config, generator)
    batch["points"] = jitter(batch["points"], config.jitter, generator)
    if "color" in batch:
        shift, noise, samples = config.color_shift, config.color_noise, len(batch["shape"])
        color = centered_color(batch["color"])
        batch["color"] = vary_color(color, batch["batch"], samples, shift, noise, generator)
    return batch


def move_at_random(batch: Batch, config: SceneAugmentation, generator: torch.Generator) -> Batch:
    """Return a batch whose samples are turned, mirrored and scaled at random, a new dict."""
    matrices = random_motion(len(batch["shape"]), config.flip, config.scale, generator)
    moved = {**batch, "points": move(batch["points"], batch["batch"], matrices)}
    if "normal" in batch:
        moved["normal"] = F.normalize(move(batch["normal"], batch["batch"], matrices), dim=1)
    return moved


def centered_color(color: Tensor) -> Tensor:
    """Return colors in -0.5 … 0.5, from u8 0 … 255; floats are such already."""
    return color if color.is_floating_point() else color / 255 - 0.5
