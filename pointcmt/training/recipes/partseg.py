"""Segmentation into parts: a dense network, cross entropy over the parts of all classes.

For measuring and predicting only the parts of the shape's own class are considered; see
`segmentation` for the numbers.
"""

from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pointcmt.datasets.store.streaming import Batch, StreamConfig
from pointcmt.training.config.downstream import PartsegConfig
from pointcmt.training.figures.plots import Segmented, draw_parts, to_png
from pointcmt.training.networks.backbones import build_dense
from pointcmt.training.networks.part_network import PartNetwork
from pointcmt.training.ops.augment import choose, scale_and_shift
from pointcmt.training.ops.iou import shape_iou
from pointcmt.training.recipes.task import Context
from pointcmt.training.runs.part_labels import require_labels
from pointcmt.training.runs.pretrained import freeze_encoder, hold_encoder


def build(config: PartsegConfig, classes: int, pretrained: bool) -> "Partseg":
    """The segmenter of a configuration; see RECIPES. Its `parts` are those of the store."""
    network = build_dense(config.model.backbone, classes)
    width: int = network.local_width  # type: ignore[assignment]
    parts = sum(map(len, config.parts.values()))
    return Partseg(PartNetwork(network, width, classes, parts, config.model.dropout), config)


class Partseg:
    """Points and their category → the part of each point."""

    def __init__(self, model: PartNetwork, config: PartsegConfig) -> None:
        self.model: nn.Module = model
        self.config = config
        self.frozen = config.model.encoder == "frozen"
        if self.frozen:
            freeze_encoder(model.backbone)
        counts = [len(names) for names in config.parts.values()]
        self.counts, self.most = torch.tensor(counts), max(counts)  # [C]
        self.first = torch.tensor([0, *accumulate(counts)][:-1])  # [C], where each class's begin
        self.stream = StreamConfig(
            arrays=("points", "part"),
            batch_size=config.step_size,
            points=max(config.data.points, config.data.resample),
            seed=config.seed,
        )

    def prepare(self, context: Context) -> None:
        require_labels(self.config.parts, context.store, context.shapes)

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if self.frozen:
            hold_encoder(model.get_submodule("backbone"))
        a = self.config.augmentation
        rows = torch.cat([batch["points"], batch["part"][..., None]], dim=2)  # whole numbers stay
        rows = choose(rows, self.config.data.points, generator)
        points = scale_and_shift(rows[..., :3], a.scale, a.shift, generator)
        logits = model(points, batch["label"])
        found = self._judge(logits, batch["label"], rows[..., 3].long())
        return found["loss"], {"instance_miou": found["instance_miou"]}

    def measure(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        network, inputs = self.inference(model, batch)
        parts = batch["part"][:, : self.config.data.points].long()
        return self._judge(network(*inputs), batch["label"], parts)

    def pictures(self, model: nn.Module, batch: Batch) -> dict[str, bytes]:
        network, (points, labels) = self.inference(model, batch)
        predicted = self._own(network(points, labels), labels).argmax(dim=2)
        true = batch["part"][:, : points.shape[1]].long()
        ious = shape_iou(predicted, true, self.counts.to(labels.device)[labels], self.most)
        names = [list(self.config.parts.items())[label] for label in labels.tolist()]
        arrays = (tensor.cpu().numpy() for tensor in (points, true, predicted))
        shapes = [
            Segmented(cloud, own, guess, name, parts, iou)
            for cloud, own, guess, (name, parts), iou in zip(
                *arrays, names, ious.tolist(), strict=True
            )
        ]
        return {"parts.png": to_png(draw_parts(shapes))}

    def inference(self, model: nn.Module, batch: Batch) -> tuple[nn.Module, tuple[Tensor, ...]]:
        return model, (batch["points"][:, : self.config.data.points], batch["label"])

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Scores [B, N, most] of the parts of each shape's own class; -inf where it has fewer."""
        network, inputs = self.inference(model, batch)
        return self._own(network(*inputs), batch["label"])

    def vary(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Every cloud scaled at random, as in training, but not moved."""
        points = scale_and_shift(batch["points"], self.config.augmentation.scale, 0.0, generator)
        return {**batch, "points": points}

    def _judge(self, logits: Tensor, labels: Tensor, parts: Tensor) -> dict[str, Tensor]:
        """Means over the batch. logits [B, N, P]; parts [B, N], counted within the class."""
        on = labels.device
        target = parts + self.first.to(on)[labels][:, None]
        counts = self.counts.to(on)[labels]
        predicted = self._own(logits.detach(), labels).argmax(dim=2)
        return {
            "loss": F.cross_entropy(logits.flatten(0, 1), target.flatten()),
            "instance_miou": shape_iou(predicted, parts, counts, self.most).mean(),
            "point_accuracy": (predicted == parts).float().mean(),
        }

    def _own(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Of the scores of all parts [B, N, P] those of each shape's class, [B, N, most]."""
        counts, first = (table.to(labels.device)[labels] for table in (self.counts, self.first))
        place = torch.arange(self.most, device=labels.device)
        index = (first[:, None] + place).clamp(max=logits.shape[2] - 1)  # [B, most]
        scores = logits.gather(2, index[:, None].expand(-1, logits.shape[1], -1))
        return scores.masked_fill((place >= counts[:, None])[:, None], -torch.inf)
