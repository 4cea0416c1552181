"""Does PointCMT help on the built-in shapes? Teacher, vanilla and distilled students, by seed.

Usage: python benchmarks/distillation.py --out DIR [--seeds 0,1,2,3,4] [--fractions 1 0.1 0.05 0.01]
       [--set student.distillation.classifier=0 …]

Renders 500 train and 500 test shapes of `toy` (12 views of 96²) into DIR/store. For each fraction
of the labels, which all stages share, it trains a teacher (MVCNN, ResNet-18 from random weights,
64², 3 random views a step) and a generator once, and PointNet students of 128 points, vanilla and
distilled, once per seed; all are evaluated on the test split. An interrupted study resumes. Smaller
fractions train for more epochs, since theirs are shorter. On few cores, set OMP_WAIT_POLICY=passive
(see pointcmt/extras.py).
"""

import argparse
from dataclasses import replace
from pathlib import Path

from pointcmt.cameras import find_rig
from pointcmt.datasets.sources import list_shapes, select
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.render.config import RenderConfig
from pointcmt.render.jobs.job import job_of_listing
from pointcmt.render.jobs.run import Options, render
from pointcmt.training.config.files import load_pipeline
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.study import study

SHAPES = 500  # of each split
# Epochs of teacher, generator and students by fraction of 450 train shapes.
EPOCHS = {1.0: (12, 30, 20), 0.1: (60, 60, 400), 0.05: (80, 60, 200), 0.01: (40, 60, 100)}
OVERRIDES = (
    "teacher.data.views=3",
    "teacher.data.image_size=64",
    "teacher.optimizer.accumulate=1",
    "teacher.schedule.name=cosine",
    "cmpg.data.points=128",
    "student.data.points=128",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--fractions", type=float, nargs="+", default=list(EPOCHS))
    parser.add_argument("--name", default="official", help="of the runs; for other --set")
    parser.add_argument("--set", dest="overrides", nargs="*", default=[])
    options = parser.parse_args()
    seeds = tuple(int(seed) for seed in options.seeds.split(","))
    store = render_toy(options.out / "store")
    for fraction in options.fractions:
        overrides = [*OVERRIDES, *overrides_of(fraction), *options.overrides]
        out = options.out / f"{options.name}-{fraction:g}"
        found = study(store, load_pipeline(None, overrides), seeds, out)
        print(f"\n{fraction:.0%} of the labels")
        print(
            evaluate(out / "teacher", store)
            .describe()
            .splitlines()[1]
            .replace("  overall", "  teacher, overall")
        )
        print(found.describe(), flush=True)


def overrides_of(fraction: float) -> list[str]:
    """Return epochs and batch sizes for a fraction of the labels."""
    epochs = dict(zip(("teacher", "cmpg", "student"), EPOCHS[fraction], strict=True))
    batch = min(32, max(5, round(450 * fraction) // 2))
    return [
        line
        for stage, count in epochs.items()
        for line in (
            f"{stage}.epochs={count}",
            f"{stage}.data.fraction={fraction}",
            f"{stage}.data.batch_size={batch}",
        )
    ]


def render_toy(out: Path) -> ViewStore:
    """Render the benchmark's shapes, or reuse them."""
    listing = list_shapes("toy", None)
    chosen = {
        shape.id for split in ("train", "test") for shape in select(listing, split, SHAPES).shapes
    }
    listing = replace(listing, shapes=tuple(s for s in listing.shapes if s.id in chosen))
    config = RenderConfig(find_rig("mvnet12"), size=96, points=256)
    render(listing, job_of_listing(listing, str(out), config), Options())
    return ViewStore.open(out)


if __name__ == "__main__":
    main()
