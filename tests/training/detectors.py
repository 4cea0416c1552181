"""Networks of detection of a hundredth of their size, and one that guesses."""

from contextlib import contextmanager
from functools import partial

import pytest
import torch

from pointcmt.training.config.files import load_config
from pointcmt.training.networks.backbones import BACKBONES, DENSE
from pointcmt.training.networks.backbones.sparse_unet import DenseSparseUNet, SparseUNetEncoder
from pointcmt.training.networks.detection.detr import Detr
from pointcmt.training.networks.detection.seeds import Level, PointSeeds
from pointcmt.training.networks.detection.transformer import TransformerSeeds
from pointcmt.training.networks.detection.votenet import VoteNet
from pointcmt.training.recipes import detect as recipes
from tests.training.networks.test_sparse_backbones import SMALL

LEVELS = (
    Level(128, 0.3, 12, (8, 8, 16)),
    Level(64, 0.6, 8, (16, 16, 16)),
    Level(32, 1.0, 8, (16, 16, 16)),
    Level(16, 1.5, 8, (16, 16, 16)),
)
UNET = "sparse-unet-tiny"
SETTINGS = ("data.points=300", "data.batch_size=2", "data.validation=0.25", "model.proposals=16")
GUESSING = 12  # bins of headings of a network that guesses


def config(*overrides, **flags):
    """A configuration for box rooms."""
    return load_config("detect", None, [*SETTINGS, *overrides], **{"epochs": 2, **flags})


@contextmanager
def small_networks():
    """Replace all networks by smaller ones; with GUESSING headings, VoteNet guesses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipes, "PointSeeds", partial(PointSeeds, levels=LEVELS))
        patch.setattr(recipes, "VoteNet", _build)
        patch.setattr(recipes, "TransformerSeeds", partial(TransformerSeeds, centers=64))
        patch.setattr(recipes, "Detr", partial(Detr, layers=2))
        patch.setitem(DENSE, UNET, partial(DenseSparseUNet, config=SMALL))
        patch.setitem(BACKBONES, UNET, partial(SparseUNetEncoder, config=SMALL))
        yield


def _build(seeds, classes, headings, proposals):
    return (Guessing if headings == GUESSING else VoteNet)(seeds, classes, headings, proposals)


class Guessing(VoteNet):
    """A network that proposes boxes of the mean size on a grid, near two places the likelier.

    One is near the block's middle, the other, which is even likelier, is beside the block. The
    network is trained, but never says what it has learned.
    """

    def forward(self, points, features):
        found = super().forward(points, features)
        places = torch.cartesian_prod(torch.linspace(-1.8, 1, 8), torch.linspace(-1.3, 1.5, 8))
        block, beside = (
            (places - torch.tensor(place)).norm(dim=1) for place in ((1.0, 0.1), (0.2, 0.1))
        )
        likely = 2 - 3 * torch.minimum(block, beside - 0.2)
        centers = torch.cat([places, torch.full((64, 1), 0.35)], dim=1)
        return found._replace(
            centers=centers + 0 * found.centers,
            objectness=torch.stack([0 * likely, likely], dim=1) + 0 * found.objectness,
            heading=0 * found.heading,
            turn=0 * found.turn,
            growth=0 * found.growth,
        )
