"""Load the scenes of the data sets that pointcmt knows."""

from pathlib import Path

from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.scenes import SceneData


def load_scene(dataset: str, record: ShapeRecord, root: Path) -> SceneData:
    """Load a scene of a dataset. Raises ShapeRefused."""
    match dataset:
        case "toyrooms":
            from pointcmt.render.load.scenes.toyrooms import load_toyroom

            return load_toyroom(record)
    raise ShapeRefused(Reason.UNKNOWN_FORMAT, f"no reader for the scenes of {dataset}")
