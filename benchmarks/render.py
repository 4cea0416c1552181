"""Rendering, end to end: `pointcmt render` against the usual pyrender script, in turns.

Usage: python benchmarks/render.py [--meshes DIR] [--copies 8] [--rounds 3] [--size 224]

DIR holds mesh files at any depth; default: the real meshes of the tests (POINTCMT_TEST_DATA). Both
sides start from nothing: a new process each, everything included (imports, loading, drawing 20
views, on our side anti-aliasing, points, correspondences and the store; on theirs PNG files).
Prints a table; benchmarks/RESULTS.md keeps some. Needs `make bench`'s packages and Mesa's EGL.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

VIEWS = 20
REAL = Path(os.environ.get("POINTCMT_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
SUFFIXES = {".off", ".obj"}
SCRIPT = Path(__file__).parent / "baselines" / "pyrender_script.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--meshes", type=Path, nargs="*", default=None)
    parser.add_argument("--copies", type=int, default=8, help="how often each mesh is in the job")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    folders = options.meshes or [REAL / "ModelNet40", REAL / "ModelNet10", REAL / "textured"]
    meshes = sorted(p for f in folders for p in f.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not meshes:
        sys.exit(f"no meshes in {', '.join(map(str, folders))}: give --meshes DIR")
    print(f"{len(meshes)} meshes × {options.copies}, {VIEWS} views of {options.size}²")
    with tempfile.TemporaryDirectory() as place:
        job = lay_out(meshes, options.copies, Path(place) / "meshes")
        for warm_up in (ours, theirs):  # compiled kernels and file caches, as on any second run
            warm_up(job[:2], Path(place) / f"warm_{warm_up.__name__}", options)
        rows = []
        for round_ in range(options.rounds):
            row = [
                timed(run, job, Path(place) / f"{run.__name__}_{round_}", options)
                for run in (theirs, ours)
            ]
            rows.append(row)
            report(f"round {round_}", row, len(job))
    report("median", [statistics.median(column) for column in zip(*rows, strict=True)], len(job))


def lay_out(meshes: list[Path], copies: int, place: Path) -> list[Path]:
    """One folder per mesh and copy, with links to the mesh and what lies beside it."""
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


def ours(job: list[Path], out: Path, options: argparse.Namespace) -> None:
    root = job[0].parents[1]
    command = [sys.executable, "-m", "pointcmt", "render", "--dataset", "folder", "--up", "z"]
    command += ["--root", root, "--out", out, "--workers", options.workers, "--size", options.size]
    run([*command, "--limit", len(job), "--log-format", "plain"])


def theirs(job: list[Path], out: Path, options: argparse.Namespace) -> None:
    run([sys.executable, SCRIPT, out, options.size, *job])


def run(command: list[object]) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command[:4]} failed:\n{done.stderr[-3000:]}")


def timed(run_job, job: list[Path], out: Path, options: argparse.Namespace) -> float:
    started = time.perf_counter()
    run_job(job, out, options)
    return time.perf_counter() - started


def report(name: str, row: list[float], shapes: int) -> None:
    baseline, own = row
    views = shapes * VIEWS
    print(
        f"{name:9} pyrender script {baseline:7.2f} s {views / baseline:6.0f} views/s   "
        f"pointcmt {own:7.2f} s {views / own:6.0f} views/s   ratio {baseline / own:5.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
