"""The steps of `pointcmt demo`: the whole way on built-in data, about two minutes on a CPU.

Each step calls the same functions as the corresponding command.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from pointcmt.cameras import find_rig
from pointcmt.console import duration, show, show_text
from pointcmt.datasets.sources import Listing, list_shapes, select
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.render.config import RenderConfig
from pointcmt.render.jobs.job import job_of_listing
from pointcmt.render.jobs.run import Options, render
from pointcmt.render.preview import preview
from pointcmt.render.scenes.config import SceneConfig
from pointcmt.training.config.files import load_pipeline
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.loop import train
from pointcmt.training.pipeline import stages

CONFIG = RenderConfig(find_rig("mvnet12"), size=96, points=512)
ROOM_CONFIG = SceneConfig(frames=8, height=120, width=160, points=1 << 15)
OVERRIDES = {
    "teacher": (
        "data.views=3",
        "data.image_size=48",
        "data.batch_size=15",
        "optimizer.accumulate=1",
        "schedule.name=cosine",
    ),
    "cmpg": ("data.points=128", "data.batch_size=10"),
    "student": (
        "data.points=128",
        "data.batch_size=10",
        # a tenth of the official weights, which slow down a student with so few steps
        "distillation.feature.weight=3",
        "distillation.classifier=1",
    ),
}


@dataclass(frozen=True)
class Size:
    """How much a demo does. train, test: shapes of ten classes. epochs: of the three stages.

    The default takes two minutes on two cores, long enough for batch norm to converge.
    """

    train: int = 300
    test: int = 100
    rooms: int = 2
    epochs: tuple[int, int, int] = 4, 6, 14


def run(out: Path, size: Size = Size()) -> None:
    """Render, preview, train PointCMT's three stages and evaluate; write everything below `out`.

    Running it again resumes. Raises PointcmtError like the commands.
    """
    started = time.monotonic()
    _title("1 · render toy shapes: 12 views each, with depth, face ids and correspondences")
    store = _render(_few(list_shapes("toy", None), size), CONFIG, out / "store")
    _preview(store, out / "preview", shapes=20, views=5)

    _title("2 · render toy rooms: frames of a depth camera, with labels, boxes and fused points")
    rooms = select(list_shapes("toyrooms", None), None, size.rooms)
    _preview(
        _render(rooms, ROOM_CONFIG, out / "rooms"),
        out / "rooms_preview",
        shapes=size.rooms,
        views=4,
    )

    config = load_pipeline(None, _overrides(size))
    for number, (recipe, stage) in enumerate(stages(config, out), 3):
        _title(f"{number} · train {recipe}: {_SAYS[recipe]}")
        train(store, stage, out / recipe)
        show(f"see {out / recipe / 'curve.png'}")
    show(f"see {out / 'cmpg' / 'clouds.png'}")

    _title("6 · evaluate on the test split")
    accuracy = {}
    for recipe in ("teacher", "student"):
        report = evaluate(out / recipe, store)
        show_text(report.describe())
        show(f"see {out / recipe / 'confusion.png'}")
        accuracy[recipe] = report.measures["overall_accuracy"]

    _title("done")
    shares = ", ".join(f"{recipe} {share:.0%}" for recipe, share in accuracy.items())
    print(f"test accuracy after a few epochs: {shares} (chance: 10 %)")
    show(f"everything is in {out}; it took {duration(time.monotonic() - started)}")
    print("next steps, on your own meshes:")
    print("  pointcmt render --dataset folder --root MESHES --out STORE")
    print("  pointcmt train --data STORE --out RUN")


_SAYS = {
    "teacher": "MVCNN, a small residual network on three views at a time",
    "cmpg": "reconstructs points from the teacher's features",
    "student": "PointNet on 128 points per shape, distilled from the other two",
}


def _render(listing: Listing, config: RenderConfig | SceneConfig, out: Path) -> ViewStore:
    summary = render(listing, job_of_listing(listing, str(out), config), Options())
    what = "rooms" if listing.kind == "scene" else "shapes"
    show(f"{summary.done + summary.skipped} {what} in {out}")
    return ViewStore.open(out)


def _preview(store: ViewStore, out: Path, shapes: int, views: int) -> None:
    for path in preview(store, out, shapes, views):
        show(f"see {path}")


def _overrides(size: Size) -> list[str]:
    """Return settings of the three stages for a CPU."""
    epochs = [
        f"{stage}.epochs={count}" for stage, count in zip(OVERRIDES, size.epochs, strict=True)
    ]
    return epochs + [f"{stage}.{each}" for stage, own in OVERRIDES.items() for each in own]


def _few(listing: Listing, size: Size) -> Listing:
    """Return some shapes of each class and split, in the listing's order."""
    chosen = {
        shape.id
        for split, count in (("train", size.train), ("test", size.test))
        for shape in select(listing, split, count).shapes
    }
    return replace(listing, shapes=tuple(s for s in listing.shapes if s.id in chosen))


def _title(text: str) -> None:
    print(f"\n{text}", flush=True)
