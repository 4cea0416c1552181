"""3DETR's transformer: layers, positions, and the encoder that turns points into seeds (Misra,
Girdhar, Joulin, ICCV 2021; models/transformer.py and models/model_3detr.py of its code).

Letters: B scenes, N points, F further features of a point, S seeds, T tokens, D width.
"""

import math

import torch
from torch import Tensor, nn

from pointcmt.training import ops
from pointcmt.training.networks.backbones.blocks import require_points, shared_mlp
from pointcmt.training.networks.detection.seeds import WIDTH, Abstraction, Seeds

CENTERS = 2048  # of the first set abstraction
HEADS = 4
HIDDEN = 128  # of the encoder's layers
# The masked encoder attends within these meters. Its code squares 0.4, 0.8 and 1.2, and compares
# the squares with distances.
RADII = (0.4**2, 0.8**2, 1.2**2)
DROPOUT, MASKED_DROPOUT = 0.1, 0.3


class Layer(nn.Module):
    """A layer of a transformer whose norms come first: self-attention, maybe cross-attention, MLP.

    hidden: width inside the MLP. crosses: whether it attends to a memory, too. Positions are added
    to queries and keys, never to values.
    """

    def __init__(self, hidden: int, dropout: float, crosses: bool = False) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2 + crosses))
        self.attend = nn.MultiheadAttention(WIDTH, HEADS, dropout, batch_first=True)
        self.cross = (
            nn.MultiheadAttention(WIDTH, HEADS, dropout, batch_first=True) if crosses else None
        )
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, WIDTH)
        )
        self.dropout = nn.Dropout(dropout)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(
        self,
        rows: Tensor,
        places: Tensor | None = None,
        memory: tuple[Tensor, Tensor] | None = None,
        hidden: Tensor | None = None,
    ) -> Tensor:
        """rows [B, T, D] with embedded places [B, T, D] → [B, T, D].

        memory: rows and embedded places [B, S, D] to attend to. hidden [B, T, T] bool: which tokens
        a token does not attend to.
        """
        normed = self.norms[0](rows)
        asking = normed if places is None else normed + places
        mask = None if hidden is None else hidden.repeat_interleave(HEADS, dim=0)
        found, _ = self.attend(asking, asking, normed, attn_mask=mask, need_weights=False)
        rows = rows + self.dropout(found)
        if self.cross is not None and memory is not None:
            values, there = memory
            normed = self.norms[1](rows)
            asking = normed if places is None else normed + places
            found, _ = self.cross(asking, values + there, values, need_weights=False)
            rows = rows + self.dropout(found)
        rows = rows + self.dropout(self.mlp(self.norms[-1](rows)))
        return rows


class FourierPositions(nn.Module):
    """Embed places by random Fourier features (Tancik et al., NeurIPS 2020), not trained."""

    frequencies: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(3, WIDTH // 2))

    def forward(self, places: Tensor, low: Tensor, extent: Tensor) -> Tensor:
        """places [B, T, 3] within bounds, low and extent [B, 3] → [B, T, D]."""
        shares = (places - low[:, None]) / extent[:, None]
        with torch.autocast(places.device.type, enabled=False):  # angles need more than 8 bits
            angles = 2 * math.pi * shares @ self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=2)


class PointTransformer(nn.Module):
    """A set abstraction, three layers of a transformer, and a projection for the decoder.

    inputs: F. masked: attend within RADII, and halve the centers after the first layer (3DETR-m).
    """

    def __init__(self, inputs: int, masked: bool, centers: int = CENTERS) -> None:
        super().__init__()
        self.masked, self.centers = masked, centers
        dropout = MASKED_DROPOUT if masked else DROPOUT
        self.embed = Abstraction(inputs, 0.2, 64, (64, 128, WIDTH))
        self.layers = nn.ModuleList(Layer(HIDDEN, dropout) for _ in RADII)
        self.halve = Abstraction(WIDTH, 0.4, 32, (WIDTH, WIDTH, WIDTH)) if masked else None
        self.project = shared_mlp(*[WIDTH] * (3 if masked else 4))

    def forward(self, points: Tensor, features: Tensor) -> Seeds:
        """points [B, N, 3], features [B, N, F] → seeds. Raises UsageError for too few points.

        The first centers are the farthest of the farthest points, as in `ScenePointNet2`.
        """
        require_points(points, self.centers, "3DETR's encoder")
        index = ops.farthest_points(points, self.centers)
        places = ops.gather(points, index)
        rows = self.embed(points, features, places)
        for radius, layer in zip(RADII, self.layers, strict=True):
            hidden = torch.cdist(places, places) >= radius if self.masked else None
            rows = layer(rows, hidden=hidden)
            if layer is self.layers[0] and self.halve is not None:
                half = self.centers // 2
                rows = self.halve(places, rows, places[:, :half])
                index, places = index[:, :half], places[:, :half]
        B, S, _ = rows.shape
        return Seeds(index, places, self.project(rows.flatten(0, 1)).view(B, S, -1))


class TransformerSeeds(nn.Module):
    """Seeds of 3DETR's encoder. inputs: F. masked: 3DETR-m."""

    def __init__(self, inputs: int, masked: bool, centers: int = CENTERS) -> None:
        super().__init__()
        self.backbone = PointTransformer(inputs, masked, centers)

    def forward(self, points: Tensor, features: Tensor) -> Seeds:
        """points [B, N, 3], features [B, N, F] → seeds."""
        found: Seeds = self.backbone(points, features)
        return found
