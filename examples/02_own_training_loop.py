"""Train your own network in your own loop: a small multi-view classifier.

Usage: python examples/02_own_training_loop.py STORE [EPOCHS]

The store is read by its own threads, and the order of batches depends on the seed and the epoch
alone, so no DataLoader is needed; `dataset` also works with one.
"""

import sys
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import pointcmt as pc

store = pc.open_store(sys.argv[1])
epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 10
device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)


class MultiView(nn.Module):
    """Views [B,V,H,W,3] u8 → logits [B,C]: the maximum over the views, as in MVCNN."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        widths = (3, 32, 64, 128)
        layers = [
            nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in pairwise(widths)
        ]
        self.encoder = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(widths[-1], classes)

    def forward(self, views: Tensor) -> Tensor:
        images = views.flatten(0, 1).permute(0, 3, 1, 2) / 255
        return self.classifier(self.encoder(images).view(*views.shape[:2], -1).amax(dim=1))


train = store.dataset("train", arrays=("rgb",), batch_size=8, views=3, seed=0)
test = store.dataset("test", arrays=("rgb",), batch_size=8)
model = MultiView(len(store.class_names)).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

for epoch in range(epochs):
    train.set_epoch(epoch)  # another order, other views
    for batch in train:
        loss = F.cross_entropy(model(batch["rgb"].to(device)), batch["label"].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.3f}")

model.eval()
with torch.no_grad():
    hits = [(model(b["rgb"].to(device)).argmax(dim=1).cpu() == b["label"]) for b in test]
print(f"test accuracy {torch.cat(hits).float().mean():.1%}")
