"""What a frozen image network sees in each patch of a view, at several depths: MVNet's 2D teacher.

A level is what comes out of one block of a transformer, its patch tokens through the network's last
norm (as DINOv2's own code does with intermediate layers), or out of one stage of a ResNet, as it
is. Computed as training goes, or once for all views and kept in the store (`Cached`).
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from pointcmt.console import say
from pointcmt.datasets.features import Features, create_features
from pointcmt.datasets.store import ViewStore
from pointcmt.datasets.streaming import Batch
from pointcmt.errors import UsageError
from pointcmt.training.image_networks import (
    FAMILIES,
    NETWORKS,
    RANDOM,
    build_network,
    find_layers,
    require_size,
    to_pixels,
)
from pointcmt.training.teacher_features import compute_features, teacher_key

FLOOR = 0.01  # of the mean channel's deviation: one that hardly changes says little
LEAST = 1e-6  # share of a patch: there must be something
SEED = 0  # of a random network: the same one each time, so that what is cached of it is found again


class ImageLevels(nn.Module):
    """A frozen image network → its levels.

    levels: shares of the depth, rising, such as 0.5 and 1.0. size: pixels that views are resized
    to, 0 = as they come. stored: pixels of the views as they come.

    Attributes: layers, the number of each level's block or stage, from 1; shapes, (D, h, w) of each
    level. Raises UsageError for views that the network's patches do not tile, and as `find_layers`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: str, network: nn.Module, levels: Sequence[float], size: int, stored: int
    ) -> None:
        super().__init__()
        known = NETWORKS[backbone]
        require_size(backbone, size or stored, knob="images.size")
        self.backbone, self.size = backbone, size
        self.network = network.eval().requires_grad_(False)
        self.layers = find_layers(backbone, levels)
        mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in known.statistics)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        found = self(torch.zeros(1, stored, stored, 3, dtype=torch.uint8))
        self.shapes: list[tuple[int, int, int]] = [(x.shape[1], *x.shape[2:]) for x in found]

    @property
    def width(self) -> int:
        """Numbers in all levels of a view."""
        return sum(D * h * w for D, h, w in self.shapes)

    def train(self, mode: bool = True) -> "ImageLevels":
        """Stays in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """images [n, H, W, 3] u8 → every level [n, D, h, w] f32; on CUDA computed in bf16."""
        family = FAMILIES[NETWORKS[self.backbone].family]
        on = images.device.type
        pixels = to_pixels(images, self.size, self.mean, self.std)
        found: list[Tensor] = []
        hooks = [
            self._blocks()[layer - 1].register_forward_hook(
                lambda _, __, output: found.append(output)
            )
            for layer in self.layers
        ]
        try:
            with torch.autocast(on, torch.bfloat16, enabled=on == "cuda"):
                family.feature(self.network, pixels)
                return [self._as_map(output, pixels.shape[-1]).float() for output in found]
        finally:
            for hook in hooks:
                hook.remove()

    def _blocks(self) -> nn.ModuleList:
        """The network's blocks or stages, whatever this version of transformers calls them."""
        depth = NETWORKS[self.backbone].depth
        lists = (m for m in self.network.modules() if isinstance(m, nn.ModuleList))
        return next(blocks for blocks in lists if len(blocks) == depth)

    def _as_map(self, output: Tensor | tuple[Tensor, ...], size: int) -> Tensor:
        """A block's output as [n, D, h, w]; of tokens without the class's."""
        output = output if isinstance(output, Tensor) else output[0]
        known = NETWORKS[self.backbone]
        name = FAMILIES[known.family].norm
        if not name:
            return output
        norm = next(m for n, m in self.network.named_modules() if n.split(".")[-1] == name)
        side = size // known.patch
        return norm(output[:, 1:]).mT.unflatten(2, (side, side))


def build_levels(
    backbone: str, weights: str, levels: Sequence[float], size: int, stored: int
) -> ImageLevels:
    """A network of NETWORKS with its weights (see `build_network`), on the CPU.

    Random weights are the same each time. Raises UsageError where weights cannot be had, and as
    `ImageLevels`.
    """
    if weights != RANDOM:
        return ImageLevels(backbone, build_network(backbone, weights), levels, size, stored)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return ImageLevels(backbone, build_network(backbone, weights), levels, size, stored)


Teach = Callable[[Batch], list[Tensor]]  # of B shapes' v views, every level [B·v, D, h, w]


