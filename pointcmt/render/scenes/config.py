"""`SceneConfig`: all settings that determine the contents of a store of scenes."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from pointcmt.datasets.store.schema import SCENES, Schema, array_specs, padded_points
from pointcmt.errors import UsageError

SHARD_BYTES = 256e6  # decoded bytes per shard, which a worker holds in memory
MAX_SHARD = 8
DEPTH_STEP = 0.001  # meters per step of the stored depth: what depth sensors deliver


@dataclass(frozen=True)
class SceneConfig:
    """How scenes become rows. The same configuration and plan give the same bytes.

    frames, points, boxes: the most of a scene that are stored; points are rounded up to whole
    chunks. height, width: of the images, in pixels. voxel: meters, of fused points (one per voxel).
    distance (meters), angle (degrees): of two frames, at least one of them is as large, or only
    the sharper one is used. seed: of a generator's sensor noise.
    """

    frames: int = 64
    height: int = 240
    width: int = 320
    points: int = 1 << 18
    boxes: int = 128
    voxel: float = 0.02
    distance: float = 0.25
    angle: float = 15.0
    seed: int = 0

    def __post_init__(self) -> None:
        limits: dict[str, tuple[float, float, float]] = {
            "--frames": (self.frames, 1, 1024),
            "--resolution": (min(self.height, self.width), 8, 4096),
            "--points": (self.points, 1, 1 << 24),
            "--voxel": (self.voxel, 0.001, 1.0),
            "--seed": (self.seed, 0, (1 << 63) - 1),
        }
        for flag, (value, low, high) in limits.items():
            if not low <= value <= high:
                raise UsageError(f"{value} is out of range: expected {low} to {high}", where=flag)
        object.__setattr__(self, "points", padded_points(self.points))

    def attributes(self) -> dict[str, Any]:
        """Return JSON-able attributes for the store's root."""
        return {"kind": SCENES, **asdict(self)}

    @classmethod
    def from_attributes(cls, table: dict[str, Any]) -> "SceneConfig":
        """Return the configuration described by `attributes`."""
        return cls(**{key: value for key, value in table.items() if key != "kind"})


def scene_schema(
    config: SceneConfig, scenes: int, labels: bool, boxes: bool, shard: int | None = None
) -> Schema:
    """Return the store's dimensions. shard: scenes per shard; None chooses it from the sizes."""
    schema = Schema(
        shapes=scenes,
        views=config.frames,
        size=config.width,
        points=config.points,
        shard=shard or 1,
        depth_scale=DEPTH_STEP,
        kind=SCENES,
        height=config.height,
        boxes=config.boxes if boxes else 0,
        labels=labels,
    )
    if shard is not None:
        if not 1 <= shard <= 4096:
            raise UsageError(f"{shard} is out of range: expected 1 to 4096", where="--shard-size")
        return schema
    per_scene = sum(
        np.dtype(spec.dtype).itemsize * math.prod(spec.shape)
        for spec in array_specs(schema).values()
    )
    return replace(schema, shard=max(1, min(MAX_SHARD, int(SHARD_BYTES / per_scene))))


def find_resolution(text: str) -> tuple[int, int]:
    """Return height and width of "320x240" (width first). Raises UsageError."""
    width, _, height = text.lower().replace("×", "x").partition("x")
    if not (width.strip().isdecimal() and height.strip().isdecimal()):
        raise UsageError(
            f"{text!r} is not a resolution", where="--resolution", fix="use width x height: 320x240"
        )
    return int(height), int(width)
