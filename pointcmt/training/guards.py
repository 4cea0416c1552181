"""What can go wrong within a step, in words that name the knobs that help."""

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from pointcmt.errors import PointcmtError
from pointcmt.training.config.pointcmt import ViewData
from pointcmt.training.config.sections import TrainConfig

# Of those who have no error class of their own: the CPU's allocator, CUDA itself and its libraries.
NO_MEMORY = r"can't allocate memory|bad_alloc|out of memory|ALLOC_FAILED"


def require_finite(losses: Iterable[tuple[int, float]], when: str, out: Path) -> None:
    """Raises PointcmtError for a loss that is NaN or infinite. losses: (step, value)."""
    for step, loss in losses:
        if not math.isfinite(loss):
            raise PointcmtError(
                f"the loss is {loss} at step {step} {when}",
                where=str(out),
                fix="lower optimizer.learning_rate or set optimizer.clip_norm (such as 1.0), with "
                "a new --out; if it stays, `pointcmt verify` checks the data",
            )


@contextmanager
def memory_errors(config: TrainConfig) -> Iterator[None]:
    """Turn a device's lack of memory into a PointcmtError that names the knobs."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not known and not re.search(NO_MEMORY, str(error)):
            raise
        data = config.data
        knobs = [
            f"data.batch_size below {data.batch_size}, with optimizer.accumulate above "
            f"{config.optimizer.accumulate} to keep the product",
        ]
        if config.loop.precision == "fp32":
            knobs.append("loop.precision=bf16")
        if isinstance(data, ViewData):
            knobs.append("fewer data.views, a smaller data.image_size")
        else:
            knobs.append("fewer data.points")
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise PointcmtError(
            f"memory ran out while training {config.recipe}: {reason}",
            where="--device",
            fix="set one of: " + "; ".join(knobs),
        ) from error
