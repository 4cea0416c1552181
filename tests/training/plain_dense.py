"""A dense backbone without batch norm, which therefore cannot tell how its batch was divided.

As a script, `plain_dense.py STORE OUT BATCH_SIZE ACCUMULATE` pre-trains it for an epoch.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.training.images.networks import NETWORKS
from pointcmt.training.loop import train
from pointcmt.training.networks.backbones import DENSE
from pointcmt.training.networks.backbones.blocks import FEATURE, Prediction
from tests.training.conftest import SMALL_RESNET
from tests.training.stores import small_config

STILL = ("augmentation.scale=[1, 1]", "augmentation.shift=0", "optimizer.weight_decay=0")


class PlainDense(nn.Module):
    """A point's feature is an MLP of where it is, and of the mean of all of them."""

    local_width, least = 32, 1

    def __init__(self, classes):
        super().__init__()
        self.near = nn.Sequential(nn.Linear(3, 32), nn.GELU(), nn.Linear(32, 32))
        self.decoder = nn.Linear(64, 32)
        self.head = nn.Linear(32, FEATURE)
        self.classifier = nn.Linear(FEATURE, classes)

    def forward(self, points, local=False):
        near = self.near(points)
        whole = near.mean(dim=1)
        feature = self.head(whole).relu()
        found = Prediction(self.classifier(feature), feature)
        if not local:
            return found
        both = torch.cat([near, whole[:, None].expand_as(near)], dim=2)
        return found._replace(local=self.decoder(both).relu())


def pretrain_plain(store, out, batch_size, accumulate):
    """masking=0: what is left out is drawn for each piece of a batch."""
    overrides = (f"data.batch_size={batch_size}", f"optimizer.accumulate={accumulate}", "masking=0")
    train(store, small_config("mvnet", *STILL, *overrides, epochs=1), out, device="cpu")


if __name__ == "__main__":
    DENSE["dgcnn"] = PlainDense
    NETWORKS["resnet-18"] = replace(NETWORKS["resnet-18"], config=SMALL_RESNET)
    store, out, batch_size, accumulate = sys.argv[1:]
    pretrain_plain(ViewStore.open(store), Path(out), int(batch_size), int(accumulate))
