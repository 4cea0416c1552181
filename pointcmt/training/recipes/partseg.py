"""Part segmentation: a dense network with cross entropy over the parts of all classes.

Metrics and predictions only consider the parts of the shape's own class; `evaluation.segmentation`
defines the measures.
"""

from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pointcmt.datasets.store.streaming import Batch, StreamConfig
from pointcmt.training.config.downstream import PartsegConfig
from pointcmt.training.figures.plots import Segmented, draw_parts, to_png
from pointcmt.training.networks.part_network import PartNetwork, build_part_network
from pointcmt.training.networks.part_seg import WholeNetwork
from pointcmt.training.ops.augment import choose, scale_and_shift
from pointcmt.training.ops.iou import shape_iou
from pointcmt.training.recipes.augmentation import as_arrays, augment, point_arrays, point_rows
from pointcmt.training.recipes.recipe import RecipeContext
from pointcmt.training.runs.part_labels import require_labels
from pointcmt.training.runs.pretrained import freeze_encoder, hold_encoder


def build(config: PartsegConfig, classes: int, pretrained: bool) -> "Partseg":
    """Build the segmentation recipe; see RECIPES. config.parts: the part names of the store."""
    parts, section = sum(map(len, config.parts.values())), config.model
    network = build_part_network(
        section.backbone, classes, parts, section.dropout, config.data.inputs
    )
    return Partseg(network, config)


class Partseg:
    """Points and their category → the part of each point."""

    def __init__(self, model: PartNetwork | WholeNetwork, config: PartsegConfig) -> None:
        self.model: nn.Module = model
        self.config = config
        self.frozen = config.model.encoder == "frozen"
        if self.frozen:
            freeze_encoder(model.backbone)
        counts = [len(names) for names in config.parts.values()]
        self.counts, self.most = torch.tensor(counts), max(counts)  # [C]
        self.first = torch.tensor([0, *accumulate(counts)][:-1])  # [C], each class's first part
        self.stream = StreamConfig(
            arrays=(*point_arrays(config.data), "part"),
            batch_size=config.effective_batch_size,
            points=max(config.data.points, config.data.resample),
            frame=config.data.frame,
            seed=config.seed,
            balance=config.data.sampling == "balanced",
        )

    def prepare(self, context: RecipeContext) -> "Partseg":
        require_labels(self.config.parts, context.store, context.shapes)
        return self

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if self.frozen:
            hold_encoder(model.get_submodule("backbone"))
        config = self.config
        # part labels are small integers, which float32 holds exactly
        rows = torch.cat([point_rows(batch), batch["part"][..., None]], dim=2)
        rows = choose(rows, config.data.points, generator)
        points = augment(rows[..., :-1], config.augmentation, config.data.frame, generator)
        logits = model(points, batch["label"])
        metrics = self._metrics(logits, batch["label"], rows[..., -1].long())
        return metrics["loss"], {"instance_miou": metrics["instance_miou"]}

    def measure(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        network, inputs = self.deployable(model, batch)
        parts = batch["part"][:, : self.config.data.points].long()
        return self._metrics(network(*inputs), batch["label"], parts)

    def pictures(self, model: nn.Module, batch: Batch) -> dict[str, bytes]:
        network, (points, labels) = self.deployable(model, batch)
        predicted = self._own_class(network(points, labels), labels).argmax(dim=2)
        true = batch["part"][:, : points.shape[1]].long()
        ious = shape_iou(predicted, true, self.counts.to(labels.device)[labels], self.most)
        names = [list(self.config.parts.items())[label] for label in labels.tolist()]
        arrays = (tensor.cpu().numpy() for tensor in (points[..., :3], true, predicted))
        shapes = [
            Segmented(cloud, true_parts, guess, name, parts, iou)
            for cloud, true_parts, guess, (name, parts), iou in zip(
                *arrays, names, ious.tolist(), strict=True
            )
        ]
        return {"parts.png": to_png(draw_parts(shapes))}

    def deployable(self, model: nn.Module, batch: Batch) -> tuple[nn.Module, tuple[Tensor, ...]]:
        return model, (point_rows(batch)[:, : self.config.data.points], batch["label"])

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return scores [B, N, most] of the parts of each shape's class, padded with -inf."""
        network, inputs = self.deployable(model, batch)
        return self._own_class(network(*inputs), batch["label"])

    def test_time_augmentation(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Scale and shift every cloud at random, as `votes` says."""
        votes = self.config.votes
        points = scale_and_shift(point_rows(batch), votes.scale, votes.shift, generator)
        return {**batch, **as_arrays(points)}

    def _metrics(self, logits: Tensor, labels: Tensor, parts: Tensor) -> dict[str, Tensor]:
        """Return means over the batch. logits [B, N, P]; parts [B, N], numbered within classes."""
        device = labels.device
        target = parts + self.first.to(device)[labels][:, None]
        counts = self.counts.to(device)[labels]
        predicted = self._own_class(logits.detach(), labels).argmax(dim=2)
        return {
            "loss": F.cross_entropy(logits.flatten(0, 1), target.flatten()),
            "instance_miou": shape_iou(predicted, parts, counts, self.most).mean(),
            "point_accuracy": (predicted == parts).float().mean(),
        }

    def _own_class(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Select the scores of each shape's class: [B, N, P] → [B, N, most]."""
        counts, first = (table.to(labels.device)[labels] for table in (self.counts, self.first))
        place = torch.arange(self.most, device=labels.device)
        index = (first[:, None] + place).clamp(max=logits.shape[2] - 1)  # [B, most]
        scores = logits.gather(2, index[:, None].expand(-1, logits.shape[1], -1))
        return scores.masked_fill((place >= counts[:, None])[:, None], -torch.inf)
