"""The training loop: every recipe, from the first step to the last.

A run resumes where it stopped, for whatever reason: the same command continues after the last
checkpoint (one per epoch, and one every ten minutes of a long epoch). A single process on a CPU
with the same number of threads ends with the same bits as an uninterrupted run. No random number
depends on those drawn before it: each micro-batch has its own seed.
"""

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from pointcmt.console import Paced, logger, meter
from pointcmt.datasets.store.epochs import Batch
from pointcmt.datasets.store.scene_streams.packing import split_batch
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import PointcmtError
from pointcmt.training.config.pointcmt import ViewData
from pointcmt.training.config.scenes import SceneData
from pointcmt.training.config.sections import TrainConfig
from pointcmt.training.outputs import (
    describe_epoch,
    describe_start,
    draw_examples,
    draw_progress,
    find_cost,
)
from pointcmt.training.recipes.recipe import Recipe, ScoringRecipe
from pointcmt.training.runs import checkpoint
from pointcmt.training.runs.cost import Cost, Usage
from pointcmt.training.runs.distributed import agreed, join_processes, wrap
from pointcmt.training.runs.folder import BEST, LAST, begin_run, epoch_folder
from pointcmt.training.runs.locate import suggest_start
from pointcmt.training.runs.metrics import (
    LOSS,
    CountAccumulator,
    MetricAccumulator,
    Stopwatch,
    append_metrics,
    best_of,
    read_metrics,
    require_finite,
    write_metrics,
)
from pointcmt.training.runs.optimization import learning_rate, set_momentum, set_norm_momentum
from pointcmt.training.runs.trackers import track
from pointcmt.training.session import Session, open_session, plan_session

REDRAW = 30.0  # seconds between two drawings of the curve, each of which takes half a second
SAVE = 600.0  # seconds between two checkpoints within a long epoch
# Messages of the CPU's allocator, CUDA and its libraries, which raise plain RuntimeErrors.
OUT_OF_MEMORY = r"can't allocate memory|bad_alloc|out of memory|ALLOC_FAILED"


