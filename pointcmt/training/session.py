"""What a run needs before its first step: checked settings first, then data, model and state."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from pointcmt.datasets.store.epochs import EpochStream
from pointcmt.datasets.store.scene_streams.crops import CropConfig
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.datasets.streams import (
    AnyConfig,
    evaluation_config,
    open_stream,
    read_batch,
    require_streamable,
)
from pointcmt.errors import UsageError
from pointcmt.training.config.sections import Loss, TrainConfig
from pointcmt.training.recipes import build_recipe
from pointcmt.training.recipes.class_weights import require_classes
from pointcmt.training.recipes.recipe import Recipe, RecipeContext
from pointcmt.training.runs import checkpoint
from pointcmt.training.runs.cost import Usage
from pointcmt.training.runs.folder import LAST, Run, open_run, plan_run
from pointcmt.training.runs.locate import suggest_start
from pointcmt.training.runs.metrics import MetricAccumulator
from pointcmt.training.runs.optimization import ModelEMA, describe_extension, make_optimizer
from pointcmt.training.runs.pretrained import resolve_config, start_from
from pointcmt.training.runs.splits import (
    Split,
    fit_batch,
    note_on_test,
    split_shapes,
    split_train,
)
from pointcmt.training.runs.state import State
from pointcmt.training.runs.store_kinds import fit_kind, learned_classes, require_kind
from pointcmt.training.runs.trackers import require_trackers


@dataclass(frozen=True)
class Plan:
    """A run whose settings fit the store. Nothing has been written yet.

    run: the existing one, if it is to be resumed. saved: the scalars of its last checkpoint; None
    for a new run. notes: for the user.
    """

    store: StoreReader
    config: TrainConfig
    split: Split
    run: Run
    recipe: Recipe
    saved: dict[str, Any] | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Session:
    """Everything that one call of `train` works with. Only `state` changes from step to step."""

    plan: Plan
    recipe: Recipe  # the plan's, prepared
    state: State
    validation: EpochStream | None  # None without validation shapes
    accelerator: Accelerator
    device: torch.device

    @property
    def config(self) -> TrainConfig:
        """The settings of the run."""
        return self.plan.config

    @property
    def out(self) -> Path:
        """The folder of the run."""
        return self.plan.run.folder

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and messages."""
        return self.accelerator.is_main_process


def plan_session(
    store: StoreReader, config: TrainConfig, out: Path, accelerator: Accelerator
) -> Plan:
    """Check that a run can be trained, as far as that takes seconds; build its model.

    Raises StoreError for a store that cannot be trained on or a folder that holds another run,
    UsageError for settings that do not fit the store, DependencyError for a missing tracker.
    """
    config, split = _fit(config, store)
    with suggest_start(out):
        saved = checkpoint.read_scalars(out / LAST)
    run = plan_run(out, config, store, split)
    more = describe_extension(config, open_run(out).config.epochs) if saved else ()

    torch.manual_seed(config.seed)  # for the initial weights
    recipe = build_recipe(config, len(run.class_names), saved is None)
    init_notes: tuple[str, ...] = ()
    if config.init and saved is None:
        init_notes = start_from(config, recipe.model, run.class_names)
    _require_streams(store, split, recipe, config, accelerator)
    return Plan(store, config, split, run, recipe, saved, (*split.notes, *init_notes, *more))


@torch.no_grad()
def check_session(
    store: StoreReader,
    config: TrainConfig,
    out: Path,
    accelerator: Accelerator,
    pending: Collection[str] = (),
) -> None:
    """Check that a run can be trained once the runs that it starts from are there.

    Like `plan_session`, and its point network also has to take the clouds. pending: options that
    name runs which are still to be trained.
    """
    config, split = _fit(config, store)
    run = plan_run(out, config, store, split, pending)
    recipe = build_recipe(config, len(run.class_names), False)
    if config.init and checkpoint.read_scalars(out / LAST) is None:
        start_from(config, recipe.model, run.class_names)
    _require_streams(store, split, recipe, config, accelerator)
    if config.point_network is not None:
        batch = read_batch(store, split.examples[:1], recipe.stream, config.all_views)
        network, inputs = recipe.deployable(recipe.model.eval(), batch)
        network(*inputs)


def open_session(
    plan: Plan, accelerator: Accelerator, device: torch.device, usage: Usage
) -> Session:
    """Prepare the recipe, open its streams and create the initial state.

    Raises what `Recipe.prepare` raises, and StoreError for a damaged checkpoint.
    """
    store, config, split = plan.store, plan.config, plan.split
    if plan.saved is not None:  # before `prepare`, which may read what the model computes
        with suggest_start(plan.run.folder):
            checkpoint.load_weights(plan.run.folder / LAST, plan.recipe.model)
    shapes = np.concatenate([split.train, split.validation])
    digests = plan.run.facts["split"]
    recipe = plan.recipe.prepare(
        RecipeContext(store, shapes, digests, device, accelerator, split.train)
    )
    training, validation = _stream_configs(recipe, config, accelerator)
    model = recipe.model.to(device)
    state = State(
        model,
        ModelEMA(model, config.optimizer.ema) if config.optimizer.ema else None,
        make_optimizer(model, config.optimizer),
        open_stream(store, split.train, training),
        MetricAccumulator(device),
        usage,
        accelerator,
    )
    stream = open_stream(store, split.validation, validation) if len(split.validation) else None
    return Session(plan, recipe, state, stream, accelerator, device)


def _fit(config: TrainConfig, store: StoreReader) -> tuple[TrainConfig, Split]:
    """Return the configuration as it fits the store, and the split of its shapes, with notes."""
    config = fit_kind(config, store)
    require_kind(store, config)
    require_trackers(config)
    config = resolve_config(config, store)
    split = (split_train if config.labeled else split_shapes)(store, config.data)
    config, notes = fit_batch(config, split)
    notes += note_on_test(store) if config.classifies else ()
    if isinstance(loss := getattr(config, "loss", None), Loss):
        require_classes(loss, learned_classes(store, config))
    return config, replace(split, notes=(*split.notes, *notes))


def _require_streams(
    store: StoreReader, split: Split, recipe: Recipe, config: TrainConfig, accelerator: Accelerator
) -> None:
    """Raise UsageError or DamageError unless training and validation can be read."""
    training, validation = _stream_configs(recipe, config, accelerator)
    require_streamable(store, split.train, training)
    if len(split.validation):
        require_streamable(store, split.validation, validation)
    _require_batch(config, accelerator.num_processes, len(split.train) * config.samples)


def _stream_configs(
    recipe: Recipe, config: TrainConfig, accelerator: Accelerator
) -> tuple[AnyConfig, AnyConfig]:
    """Return what this process reads for training, and for validation."""
    rank, world_size = accelerator.process_index, accelerator.num_processes
    training = replace(recipe.stream, rank=rank, world_size=world_size)
    # A whole scene is as large as a batch of crops: each process takes one at a time.
    size = world_size if isinstance(training, CropConfig) else config.data.batch_size
    return training, evaluation_config(training, size, config.all_views)


def _require_batch(config: TrainConfig, processes: int, known: int) -> None:
    """Raise UsageError unless each process gets two shapes, which batch norm needs.

    known: the number of samples of an epoch.
    """
    if config.data.batch_size < 2 * processes:
        raise UsageError(
            f"a batch of {config.data.batch_size} gives some of the {processes} processes fewer "
            "than two shapes",
            where="data.batch_size",
            fix="use fewer processes, or a larger data.fraction"
            if known < 2 * processes
            else f"set it to {2 * processes} or more: it is the total over all processes",
        )
