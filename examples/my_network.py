"""The backbone of 03_own_backbone.py: a network that you have already, made to fit.

A backbone ends in a 512-d feature after a ReLU and one linear layer, which distillation needs. The
adapter puts both behind a network of any width.
"""

from torch import Tensor, nn

from pointcmt.training.networks.backbones.blocks import Prediction


class Attention(nn.Module):
    """Points [B,N,3] → a feature [B,64]. Stands for your network; knows nothing of pointcmt."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 64)
        self.block = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)

    def forward(self, points: Tensor) -> Tensor:
        return self.block(self.embed(points)).mean(dim=1)


class Adapter(nn.Module):
    """The contract of a backbone (docs/contracts.md)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.network = Attention()
        self.head = nn.Sequential(nn.Linear(64, 512), nn.ReLU())
        self.classifier = nn.Linear(512, classes)

    def forward(self, points: Tensor) -> Prediction:
        feature = self.head(self.network(points))
        return Prediction(self.classifier(feature), feature)
