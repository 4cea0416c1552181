"""What a run shows besides its weights: its curve, pictures, cost and progress messages."""

from typing import Any

import numpy as np
import torch

from pointcmt.console import in_words
from pointcmt.datasets.store.epochs import Batch
from pointcmt.datasets.store.features import features_size
from pointcmt.datasets.store.schema import OBJECTS
from pointcmt.datasets.streams import read_batch
from pointcmt.training.figures.plots import draw_curve
from pointcmt.training.ops.device import describe_device
from pointcmt.training.runs import checkpoint
from pointcmt.training.runs.cost import Cost, measure_cost, read_cost
from pointcmt.training.runs.metrics import LOSS, best_of, score_name
from pointcmt.training.session import Session

EXAMPLES = 8  # validation shapes in a recipe's pictures
SCENE_EXAMPLES = 2  # validation scenes


def draw_progress(session: Session, records: list[dict[str, Any]]) -> None:
    """Draw the metrics of all epochs as curve.png."""
    config = session.config
    title = f"{config.recipe}: {config.model_dump()['model']['backbone']}, seed {config.seed}"
    picture = draw_curve(records, best_of(records)["epoch"], title)
    checkpoint.write_file(session.out / "curve.png", picture)


@torch.no_grad()
def draw_examples(session: Session) -> None:
    """Write the recipe's pictures of its model's results for some validation shapes."""
    shapes = session.validation.shapes if session.validation else session.plan.split.examples
    count = EXAMPLES if session.config.reads == OBJECTS else SCENE_EXAMPLES
    chosen = shapes[np.unique(np.linspace(0, len(shapes) - 1, count).astype(int))]
    batch = _read(session, chosen, ("rgb",))
    pictures = session.recipe.pictures(session.state.eval_model.eval(), batch)
    for name, picture in pictures.items():
        checkpoint.write_file(session.out / name, picture)


def find_cost(session: Session, records: list[dict[str, Any]]) -> Cost | None:
    """Return the cost up to the last epoch, measured once; None outside of the main process."""
    if not session.is_main:
        return None
    known = read_cost(session.out, len(records))
    if known:
        return known
    recipe, state = session.recipe, session.state
    shapes = session.validation.shapes if session.validation else session.plan.split.examples
    images = getattr(session.plan.recipe.stream, "arrays", ())  # not features of them
    batch = _read(session, shapes[:1], images)
    network, inputs = recipe.deployable(state.eval_model, batch)
    processes = session.accelerator.num_processes
    arrays = getattr(recipe.stream, "arrays", ())
    sizes = [features_size(one, arrays) for one in session.plan.store.members]
    feature_bytes = None if None in sizes else sum(size or 0 for size in sizes)
    return measure_cost(
        session.out, recipe.model, network, inputs, records, state.usage, processes, feature_bytes
    )


def describe_start(session: Session, done: int) -> str:
    """Return the message that a session begins with. done: finished epochs."""
    config, split, position = session.config, session.plan.split, session.state.stream.position
    if done >= config.epochs:
        return f"this run is finished: all {config.epochs} epochs have been trained"
    what = "shapes" if config.reads == OBJECTS else "scenes"
    counts = f"{len(split.train):,} train, {len(split.validation):,} validation {what}"
    device = describe_device(session.device)
    if session.accelerator.num_processes > 1:
        device += f" and {session.accelerator.num_processes - 1} more"
    begin = "training"
    if done or position:
        steps = f" and {position} steps" if position else ""
        begin = f"resuming after epoch {done}{steps} of {config.epochs}"
    return f"{begin}: {config.recipe} on {device}, {counts}"


def describe_epoch(record: dict[str, Any], epochs: int) -> str:
    """Return one line about a finished epoch."""
    text = f"epoch {record['epoch']}/{epochs} · loss {record['loss']:.4f}"
    key = score_name(record)
    if key not in record:  # without validation
        shown = (name for name in ("accuracy", "instance_miou") if name in record)
        return text + "".join(f" · {in_words(name)} {record[name]:.1%}" for name in shown)
    if key == LOSS:
        return text + f" · validation {record[LOSS]:.4f}"
    name = key.removeprefix("val_")
    trained = f" · {in_words(name)} {record[name]:.1%}" if name in record else ""
    return (
        text + f"{trained} · validation {'' if trained else in_words(name) + ' '}{record[key]:.1%}"
    )


def _read(session: Session, shapes: Any, also: tuple[str, ...] = ()) -> Batch:
    """Read these shapes as one batch on the device, with all views."""
    batch = read_batch(session.plan.store, shapes, session.recipe.stream, also=also)
    return {name: data.to(session.device) for name, data in batch.items()}
