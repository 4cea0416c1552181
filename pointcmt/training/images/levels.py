"""Patch features of a frozen image network at several depths: MVNet's 2D teacher.

A level is the output of one block of a transformer (its patch tokens after the network's last
norm, as in DINOv2's code for intermediate layers) or the unchanged output of one stage of a
convolutional network (`blocks.py`). Levels are computed during training, or once for all views and
kept in the store (`Cached`).
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from pointcmt.console import logger
from pointcmt.datasets.store.features import Features, create_features, view_counts
from pointcmt.datasets.store.streaming import Batch
from pointcmt.datasets.store.view_store import Share, StoreReader
from pointcmt.errors import UsageError
from pointcmt.training.images.blocks import SIZE_OPTION, Blocks, own_size
from pointcmt.training.images.building import build_known, build_random
from pointcmt.training.images.features import compute_features, teacher_key
from pointcmt.training.images.networks import ImageNetwork, require_size, to_pixels
from pointcmt.training.images.weights import find_network
from pointcmt.training.ops.projection import Grid, fit_grid

FLOOR = 0.01  # lower bound of a channel's deviation, relative to the mean of all channels'
LEAST = 1e-6  # smallest share of a patch that must be covered
SEED = 0  # of a random network: always the same, so that its cached features can be reused
USUAL = 224  # image side in pixels if the network's training size is unknown


class ImageLevels(nn.Module):
    """A frozen image network → its levels.

    known: the description of `network`. levels: shares of the depth, ascending, such as 0.5 and
    1.0. size: pixels of the longer side that views are resized to, 0 = as stored; the other side
    keeps their aspect ratio, up to whole patches. stored: height and width of the stored views.

    Attributes: layers, the number of each level's block or stage, from 1; input, height and width
    of the network's input; shapes, (D, h, w) of each level. Raises UsageError for views that the
    network does not accept, and as `Blocks`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        known: ImageNetwork,
        network: nn.Module,
        levels: Sequence[float],
        size: int,
        stored: Grid,
    ) -> None:
        super().__init__()
        self.known, self.size = known, size
        self.network = network.eval().requires_grad_(False)
        self.blocks = Blocks(known, network)
        self.layers = self.blocks.find(levels)
        mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in known.statistics)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        if size:
            require_size(known, (size, size), SIZE_OPTION)
        self.input = fit_grid(size, stored, known.patch) if size else stored
        self.shapes = self.blocks.shapes(self.input, self.layers)

    @property
    def width(self) -> int:
        """Return the number of values in all levels of a view."""
        return sum(D * h * w for D, h, w in self.shapes)

    def train(self, mode: bool = True) -> "ImageLevels":
        """Stay in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """images [n, H, W, 3] u8 → every level [n, D, h, w] f32; on CUDA computed in bf16."""
        on = images.device.type
        pixels = to_pixels(images, self.input, self.mean, self.std)
        with torch.autocast(on, torch.bfloat16, enabled=on == "cuda"):
            return [level.float() for level in self.blocks.maps(pixels, self.layers)]


def build_levels(
    backbone: str, weights: str, levels: Sequence[float], size: int, stored: Grid
) -> ImageLevels:
    """Build a network with its weights (see `build_network`), on the CPU.

    Random weights are the same each time. Raises UsageError if weights are not available, and as
    `ImageLevels`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        known, network = build_known(backbone, weights)
    return ImageLevels(known, network, levels, size, stored)


def level_widths(backbone: str, weights: str, levels: Sequence[float], size: int) -> list[int]:
    """D of each level, without weights: from what is said of the network, on no device.

    size: as in `ImageLevels`. Raises the UsageErrors of `build_levels`.
    """
    known = find_network(backbone, weights)
    with torch.device("meta"):
        blocks = Blocks(known, build_random(known).eval())
    side = size or own_size(known) or USUAL  # maps of any image have the same widths
    shapes = blocks.shapes((side, side), blocks.find(levels))
    return [D for D, _, _ in shapes]


ImageFeatures = Callable[[Batch], list[Tensor]]  # B shapes with v views → levels [B·v, D, h, w]


