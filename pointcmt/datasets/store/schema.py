"""The contract between rendering and training: the arrays of a view store and its metadata.

docs/store.md describes it in prose. Everything here is a pure function of a `Schema`, so any
process can create, check or read a store without communicating with another one.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pointcmt.errors import DamageError

SCHEMA_VERSION = 1  # of stores of objects
SCENES_VERSION = 2  # of stores of scenes; version 1 has no `kind`
OBJECTS, SCENES = "objects", "scenes"
SPLITS = ("train", "test", "val")
PENDING, DONE, FAILED = 0, 1, 2  # the values of `status`
OPTIONAL_LAYERS = ("normal", "albedo")
CODECS = ("zstd", "zstd1", "lz4", "none")  # how chunks are compressed; the default first
BACKGROUND_FACE = -1
# The stages. Each fills a store shard by shard and ends each shard with a commit marker: rendering,
# and `build-correspondences` if rendering has left those out. Each kind of features is a separate
# stage, too.
RENDER, CORRESPONDENCES = "render", "visible"
ROOT, PLAN = "zarr.json", "shapes.jsonl"  # of the store; each array has a zarr.json, too
COMMITS, FEATURES = "commits", "features"  # folders of markers and of arrays made from images


@dataclass(frozen=True)
class Schema:
    """The dimensions that determine a store's arrays.

    shapes, views, points: O, V, N. size: the images' width in pixels, and their height unless
    `height` is given. shard: shapes per shard. depth_scale: world units per step of the stored u16
    depth. layers: optional images. parts: whether points have part labels.

    kind: "objects", or "scenes", whose rows have room for V views, N points and `boxes` boxes, and
    counts of how many there are (docs/store.md). labels: whether scenes have classes and instances.
    codec: one of CODECS.
    """

    shapes: int
    views: int
    size: int
    points: int
    shard: int
    depth_scale: float
    layers: tuple[str, ...] = ()
    parts: bool = False
    kind: str = OBJECTS
    height: int = 0
    boxes: int = 0
    labels: bool = False
    codec: str = CODECS[0]

    @property
    def image(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.height or self.size, self.size

    @property
    def shards(self) -> int:
        """Number of shards; the last one may be partly empty."""
        return -(-self.shapes // self.shard)

    def shapes_of(self, shard: int) -> range:
        """Return the shapes (indices of axis 0) of a shard."""
        return range(shard * self.shard, min(self.shapes, (shard + 1) * self.shard))

    def shards_of(self, shapes: Any) -> set[int]:
        """Return the shards of shapes: an index, a slice, or an array of indices or bools."""
        if isinstance(shapes, slice):
            chosen = range(self.shapes)[shapes]
            if not chosen:
                return set()
            first, last = sorted((chosen[0], chosen[-1]))
            return set(range(first // self.shard, last // self.shard + 1))
        indices = np.asarray(shapes)
        indices = np.flatnonzero(indices) if indices.dtype == bool else indices
        found = np.unique(indices // self.shard).tolist()
        return {shard for shard in found if 0 <= shard < self.shards}


@dataclass(frozen=True)
class ShapeRecord:
    """One line of `shapes.jsonl`: a shape of the plan, in the order of axis 0.

    class_name: None if unknown. source: path relative to the dataset's root.
    """

    id: str
    class_name: str | None
    split: str
    source: str


@dataclass(frozen=True)
class ArraySpec:
    """One array: axis 0 is the shape, sharded by `Schema.shard`; the other axes are per shape."""

    dtype: str
    axes: tuple[str, ...]  # names of the axes after axis 0
    shape: tuple[int, ...]  # their lengths
    fill: int | float = 0
    chunk: Literal["view", "shape", "shard", "block"] = "shape"  # what a chunk contains
    attributes: tuple[tuple[str, Any], ...] = ()


def array_specs(schema: Schema) -> dict[str, ArraySpec]:
    """Return every array of a store by name, in the order in which they are written."""
    return _scene_specs(schema) if schema.kind == SCENES else _object_specs(schema)


_IMAGE, _MATRIX = ("view", "row", "column"), ("matrix_row", "matrix_column")
_CAMERAS = ("view", "K_row", "K_column"), ("view", *_MATRIX)
_PACKED = (("packed", "numpy.packbits along the points, big-endian bits"),)


def _object_specs(schema: Schema) -> dict[str, ArraySpec]:
    V, H, N = schema.views, schema.size, schema.points
    image, matrix = _IMAGE, _MATRIX
    specs = {
        "rgb": ArraySpec("uint8", (*image, "channel"), (V, H, H, 3), chunk="view"),
        "depth": ArraySpec(
            "uint16",
            image,
            (V, H, H),
            chunk="view",
            attributes=(("scale", schema.depth_scale), ("background", 0)),
        ),
        "face_index": ArraySpec("int32", image, (V, H, H), BACKGROUND_FACE, chunk="view"),
    }
    for layer in schema.layers:
        specs[layer] = ArraySpec("uint8", (*image, "channel"), (V, H, H, 3), chunk="view")
    specs |= {
        "points": ArraySpec("float32", ("point", "axis"), (N, 3)),
        "normals": ArraySpec("float32", ("point", "axis"), (N, 3)),
        "point_face": ArraySpec("int32", ("point",), (N,), BACKGROUND_FACE),
        "visible": ArraySpec(
            "uint8",
            ("view", "byte"),
            (V, -(-N // 8)),
            attributes=_PACKED,
        ),
        "K": ArraySpec("float64", _CAMERAS[0], (V, 3, 3), chunk="shard"),
        "world_to_camera": ArraySpec("float64", _CAMERAS[1], (V, 4, 4), chunk="shard"),
        "source_to_world": ArraySpec("float64", matrix, (4, 4), chunk="shard"),
        "label": ArraySpec("int32", (), (), -1, chunk="shard"),
        "split": ArraySpec("uint8", (), (), chunk="shard"),
        "status": ArraySpec("uint8", (), (), PENDING, chunk="shard"),
    }
    if schema.parts:
        specs["part"] = ArraySpec("uint8", ("point",), (N,))
    return specs


def _scene_specs(schema: Schema) -> dict[str, ArraySpec]:
    """Return the arrays of scenes: rows are padded, and the counts say how much of them is used."""
    V, (H, W), N, K = schema.views, schema.image, schema.points, schema.boxes
    steps = (("scale", schema.depth_scale), ("background", 0))
    order = (("order", "voxel"),)
    ignore = (("ignore", -1),)
    specs = {
        "rgb": ArraySpec("uint8", (*_IMAGE, "channel"), (V, H, W, 3), chunk="view"),
        "depth": ArraySpec("uint16", _IMAGE, (V, H, W), chunk="view", attributes=steps),
        "points": ArraySpec("float32", ("point", "axis"), (N, 3), chunk="block", attributes=order),
        "normals": ArraySpec("float32", ("point", "axis"), (N, 3), chunk="block"),
        "color": ArraySpec("uint8", ("point", "channel"), (N, 3), chunk="block"),
        "visible": ArraySpec(
            "uint8", ("view", "byte"), (V, -(-N // 8)), chunk="view", attributes=_PACKED
        ),
        "K": ArraySpec("float64", _CAMERAS[0], (V, 3, 3), chunk="shard"),
        "world_to_camera": ArraySpec("float64", _CAMERAS[1], (V, 4, 4), chunk="shard"),
        "frame": ArraySpec("int32", ("view",), (V,), -1, chunk="shard"),
        "source_to_world": ArraySpec("float64", _MATRIX, (4, 4), chunk="shard"),
        "view_count": ArraySpec("int32", (), (), chunk="shard"),
        "point_count": ArraySpec("int32", (), (), chunk="shard"),
        "label": ArraySpec("int32", (), (), -1, chunk="shard"),
        "split": ArraySpec("uint8", (), (), chunk="shard"),
        "status": ArraySpec("uint8", (), (), PENDING, chunk="shard"),
    }
    if schema.labels:
        specs |= {
            "semantic_image": ArraySpec(
                "int16", _IMAGE, (V, H, W), -1, chunk="view", attributes=ignore
            ),
            "instance_image": ArraySpec("int32", _IMAGE, (V, H, W), -1, chunk="view"),
            "semantic": ArraySpec("int16", ("point",), (N,), -1, "block", ignore),
            "instance": ArraySpec("int32", ("point",), (N,), -1, "block"),
        }
    if K:
        specs |= {
            "boxes": ArraySpec("float32", ("box", "size"), (K, 7), chunk="shard"),
            "box_label": ArraySpec("int16", ("box",), (K,), -1, "shard"),
            "box_instance": ArraySpec("int32", ("box",), (K,), -1, "shard"),
            "box_count": ArraySpec("int32", (), (), chunk="shard"),
        }
    return specs


COUNTS = {"view": "view_count", "point": "point_count", "byte": "point_count", "box": "box_count"}
BLOCK = 16384  # points of a scene per chunk


def padded_points(points: int) -> int:
    """Return the number of points that rows of scenes have room for: whole chunks."""
    return points if points <= BLOCK else -(-points // BLOCK) * BLOCK


CORRESPONDENCE_ARRAYS = ("visible",)  # written with the images, or later by build-correspondences


def render_arrays(schema: Schema) -> tuple[str, ...]:
    """Return the arrays that rendering itself writes: all except the correspondences."""
    return tuple(name for name in array_specs(schema) if name not in CORRESPONDENCE_ARRAYS)


def is_derived(name: str) -> bool:
    """Return whether an array is derived from the images, as `features/<key>` is."""
    return name.startswith(f"{FEATURES}/")


def stage_of(name: str) -> str:
    """Return the stage that writes an array."""
    if is_derived(name):
        return name.replace("/", "-")
    return CORRESPONDENCES if name in CORRESPONDENCE_ARRAYS else RENDER


def arrays_of(schema: Schema, stage: str) -> tuple[str, ...]:
    """Return the arrays that a stage writes."""
    if stage == CORRESPONDENCES:
        return CORRESPONDENCE_ARRAYS
    return render_arrays(schema) if stage == RENDER else (stage.replace("-", "/", 1),)


def marker_key(stage: str, shard: int) -> str:
    """Return the key of a shard's commit marker."""
    return f"{COMMITS}/{stage}/{shard:06d}.json"


