"""The training loop: every recipe, from the first step to the last, on one page.

A run goes on where it stopped, whatever stopped it: the same command resumes after the last
checkpoint (one an epoch, and one every ten minutes of a long epoch). A single process on a CPU with
the same number of threads ends with the same bits as a run that was never interrupted. No random
number depends on what was drawn before: each piece of a batch has a seed of its own.
"""

import time
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from pointcmt.console import Paced, in_words, logger, meter
from pointcmt.datasets.store.features import features_size
from pointcmt.datasets.store.streaming import Batch, ViewStream
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import UsageError
from pointcmt.training.config.sections import TrainConfig
from pointcmt.training.evaluation.evaluate import evaluation_stream
from pointcmt.training.figures.plots import draw_curve
from pointcmt.training.guards import memory_errors, require_finite
from pointcmt.training.ops.device import describe_device
from pointcmt.training.recipes import build_task
from pointcmt.training.recipes.task import Context, Task
from pointcmt.training.runs import checkpoint
from pointcmt.training.runs.cost import Cost, Spent, measure_cost, read_cost
from pointcmt.training.runs.distributed import agreed, join_processes, wrap
from pointcmt.training.runs.optimization import Average, learning_rate, make_optimizer
from pointcmt.training.runs.pretrained import settle, start_from
from pointcmt.training.runs.progress import Stopwatch, Sums
from pointcmt.training.runs.run import (
    BEST,
    LAST,
    LOSS,
    SCORES,
    append_metrics,
    begin_run,
    kept,
    plan_run,
    read_metrics,
    write_metrics,
)
from pointcmt.training.runs.splits import Split, fit_batch, split_shapes, split_train
from pointcmt.training.runs.state import State
from pointcmt.training.runs.trackers import require_trackers, track

REDRAW = 30.0  # seconds between two drawings of the curve, each of which takes half of one
EXAMPLES = 8  # validation shapes in a recipe's own pictures
SAVE = 600.0  # seconds after which a long epoch is saved in its middle


@dataclass(frozen=True)
class Result:
    """How a run stands. last, best: lines of metrics.jsonl. cost: the main process knows it."""

    recipe: str
    epochs: int
    last: dict[str, Any]
    best: dict[str, Any]
    cost: Cost | None = None

    def as_json(self) -> dict[str, Any]:
        """The fields that `train --json` prints."""
        metrics = {"last": self.last, "best": self.best}
        cost = asdict(self.cost) if self.cost else None
        return {"recipe": self.recipe, "epochs": self.epochs, "metrics": metrics, "cost": cost}


