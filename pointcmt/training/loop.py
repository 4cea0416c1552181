"""The training loop: every recipe, from the first step to the last, on one page.

A run goes on where it stopped, whatever stopped it: the same command resumes after the last
finished epoch and, on a CPU with the same number of threads, ends with the same bits as a run that
was never interrupted.
"""

import math
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pointcmt.console import meter, say
from pointcmt.datasets.store import ViewStore
from pointcmt.datasets.streaming import ViewStream
from pointcmt.errors import PointcmtError
from pointcmt.training import checkpoint
from pointcmt.training.config import Optimizer, TrainConfig
from pointcmt.training.device import describe_device, find_device
from pointcmt.training.evaluate import evaluation_stream, predict
from pointcmt.training.figures import draw_curve
from pointcmt.training.losses import smoothed_cross_entropy
from pointcmt.training.progress import Paced, Stopwatch
from pointcmt.training.recipes import RECIPES
from pointcmt.training.run import (
    BEST,
    LAST,
    append_metrics,
    begin_run,
    open_run,
    plan_run,
    read_metrics,
    write_metrics,
)
from pointcmt.training.splits import split_train

REDRAW = 30.0  # seconds between two drawings of the curve, each of which takes half of one


@dataclass(frozen=True)
class Result:
    """How a run stands. last, best: lines of metrics.jsonl."""

    recipe: str
    epochs: int
    last: dict[str, Any]
    best: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """The fields that `train --json` prints."""
        metrics = {"last": self.last, "best": self.best}
        return {"recipe": self.recipe, "epochs": self.epochs, "metrics": metrics}


def train(
    store: ViewStore,
    config: TrainConfig,
    out: Path,
    device: str = "auto",
    log_format: str = "auto",
    until: int | None = None,
) -> Result:
    """Train a recipe into the run folder `out`, or go on where it stopped.

    until: stop after this epoch, as if interrupted; the next call goes on.

    Raises StoreError for a store that cannot be trained on or a folder that holds another run,
    UsageError for settings that do not fit the store, PointcmtError where the loss is not finite.
    A KeyboardInterrupt passes through: the last finished epoch is on disk at any time.
    """
    on = find_device(device)
    run = plan_run(out, config, store)  # refuses a folder that holds another run
    resumed = checkpoint.read_scalars(out / LAST) is not None

    # What is trained: every random number comes from the seed.
    torch.manual_seed(config.seed)  # weights and dropout
    generator = torch.Generator().manual_seed(config.seed)  # the recipe's augmentation
    split = split_train(store, config.data.validation, config.seed)
    task = RECIPES[config.recipe](config, len(run.class_names), not resumed)
    if config.init and not resumed:
        checkpoint.load_weights(open_run(Path(config.init)).folder / BEST, task.model)
    model = task.model.to(on)
    optimizer = make_optimizer(model, config.optimizer)
    stream = ViewStream(store, split.train, task.stream)
    validation = evaluation_stream(task, store, split.validation)
    val_labels = torch.from_numpy(store.labels[split.validation])

    with begin_run(run):
        records: list[dict[str, Any]] = []
        if resumed:
            scalars, random = checkpoint.load_training(out / LAST, model, optimizer)
            stream.load_state_dict(scalars["stream"])
            set_random_states(random, generator)
            records = read_metrics(out, scalars["epoch"])
            if best_of(records) is records[-1]:  # it may have been killed before these two
                checkpoint.save(out / BEST, scalars["epoch"], {}, model)
            _draw(out, records, config)
        write_metrics(out, records)  # without what a killed epoch left
        done, end = len(records), min(config.epochs, until or config.epochs)
        steps, drawn = config.epochs * len(stream), time.monotonic()
        facts = {"train": len(split.train), "validation": len(split.validation)}
        for note in (*split.notes, _opening(done, config, facts, describe_device(on))):
            say(note, log_format)
        if done >= end:
            return _result(config, records)

        with meter(config.recipe, (end - done) * len(stream), "steps", log_format) as bar:
            progress = Paced(bar)
            for epoch in range(done + 1, end + 1):
                model.train()
                clock, sums = Stopwatch(), defaultdict[str, float](float)
                for batch in clock.watch(stream):
                    step = (epoch - 1) * len(stream) + stream.position  # 1 … steps
                    rate = learning_rate(config, step - 1, steps)
                    for group in optimizer.param_groups:
                        group["lr"] = rate

                    batch = {name: data.to(on, non_blocking=True) for name, data in batch.items()}
                    loss, metrics = task.loss(batch, generator)
                    optimizer.zero_grad()
                    loss.backward()
                    if config.optimizer.clip_norm:
                        nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip_norm)
                    optimizer.step()

                    for name, value in {"loss": loss.detach(), **metrics}.items():
                        sums[name] += value.item()
                    require_finite(loss.item(), f"step {step} (epoch {epoch})", out)
                    progress.advance(1, f"epoch {epoch}/{config.epochs}", epoch=epoch)
                trained = clock.seconds

                log_p = predict(task, validation)
                smoothing = config.loss.label_smoothing
                val_loss = smoothed_cross_entropy(log_p, val_labels, smoothing).item()
                require_finite(val_loss, f"validation after epoch {epoch}", out)
                record = {
                    "epoch": epoch,
                    **{name: total / len(stream) for name, total in sums.items()},
                    "val_loss": val_loss,
                    "val_accuracy": (log_p.argmax(dim=1) == val_labels).double().mean().item(),
                    "lr": rate,
                    "samples_per_second": len(stream) * config.data.batch_size / trained,
                    "data_wait": clock.waited / trained,
                    "seconds": clock.seconds,
                }

                # Metrics, last, best: killed in between, a resumed run repeats what is missing.
                records.append(record)
                append_metrics(out, record)
                position = {"stream": stream.state_dict()}
                random = random_states(generator)
                checkpoint.save(out / LAST, epoch, position, model, optimizer, random)
                if best_of(records) is record:
                    checkpoint.save(out / BEST, epoch, {}, model)
                if epoch == end or time.monotonic() - drawn > REDRAW:
                    _draw(out, records, config)
                    drawn = time.monotonic()
                progress.advance(0, _summary(record, config.epochs), now=True, **record)
    return _result(config, records)


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """The learning rate of step 0 … steps - 1: constant, or half a cosine that ends at 0."""
    peak = config.optimizer.learning_rate
    if config.schedule.name == "constant":
        return peak
    return peak * 0.5 * (1 + math.cos(math.pi * step / steps))


