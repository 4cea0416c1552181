"""`RenderConfig`: all settings that determine the contents of a rendered store."""

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from pointcmt.cameras import Rig, View
from pointcmt.datasets.store.schema import OPTIONAL_LAYERS, Schema, array_specs, depth_scale
from pointcmt.errors import UsageError, nearest

BACKENDS = ("auto", "egl", "embree", "pyrender")
LIGHTS = ("camera", "world")
CULLS = ("none", "back")
WORLD_LIGHT = "world 2"  # how stores call the light "world" since it has no headlight anymore
SHADINGS = ("flat", "smooth")
# Fields that are not stored while they have these values: stores that predate them keep their hash.
UNSET: dict[str, Any] = {"splat": 0.0, "cull": "none", "shading": "flat", "crease_angle": None}
MAX_DEPTH_ERROR = 1e-4  # world units; the store format guarantees it
SHARD_BYTES = 256e6  # decoded bytes per shard, which a worker holds in memory
MAX_SHARD = 32
MIN_SHARDS = 64  # so that small jobs still spread over many workers
SPLAT = 3 / 224  # radius / image size, at which 2,000 points cover a surface without gaps


@dataclass(frozen=True)
class RenderConfig:
    """How to draw and sample shapes. The same configuration and plan give the same bytes.

    size: pixels, square. points: surface points per shape. layers: optional images. background:
    sRGB bytes. light: fixed to the camera or to the world. backend: the renderer; "auto" chooses by
    machine, and the images of two backends differ slightly (docs/rendering.md). splat: radius in
    pixels of the discs that points of clouds are drawn as; 0 for meshes. cull: "back" leaves out
    faces where they are turned away. shading: "flat" by the normals of faces, or "smooth" by those
    of vertices. crease_angle: degrees; makes normals for meshes that have none, by averaging over
    faces that differ by less; None = they are drawn flat.
    """

    rig: Rig
    size: int = 224
    points: int = 2048
    layers: tuple[str, ...] = ()
    backend: str = "auto"
    antialias: bool = True
    background: tuple[int, int, int] = (255, 255, 255)
    light: str = "camera"
    seed: int = 0
    splat: float = 0.0
    cull: str = "none"
    shading: str = "flat"
    crease_angle: float | None = None

    def __post_init__(self) -> None:
        _check_range("--size", self.size, 8, 4096)
        _check_range("--points", self.points, 1, 1 << 17)
        _check_range("--seed", self.seed, 0, (1 << 63) - 1)
        for layer in self.layers:
            _check_name("--layers", "layer", layer, OPTIONAL_LAYERS)
        _check_name("--backend", "backend", self.backend, BACKENDS)
        _check_name("--light", "light", self.light, LIGHTS)
        _check_name("--cull", "kind of faces to cull", self.cull, CULLS)
        _check_name("--shading", "kind of shading", self.shading, SHADINGS)
        if self.crease_angle is not None:
            _check_range("--crease-angle", self.crease_angle, 0, 180)
            object.__setattr__(self, "crease_angle", float(self.crease_angle))  # of one hash
            if self.shading != "smooth":
                raise UsageError(
                    "this option only applies to smooth shading",
                    where="--crease-angle",
                    fix="leave it out, or add --shading smooth",
                )
        if self.splat:
            _check_range("--splat", self.splat, 1, 64)
        if depth_scale(self.farthest) / 2 > MAX_DEPTH_ERROR:
            raise UsageError(
                f"a camera of rig '{self.rig.name}' is too far away for depth to be exact to "
                f"{MAX_DEPTH_ERROR:g}",
                where="--rig",
                fix="keep the cameras within 12 times the shape's radius and use a smaller `fov` "
                "instead",
            )

    @property
    def farthest(self) -> float:
        """Largest depth that a shape in the unit sphere can have in any view, in world units."""
        poses = self.rig.cameras(self.size).world_to_camera
        return float(np.max(poses[:, 2, 3])) + 1.0

    def attributes(self) -> dict[str, Any]:
        """Return JSON-able attributes for the store's root, with the rig's cameras written out."""
        table = json.loads(json.dumps(asdict(self)))
        if self.light == "world":
            table["light"] = WORLD_LIGHT
        return {key: value for key, value in table.items() if value != UNSET.get(key, ...)}

    @classmethod
    def from_attributes(cls, table: dict[str, Any]) -> "RenderConfig":
        """Return the configuration described by `attributes`.

        Raises UsageError for that of a store whose light this version cannot draw.
        """
        if table.get("light") == "world":
            raise UsageError(
                "an earlier version drew these views, whose light also had a part that followed "
                "the camera",
                where="--light world",
                fix="render the shapes again into a new --out",
            )
        light = "world" if table["light"] == WORLD_LIGHT else table["light"]
        views = [
            View(tuple(v["position"]), tuple(v["target"]), tuple(v["up"]), v["fov"])
            for v in table["rig"]["views"]
        ]
        rig = Rig(table["rig"]["name"], tuple(views))
        lists = {key: tuple(table[key]) for key in ("layers", "background")}
        return cls(**{**table, **lists, "rig": rig, "light": light})


