"""`SceneConfig`: all settings that determine the contents of a store of scenes."""

from dataclasses import asdict, dataclass
from typing import Any

from pointcmt.datasets.store.schema import SCENES, padded_points
from pointcmt.errors import UsageError

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