class Standardized:
    """Levels whose channels have the mean 0 and the variance 1 over patches that show shapes."""

    def __init__(self, teach: Teach, batches: Iterable[Batch], coverage: float) -> None:
        """batches: some views, with their depth. coverage: share of a patch that shapes must cover.

        Raises UsageError where they show nothing.
        """
        self.teach = teach
        rows: list[list[Tensor]] = []  # of each batch every level's patches [m, D]
        for batch in batches:
            shown = (batch["depth"].flatten(0, 1) > 0).float()[:, None]
            rows.append([])
            for level in teach(batch):
                share = F.adaptive_avg_pool2d(shown, (level.shape[-2], level.shape[-1]))[:, 0]
                rows[-1].append(level.movedim(1, -1)[share >= max(coverage, LEAST)])
        self.statistics = [_statistics(torch.cat(level)) for level in zip(*rows, strict=True)]

    def __call__(self, batch: Batch) -> list[Tensor]:
        """As `Teach`."""
        levels = self.teach(batch)
        return [(x - mean) / std for x, (mean, std) in zip(levels, self.statistics, strict=True)]


class Online:
    """Levels of a batch's views, computed from the images."""

    def __init__(self, network: ImageLevels) -> None:
        self.network = network

    def __call__(self, batch: Batch) -> list[Tensor]:
        """rgb [B,v,H,W,3] → levels [B·v, D, h, w]."""
        return self.network(batch["rgb"].flatten(0, 1))


class Cached:
    """Levels of a batch's views from the store, where they lie in 16 bits."""

    def __init__(self, network: ImageLevels, features: Features) -> None:
        self.shapes, self.features = network.shapes, features

    def __call__(self, batch: Batch) -> list[Tensor]:
        """shape [B], view [B,v] → levels [B·v, D, h, w]."""
        views = batch["view"]
        shapes = batch["shape"][:, None].expand_as(views)
        index = (each.flatten().cpu().numpy() for each in (shapes, views))
        rows = torch.from_numpy(self.features.read_fresh(*index)).to(views.device).float()
        parts = rows.split([D * h * w for D, h, w in self.shapes], dim=1)
        return [part.view(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True)]


def cache_levels(
    network: ImageLevels,
    store: ViewStore,
    shapes: NDArray[np.int64],
    device: torch.device,
    processes: Accelerator,
    log_format: str = "auto",
) -> Cached:
    """All levels of all views of shapes [n], rendered ones: from the store, or put there now.

    They lie under a hash of network, levels and image size. What is missing or stale is computed,
    whole shards at a time, after its size is said; killed, it goes on there. The processes share
    the work. network: on the device. Raises StoreError for a damaged store.
    """
    what = f"{network.backbone} layers {network.layers}"
    key = teacher_key(network.network, what, network.size)
    facts = {
        "teacher": key,
        "backbone": network.backbone,
        "layers": network.layers,
        "image_size": network.size,
        "levels": [list(shape) for shape in network.shapes],
    }
    features = create_features(store, key, network.width, facts, chunk="view")
    shards = set((shapes // store.schema.shard).tolist()) & set(features.pending())
    views = store.schema.views * sum(len(store.schema.shapes_of(shard)) for shard in shards)
    if views:
        say(cost(views, network.width), log_format)

    def encode(images: Tensor) -> Tensor:
        levels = network(images.to(device))
        return torch.cat([level.flatten(1) for level in levels], dim=1)

    rank, ranks = processes.process_index, processes.num_processes
    compute_features(encode, features, shapes, log_format, rank, ranks)
    processes.wait_for_everyone()
    features.require_fresh(shapes)
    return Cached(network, features)


def _statistics(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of patches [m, D], as [D, 1, 1] each."""
    if not len(rows):
        raise UsageError(
            "none of the views that were looked at shows a shape",
            where="images.standardize",
            fix="look at them with `pointcmt preview`, or set images.standardize=false",
        )
    rows = rows.double()
    std = rows.std(dim=0, correction=0)
    std = std.clamp(min=FLOOR * float(std.mean()) or 1.0)  # a channel that never changes
    return rows.mean(dim=0).float()[:, None, None], std.float()[:, None, None]


def cost(views: int, width: int) -> str:
    """What features of `width` numbers a view take on disk, before compression, in words."""
    size = 2 * views * width
    unit, scale = next(
        (unit, scale)
        for unit, scale in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6))
        if size >= scale or unit == "MB"
    )
    return (
        f"note: caching the image network's features of {views:,} views takes up to "
        f"{size / scale:.1f} {unit} ({size:,} bytes) in the store; images.cache=false computes "
        "them as training goes"
    )