class Step(nn.Module):
    """A task's loss as a module, so that what wraps a model wraps all of the step."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task, self.model = task, task.model

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        return self.task.loss(self.model, batch, generator)


def train(
    store: ViewStore,
    config: TrainConfig,
    out: Path,
    device: str = "auto",
    until: int | None = None,
) -> Result:
    """Train a recipe into the run folder `out`, or go on where it stopped.

    until: stop after this epoch, as if interrupted; the next call goes on. Under torchrun every
    process calls this with the same arguments; batches are shared among them.

    Raises StoreError for a store that cannot be trained on or a folder that holds another run,
    UsageError for settings that do not fit the store, PointcmtError where the loss is not finite
    or memory runs out. A KeyboardInterrupt passes through: the last checkpoint is on disk.
    """
    accelerator, on = join_processes(device)
    spent = Spent(on)
    main, pieces = accelerator.is_main_process, config.optimizer.accumulate
    require_trackers(config)
    config = settle(config, store)
    split = (split_train if config.labelled else split_shapes)(store, config.data)
    config, few = fit_batch(config, split)
    seen = checkpoint.read_scalars(out / LAST)
    run, resumed = plan_run(out, config, store, split), seen is not None  # refuses another run's

    # What is trained: every random number comes from the seed.
    torch.manual_seed(config.seed)  # the weights
    task = build_task(config, len(run.class_names), not resumed)
    notes = start_from(config, task.model, run.class_names) if config.init and not resumed else ()
    ranks = {"rank": accelerator.process_index, "ranks": accelerator.num_processes}
    _open_streams(task, config, store, split, **ranks)  # refuses what does not fit the store
    _require_batch(config, accelerator.num_processes, bool(few))

    with ExitStack() as stack:
        if main:
            stack.enter_context(begin_run(run, seen))
        stack.enter_context(memory_errors(config))
        shapes = np.concatenate([split.train, split.validation])
        task.prepare(Context(store, shapes, run.facts["split"], on, accelerator))
        stream, validation = _open_streams(task, config, store, split, **ranks)
        model = task.model.to(on)
        average = Average(model, config.optimizer.ema) if config.optimizer.ema else None
        optimizer = make_optimizer(model, config.optimizer)
        sums = Sums(on)
        state = State(model, average, optimizer, stream, sums, spent, accelerator)
        records: list[dict[str, Any]] = []
        if resumed:
            records = read_metrics(out, state.load(out / LAST)["epoch"])
        done, end = len(records), min(config.epochs, until or config.epochs)
        if main:
            if records and not stream.position:  # it may have been killed before these
                _keep(out, records, state.shown, config)
            write_metrics(out, records)  # without what a killed epoch left
        steps, drawn, saved = config.epochs * len(stream), time.monotonic(), time.monotonic()
        facts = {"train": len(split.train), "validation": len(split.validation)}
        opening = _opening(done, stream.position, config, facts, on, accelerator)
        for note in (*split.notes, *few, *notes, opening):
            logger.info(note)
        if done >= end:
            if main and done == config.epochs:  # it may have been killed before its last pictures
                _draw(out, records, config)
                draw_examples(task, state.shown, store, split.validation, out)
            return _result(config, records, _find_cost(task, state, store, split, out, records))

        if config.loop.compile:
            model.compile()
        forward = wrap(Step(task), accelerator)
        autocast = torch.autocast(on.type, torch.bfloat16, config.loop.precision == "bf16")
        generator = torch.Generator()  # the recipe's augmentation
        left = (end - done) * len(stream) - stream.position
        progress = Paced(stack.enter_context(meter(config.recipe, left, "steps")))
        tell = stack.enter_context(track(run, done, main))

        for epoch in range(done + 1, end + 1):
            model.train()
            clock, began = Stopwatch(), stream.position
            for batch in clock.watch(stream):
                step = (epoch - 1) * len(stream) + stream.position  # 1 … steps
                rate = learning_rate(config, step - 1, steps)
                for group in optimizer.param_groups:
                    group["lr"] = rate

                for number, part in enumerate(split_batch(batch, pieces)):
                    piece = {name: data.to(on, non_blocking=True) for name, data in part.items()}
                    reseed(generator, config.seed, step, ranks["rank"] * pieces + number)
                    count = len(piece["label"])
                    with nullcontext() if number + 1 == pieces else accelerator.no_sync(forward):
                        with autocast:
                            loss, metrics = forward(piece, generator)
                        # gradients are averaged over processes: the mean over the whole batch
                        share = count * ranks["ranks"] / config.step_size
                        accelerator.backward(loss * share)
                    sums.add(step, {"loss": loss.detach(), **metrics}, count)
                if config.optimizer.clip_norm:
                    nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip_norm)
                require_finite(sums.check(), f"(epoch {epoch})", out)
                optimizer.step()
                optimizer.zero_grad()
                if average:
                    average.update(model, step)

                long = time.monotonic() - saved > SAVE and stream.position < len(stream)
                if agreed(long, step, accelerator):
                    require_finite(sums.check(now=True), f"(epoch {epoch})", out)
                    state.save(out / LAST, epoch - 1, step)
                    saved = time.monotonic()
                speed = (stream.position - began) * config.step_size / clock.seconds
                note = f"epoch {epoch}/{config.epochs} · {speed:.0f} samples/s"
                progress.advance(1, note, epoch=epoch)

            require_finite(sums.check(now=True), f"(epoch {epoch})", out)
            trained = clock.seconds
            state.join_buffers()
            record = {
                "epoch": epoch,
                **sums.means(accelerator),
                **validate(task, state.shown, validation, accelerator),
                "lr": rate,
                "samples_per_second": (len(stream) - began) * config.step_size / trained,
                "data_wait": clock.waited / trained,
                "seconds": clock.seconds,
            }
            require_finite([(step, record["val_loss"])], f"(validation, epoch {epoch})", out)

            # Metrics, last, best, kept: killed in between, a resumed run repeats what is missing.
            records.append(record)
            sums.clear()
            if main:
                append_metrics(out, record)
                tell(record)
            state.save(out / LAST, epoch, step)
            saved = time.monotonic()
            if main:
                _keep(out, records, state.shown, config)
                if epoch == end or time.monotonic() - drawn > REDRAW:
                    _draw(out, records, config)
                    drawn = time.monotonic()
            progress.advance(0, _summary(record, config.epochs), now=True, **record)
        if main:
            draw_examples(task, state.shown, store, split.validation, out)
        cost = _find_cost(task, state, store, split, out, records)
        accelerator.wait_for_everyone()
    return _result(config, records, cost)


def _open_streams(
    task: Task, config: TrainConfig, store: ViewStore, split: Split, rank: int, ranks: int
) -> tuple[ViewStream, ViewStream]:
    """What is trained on, and what is validated on."""
    stream = ViewStream(store, split.train, replace(task.stream, rank=rank, ranks=ranks))
    size, held = config.data.batch_size, split.validation
    validation = evaluation_stream(task, store, held, size, rank, ranks, config.all_views)
    return stream, validation


def split_batch(batch: Batch, pieces: int) -> list[Batch]:
    """A batch in pieces of almost equal size."""
    parts = {name: torch.tensor_split(data, pieces) for name, data in batch.items()}
    return [{name: parts[name][i] for name in parts} for i in range(pieces)]


def reseed(generator: torch.Generator, seed: int, step: int, piece: int) -> None:
    """Seed the recipe's generator and torch's own (dropout) for one piece of one step.

    piece: counted over all processes, so that what is drawn for a part of a batch depends neither
    on the process that computes it nor on anything drawn before.
    """
    word = np.random.SeedSequence([seed, step, piece]).generate_state(1, np.uint64)[0]
    generator.manual_seed(int(word) >> 1)
    torch.manual_seed(int(word) >> 1)


@torch.no_grad()
def validate(
    task: Task, model: nn.Module, stream: ViewStream, accelerator: Accelerator
) -> dict[str, float]:
    """Means over all validation shapes, each name with `val_` before it."""
    model.eval()
    on = next(model.parameters()).device
    sums = Sums(on)
    for batch in stream:
        count = len(batch["label"])
        if count:  # a last batch may be smaller than the number of processes
            batch = {name: data.to(on, non_blocking=True) for name, data in batch.items()}
            sums.add(0, task.measure(model, batch), count)
    sums.check(now=True)
    return {f"val_{name}": value for name, value in sums.means(accelerator).items()}


@torch.no_grad()
def draw_examples(
    task: Task, model: nn.Module, store: ViewStore, shapes: NDArray[np.int64], out: Path
) -> None:
    """Write the pictures that a recipe has of its model, made of some of these shapes."""
    on = next(model.parameters()).device
    some = shapes[np.unique(np.linspace(0, len(shapes) - 1, EXAMPLES).astype(int))]
    for batch in evaluation_stream(task, store, some, EXAMPLES, also=("rgb",)):
        batch = {name: data.to(on) for name, data in batch.items()}
        for name, picture in task.pictures(model.eval(), batch).items():
            checkpoint.write_file(out / name, picture)


def best_of(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The epoch of the highest score; of equal ones the latest, trained longest.

    Without a score: that of the lowest validation loss.
    """
    key = score_of(records[0])
    sign = -1 if key == LOSS else 1
    return max(records, key=lambda record: (sign * record[key], record["epoch"]))