def fit(config: RenderConfig, kind: str) -> RenderConfig:
    """Adapt the configuration to a dataset of this kind ("mesh" or "cloud").

    Raises UsageError for settings that only apply to the other kind.
    """
    if kind == "mesh":
        if config.splat:
            raise UsageError(
                "this option only applies to clouds", where="--splat", fix="leave it out"
            )
        return config
    if config.cull != "none":
        raise UsageError("clouds have no faces", where="--cull", fix="leave it out")
    if config.shading != "flat":
        raise UsageError("clouds have no faces", where="--shading", fix="leave it out")
    if config.backend != "auto":
        raise UsageError(
            f"backend {config.backend} only renders meshes; clouds have their own renderer",
            where="--backend",
            fix="leave it out",
        )
    splat = config.splat or max(1.0, round(SPLAT * config.size, 2))
    return replace(config, splat=splat, antialias=False)


def find_color(color: str | tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the sRGB bytes of white, black, #rrggbb or a tuple of bytes. Raises UsageError."""
    try:
        if isinstance(color, str):
            digits = {"white": "#ffffff", "black": "#000000"}.get(color, color).removeprefix("#")
            red, green, blue = bytes.fromhex(digits)
        else:
            red, green, blue = bytes(color)
    except (TypeError, ValueError):
        raise UsageError(
            f"{color!r} is not a color", where="--background", fix="use white, black or #rrggbb"
        ) from None
    return red, green, blue


def schema_for(
    config: RenderConfig, shapes: int, parts: bool = False, shard: int | None = None
) -> Schema:
    """Return the store's dimensions. shard: shapes per shard; None chooses it from the sizes."""
    schema = Schema(
        shapes=shapes,
        views=len(config.rig.views),
        size=config.size,
        points=config.points,
        shard=shard or 1,
        depth_scale=depth_scale(config.farthest),
        layers=config.layers,
        parts=parts,
    )
    if shard is not None:
        _check_range("--shard-size", shard, 1, 4096)
        return schema
    per_shape = sum(
        np.dtype(spec.dtype).itemsize * int(np.prod(spec.shape))
        for spec in array_specs(schema).values()
    )
    fitting = min(MAX_SHARD, int(SHARD_BYTES / per_shape), shapes // MIN_SHARDS)
    return Schema(**{**asdict(schema), "shard": max(1, fitting)})


def _check_range(flag: str, value: float, low: int, high: int) -> None:
    if not low <= value <= high:
        raise UsageError(f"{value} is out of range: expected {low} to {high}", where=flag)


def _check_name(flag: str, kind: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"unknown {kind} '{value}'", where=flag, fix=nearest(value, known))
