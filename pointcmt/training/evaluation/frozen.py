"""Features of a frozen point network, and those of the same network with random weights.

The random weights follow from the run's seed: they are its own before any training, unless it
started from another run (--init).

A network that has learned classes gives the 512-d feature that its classifier reads. A pre-trained
network has no head: its feature is the maximum and the mean over its points' features,
concatenated, as in CrossPoint's encoder (Afham et al., CVPR 2022, arXiv 2203.00680) and I2P-MAE
(Zhang et al., CVPR 2023, arXiv 2212.06785).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pointcmt.console import meter
from pointcmt.datasets.store.streaming import StreamConfig, ViewStream
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.input_frame import AS_STORED
from pointcmt.training.config.sections import StudentData
from pointcmt.training.ops.device import find_device
from pointcmt.training.recipes.augmentation import point_arrays, point_rows
from pointcmt.training.runs.facts import store_notes
from pointcmt.training.runs.pretrained import PointNetwork

TRAINED, RANDOM = "trained", "random"


@dataclass(frozen=True)
class Frozen:
    """Features of a store's shapes by a run's network, and by the same one with random weights.

    features: by TRAINED and RANDOM, [O, D], a row for each shape of the store; NaN for shapes that
    were not asked for. feature: a description of the feature.
    """

    store: StoreReader
    network: PointNetwork
    which: str
    feature: str
    features: dict[str, NDArray[np.float32]]

    def about(self) -> dict[str, Any]:
        """Return the fields that every probe reports."""
        return {
            "recipe": self.network.config.recipe,
            "backbone": self.network.config.model.backbone,
            "checkpoint": self.which,
            "epoch": self.network.epoch,
            "points": self.network.config.data.points,
            "feature": self.feature,
            "width": self.features[TRAINED].shape[1],
            "data": self.store.path,
            "notes": list(store_notes(self.network.run.facts["data"], self.store)),
        }

    def title(self) -> str:
        """Return the same as text."""
        about = "{recipe} {backbone}, {checkpoint} checkpoint (epoch {epoch}), {feature}"
        return about.format(**self.about())


def freeze(
    network: PointNetwork,
    store: StoreReader,
    shapes: NDArray[np.int64],
    which: str,
    device: str,
) -> Frozen:
    """Compute both networks' features of these shapes."""
    config = network.config
    reads = StreamConfig(
        arrays=point_arrays(config.data) if isinstance(config.data, StudentData) else ("points",),
        batch_size=config.data.batch_size,
        points=config.data.points,
        frame=getattr(config.data, "frame", AS_STORED),  # pre-training takes points as stored
        shuffle=False,
        drop_last=False,
    )
    pooled = not config.classifies
    torch.manual_seed(config.seed)
    models = {RANDOM: network.build_random(), TRAINED: network.build()}
    features = {}
    with meter(f"features of {network.run.folder}", 2, "networks") as bar:
        for name in (TRAINED, RANDOM):
            model = models[name].to(find_device(device))
            rows = features_of(model, ViewStream(store, shapes, reads), pooled)
            features[name] = np.full((store.schema.shapes, rows.shape[1]), np.nan, np.float32)
            features[name][shapes] = rows
            bar.advance(1)
    words = "maximum and mean over the points' features" if pooled else "512-d feature"
    return Frozen(store, network, which, words, features)


@torch.no_grad()
def features_of(model: nn.Module, stream: ViewStream, pooled: bool) -> NDArray[np.float32]:
    """Compute a network's features [n, D] of the stream's clouds, in its order.

    pooled: the maximum and the mean of the points' features; otherwise the 512-d feature.
    """
    device, rows = next(model.parameters()).device, []
    for batch in stream:
        points = point_rows(batch).to(device)
        if pooled:
            local = model(points, local=True).local  # [B, N, D]
            feature = torch.cat([local.amax(dim=1), local.mean(dim=1)], dim=1)
        else:
            feature = model(points).feature
        rows.append(feature.float().cpu())
    return torch.cat(rows).numpy()
