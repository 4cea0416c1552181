"""The frame in which a run's network takes points: from its configuration, or its store."""

from pathlib import Path

from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.input_frame import AS_STORED, InputFrame, frame_of
from pointcmt.training.config.downstream import DownstreamConfig
from pointcmt.training.config.sections import StudentData, TrainConfig
from pointcmt.training.runs.folder import open_run


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
    init = config.init
    if isinstance(config, DownstreamConfig) and config.load == "none":
        init = ""
    if init and not Path(init).is_file():
        earlier = getattr(open_run(Path(init)).config.data, "frame", AS_STORED)
        if (earlier, stated) != (AS_STORED, None):
            stated = earlier
    if stated is None:
        return config
    given = data.model_dump(include={*stated.as_json()})
    chosen = {name: given[name] or value for name, value in stated.as_json().items()}
    return config.model_copy(update={"data": data.model_copy(update=chosen)})
