"""Small stores with real arrays, whose classes can be learned from images or points."""

from dataclasses import dataclass

import numpy as np

from pointcmt.datasets.store.creation import create
from pointcmt.datasets.store.documents import Outcome, encode_outcome
from pointcmt.datasets.store.schema import (
    RENDER,
    SCHEMA_VERSION,
    Schema,
    ShapeRecord,
    array_specs,
    blank,
    digest,
    encode_json,
    render_arrays,
    schema_attributes,
)
from pointcmt.datasets.store.storage import Storage
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import Reason
from pointcmt.render.config import RenderConfig
from pointcmt.training.config.files import load_config

CLASSES = ("ball", "plate", "rod")
PARTS = {"ball": ["upper", "lower"], "plate": ["rim", "hub"], "rod": ["top", "middle", "bottom"]}
VIEWS, SIZE, POINTS, SHARD = 4, 32, 64, 16

SMALL = {  # a step takes a tenth of a second on one core
    "mvnet": (
        "data.batch_size=4",
        "data.points=256",
        "data.validation=0.2",
        "model.backbone=dgcnn",
        "model.width=32",
        "images.backbone=resnet-18",
        "images.weights=random",
        "images.levels=[0.5, 1.0]",
        "images.size=0",
        "projection.size=16",
        "matching.heads=2",
        "loop.precision=fp32",
    ),
    "crosspoint": (
        "data.batch_size=4",
        "data.points=64",
        "data.validation=0.2",
        "model.backbone=dgcnn",
        "model.width=16",
        "images.backbone=resnet-18",
        "images.weights=random",
        "images.levels=[1.0]",
        "images.size=0",
    ),
    "student": ("data.batch_size=8", "data.points=64", "data.validation=0.2"),
    "finetune": ("data.batch_size=8", "data.points=64", "data.validation=0.2"),
    "partseg": (
        "data.batch_size=8",
        "data.points=64",
        "data.validation=0.2",
        "schedule.warmup=1",
        "model.backbone=dgcnn",
    ),
    "cmpg": ("data.batch_size=8", "data.points=64", "data.validation=0.2"),
    "teacher": (
        "data.batch_size=8",
        "data.views=2",
        "data.validation=0.2",
        "optimizer.accumulate=1",
    ),
}


@dataclass(frozen=True)
class Plan:
    """The contents of a small store.

    train, test, val: shapes per class. failed: ids. parts: whether points have parts, see
    `part_of_points`. part_order: whether the names of parts are in the order of PARTS (1) or in the
    reverse (-1). render: the render settings in the root.
    """

    train: tuple = (14, 14, 14)
    test: tuple = (5, 6, 7)
    val: tuple = (0, 0, 0)
    class_names: tuple = CLASSES
    failed: tuple = ()
    unlabeled: int = 0
    parts: bool = False
    part_order: int = 1
    render: RenderConfig | None = None

    @property
    def part_names(self):
        return {name: PARTS[name][:: self.part_order] for name in self.class_names}


def small_config(recipe, *overrides, **flags):
    """A configuration that fits the small stores."""
    return load_config(recipe, None, [*SMALL[recipe], *overrides], **flags)


def shapes_of(plan):
    """The list of shapes of a plan: by split, then by class."""
    shapes = [
        ShapeRecord(f"{name}-{split}-{i}", name, split, f"{name}/{i}.off")
        for split in ("train", "test", "val")
        for name, count in zip(plan.class_names, getattr(plan, split), strict=True)
        for i in range(count)
    ]
    return shapes + [
        ShapeRecord(f"x-{i}", None, "train", f"x/{i}.off") for i in range(plan.unlabeled)
    ]


def write_store(folder, plan, shapes=None):
    """A store of a plan. shapes: those of the plan, or others of its classes."""
    shapes = shapes_of(plan) if shapes is None else shapes
    schema = Schema(len(shapes), VIEWS, SIZE, POINTS, SHARD, depth_scale=1e-4, parts=plan.parts)
    render = plan.render.attributes() if plan.render else {"size": SIZE, "rig": {"name": "small"}}
    attributes = {
        "schema_version": SCHEMA_VERSION,
        "schema": schema_attributes(schema),
        "render": render,
        "render_hash": digest(encode_json(render)),
        "source": {"name": "small", "root": None, "up": "z", "licence": "MIT", "url": ""},
        "class_names": list(plan.class_names),
        "part_names": plan.part_names if plan.parts else {},
        "versions": {},
    }
    store = create(Storage(folder), attributes, shapes)
    for shard in range(schema.shards):
        members = [shapes[i] for i in schema.shapes_of(shard)]
        specs = array_specs(schema)
        arrays = {name: blank(specs[name], len(members)) for name in render_arrays(schema)}
        outcomes = []
        for row, shape in enumerate(members):
            if shape.id in plan.failed:
                outcomes.append(Outcome(shape.id, "failed", Reason.NO_FACES))
                continue
            rng = np.random.default_rng(list(shape.id.encode()))
            arrays["rgb"][row] = draw_views(shape.class_name, rng)
            arrays["points"][row] = draw_points(shape.class_name, rng)
            if plan.parts:
                parts = part_of_points(shape.class_name, arrays["points"][row])
                last = len(PARTS[shape.class_name]) - 1
                arrays["part"][row] = parts if plan.part_order > 0 else last - parts
            outcomes.append(Outcome(shape.id, "done"))
        files = store.write_shard(shard, arrays)
        marker = {"files": files, "outcomes": [encode_outcome(outcome) for outcome in outcomes]}
        store.commit(RENDER, shard, marker)
    return ViewStore.open(folder)


def draw_views(name, rng):
    """[V, H, W, 3] u8: a disc, a lying bar or a standing bar, of some dark color, on noise."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE] - SIZE / 2 + 0.5
    inside = {
        "plate": (abs(rows) < 3) & (abs(columns) < 12),
        "rod": (abs(columns) < 3) & (abs(rows) < 12),
    }.get(name, rows**2 + columns**2 < 80)
    images = rng.integers(200, 256, (VIEWS, SIZE, SIZE, 3))
    images[:, inside] = rng.integers(0, 120, (VIEWS, 1, 3))
    return images.astype(np.uint8)


def draw_points(name, rng):
    """[N, 3] f32 in the unit sphere: on a sphere, near a disc or near a line."""
    points = rng.normal(size=(POINTS, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    flat = {"plate": (1, 1, 0.05), "rod": (0.05, 0.05, 1)}.get(name, (1, 1, 1))
    return (points * flat).astype(np.float32)


def part_of_points(name, points):
    """[N] u8: the halves of a ball, rim and hub of a plate, the thirds of a rod."""
    z = points[:, 2]
    return {
        "ball": (z < 0).astype(np.uint8),
        "plate": (np.linalg.norm(points, axis=1) < 0.7).astype(np.uint8),
        "rod": 2 - np.digitize(z, [-0.33, 0.33]).astype(np.uint8),
    }[name]
