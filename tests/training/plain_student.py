"""A student without batch norm, which therefore cannot tell how its batch was divided.

As a script, `plain_student.py STORE OUT BATCH_SIZE ACCUMULATE` trains it for an epoch.
"""

import sys
from pathlib import Path

from torch import nn

from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.training.loop import train
from pointcmt.training.networks.backbones import BACKBONES
from pointcmt.training.networks.backbones.blocks import FEATURE, Prediction
from tests.training.stores import small_config

STILL = ("augmentation.scale=[1, 1]", "augmentation.shift=0", "optimizer.weight_decay=0")


class PlainStudent(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.head = nn.Linear(3, FEATURE)
        self.classifier = nn.Linear(FEATURE, classes)

    def forward(self, points):
        feature = self.head(points).relu().mean(dim=1)
        return Prediction(self.classifier(feature), feature)


def train_plain(store, out, batch_size, accumulate):
    overrides = (f"data.batch_size={batch_size}", f"optimizer.accumulate={accumulate}")
    train(store, small_config("student", *STILL, *overrides, epochs=1), out, device="cpu")


if __name__ == "__main__":
    BACKBONES["pointnet"] = PlainStudent
    store, out, batch_size, accumulate = sys.argv[1:]
    train_plain(ViewStore.open(store), Path(out), int(batch_size), int(accumulate))
