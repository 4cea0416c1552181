"""What a run's network takes of the points: the frame and whether normals.

From its configuration, the run that it starts from, or its store.
"""

from pathlib import Path
from typing import Any

from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import UsageError
from pointcmt.input_frame import AS_STORED, InputFrame, frame_of
from pointcmt.training.config.downstream import DownstreamConfig
from pointcmt.training.config.sections import NORMAL_BACKBONES, StudentData, TrainConfig
from pointcmt.training.runs.folder import Run, open_run


def stated_frame(store: StoreReader) -> InputFrame | None:
    """Return the frame of the benchmark's networks, if all stores state the same one."""
    found = {frame_of(member.attributes) for member in store.members}
    return found.pop() if len(found) == 1 else None


def resolve_frame(config: TrainConfig, store: StoreReader) -> TrainConfig:
    """Fill in data.up, data.center and data.scale where they are not given.

    They are those of the run that this one starts from; otherwise those that the store states for
    its benchmark. Without either they stay empty: the points are taken as stored.
    """
    data = config.data
    if not isinstance(data, StudentData):
        return config
    stated = stated_frame(store)
    source = _starts_from(config)
    if source:
        earlier = getattr(source.config.data, "frame", AS_STORED)
        if (earlier, stated) != (AS_STORED, None):
            stated = earlier
    if stated is None:
        return config
    given = data.model_dump(include={*stated.as_json()})
    chosen = {name: given[name] or value for name, value in stated.as_json().items()}
    return config.model_copy(update={"data": data.model_copy(update=chosen)})


def resolve_normals(config: TrainConfig) -> TrainConfig:
    """Set data.normals if the run that this one starts from takes normals, and the network can.

    Its first layer takes them, so that no other setting fits. Raises UsageError if only this one
    is to take them.
    """
    data, source = config.data, _starts_from(config)
    if not isinstance(data, StudentData) or source is None:
        return config
    theirs = bool(getattr(source.config.data, "normals", False))
    if data.normals and not theirs:
        raise UsageError(
            "the network of the run to start from takes no normals",
            where=config.init,
            fix="set data.normals=false, or start from a run with data.normals=true",
        )
    model: Any = getattr(config, "model", None)  # recipes from outside may lack it
    backbone = getattr(model, "backbone", "")  # empty = the run's own
    if not theirs or (backbone and backbone not in NORMAL_BACKBONES):
        return config
    return config.model_copy(update={"data": data.model_copy(update={"normals": True})})


def _starts_from(config: TrainConfig) -> Run | None:
    """Return the run whose weights a run starts from; None for a file, or without one."""
    if isinstance(config, DownstreamConfig) and config.load == "none":
        return None
    init = config.init
    return open_run(Path(init)) if init and not Path(init).is_file() else None