@dataclass(frozen=True)
class Result:
    """The state of a run. last, best: lines of metrics.jsonl. cost: only in the main process."""

    recipe: str
    epochs: int
    last: dict[str, Any]
    best: dict[str, Any]
    cost: Cost | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the fields that `train --json` prints."""
        metrics = {"last": self.last, "best": self.best}
        cost = asdict(self.cost) if self.cost else None
        return {"recipe": self.recipe, "epochs": self.epochs, "metrics": metrics, "cost": cost}


def train(
    store: StoreReader,
    config: TrainConfig,
    out: Path,
    device: str = "auto",
    until: int | None = None,
) -> Result:
    """Train a recipe into the run folder `out`, or resume the run that is there.

    until: stop after this epoch, as if interrupted; the next call continues. Under torchrun every
    process calls this with the same arguments; the processes share each batch.

    Raises StoreError for a store that cannot be trained on or a folder that holds another run,
    UsageError for settings that do not fit the store, PointcmtError if the loss is not finite or
    memory runs out. A KeyboardInterrupt passes through: the last checkpoint is on disk.
    """
    accelerator, compute_device = join_processes(device)
    usage = Usage(compute_device)
    is_main = accelerator.is_main_process
    plan = plan_session(store, config, out, accelerator)  # refuses whatever does not fit
    config = plan.config

    with ExitStack() as stack:
        if is_main:
            stack.enter_context(begin_run(plan.run, plan.saved))  # locks the folder
        stack.enter_context(memory_errors(config))
        session = open_session(plan, accelerator, compute_device, usage)
        state, steps_per_epoch = session.state, len(session.state.stream)

        records = resume(session)
        done, end = len(records), min(config.epochs, until or config.epochs)
        notes = (*plan.notes, *state.stream.notes)
        notes += session.validation.notes if session.validation else ()
        for note in (*notes, describe_start(session, done)):
            logger.info(note)
        if done >= end:
            if is_main and done == config.epochs:  # maybe killed before the last pictures
                draw_progress(session, records)
                draw_examples(session)
            return _result(config, records, find_cost(session, records))

        if config.loop.compile:
            state.model.compile()
        step_module = wrap(LossModule(session.recipe), accelerator)
        left = (end - done) * steps_per_epoch - state.stream.position
        progress = Paced(stack.enter_context(meter(config.recipe, left, "steps")))
        log = stack.enter_context(track(plan.run, done, is_main))
        save_timer, draw_timer = Timer(SAVE), Timer(REDRAW)

        for epoch in range(done + 1, end + 1):
            record = run_epoch(session, step_module, epoch, save_timer, progress)
            # Metrics, last, best, kept: if killed in between, a resumed run adds what is missing.
            records.append(record)
            state.metrics.clear()
            if is_main:
                append_metrics(out, record)
                log(record)
            state.save(out / LAST, epoch, epoch * steps_per_epoch)
            save_timer.reset()
            if is_main:
                keep_checkpoints(session, records)
                if epoch == end or draw_timer.is_due():
                    draw_progress(session, records)
                    draw_timer.reset()
            progress.advance(0, describe_epoch(record, config.epochs), now=True, **record)

        if is_main:
            draw_examples(session)
        cost = find_cost(session, records)
        accelerator.wait_for_everyone()
    return _result(config, records, cost)


def resume(session: Session) -> list[dict[str, Any]]:
    """Load the last checkpoint if there is one; return the records of all finished epochs."""
    out, state = session.out, session.state
    records: list[dict[str, Any]] = []
    if session.plan.saved is not None:
        with suggest_start(out):
            records = read_metrics(out, state.load(out / LAST)["epoch"])
        state.usage.continue_after(out)
    if session.is_main:
        if records and not state.stream.position:  # it may have been killed before these
            keep_checkpoints(session, records)
        write_metrics(out, records)  # without the lines of an epoch that has no checkpoint
    return records


def run_epoch(
    session: Session, step_module: nn.Module, epoch: int, save_timer: "Timer", progress: Paced
) -> dict[str, Any]:
    """Train one epoch, or the rest of it, and validate; return its line of metrics.jsonl."""
    config, state, stream = session.config, session.state, session.state.stream
    steps = config.epochs * len(stream)
    state.model.train()
    clock, first = Stopwatch(), stream.position
    for batch in clock.watch(stream):
        step = (epoch - 1) * len(stream) + stream.position  # 1 … steps
        rate = learning_rate(config, step - 1, steps)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
            set_momentum(group, config, step - 1, steps)
        set_norm_momentum(state.model, config, step - 1, steps)
        train_step(session, step_module, batch, step, epoch)

        due = save_timer.is_due() and stream.position < len(stream)
        if agreed(due, step, session.accelerator):
            require_finite(state.metrics.check(now=True), f"(epoch {epoch})", session.out)
            state.save(session.out / LAST, epoch - 1, step)
            save_timer.reset()
        speed = (stream.position - first) * config.effective_batch_size / clock.seconds
        note = f"epoch {epoch}/{config.epochs} · {speed:.0f} samples/s"
        progress.advance(1, note, epoch=epoch)

    require_finite(state.metrics.check(now=True), f"(epoch {epoch})", session.out)
    trained = clock.seconds
    state.join_buffers()
    record = {
        "epoch": epoch,
        **state.metrics.means(session.accelerator),
        **validate(session),
        "lr": rate,
        "samples_per_second": (len(stream) - first) * config.effective_batch_size / trained,
        "data_wait": clock.waited / trained,
        "seconds": clock.seconds,
    }
    losses = [(step, record[LOSS])] if LOSS in record else []
    require_finite(losses, f"(validation, epoch {epoch})", session.out)
    return record


def train_step(
    session: Session, step_module: nn.Module, batch: Batch, step: int, epoch: int
) -> None:
    """Make one optimizer step from this process's share of a batch, one micro-batch at a time."""
    config, state, accelerator = session.config, session.state, session.accelerator
    device, settings = session.device, config.optimizer
    generator = torch.Generator()  # for the recipe's augmentation
    micro_batches = split_batch(batch, settings.accumulate)
    for number, part in enumerate(micro_batches):
        micro_batch = {name: data.to(device, non_blocking=True) for name, data in part.items()}
        index = accelerator.process_index * len(micro_batches) + number  # over all processes
        reseed(generator, config.seed, step, index)
        count = len(micro_batch["shape"])
        is_last = number + 1 == len(micro_batches)
        # Processes exchange gradients once, with the last micro-batch.
        with nullcontext() if is_last else accelerator.no_sync(step_module):
            with torch.autocast(device.type, torch.bfloat16, config.loop.precision == "bf16"):
                loss, metrics = step_module(micro_batch, generator)
            # Gradients are averaged over processes; this makes it the mean over the whole batch.
            share = count * accelerator.num_processes / config.effective_batch_size
            accelerator.backward(loss * share)
        state.metrics.add(step, {"loss": loss.detach(), **metrics}, count)
    if settings.clip_norm:
        nn.utils.clip_grad_norm_(state.model.parameters(), settings.clip_norm)
    require_finite(state.metrics.check(), f"(epoch {epoch})", session.out)
    state.optimizer.step()
    state.optimizer.zero_grad()
    if state.ema:
        state.ema.update(state.model, step)


