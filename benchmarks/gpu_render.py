"""The EGL renderer on this machine: correctness, speed, and where the time goes.

Usage: python benchmarks/gpu_render.py [--quick] [--device auto] [--shapes 400] [--table FILE]

Needs no network and no data: meshes are made as it runs. Under 8 minutes with a GPU; --quick takes
two minutes on software OpenGL. Prints, in this order: the devices; agreement with Embree; views a
second by faces and image size, beside Embree's on one core; where one shape's time goes; whole
jobs through the command line, with one worker and with all cores.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pointcmt.cameras import find_rig
from pointcmt.datasets.sources import toy
from pointcmt.datasets.store.schema import pack_visible
from pointcmt.geometry import normalize, sample_points, shape_seed
from pointcmt.render.config import RenderConfig
from pointcmt.render.draw.cpu import draw_views
from pointcmt.render.draw.egl import contexts
from pointcmt.render.draw.egl.rasterizer import Rasterizer
from pointcmt.render.draw.raycaster import RayCaster
from pointcmt.render.draw.visibility import visible_points
from pointcmt.render.load.meshes import load_mesh
from pointcmt.shapes import Mesh

CONFIG = RenderConfig(find_rig("dodeca20"))
CAMERA = CONFIG.rig.cameras(CONFIG.size)
VIEWS = len(CONFIG.rig.views)
SIZES = (224, 512)
BUSY = 0.85  # share of its time that a worker computes, from which on the CPU is the limit
FACES = (100, 1_000, 10_000, 50_000, 200_000, 1_000_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller meshes")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--shapes", type=int, default=400, help="of the whole jobs")
    parser.add_argument("--table", type=Path, help="write the whole jobs to this Markdown file")
    options = parser.parse_args()
    devices = contexts.list_devices()
    print("\n".join(map(str, devices)))
    with Rasterizer(pick(devices, options.device)) as rasterizer:
        print(f"drawing on {rasterizer.context.renderer}, OpenGL {rasterizer.context.version}")
        agreement(rasterizer)
        speeds(rasterizer, FACES[:4] if options.quick else FACES)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "meshes"
            count = min(40, options.shapes) if options.quick else options.shapes
            sizes = write_meshes(folder, count)
            middle = np.median(sizes)
            print(f"\n{count} meshes of {min(sizes)}–{max(sizes)} faces, median {middle:.0f}")
            split(rasterizer, sorted(folder.rglob("*.off"))[:20])
            rows = jobs(folder, Path(place), count, options.device)
            if options.table:
                write_table(rows, count, rasterizer.context.renderer, options.table)


def pick(devices: list[contexts.Device], name: str) -> contexts.Device:
    return devices[0] if name == "auto" else contexts.choose(devices, name)


def surface(faces: int, seed: int = 0) -> Mesh:
    """Return a closed, bumpy surface of about `faces` faces inside the unit sphere."""
    rows = max(4, round(np.sqrt(faces / 4)))
    columns = 2 * rows
    bump = np.random.default_rng(seed).uniform(1, 6, 4)
    theta = np.linspace(0, np.pi, rows + 1)[:, None]
    phi = np.linspace(0, 2 * np.pi, columns, endpoint=False)[None]
    radius = 0.75 + 0.2 * np.sin(bump[0] * theta + bump[1]) * np.cos(np.round(bump[2]) * phi)
    x, y = radius * np.sin(theta) * np.cos(phi), radius * np.sin(theta) * np.sin(phi)
    vertices = np.stack([x, y, radius * np.cos(theta) + 0 * phi], axis=-1).reshape(-1, 3)
    grid = np.arange((rows + 1) * columns).reshape(rows + 1, columns)
    a, b = grid[:-1].ravel(), grid[1:].ravel()
    c, d = np.roll(grid, -1, 1)[1:].ravel(), np.roll(grid, -1, 1)[:-1].ravel()
    quads = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    return normalize(Mesh(vertices, quads.astype(np.int32)), "z")[0]


def agreement(rasterizer: Rasterizer) -> None:
    print(f"\n{'agrees with Embree':24}{'mask':>10}{'faces':>10}{'depth':>10}{'color':>10}")
    made = {
        f"toy {name}": normalize(toy.build(name), "z")[0] for name in ("chair/0001", "mug/0003")
    }
    made |= {f"surface, {count} faces": surface(count) for count in (1_000, 50_000)}
    for name, mesh in made.items():
        caster = RayCaster(mesh)
        cpu = draw_views(caster, CAMERA, CONFIG)
        gpu = rasterizer.render(caster.surface, caster.faces, CAMERA, CONFIG)
        left, right = cpu.face_index, gpu.face_index
        covered, same = (left >= 0) & (right >= 0), left == right
        wide = np.pad(left, ((0, 0), (1, 1), (1, 1)), mode="edge")
        near = [
            wide[:, i : i + CONFIG.size, j : j + CONFIG.size] for i in range(3) for j in range(3)
        ]
        inside = covered & same & np.all([image == left for image in near], axis=0)
        step = np.abs(cpu.rgb[inside].astype(int) - gpu.rgb[inside]).max(axis=-1, initial=0)
        depth = np.abs(cpu.depth - gpu.depth)[covered & same].max()
        color = f"{np.mean(step <= 4):10.3%}" if len(step) else f"{'no inside':>10}"
        mask = np.mean((left >= 0) == (right >= 0))
        print(f"{name:24}{mask:10.4%}{same[covered].mean():10.3%}{depth:10.1e}{color}")


def speeds(rasterizer: Rasterizer, faces: tuple[int, ...]) -> None:
    titles = "".join(f"{f'EGL {size}²':>12}{'Embree':>10}" for size in SIZES)
    print(f"\n{'views/s, drawing only':24}{titles}")
    for count in faces:
        caster = RayCaster(surface(count))
        row = f"{f'{len(caster.faces)} faces':24}"
        for size in SIZES:
            config = RenderConfig(CONFIG.rig, size=size)
            row += f"{rate(rasterizer.render, *parts(caster), config):12.0f}"
            row += f"{rate(draw_views, caster, config):10.0f}"
        print(row, flush=True)


def parts(caster: RayCaster):
    return caster.surface, caster.faces


def rate(draw, *arguments, seconds: float = 1.5) -> float:
    """Return views per second of draw(…, cameras, configuration), without the first call."""
    *scene, config = arguments
    camera = config.rig.cameras(config.size)
    draw(*scene, camera, config)
    started, calls = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        draw(*scene, camera, config)
        calls += 1
    return calls * VIEWS / (time.perf_counter() - started)


def write_meshes(folder: Path, count: int) -> list[int]:
    """Write OFF files with face counts like ModelNet's: half of them under 3,000."""
    rng = np.random.default_rng(0)
    sizes = []
    for index in range(count):
        mesh = surface(int(np.clip(rng.lognormal(np.log(3_000), 1.6), 100, 200_000)), seed=index)
        path = folder / f"class_{index % 10}/train/shape_{index:04d}.off"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            file.write(f"OFF\n{len(mesh.vertices)} {len(mesh.faces)} 0\n")
            np.savetxt(file, mesh.vertices, fmt="%.7g")
            np.savetxt(file, np.c_[np.full(len(mesh.faces), 3), mesh.faces], fmt="%d")
        sizes.append(len(mesh.faces))
    return sizes


