"""Loaders of scenes, one module per source: `load_<source>(record, root) -> SceneData`."""

from pathlib import Path

from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.scenes import SceneData


def load_scene(
    dataset: str, record: ShapeRecord, root: Path, follow_links: bool = False
) -> SceneData:
    """Load a scene of a dataset by its name. Raises ShapeRefused."""
    match dataset:
        case "toyrooms":
            from pointcmt.render.load.scenes.toyrooms import load_toyroom

            return load_toyroom(record)
        case "frames":
            from pointcmt.render.load.scenes.frames import load_frames as load
        case "scannet":
            from pointcmt.render.load.scenes.scannet import load_scannet as load
        case "s3dis":
            from pointcmt.render.load.scenes.s3dis.rooms import load_s3dis as load
        case "sunrgbd" | "sunrgbd-v2":
            from pointcmt.render.load.scenes.sunrgbd.loader import load_sunrgbd

            version = 2 if dataset.endswith("v2") else 1
            return load_sunrgbd(record, root, version, follow_links)
        case _:
            raise ShapeRefused(Reason.UNKNOWN_FORMAT, f"no reader for scenes of {dataset}")
    return load(record, root, follow_links)
