"""Stage II of PointCMT: CMPG learns to turn the frozen teacher's feature into the object's points.

L = weight · mean_b EMD(scale(CMPG(f_t)), scale(points)), on clouds without augmentation.
"""

import torch
from torch import Tensor, nn

from pointcmt.datasets.store.streaming import Batch, StreamConfig
from pointcmt.errors import UsageError
from pointcmt.training.config.pointcmt import CmpgConfig
from pointcmt.training.figures.plots import draw_clouds
from pointcmt.training.networks.generator import PointGenerator, matched_distance, scale
from pointcmt.training.recipes.knowledge import Knowledge
from pointcmt.training.recipes.task import Context


def build(config: CmpgConfig, classes: int, pretrained: bool) -> "Cmpg":
    """The generator of a configuration; see RECIPES."""
    return Cmpg(PointGenerator(config.data.points, config.model.dropout), config)


class Cmpg:
    """Teacher's feature → points, judged by the EMD in boxes of side 1."""

    def __init__(self, model: PointGenerator, config: CmpgConfig) -> None:
        self.model: nn.Module = model
        self.config = config
        self.stream = StreamConfig(
            arrays=("points",),
            batch_size=config.step_size,
            points=config.data.points,
            seed=config.seed,
        )

    def prepare(self, context: Context) -> None:
        if not self.config.teacher:
            raise UsageError(
                "a generator learns from a teacher's features, and no teacher is given",
                where="teacher",
                fix="train one with `pointcmt train teacher`, then give --teacher RUN; or run "
                "`pointcmt train`, which does both",
            )
        self.knowledge = Knowledge(self.config.teacher, context)

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        distance = self._distance(model, batch)
        return self.config.matching.weight * distance, {"emd": distance}

    def measure(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        distance = self._distance(model, batch)
        return {"loss": self.config.matching.weight * distance, "emd": distance}

    def pictures(self, model: nn.Module, batch: Batch) -> dict[str, bytes]:
        norm = self.config.matching.norm
        made = scale(model(self.knowledge.feature(batch)), norm)
        pairs = zip(scale(batch["points"], norm).cpu(), made.cpu(), strict=True)
        return {"clouds.png": draw_clouds([(x.numpy(), y.numpy()) for x, y in pairs])}

    def inference(self, model: nn.Module, batch: Batch) -> tuple[nn.Module, tuple[Tensor, ...]]:
        return model, (self.knowledge.feature(batch),)

    def _distance(self, model: nn.Module, batch: Batch) -> Tensor:
        matching = self.config.matching
        clouds = model(self.knowledge.feature(batch))
        return matched_distance(clouds, batch["points"], matching.norm, matching.solver)
