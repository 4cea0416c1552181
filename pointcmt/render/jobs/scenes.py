"""Scenes: the third kind that a job renders. Their rows are made from frames, not drawn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.sources import find_source
from pointcmt.datasets.store.documents import Outcome
from pointcmt.datasets.store.schema import Schema, ShapeRecord
from pointcmt.errors import Reason, ShapeRefused, UsageError
from pointcmt.render.jobs.job import Job
from pointcmt.render.load.made_shapes import make_scene
from pointcmt.render.scenes.config import SceneConfig
from pointcmt.scenes import SceneData


class Scenes:
    """Make the rows of a job's scenes."""

    drawer = "frames", "scenes come with their own images"

    def __init__(self, job: Job, config: SceneConfig) -> None:
        self.job, self.config = job, config
        self._load = scene_loader(job)

    def render(
        self, record: ShapeRecord, sha256: str, schema: Schema
    ) -> tuple[dict[str, NDArray[Any]], Outcome]:
        """Return all arrays of a scene, without axis 0. Raises ShapeRefused.

        sha256: required hash of the source, "" = any.
        """
        from pointcmt.render.scenes.rows import make_row  # jobs of shapes need none of it

        scene = self._load(record)
        if sha256 not in ("", scene.sha256):
            what = f"{record.source} is not the scene that was rendered"
            raise ShapeRefused(Reason.SOURCE_CHANGED, what)
        row = make_row(scene, schema, self.config, self.job.threads)
        backend, reason = self.drawer
        outcome = Outcome(
            record.id,
            "done",
            sha256=scene.sha256,
            faces=row.points,
            backend=backend,
            backend_reason=reason,
            notes=row.notes,
        )
        return row.arrays, outcome

    @staticmethod
    def fill(arrays: dict[str, NDArray[Any]]) -> None:
        """Fill in what failed scenes have, too: cameras that are the identity."""
        for name, size in (("K", 3), ("world_to_camera", 4)):
            arrays[name][:] = np.eye(size)


def scene_loader(job: Job) -> Callable[[ShapeRecord], SceneData]:
    """Return the function that loads a job's scenes; it raises ShapeRefused."""
    make = find_source(job.dataset).load_shape
    if make is not None:
        return lambda record: make_scene(make, record, job.root)
    root, follow = job.root or Path(), job.follow_links
    match job.dataset:
        case "toyrooms":
            from pointcmt.render.load.scenes.toyrooms import load_toyroom

            seed = job.config.seed
            return lambda record: load_toyroom(record, seed)
        case "frames":
            from pointcmt.render.load.scenes.frames import load_frames as load
        case "scannet":
            from pointcmt.render.load.scenes.scannet import load_scannet as load
        case name if name.startswith("s3dis"):
            from pointcmt.render.load.scenes.s3dis.rooms import load_s3dis as load
        case "sunrgbd" | "sunrgbd-v2":
            from pointcmt.render.load.scenes.sunrgbd.loader import load_sunrgbd

            version = 2 if job.dataset.endswith("v2") else 1
            return lambda record: load_sunrgbd(record, root, version, follow)
        case name:
            raise UsageError(f"no scenes can be loaded from '{name}'", where="--dataset")
    return lambda record: load(record, root, follow)
