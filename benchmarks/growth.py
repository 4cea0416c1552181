"""How a shape's time and memory grow with its faces, and with views, image size and points.

Usage: python benchmarks/growth.py [--rounds 3] [--plot docs/images/growth.svg]

Bumpy closed surfaces, made as it runs and read from binary PLY files. From 10,000 faces, 20 views
of 224² and 2,048 points, one number changes at a time. Each case is a process of its own on one
core: its CPU seconds are medians of the rounds after one that is not counted, and its memory is the
peak over all of them, with everything that is imported. What a store's writer does is left out.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import trimesh
from gpu_render import surface

import pointcmt as pc

STEPS = ("load", "draw", "points", "visibility")


@dataclass(frozen=True)
class Case:
    """Sizes of a shape and of its images."""

    faces: int = 10_000
    views: int = 20
    size: int = 224
    points: int = 2048


VALUES = {
    "faces": (1_000, 10_000, 100_000, 1_000_000, 4_000_000),
    "views": (5, 20, 80),
    "size": (112, 224, 448, 896),
    "points": (512, 2048, 8192, 32_768),
}
NAMES = {"faces": "faces", "views": "views", "size": "pixels of a side", "points": "points"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plot", type=Path, help="an .svg or .png file")
    parser.add_argument("--case", help=argparse.SUPPRESS)  # of a child process
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(Case(**json.loads(options.case)), options.rounds)))
        return
    found: dict[Case, dict[str, float]] = {}
    print(f"{'':24}" + "".join(f"{name:>12}" for name in (*STEPS, "sum", "GiB")))
    for name, values in VALUES.items():
        for value in values:
            case = replace(Case(), **{name: value})
            found[case] = found.get(case) or in_own_process(case, options.rounds)
            row = found[case]
            cells = *(row[step] for step in STEPS), sum(row[step] for step in STEPS), row["GiB"]
            print(f"{f'{value:,} {NAMES[name]}':24}" + "".join(f"{x:12.3f}" for x in cells))
    if options.plot:
        plot(found, options.plot)


def in_own_process(case: Case, rounds: int) -> dict[str, float]:
    """Measure a case in a new process on one core."""
    command = [sys.executable, __file__, "--rounds", str(rounds)]
    command += ["--case", json.dumps(case.__dict__)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, preexec_fn=take_one_core
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def take_one_core() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def measure(case: Case, rounds: int) -> dict[str, float]:
    """Return the median CPU seconds of each step, and the peak of memory in GiB."""
    spent: dict[str, list[float]] = {step: [] for step in STEPS}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "surface.ply"
        made = surface(case.faces)
        trimesh.Trimesh(made.vertices, made.faces, process=False).export(path)
        for _ in range(rounds + 1):
            clock = time.process_time
            times = [clock()]
            mesh = pc.load_mesh(path)
            times.append(clock())
            views = pc.render_views(mesh, f"fibonacci{case.views}", case.size, up="z")
            times.append(clock())
            points, faces = pc.sample_points(mesh, case.points)
            times.append(clock())
            views.visible(points, faces)
            times.append(clock())
            for step, seconds in zip(STEPS, np.diff(times), strict=True):
                spent[step].append(float(seconds))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {step: statistics.median(times[1:]) for step, times in spent.items()} | {"GiB": peak}


def plot(found: dict[Case, dict[str, float]], path: Path) -> None:
    """Draw a panel for each number that changes: CPU seconds of the steps, and their sum."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.4), layout="constrained")
    panels = figure.subplots(2, 2, sharey=True)
    for panel, (name, values) in zip(panels.flat, VALUES.items(), strict=True):
        rows = [found[replace(Case(), **{name: value})] for value in values]
        for step in STEPS:
            panel.plot(values, [row[step] for row in rows], "o-", markersize=4, label=step)
        total = [sum(row[step] for step in STEPS) for row in rows]
        panel.plot(values, total, "ks--", markersize=4, label="sum")
        panel.set(xscale="log", yscale="log", xlabel=NAMES[name])
        panel.set_xticks(values, [short(value) for value in values])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    for panel in panels[:, 0]:
        panel.set_ylabel("CPU seconds of a shape")
    panels[0, 0].legend()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def short(value: int) -> str:
    """Return 4 M for 4,000,000, 10 k for 10,000, and other numbers in full."""
    for unit, name in ((1_000_000, "M"), (1_000, "k")):
        if value % unit == 0:
            return f"{value // unit} {name}"
    return f"{value:,}"


if __name__ == "__main__":
    main()