def split(rasterizer: Rasterizer, paths: list[Path]) -> None:
    """Print milliseconds per shape of each step, with synchronization after each."""
    spent: dict[str, float] = defaultdict(float)
    gl = rasterizer.gl

    def timed(name, call, wait=False):
        def run(*arguments):
            started = time.perf_counter()
            result = call(*arguments)
            if wait:
                gl.glFinish()
            spent[name] += time.perf_counter() - started
            return result

        return run

    rasterizer.mesh.upload = timed("upload", rasterizer.mesh.upload, wait=True)
    rasterizer._draw = timed("draw", rasterizer._draw, wait=True)
    rasterizer.render(*parts(RayCaster(surface(100))), CAMERA, CONFIG)  # creates the render targets
    rasterizer.targets.read = timed("read back", rasterizer.targets.read, wait=True)
    spent.clear()
    for path in paths:
        mesh, _ = normalize(timed("load", load_mesh)(path), "z")
        sample = timed("points", sample_points)
        points, point_face = sample(mesh, CONFIG.points, shape_seed(0, path.stem))
        caster = timed("build", RayCaster)(mesh)
        timed("render", rasterizer.render)(*parts(caster), CAMERA, CONFIG, caster.cast)
        see = timed("visibility", visible_points)
        pack_visible(see(caster, points.astype(np.float32), point_face, CAMERA))
    spent["depth, rest"] = spent.pop("render") - sum(
        spent[n] for n in ("upload", "draw", "read back")
    )
    print("ms per shape: " + ", ".join(f"{k} {1e3 * v / len(paths):.1f}" for k, v in spent.items()))
    print("(encoding and writing the store: what the whole jobs below take beyond that)")


