"""`pointcmt demo`: the whole way on the built-in shapes, on a CPU, in about two minutes.

Everything it does is what the commands do; each step's command is printed, to be repeated at will.
"""

import time
from dataclasses import replace
from pathlib import Path

from pointcmt.cameras import find_rig
from pointcmt.console import duration
from pointcmt.datasets.sources import Listing, list_shapes, select
from pointcmt.datasets.store import ViewStore
from pointcmt.render.config import RenderConfig
from pointcmt.render.job import Job
from pointcmt.render.preview import preview
from pointcmt.render.run import Options, render
from pointcmt.training.config_files import load_config
from pointcmt.training.evaluate import evaluate
from pointcmt.training.loop import train

TRAIN, TEST = 300, 100  # shapes of ten classes
CONFIG = RenderConfig(find_rig("mvnet12"), size=96, points=512)
# Short enough for two minutes on two cores, long enough for batch norm to settle.
TEACHER = ["data.views=3", "data.image_size=48", "data.batch_size=15", "optimizer.accumulate=1"]
STUDENT = ["data.points=192", "data.batch_size=10"]
TEACHER_EPOCHS, STUDENT_EPOCHS = 5, 14


def run(out: Path, log_format: str = "auto") -> None:
    """Render, look, train a teacher and a student, evaluate both; everything goes below `out`.

    Running it again resumes. Raises PointcmtError as the commands do.
    """
    started = time.monotonic()
    data = out / "store"

    _title("1 · render toy shapes: 12 views each, with depth, face ids and correspondences")
    listing = _few(list_shapes("toy", None))
    job = Job(str(data), listing.name, None, listing.up, CONFIG)
    summary = render(listing, job, Options(log_format=log_format))
    print(f"{summary.done + summary.skipped} shapes in {data}")
    store = ViewStore.open(data)
    for path in preview(store, out / "preview", shapes=20, views=5):
        print(f"look at {path}")

    accuracy = {}
    for number, recipe, epochs, knobs in (
        (2, "teacher", TEACHER_EPOCHS, TEACHER),
        (3, "student", STUDENT_EPOCHS, STUDENT),
    ):
        _title(f"{number} · train {recipe}: " + _SAYS[recipe])
        folder = out / recipe
        train(store, load_config(recipe, None, knobs, epochs=epochs), folder, log_format=log_format)
        report = evaluate(folder, store, log_format=log_format)
        print(report.describe())
        print(f"look at {folder / 'curve.png'} and {folder / 'confusion.png'}")
        accuracy[recipe] = report.overall_accuracy

    _title("done")
    shares = ", ".join(f"{recipe} {share:.0%}" for recipe, share in accuracy.items())
    print(f"test accuracy after half a minute of training each: {shares} (chance: 10 %)")
    print(f"everything is in {out}; it took {duration(time.monotonic() - started)}")
    print("next, on your own meshes:")
    print("  pointcmt render --dataset folder --root MESHES --out STORE")
    print("  pointcmt train student --data STORE --out RUN")


_SAYS = {
    "teacher": "MVCNN, a small residual network on three views at a time",
    "student": "PointNet on 192 points of each surface",
}


def _few(listing: Listing) -> Listing:
    """Some shapes of each class and split, in the listing's order."""
    chosen = {
        shape.id
        for split, count in (("train", TRAIN), ("test", TEST))
        for shape in select(listing, split, count).shapes
    }
    return replace(listing, shapes=tuple(s for s in listing.shapes if s.id in chosen))


def _title(text: str) -> None:
    print(f"\n{text}", flush=True)
