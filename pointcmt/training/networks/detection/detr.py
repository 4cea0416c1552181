"""3DETR (Misra, Girdhar, Joulin: An End-to-End Transformer Model for 3D Object Detection, ICCV
2021): places of a scene ask a decoder which boxes are there.

Letters: B scenes, N points, S seeds, P queries, L layers, H bins of headings, C classes, D width.
"""

import torch
from torch import Tensor, nn

from pointcmt.errors import UsageError
from pointcmt.training.networks.detection.seeds import WIDTH, Seeds
from pointcmt.training.networks.detection.transformer import DROPOUT, FourierPositions, Layer
from pointcmt.training.ops.detection.queries import LEAST_EXTENT, Queries

LAYERS = 8
HIDDEN = 256  # of the decoder's layers
HEAD_DROPOUT = 0.3


class Detr(nn.Module):
    """Queries at the farthest seeds attend to all seeds, and predict a box or nothing.

    seeds: a network from points [B, N, 3] and features [B, N, F] to `Seeds`. headings: H. queries:
    P, at most as many as there are seeds.
    """

    def __init__(
        self, seeds: nn.Module, classes: int, headings: int, queries: int, layers: int = LAYERS
    ) -> None:
        super().__init__()
        self.seeds, self.classes = seeds, classes
        self.headings, self.queries = headings, queries
        self.places = FourierPositions()
        self.ask = nn.Sequential(
            nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()
        )
        self.decoder = nn.ModuleList(Layer(HIDDEN, DROPOUT, crosses=True) for _ in range(layers))
        self.norm = nn.LayerNorm(WIDTH)
        outputs = {"class": classes + 1, "center": 3, "size": 3}
        outputs |= {"heading": headings, "turn": headings}
        self.predict = nn.ModuleDict({name: _head(width) for name, width in outputs.items()})

    def forward(self, points: Tensor, features: Tensor) -> Queries:
        """points [B, N, 3], features [B, N, F], F may be 0 → queries of all layers.

        Raises UsageError for more queries than seeds.
        """
        seeds: Seeds = self.seeds(points, features)
        S = seeds.places.shape[1]
        if self.queries > S:
            raise UsageError(
                f"{self.queries} queries, but the backbone has {S} seeds",
                where="model.proposals",
                fix=f"use {S} or fewer",
            )
        low = points.amin(dim=1)
        extent = (points.amax(dim=1) - low).clamp(min=LEAST_EXTENT)
        memory = seeds.features, self.places(seeds.places, low, extent)
        asked = seeds.places[:, : self.queries]
        places = self.ask(self.places(asked, low, extent))
        rows, layers = torch.zeros_like(places), []
        for layer in self.decoder:
            rows = layer(rows, places, memory)
            layers.append(self.norm(rows))
        stacked = torch.stack(layers)  # [L, B, P, D]
        found = {
            name: head(stacked.flatten(0, 2)).view(*stacked.shape[:3], -1).to(asked)
            for name, head in self.predict.items()
        }
        centers = asked + found["center"].sigmoid() - 0.5
        sizes = found["size"].sigmoid()
        return Queries(low, extent, found["class"], centers, sizes, found["heading"], found["turn"])


def _head(outputs: int) -> nn.Sequential:
    """Return an MLP from rows [M, D] to [M, outputs]; rows of all layers share norms."""
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [nn.Linear(WIDTH, WIDTH, bias=False), nn.BatchNorm1d(WIDTH), nn.ReLU()]
        layers.append(nn.Dropout(HEAD_DROPOUT))
    return nn.Sequential(*layers, nn.Linear(WIDTH, outputs))
