"""Rendering, end to end: `pointcmt render` against the usual pyrender script, alternating.

Usage: python benchmarks/render.py [--meshes DIR] [--copies 24] [--rounds 3] [--size 224]
           [--backends auto,egl,pyrender]

DIR holds mesh files at any depth; default: the real meshes of the tests (POINTCMT_TEST_DATA). Each
run is a new process and includes everything (imports, loading, drawing 20 views; ours also
anti-aliasing, points, correspondences and the store; theirs PNG files). Prints a row per
backend; benchmarks/RESULTS.md keeps some. Needs Mesa's EGL, or a GPU's.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

VIEWS = 20
REAL = Path(os.environ.get("POINTCMT_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
SUFFIXES = {".off", ".obj"}
SCRIPT = Path(__file__).parent / "baselines" / "pyrender_script.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--meshes", type=Path, nargs="*", default=None)
    parser.add_argument("--copies", type=int, default=24, help="how often each mesh is in the job")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--backends", default="auto", help="ours, with commas between")
    options = parser.parse_args()
    folders = options.meshes or [REAL / "ModelNet40", REAL / "ModelNet10", REAL / "textured"]
    meshes = sorted(p for f in folders for p in f.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not meshes:
        sys.exit(f"no meshes in {', '.join(map(str, folders))}: give --meshes DIR")
    print(f"{len(meshes)} meshes × {options.copies}, {VIEWS} views of {options.size}²")
    sides = {"pyrender script": theirs}
    sides |= {f"pointcmt, {name}": partial(ours, name) for name in options.backends.split(",")}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as place:
        job = lay_out(meshes, options.copies, Path(place) / "meshes")
        for side in sides.values():  # compiled kernels and file caches, as on any second run
            timed(side, job[:2], Path(place), options)
        for round_ in range(options.rounds):
            for name, side in sides.items():
                seconds[name].append(timed(side, job, Path(place), options))
            report(f"round {round_}", {name: s[-1] for name, s in seconds.items()}, len(job))
    report("median", {name: statistics.median(s) for name, s in seconds.items()}, len(job))


def lay_out(meshes: list[Path], copies: int, place: Path) -> list[Path]:
    """Make one folder per mesh and copy, with the mesh and the files beside it."""
    job = []
    for copy in range(copies):
        for index, mesh in enumerate(meshes):
            folder = place / f"{index:03d}_{copy}"
            folder.mkdir(parents=True)
            for sibling in mesh.parent.iterdir():
                if sibling == mesh or sibling.suffix.lower() not in SUFFIXES:
                    (folder / sibling.name).write_bytes(sibling.read_bytes())
            job.append(folder / mesh.name)
    return job


def ours(backend: str, job: list[Path], out: Path, options: argparse.Namespace) -> None:
    root = job[0].parents[1]
    command = [sys.executable, "-m", "pointcmt", "render", "--dataset", "folder", "--up", "z"]
    command += ["--root", root, "--out", out, "--workers", options.workers, "--size", options.size]
    run([*command, "--limit", len(job), "--backend", backend, "--log-format", "plain"])


def theirs(job: list[Path], out: Path, options: argparse.Namespace) -> None:
    run([sys.executable, SCRIPT, out, options.size, *job])


def run(command: list[object]) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command[:4]} failed:\n{done.stderr[-3000:]}")


def timed(side, job: list[Path], place: Path, options: argparse.Namespace) -> float:
    out = place / "out"
    started = time.perf_counter()
    side(job, out, options)
    seconds = time.perf_counter() - started
    shutil.rmtree(out)
    return seconds


def report(title: str, seconds: dict[str, float], shapes: int) -> None:
    baseline = seconds["pyrender script"]
    print(title)
    for name, own in seconds.items():
        rate = shapes * VIEWS / own
        print(
            f"  {name:20} {own:7.2f} s {rate:6.0f} views/s   ratio {baseline / own:5.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