def make_optimizer(model: nn.Module, config: Optimizer) -> torch.optim.Optimizer:
    """Adam or AdamW over all parameters."""
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[config.name](
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )


def best_of(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The epoch of the highest validation accuracy; of equal ones the latest, trained longest."""
    return max(records, key=lambda record: (record["val_accuracy"], record["epoch"]))


def random_states(generator: torch.Generator) -> dict[str, Tensor]:
    """The states of every generator a step draws from."""
    states = {"torch": torch.get_rng_state(), "recipe": generator.get_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: dict[str, Tensor], generator: torch.Generator) -> None:
    """The inverse of `random_states`; the device may be another one."""
    torch.set_rng_state(states["torch"])
    generator.set_state(states["recipe"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def require_finite(loss: float, when: str, out: Path) -> None:
    """Raises PointcmtError for a loss that is NaN or infinite."""
    if not math.isfinite(loss):
        raise PointcmtError(
            f"the loss is {loss} at {when}",
            where=str(out),
            fix="lower optimizer.learning_rate or set optimizer.clip_norm (such as 1.0), with a "
            "new --out; if it stays, `pointcmt verify` checks the data",
        )


def _result(config: TrainConfig, records: list[dict[str, Any]]) -> Result:
    return Result(config.recipe, len(records), records[-1], best_of(records))


def _opening(done: int, config: TrainConfig, facts: dict[str, int], device: str) -> str:
    if done >= config.epochs:
        return f"this run is finished: all {config.epochs} epochs are trained"
    counts = ", ".join(f"{count:,} {name}" for name, count in facts.items())
    begin = f"resuming after epoch {done} of {config.epochs}" if done else "training"
    return f"{begin}: {config.recipe} on {device}, {counts} shapes"


def _summary(record: dict[str, Any], epochs: int) -> str:
    return (
        f"epoch {record['epoch']}/{epochs} · loss {record['loss']:.4f} · accuracy "
        f"{record['accuracy']:.1%} · validation {record['val_accuracy']:.1%}"
    )


def _draw(out: Path, records: list[dict[str, Any]], config: TrainConfig) -> None:
    title = f"{config.recipe}: {config.model_dump()['model']['backbone']}, seed {config.seed}"
    checkpoint.write_file(out / "curve.png", draw_curve(records, best_of(records)["epoch"], title))
