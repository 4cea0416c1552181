"""A plain transformer on patches of points, as in Point-MAE (Pang et al., ECCV 2022, arXiv
2203.06604), in the sizes of ViT (Dosovitskiy et al., ICLR 2021, arXiv 2010.11929, table 1).

Patches are the 32 nearest neighbors of farthest points, one for every 16 points (64 of 1,024, 128
of 2,048, as published); a mini-PointNet turns each into a token, and an MLP its center into an
embedding that is added before every block. The feature is computed from the class token and the
maximum over the patches. The published head is 256-256-C with dropout, Point-BERT's
256-C; by default the feature is 512 wide here, and one linear layer follows. There is no stochastic
depth. A point's own feature is computed from the tokens after each third of the depth, interpolated
from the three nearest centers, and from its position (Point-MAE's segmentation network, without its
global features).
Sampling starts at point 0: the result depends on which point is first, but not on the order of the
others.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pointcmt.training import ops
from pointcmt.training.networks.backbones.blocks import (
    FEATURE,
    HIDDEN,
    FeaturePropagation,
    Prediction,
    PublishedHead,
    SharedMLP,
    middle_in_plan,
    require_features,
    require_points,
    shared_mlp,
)

NEIGHBORS = 32  # points per patch
SHARE = 16  # points per patch center, so every point is in about two patches
TAPS = 3  # depths whose tokens make the points' features
SPREAD = 0.02  # standard deviation of the weights at the start, as in ViT's code


class Size(NamedTuple):
    """width: of a token. Heads are 64 wide, hidden layers four times the token's width."""

    width: int
    depth: int


SMALL, BASE, LARGE = Size(384, 12), Size(768, 12), Size(1024, 24)


