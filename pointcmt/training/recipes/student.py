"""Stage III of PointCMT: a point network, alone or with a teacher's help.

L = smoothed cross entropy, and by `distillation.method`
- pointcmt: + 30 · EMD(scale(CMPG(f_s)), scale(CMPG(f_t))) + 9.6 · KL(classifier(f_t) || logits_s)
- logits:   + weight · T² KL(softmax(logits_t / T) || softmax(logits_s / T)) (Hinton et al. 2015)
- features: + weight · mean (f_s - f_t)² (Romero et al. 2015)
- none, or without a teacher: the vanilla network that all others are compared with.

A weight of 0 leaves its term out, so that FE = CE = 0 is vanilla training, bit for bit.
"""

import torch
from torch import Tensor, nn

from pointcmt.datasets.store.streaming import Batch, StreamConfig
from pointcmt.errors import UsageError
from pointcmt.training.config.downstream import FinetuneConfig
from pointcmt.training.config.pointcmt import StudentConfig, distilled
from pointcmt.training.networks.backbones import build_backbone
from pointcmt.training.networks.backbones.blocks import Prediction
from pointcmt.training.networks.generator import PointGenerator, matched_distance
from pointcmt.training.ops.augment import choose, scale_and_shift
from pointcmt.training.ops.losses import (
    classifier_enhancement,
    feature_distance,
    logit_distillation,
    orthogonality,
    smoothed_cross_entropy,
)
from pointcmt.training.recipes.knowledge import Knowledge, frozen_generator
from pointcmt.training.recipes.task import Context, accuracy, measure_classes


def build(config: StudentConfig, classes: int, pretrained: bool) -> "Student":
    """The student of a configuration; see RECIPES. There are no pretrained weights."""
    return Student(build_backbone(config.model.backbone, classes), config)


class Student:
    """Points → class. The teacher is there in training only: inference costs what it always did."""

    def __init__(self, model: nn.Module, config: StudentConfig | FinetuneConfig) -> None:
        self.model = model
        self.config = config
        self.knowledge: Knowledge | None = None
        self.generator: PointGenerator | None = None
        self.stream = StreamConfig(
            arrays=("points",),
            batch_size=config.step_size,
            points=max(config.data.points, config.data.resample),
            seed=config.seed,
        )

    def prepare(self, context: Context) -> None:
        config = self.config
        if not distilled(config):
            return
        self.knowledge = Knowledge(config.teacher, context)
        if config.distillation.method == "pointcmt" and config.distillation.feature.weight:
            if not config.generator:
                raise UsageError(
                    "feature enhancement needs a generator, and none is given",
                    where="generator",
                    fix="train one with `pointcmt train cmpg`, then give --generator RUN; or set "
                    "distillation.feature.weight=0",
                )
            self.generator = frozen_generator(config.generator, config.teacher, context.device)

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        a = self.config.augmentation
        points = batch["points"]
        # Shuffled: sampling begins at the first point, balls take the first ones that they find.
        points = choose(points, self.config.data.points, generator)
        points = scale_and_shift(points, a.scale, a.shift, generator)
        found: Prediction = model(points)
        labels = batch["label"]
        loss = smoothed_cross_entropy(found.logits, labels, self.config.loss.label_smoothing)
        metrics = {"accuracy": accuracy(found.logits, labels)}
        if found.transform is not None and self.config.model.orthogonality:
            loss = loss + self.config.model.orthogonality * orthogonality(found.transform)
        for name, (weight, term) in self._lessons(model, batch, found).items():
            loss = loss + weight * term
            metrics[name] = term
        return loss, metrics

    def measure(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        logits = self.logits(model, batch)
        return measure_classes(logits, batch["label"], self.config.loss.label_smoothing)

    def pictures(self, model: nn.Module, batch: Batch) -> dict[str, bytes]:
        return {}

    def inference(self, model: nn.Module, batch: Batch) -> tuple[nn.Module, tuple[Tensor, ...]]:
        return model, (batch["points"][:, : self.config.data.points],)

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        network, points = self.inference(model, batch)
        return network(*points).logits

    def vary(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Every cloud scaled at random, as in training, but not moved."""
        points = scale_and_shift(batch["points"], self.config.augmentation.scale, 0.0, generator)
        return {**batch, "points": points}

    def _lessons(
        self, model: nn.Module, batch: Batch, found: Prediction
    ) -> dict[str, tuple[float, Tensor]]:
        """What the teacher adds to the loss: name → (weight, term)."""
        lessons: dict[str, tuple[float, Tensor]] = {}
        if self.knowledge is None or not distilled(self.config):
            return lessons
        d = self.config.distillation
        feature = self.knowledge.feature(batch)
        if self.generator is not None:
            with torch.autocast(feature.device.type, enabled=False):  # bf16 would move the points
                clouds, targets = self.generator(found.feature.float()), self.generator(feature)
            distance = matched_distance(clouds, targets, d.feature.norm, d.feature.solver)
            lessons["fe"] = d.feature.weight, distance
        if d.method == "pointcmt" and d.classifier:
            cross = model.get_submodule("classifier")(feature)
            cross = cross.detach() if d.detach else cross
            lessons["ce"] = d.classifier, classifier_enhancement(found.logits, cross)
        if d.method == "logits" and d.weight:
            term = logit_distillation(found.logits, self.knowledge.logits(batch), d.temperature)
            lessons["logits"] = d.weight, term
        if d.method == "features" and d.weight:
            lessons["features"] = d.weight, feature_distance(found.feature, feature)
        return lessons