def blank(spec: ArraySpec, shapes: int) -> NDArray[Any]:
    """Return an array of fill values for `shapes` shapes: the data of failed shapes."""
    return np.full((shapes, *spec.shape), spec.fill, np.dtype(spec.dtype))


def depth_scale(farthest: float) -> float:
    """Return the step of u16 depth that reaches `farthest` (world units)."""
    return farthest / 65535


def quantize_depth(depth: NDArray[np.floating], scale: float) -> NDArray[np.uint16]:
    """Convert depth in world units, 0 = background, to u16; a surface never becomes background."""
    steps = np.rint(depth * (1 / scale)).astype(np.uint16)
    return np.maximum(steps, depth > 0, out=steps)


def pack_visible(visible: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Pack [..., N] bool into [..., ⌈N/8⌉] u8, the layout of the `visible` array."""
    return np.packbits(visible, axis=-1)


def unpack_visible(packed: NDArray[np.uint8], points: int) -> NDArray[np.bool_]:
    """Unpack [..., ⌈N/8⌉] u8 into [..., points] bool; `points` may be any n up to N."""
    return np.unpackbits(packed, axis=-1, count=points).view(bool)


def shard_key(spec: ArraySpec, name: str, shard: int) -> str:
    """Return the key of an array's shard file, relative to the store."""
    return "/".join([name, "c", str(shard), *["0"] * len(spec.shape)])


def encode_plan(shapes: Iterable[ShapeRecord]) -> bytes:
    """Return the text of `shapes.jsonl`: one JSON object with id, class, split, source per line."""
    encode = json.JSONEncoder(ensure_ascii=False).encode
    plan = bytearray()
    for s in shapes:
        table = {"id": s.id, "class": s.class_name, "split": s.split, "source": s.source}
        plan += (encode(table) + "\n").encode()
    return bytes(plan)


class Plan:
    """The shapes of a `shapes.jsonl`, each decoded on access.

    Each shape takes 130 bytes in every worker, and a million shapes take no time to decode.
    Indexing and iterating raise DamageError for a line that `encode_plan` did not write. where: its
    path, for messages.
    """

    def __init__(self, data: bytes, where: str = "") -> None:
        self._data, self._where = data, where
        self._ends = np.fromiter((found.start() for found in re.finditer(b"\n", data)), np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, shape: int) -> ShapeRecord:
        start = self._ends[shape - 1] + 1 if shape else 0
        try:
            t = json.loads(self._data[start : self._ends[shape]])
            record = ShapeRecord(t["id"], t["class"], t["split"], t["source"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise self._damaged(shape) from None
        texts = (record.id, record.source, "" if record.class_name is None else record.class_name)
        if record.split not in SPLITS or not all(isinstance(text, str) for text in texts):
            raise self._damaged(shape)
        return record

    def __iter__(self) -> Iterator[ShapeRecord]:
        return (self[shape] for shape in range(len(self)))

    def _damaged(self, shape: int) -> DamageError:
        return DamageError(
            f"line {shape + 1} of the list of shapes is damaged",
            where=self._where,
            fix="render into a new --out, or restore the file",
        )


def schema_from_attributes(attributes: dict[str, Any]) -> Schema:
    """Return the `Schema` in a root's attributes. Raises KeyError or TypeError if malformed."""
    table = dict(attributes["schema"])
    if table.get("kind") == SCENES:
        table["size"] = table.pop("width")
    return Schema(**{**table, "layers": tuple(table["layers"])})


def schema_attributes(schema: Schema) -> dict[str, Any]:
    """Return a `Schema` as JSON-able attributes."""
    table = {**asdict(schema), "layers": list(schema.layers)}
    if schema.codec == CODECS[0]:  # what stores have that do not name one
        del table["codec"]
    if schema.kind == SCENES:
        size = table.pop("size")
        return {**table, "height": schema.image[0], "width": size}
    for name in ("kind", "height", "boxes", "labels"):
        del table[name]
    return table


def encode_line(value: Any) -> bytes:
    """Encode JSON in one line, 20 times faster than `encode_json`; equal values, equal bytes."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def encode_json(value: Any) -> bytes:
    """Encode JSON for human readers, indented; equal values, equal bytes."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def digest(data: bytes | memoryview) -> str:
    """Return the SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