class PointViT(nn.Module):
    """Patches, tokens, transformer blocks, a feature, a linear layer.

    inputs: F, the number of a point's features besides its position. between: see PatchEmbedding.
    """

    def __init__(self, classes: int, size: Size, inputs: int = 0, between: int = 0) -> None:
        super().__init__()
        width, depth = size
        self.size, self.inputs, self.between = size, inputs, between
        self.embed = PatchEmbedding(width, inputs, between)
        self.place = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, width))
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.class_place = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        for parameter in (self.class_token, self.class_place):
            nn.init.trunc_normal_(parameter, std=SPREAD)
        self.head: nn.Module = shared_mlp(2 * width, FEATURE)
        self.classifier: nn.Module = nn.Linear(FEATURE, classes)

    def publish_head(self, classes: int, dropout: float) -> None:
        """Replace the head by the published one: 256-256-C, in Point-BERT 256-C without batch norm.

        The feature is 256 wide then.
        """
        pooled = 2 * self.size.width
        if self.between:
            self.head = nn.Sequential(nn.Linear(pooled, HIDDEN), nn.ReLU(inplace=True))
            self.classifier = DroppedLinear(HIDDEN, classes, dropout)
        else:
            self.head = shared_mlp(pooled, HIDDEN)
            self.classifier = PublishedHead(classes, dropout, slope=0, width=HIDDEN)

    def forward(self, points: Tensor) -> Prediction:
        """points [B, N, 3] → logits [B, C], feature [B, 512]. UsageError for N < 32.

        With the published head, the feature is [B, 256].
        """
        _, tokens = self.encode(points)
        return self.classify(tokens[-1])

    def encode(self, points: Tensor, features: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """points [B, N, 3], features [B, N, F] → centers [B, G, 3], tokens [B, 1 + G, D] after each
        third of the depth.

        The first token is the class's.
        """
        require_points(points, NEIGHBORS, "PointViT")
        require_features(points, features, self.inputs)
        centers = ops.gather(points, ops.farthest_points(points, points.shape[1] // SHARE))
        index, _ = ops.k_nearest(points, centers, NEIGHBORS)  # [B, G, 32]
        offsets = ops.gather(points, index) - centers[:, :, None]
        if features is not None:
            offsets = torch.cat([offsets, ops.gather(features, index)], dim=3)
        patches = self.embed(offsets)
        tokens = _after(self.class_token, patches)
        places = _after(self.class_place, self.place(centers))
        depth, kept = len(self.blocks), []
        taps = {depth * (tap + 1) // TAPS for tap in range(TAPS)}
        for number, block in enumerate(self.blocks, 1):
            tokens = block(tokens + places)
            if number in taps:
                kept.append(self.norm(tokens))
        return centers, kept

    def classify(self, tokens: Tensor) -> Prediction:
        """tokens [B, 1 + G, D] → logits [B, C], feature [B, 512]."""
        B, _, D = tokens.shape
        highest = ops.maximum(tokens[:, 1:].reshape(-1, D), B)
        feature = self.head(torch.cat([tokens[:, 0], highest], dim=1))
        return Prediction(self.classifier(feature), feature)


class DensePointViT(PointViT):
    """PointViT with a feature per point on request."""

    local_width = 256
    least = NEIGHBORS  # minimum number of points

    def __init__(self, classes: int, size: Size, inputs: int = 0) -> None:
        super().__init__(classes, size, inputs)
        self.decoder = FeaturePropagation(TAPS * size.width, 3 + inputs, 512, self.local_width)

    def forward(
        self, points: Tensor, local: bool = False, *, features: Tensor | None = None
    ) -> Prediction:
        """points [B, N, 3], features [B, N, F] → logits [B, C], feature [B, 512] and, if local,
        local [B, N, 256].

        Raises UsageError for N < 32 and for features of another shape.
        """
        centers, tokens = self.encode(points, features)
        found = self.classify(tokens[-1])
        if not local:
            return found
        patches = torch.cat(tokens, dim=2)[:, 1:]  # [B, G, 3·D]
        own = points if features is None else torch.cat([points, features], dim=2)
        return found._replace(local=self.decoder(centers, patches, points, own))


class ScenePointViT(DensePointViT):
    """PointViT of points in meters: x and y count from the middle of the cloud.

    inputs: F, the number of a point's features besides its place. Patches are the 32 nearest points
    as on shapes, and their offsets are in meters.
    """

    def forward(
        self, points: Tensor, local: bool = False, *, features: Tensor | None = None
    ) -> Prediction:
        """See `DensePointViT`."""
        return super().forward(middle_in_plan(points), local, features=features)


class DroppedLinear(nn.Module):
    """Dropout, then a linear layer: the end of Point-BERT's head."""

    def __init__(self, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout, self.last = nn.Dropout(dropout), nn.Linear(width, classes)

    def forward(self, feature: Tensor) -> Tensor:
        """feature [B, D] → logits [B, C]."""
        return self.last(self.dropout(feature))


class PatchEmbedding(nn.Module):
    """A mini-PointNet: point features, the patch's maximum, both combined, and their maximum.

    between: the width at the last maximum, from which one more layer makes the token, as in
    Point-BERT (Yu et al., CVPR 2022, arXiv 2111.14819); 0 = the token's width, without that layer.
    """

    def __init__(self, width: int, inputs: int = 0, between: int = 0) -> None:
        super().__init__()
        near = shared_mlp(3 + inputs, 128)
        self.near = SharedMLP(*near, nn.Linear(128, 256, bias=False))
        self.both = nn.Linear(512, 512, bias=False)
        last = nn.Linear(512, between or width)
        self.rest = SharedMLP(nn.BatchNorm1d(512), nn.ReLU(inplace=True), last)
        self.widen = nn.Linear(between, width) if between else nn.Identity()

    def forward(self, offsets: Tensor) -> Tensor:
        """Offsets from the centers and features [B, G, K, 3 + F] → [B, G, D].

        W·[whole, own] = U·whole + V·own: the patch's part is the same for all of its points.
        """
        B, G, K, inner = offsets.shape
        own = self.near(offsets.reshape(-1, inner))  # [B·G·K, 256]
        whole, each = self.both.weight.split(256, dim=1)
        shared = F.linear(ops.maximum(own, B * G), whole)  # [B·G, 512]
        rows = F.linear(own, each).view(B * G, K, -1) + shared[:, None]
        return self.widen(ops.maximum(self.rest(rows.flatten(0, 1)), B * G)).view(B, G, -1)


class Block(nn.Module):
    """ViT's block, without q, k, v biases: x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // 64
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.project = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:
                nn.init.trunc_normal_(parameter, std=SPREAD)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, T, D] → [B, T, D]."""
        tokens = tokens + self.attend(self.norm_attention(tokens))
        return tokens + self.mlp(self.norm_mlp(tokens))

    def attend(self, tokens: Tensor) -> Tensor:
        """Average all tokens' values for every token, weighted by softmax(q·k / 8)."""
        B, T, D = tokens.shape
        q, k, v = self.qkv(tokens).view(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)  # [B, heads, T, 64]
        return self.project(mixed.transpose(1, 2).reshape(B, T, D))


def _after(first: Tensor, tokens: Tensor) -> Tensor:
    """Prepend [1, 1, D] to [B, G, D]."""
    return torch.cat([first.expand(len(tokens), -1, -1), tokens], dim=1)