@torch.no_grad()
def validate(session: Session) -> dict[str, float]:
    """Return means and scores over all validation shapes, with `val_` before each name.

    {} without validation shapes.
    """
    if session.validation is None:
        return {}
    model, recipe = session.state.eval_model.eval(), session.recipe
    metrics, counts = MetricAccumulator(session.device), CountAccumulator()
    for batch in session.validation:
        count = len(batch["shape"])
        if count:  # the last batch may be smaller than the number of processes
            batch = {name: x.to(session.device, non_blocking=True) for name, x in batch.items()}
            measured = recipe.measure(model, batch)
            if "counts" in measured:
                counts.add(measured["counts"])
            means = {name: value for name, value in measured.items() if name != "counts"}
            if means:
                metrics.add(0, means, count)
    metrics.check(now=True)
    found = metrics.means(session.accelerator)
    total = counts.sum(session.accelerator)
    if total is not None:
        found |= cast(ScoringRecipe, recipe).score(total)
    return {f"val_{name}": value for name, value in found.items()}


class LossModule(nn.Module):
    """A recipe's loss as a module, so that wrapping it for several processes covers all of it."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe, self.model = recipe, recipe.model

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        return self.recipe.loss(self.model, batch, generator)


class Timer:
    """Tells whether some seconds have passed since its last reset."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.reset()

    def reset(self) -> None:
        """Start counting from now."""
        self.started = time.monotonic()

    def is_due(self) -> bool:
        """Return whether the time has passed."""
        return time.monotonic() - self.started > self.seconds


def reseed(generator: torch.Generator, seed: int, step: int, micro_batch: int) -> None:
    """Seed the recipe's generator and torch's own (dropout) for one micro-batch of one step.

    micro_batch: numbered over all processes, so that random numbers depend neither on which process
    computes it nor on anything drawn before.
    """
    word = np.random.SeedSequence([seed, step, micro_batch]).generate_state(1, np.uint64)[0]
    generator.manual_seed(int(word) >> 1)
    torch.manual_seed(int(word) >> 1)


def keep_checkpoints(session: Session, records: list[dict[str, Any]]) -> None:
    """Write `best` if the last epoch is the best, and the epoch's own checkpoint if it is due."""
    epoch, model = records[-1]["epoch"], session.state.eval_model
    keep_every = session.config.loop.keep_every
    if best_of(records) is records[-1]:
        checkpoint.save(session.out / BEST, epoch, {"epoch": epoch}, model)
    if keep_every and epoch % keep_every == 0:
        checkpoint.save(session.out / epoch_folder(epoch), epoch, {"epoch": epoch}, model)


@contextmanager
def memory_errors(config: TrainConfig) -> Iterator[None]:
    """Turn a lack of memory into a PointcmtError that names the settings that help."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not known and not re.search(OUT_OF_MEMORY, str(error)):
            raise
        data = config.data
        remedies = [
            f"data.batch_size below {data.batch_size}, with optimizer.accumulate above "
            f"{config.optimizer.accumulate} to keep the product",
        ]
        if config.loop.precision == "fp32":
            remedies.append("loop.precision=bf16")
        if isinstance(data, SceneData):
            remedies.append("fewer voxels per crop (data.crop), larger ones (data.voxel)")
        elif isinstance(data, ViewData):
            remedies.append("fewer data.views, a smaller data.image_size")
        else:
            remedies.append("fewer data.points")
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise PointcmtError(
            f"out of memory while training {config.recipe}: {reason}",
            where="--device",
            fix="set one of: " + "; ".join(remedies),
        ) from error


def _result(config: TrainConfig, records: list[dict[str, Any]], cost: Cost | None) -> Result:
    return Result(config.recipe, len(records), records[-1], best_of(records), cost)
