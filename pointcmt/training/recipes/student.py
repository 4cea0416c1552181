"""Stage III of PointCMT: a point network, alone or distilled from a teacher.

L = smoothed cross entropy, plus a term chosen by `distillation.method`:
- pointcmt: + 30 · EMD(scale(CMPG(f_s)), scale(CMPG(f_t))) + 9.6 · KL(classifier(f_t) || logits_s)
- logits:   + weight · T² KL(softmax(logits_t / T) || softmax(logits_s / T)) (Hinton et al. 2015)
- features: + weight · mean (f_s - f_t)² (Romero et al. 2015)
- none, or no teacher: nothing. This is the vanilla network that the others are compared with.

A term with weight 0 is not computed, so FE = CE = 0 is vanilla training, bit for bit.
"""

from copy import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pointcmt.datasets.store.streaming import Batch, StreamConfig
from pointcmt.errors import UsageError
from pointcmt.training.config.downstream import FinetuneConfig
from pointcmt.training.config.pointcmt import StudentConfig, distilled
from pointcmt.training.networks.backbones import build_classifier
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
from pointcmt.training.recipes.augmentation import as_arrays, augment, point_arrays, point_rows
from pointcmt.training.recipes.class_weights import find_weights
from pointcmt.training.recipes.knowledge import Knowledge, frozen_generator
from pointcmt.training.recipes.recipe import RecipeContext, accuracy, measure_classes

TINY = 1e-12  # a gradient's norm that is not divided by


def build(config: StudentConfig, classes: int, pretrained: bool) -> "Student":
    """Build the student recipe from its configuration; see RECIPES."""
    return Student(build_classifier(config, classes), config)


class Student:
    """Points → class. The teacher is only used in training, so inference costs nothing extra.

    knowledge: the teacher's features and logits. generator: a frozen one, for feature enhancement.
    weights: of the classes. A prepared recipe has those that its loss needs.
    """

    def __init__(
        self,
        model: nn.Module,
        config: StudentConfig | FinetuneConfig,
        knowledge: Knowledge | None = None,
        generator: PointGenerator | None = None,
        weights: Tensor | None = None,
    ) -> None:
        self.model = model
        self.weights = weights
        self.config = config
        self.knowledge = knowledge
        self.generator = generator
        self.stream = StreamConfig(
            arrays=point_arrays(config.data),
            batch_size=config.effective_batch_size,
            points=max(config.data.points, config.data.resample, config.votes.resample),
            frame=config.data.frame,
            seed=config.seed,
            balance=config.data.sampling == "balanced",
        )

    def prepare(self, context: RecipeContext) -> "Student":
        config = self.config
        weights = find_weights(config.loss, context.store, context.train, context.device)
        if not distilled(config):
            prepared = copy(self)
            prepared.weights = weights
            return prepared
        knowledge, generator = Knowledge(config.teacher, context), None
        if config.distillation.method == "pointcmt" and config.distillation.feature.weight:
            if not config.generator:
                raise UsageError(
                    "feature enhancement needs a generator",
                    where="generator",
                    fix="train one with `pointcmt train cmpg` and pass it as --generator RUN; or "
                    "set distillation.feature.weight=0",
                )
            generator = frozen_generator(config.generator, config.teacher, context.device)
        return Student(self.model, config, knowledge, generator, weights)

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        config = self.config
        points = point_rows(batch)[:, : max(config.data.points, config.data.resample)]
        # Random order: farthest-point sampling starts at the first point, and ball queries keep
        # the first points they find.
        points = choose(points, config.data.points, generator)
        points = augment(points, config.augmentation, config.data.frame, generator)
        predicted: Prediction = model(points)
        labels = batch["label"]
        smoothing = self.config.loss.label_smoothing
        loss = smoothed_cross_entropy(predicted.logits, labels, smoothing, self.weights)
        metrics = {"accuracy": accuracy(predicted.logits, labels)}
        terms = self._distillation_terms(model, batch, predicted)
        if terms and distilled(config) and config.distillation.gradients:
            metrics |= compare_gradients(loss, terms, predicted.feature)
        if predicted.transform is not None and self.config.model.orthogonality:
            loss = loss + self.config.model.orthogonality * orthogonality(predicted.transform)
        for name, (weight, term) in terms.items():
            loss = loss + weight * term
            metrics[name] = term
        return loss, metrics

    def measure(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        logits = self.logits(model, batch)
        return measure_classes(logits, batch["label"], self.config.loss.label_smoothing)

    def pictures(self, model: nn.Module, batch: Batch) -> dict[str, bytes]:
        return {}

    def deployable(self, model: nn.Module, batch: Batch) -> tuple[nn.Module, tuple[Tensor, ...]]:
        return model, (point_rows(batch)[:, : self.config.data.points],)

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        network, points = self.deployable(model, batch)
        return network(*points).logits

    def test_time_augmentation(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Scale and shift every cloud at random, and draw its points, as `votes` says."""
        votes, points = self.config.votes, point_rows(batch)
        if votes.resample:
            points = choose(points[:, : votes.resample], self.config.data.points, generator)
        points = scale_and_shift(points, votes.scale, votes.shift, generator)
        return {**batch, **as_arrays(points)}

    def _distillation_terms(
        self, model: nn.Module, batch: Batch, predicted: Prediction
    ) -> dict[str, tuple[float, Tensor]]:
        """Return what the teacher adds to the loss: name → (weight, term)."""
        terms: dict[str, tuple[float, Tensor]] = {}
        if self.knowledge is None or not distilled(self.config):
            return terms
        d = self.config.distillation
        feature = self.knowledge.feature(batch)
        if self.generator is not None:
            with torch.autocast(feature.device.type, enabled=False):  # bf16 would displace points
                clouds, targets = self.generator(predicted.feature.float()), self.generator(feature)
            distance = matched_distance(clouds, targets, d.feature.norm, d.feature.solver)
            terms["fe"] = d.feature.weight, distance
        if d.method == "pointcmt" and d.classifier:
            cross = model.get_submodule("classifier")(feature)
            cross = cross.detach() if d.detach else cross
            terms["ce"] = d.classifier, classifier_enhancement(predicted.logits, cross)
        if d.method == "logits" and d.weight:
            term = logit_distillation(predicted.logits, self.knowledge.logits(batch), d.temperature)
            terms["logits"] = d.weight, term
        if d.method == "features" and d.weight:
            terms["features"] = d.weight, feature_distance(predicted.feature, feature)
        return terms


def compare_gradients(
    task: Tensor, terms: dict[str, tuple[float, Tensor]], feature: Tensor
) -> dict[str, Tensor]:
    """Return how the gradient of each term at the feature [B, 512] relates to the task's.

    All that a term teaches the layers before the feature passes through it. NAME_cosine: of both
    gradients, -1 = the term undoes what the task does. NAME_ratio: of the weighted term's norm to
    the task's. terms: name → (weight, term).
    """
    (own,) = torch.autograd.grad(task, feature, retain_graph=True)
    found = {}
    for name, (weight, term) in terms.items():
        (other,) = torch.autograd.grad(weight * term, feature, retain_graph=True)
        found[f"{name}_cosine"] = F.cosine_similarity(own.flatten(), other.flatten(), dim=0)
        found[f"{name}_ratio"] = other.norm() / own.norm().clamp(min=TINY)
    return found