class Standardized:
    """Levels whose channels have mean 0 and variance 1 over patches that show shapes."""

    def __init__(
        self, image_features: ImageFeatures, batches: Iterable[Batch], coverage: float
    ) -> None:
        """batches: sample views, with depth. coverage: share of a patch that shapes must cover.

        Raises UsageError if they show nothing.
        """
        self.image_features = image_features
        rows: list[list[Tensor]] = []  # per batch: each level's patches [m, D]
        for batch in batches:
            shown = (batch["depth"].flatten(0, 1) > 0).float()[:, None]
            rows.append([])
            for level in image_features(batch):
                share = F.adaptive_avg_pool2d(shown, (level.shape[-2], level.shape[-1]))[:, 0]
                rows[-1].append(level.movedim(1, -1)[share >= max(coverage, LEAST)])
        self.statistics = [_statistics(torch.cat(level)) for level in zip(*rows, strict=True)]

    def __call__(self, batch: Batch) -> list[Tensor]:
        """Return standardized levels, as an `ImageFeatures`."""
        levels = self.image_features(batch)
        return [(x - mean) / std for x, (mean, std) in zip(levels, self.statistics, strict=True)]


class Online:
    """Levels of a batch's views, computed from the images. reads: the array it needs."""

    reads = "rgb"

    def __init__(self, network: ImageLevels) -> None:
        self.network = network

    def __call__(self, batch: Batch) -> list[Tensor]:
        """rgb [B,v,H,W,3] → levels [B·v, D, h, w]."""
        return self.network(batch[self.reads].flatten(0, 1))


class Cached:
    """Levels of a batch's views, stored as 16-bit floats in the store's array `reads`."""

    def __init__(self, network: ImageLevels, features: Features) -> None:
        self.shapes, self.reads = network.shapes, features.name

    def __call__(self, batch: Batch) -> list[Tensor]:
        """Concatenated levels [B,v,W] f16 → levels [B·v, D, h, w]."""
        rows = batch[self.reads].flatten(0, 1).float()
        parts = rows.split([D * h * w for D, h, w in self.shapes], dim=1)
        return [part.view(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True)]


def cache_levels(
    network: ImageLevels,
    store: StoreReader,
    shapes: NDArray[np.int64],
    device: torch.device,
    processes: Accelerator,
) -> Cached:
    """Return all levels of all views of rendered shapes [n], computing those not in the store.

    They are stored under a hash of network, levels and image size. Missing or stale ones are
    computed in whole shards, after reporting their size; an interrupted run resumes there. The
    processes share the work. network: on the device. Raises StoreError for a damaged store.
    """
    known = network.known
    what = " ".join(filter(None, (known.name, known.fingerprint, f"layers {network.layers}")))
    key = teacher_key(network.network, what, network.size)
    facts = {
        "teacher": key,
        "backbone": known.name,
        "layers": network.layers,
        "image_size": network.size,
        "levels": [list(shape) for shape in network.shapes],
    }
    every = [
        create_features(member, key, network.width, facts, chunk="view")
        for member in store.members  # a stream expects the array in each of them
    ]
    caches = [(every[share.number], share) for share in store.shares(shapes)]
    views = sum(_missing_views(features, share) for features, share in caches)
    if views:
        logger.info(cost(views, network.width))

    def encode(images: Tensor) -> Tensor:
        levels = network(images.to(device))
        return torch.cat([level.flatten(1) for level in levels], dim=1)

    rank, world_size = processes.process_index, processes.num_processes
    for features, share in caches:
        compute_features(encode, features, share.shapes, rank, world_size)
    processes.wait_for_everyone()
    for features, share in caches:
        features.require_fresh(share.shapes)
    return Cached(network, every[0])


def _missing_views(features: Features, share: Share) -> int:
    """Return the number of views whose features are still to be computed."""
    store = features.store
    shards = share.shards & set(features.pending())
    return sum(int(view_counts(store, store.schema.shapes_of(shard)).sum()) for shard in shards)


def _statistics(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of patches [m, D], [D, 1, 1] each."""
    if not len(rows):
        raise UsageError(
            "none of the sampled views shows a shape",
            where="images.standardize",
            fix="check the views with `pointcmt preview`, or set images.standardize=false",
        )
    rows = rows.double()
    std = rows.std(dim=0, correction=0)
    std = std.clamp(min=FLOOR * float(std.mean()) or 1.0)  # for constant channels
    return rows.mean(dim=0).float()[:, None, None], std.float()[:, None, None]


def cost(views: int, width: int) -> str:
    """Describe the disk space of features with `width` numbers per view, before compression."""
    size = 2 * views * width
    unit, scale = next(
        (unit, scale)
        for unit, scale in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6))
        if size >= scale or unit == "MB"
    )
    return (
        f"note: caching the image network's features of {views:,} views takes up to "
        f"{size / scale:.1f} {unit} ({size:,} bytes) in the store; images.cache=false computes "
        "them during training"
    )