@dataclass(frozen=True)
class JobRow:
    """A whole job: wall seconds, and those that its processes spent on the CPU."""

    backend: str
    workers: int
    seconds: float
    cpu: float

    @property
    def bound(self) -> str:
        """What limits it: workers that hardly wait are limited by the CPU."""
        busy = self.cpu / self.seconds / min(self.workers, len(os.sched_getaffinity(0)))
        return "CPU" if busy >= BUSY else "device, driver or disk"


def jobs(folder: Path, place: Path, count: int, device: str) -> list[JobRow]:
    """Render the folder with 1, 2, 4, … workers, and with a worker for each core."""
    cores = len(os.sched_getaffinity(0))
    numbers = sorted({cores, *(2**n for n in range(cores.bit_length()) if 2**n <= cores)})
    print(f"\n{'whole jobs':14}{'workers':>9}{'seconds':>10}{'views/s':>10}{'CPU s':>10}  bound")
    rows = []
    for backend in ("egl", "embree"):
        for workers in numbers:
            out = place / f"{backend}_{workers}"
            command = ["render", "--dataset", "folder", "--root", folder, "--up", "z", "--out", out]
            command += ["--backend", backend, "--workers", workers]
            command += ["--device", device] if backend == "egl" else []
            started, spent = time.perf_counter(), children_cpu()
            words = [sys.executable, "-m", "pointcmt", *map(str, command)]
            done = subprocess.run(words, capture_output=True, text=True)
            row = JobRow(backend, workers, time.perf_counter() - started, children_cpu() - spent)
            if done.returncode:
                sys.exit(done.stderr[-2000:])
            rows.append(row)
            cells = f"{row.seconds:10.1f}{count * VIEWS / row.seconds:10.0f}{row.cpu:10.1f}"
            print(f"{backend:14}{workers:9}{cells}  {row.bound}", flush=True)
    return rows


def children_cpu() -> float:
    """Return the CPU seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def write_table(rows: list[JobRow], count: int, renderer: str, path: Path) -> None:
    """Write the whole jobs as Markdown."""
    lines = [
        f"{count} meshes, {VIEWS} views of {CONFIG.size}², from process start to the last byte; "
        f"{renderer}, {len(os.sched_getaffinity(0))} cores.",
        "",
        "| backend | workers | views/s | seconds | CPU seconds | limited by |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        speed = f"{count * VIEWS / row.seconds:.0f} | {row.seconds:.1f} | {row.cpu:.1f}"
        lines.append(f"| {row.backend} | {row.workers} | {speed} | {row.bound} |")
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