def score_of(record: dict[str, Any]) -> str:
    """The entry of metrics.jsonl that selects the best epoch."""
    return next((key for key in SCORES if key in record), LOSS)


def _keep(out: Path, records: list[dict[str, Any]], model: nn.Module, config: TrainConfig) -> None:
    """Write `best` where the last epoch is it, and the epoch's own checkpoint where it is due."""
    epoch = records[-1]["epoch"]
    if best_of(records) is records[-1]:
        checkpoint.save(out / BEST, epoch, {"epoch": epoch}, model)
    if config.loop.keep_every and epoch % config.loop.keep_every == 0:
        checkpoint.save(out / kept(epoch), epoch, {"epoch": epoch}, model)


def _require_batch(config: TrainConfig, processes: int, few: bool) -> None:
    """Batch norm needs two shapes in each process. few: no more labels are known."""
    larger = f"set it to {2 * processes} or more: it counts the shapes of all processes"
    if config.data.batch_size < 2 * processes:
        raise UsageError(
            f"a batch of {config.data.batch_size} leaves less than two shapes to some of "
            f"{processes} processes",
            where="data.batch_size",
            fix="use fewer processes, or a larger data.fraction" if few else larger,
        )


def _find_cost(
    task: Task,
    state: State,
    store: ViewStore,
    split: Split,
    out: Path,
    records: list[dict[str, Any]],
) -> Cost | None:
    """What the run cost up to its last epoch; measured once, by the main process."""
    if not state.accelerator.is_main_process:
        return None
    known = read_cost(out, len(records))
    if known:
        return known
    (batch,) = evaluation_stream(task, store, split.validation[:1], 1)
    batch = {name: data.to(state.spent.device) for name, data in batch.items()}
    network, inputs = task.inference(state.shown, batch)
    processes = state.accelerator.num_processes
    kept = features_size(store, task.stream.arrays)
    return measure_cost(out, task.model, network, inputs, records, state.spent, processes, kept)


