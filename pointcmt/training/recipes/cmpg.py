"""Stage II of PointCMT: CMPG learns to generate an object's points from the teacher's feature.

L = weight · mean_b EMD(scale(CMPG(f_t)), scale(points)). The teacher is frozen. Target clouds are
taken as they are, unless `augmentation` says otherwise.
"""

import torch
from torch import Tensor, nn

from pointcmt.datasets.store.streaming import Batch, StreamConfig
from pointcmt.errors import UsageError
from pointcmt.input_frame import AS_STORED
from pointcmt.training.config.pointcmt import CmpgConfig
from pointcmt.training.figures.plots import draw_clouds
from pointcmt.training.networks.generator import PointGenerator, matched_distance, scale
from pointcmt.training.ops.emd import earth_movers_distance
from pointcmt.training.recipes.augmentation import augment
from pointcmt.training.recipes.knowledge import Knowledge
from pointcmt.training.recipes.recipe import RecipeContext


def build(config: CmpgConfig, classes: int, pretrained: bool) -> "Cmpg":
    """Build the generator recipe from its configuration; see RECIPES."""
    return Cmpg(PointGenerator(config.data.points, config.model.dropout), config)


class Cmpg:
    """Teacher's feature → points, compared by the EMD in boxes of side 1.

    knowledge: the teacher's features; None until the recipe is prepared.
    """

    def __init__(
        self, model: nn.Module, config: CmpgConfig, knowledge: Knowledge | None = None
    ) -> None:
        self.model = model
        self.config = config
        self.knowledge = knowledge
        self.stream = StreamConfig(
            arrays=("points",),
            batch_size=config.effective_batch_size,
            points=config.data.points,
            seed=config.seed,
        )

    def prepare(self, context: RecipeContext) -> "Cmpg":
        if not self.config.teacher:
            raise UsageError(
                "a generator needs a teacher",
                where="teacher",
                fix="train one with `pointcmt train teacher` and pass it as --teacher RUN; or "
                "run `pointcmt train`, which trains both",
            )
        return Cmpg(self.model, self.config, Knowledge(self.config.teacher, context))

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        targets = augment(batch["points"], self.config.augmentation, AS_STORED, generator)
        distance = self._distance(model, {**batch, "points": targets})
        return self.config.matching.weight * distance, {"emd": distance}

    def measure(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        distance = self._distance(model, batch)
        return {"loss": self.config.matching.weight * distance, "emd": distance}

    def pictures(self, model: nn.Module, batch: Batch) -> dict[str, bytes]:
        norm = self.config.matching.norm
        generated = scale(model(self._feature(batch)), norm)
        points = scale(batch["points"], norm)
        distances, _ = earth_movers_distance(
            generated.float(), points.float(), self.config.matching.solver
        )
        pairs = zip(points.cpu(), generated.cpu(), strict=True)
        clouds = [(x.numpy(), y.numpy()) for x, y in pairs]
        return {"clouds.png": draw_clouds(clouds, distances.tolist())}

    def deployable(self, model: nn.Module, batch: Batch) -> tuple[nn.Module, tuple[Tensor, ...]]:
        return model, (self._feature(batch),)

    def _feature(self, batch: Batch) -> Tensor:
        """Return the teacher's features [B, 512] of a batch."""
        assert self.knowledge is not None, "call prepare() before using this recipe"
        return self.knowledge.feature(batch)

    def _distance(self, model: nn.Module, batch: Batch) -> Tensor:
        matching = self.config.matching
        clouds = model(self._feature(batch))
        return matched_distance(clouds, batch["points"], matching.norm, matching.solver)