def _result(config: TrainConfig, records: list[dict[str, Any]], cost: Cost | None) -> Result:
    return Result(config.recipe, len(records), records[-1], best_of(records), cost)


def _opening(
    done: int,
    position: int,
    config: TrainConfig,
    facts: dict[str, int],
    on: torch.device,
    accelerator: Accelerator,
) -> str:
    if done >= config.epochs:
        return f"this run is finished: all {config.epochs} epochs are trained"
    counts = ", ".join(f"{count:,} {name}" for name, count in facts.items())
    within = f" and {position} steps" if position else ""
    resuming = f"resuming after epoch {done}{within} of {config.epochs}"
    where = describe_device(on)
    if accelerator.num_processes > 1:
        where += f" and {accelerator.num_processes - 1} more"
    begin = resuming if done or position else "training"
    return f"{begin}: {config.recipe} on {where}, {counts} shapes"


def _summary(record: dict[str, Any], epochs: int) -> str:
    text = f"epoch {record['epoch']}/{epochs} · loss {record['loss']:.4f}"
    key = score_of(record)
    if key == LOSS:
        return text + f" · validation {record[LOSS]:.4f}"
    name = key.removeprefix("val_")
    return text + f" · {in_words(name)} {record[name]:.1%} · validation {record[key]:.1%}"


def _draw(out: Path, records: list[dict[str, Any]], config: TrainConfig) -> None:
    backbone = getattr(getattr(config, "model", None), "backbone", "")
    title = f"{config.recipe}{backbone and f': {backbone}'}, seed {config.seed}"
    checkpoint.write_file(out / "curve.png", draw_curve(records, best_of(records)["epoch"], title))
