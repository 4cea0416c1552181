"""The tests of `pointcmt doctor`, and the remedy for each failure."""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pointcmt import plugins
from pointcmt.commands.doctor_files import CLOUDS, MESHES
from pointcmt.console import logger
from pointcmt.errors import PointcmtError
from pointcmt.extras import install


@dataclass(frozen=True)
class Finding:
    """One test. state: "ok", "missing" (an optional part) or "broken". remedy: how to fix it."""

    name: str
    state: str
    detail: str
    remedy: str = ""


def checks(folder: Path, compile_all: bool) -> dict[str, Callable[[], Finding]]:
    """Return all tests by name.

    folder: where stores will be written. compile_all: also test more readers, kinds of drawing and
    operations that are compiled on first use, so that they are cached.
    """
    rendering: dict[str, Callable[[], Finding]] = {
        "meshes": lambda: _meshes(MESHES if compile_all else ("square.off",)),
        "clouds": lambda: _clouds(CLOUDS if compile_all else ("points.xyz",)),
        "embree": _embree,
        **({"drawing": _drawing} if compile_all else {}),
        "egl": _egl,
    }
    return {
        "python": _python,
        "numba": _numba,
        **(rendering if find_spec("open3d") else {"render": _no_render}),
        "gpu": _gpu,
        "torch": _torch,
        **({"ops": _operations} if compile_all and find_spec("torch") else {}),
        "parts": _parts,
        "disk": lambda: _disk(folder),
    }


def result_of(name: str, check: Callable[[], Finding]) -> Finding:
    """Run a test; an error is a finding, too."""
    try:
        return check()
    except Exception as error:
        return Finding(name, "broken", f"{type(error).__name__}: {error}")


def _numba() -> Finding:
    """Import what compiles functions; from then on, the first one that it compiles is announced."""
    try:
        import numba

        _announce_compiling()
    except ImportError as error:  # numba also raises it for a numpy that is too new
        remedy = "pip install --upgrade numba, or the version of NumPy that this message names"
        return Finding("numba", "broken", str(error), remedy)
    return Finding("numba", "ok", numba.__version__)


def _announce_compiling() -> None:
    """Log when the first function is compiled, which takes seconds and happens once."""
    from numba.core import event

    class Announcer(event.Listener):
        said = False

        def on_start(self, _: Any) -> None:
            if not self.said:
                self.said = True
                logger.info("compiling functions that are not cached yet; this happens once")

        def on_end(self, _: Any) -> None:
            pass

    event.register("numba:compile", Announcer())


def _python() -> Finding:
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    detail = (
        f"{platform.python_version()} on {platform.platform()}, {cores} cores, {memory:.0f} GiB"
    )
    return Finding("python", "ok", detail)


def _no_render() -> Finding:
    """Return the finding for a training-only installation, which has no ray caster."""
    remedy = f"for rendering, {install('render')}"
    return Finding("render", "missing", "open3d is not installed", remedy)


def _meshes(names: Iterable[str]) -> Finding:
    """Read some of MESHES; this also compiles and caches the readers."""
    from pointcmt.render.load.meshes import load_mesh

    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            path = Path(folder) / name
            path.write_bytes(MESHES[name])
            if load_mesh(path, normals=b"\nvn " in MESHES[name]).vertices.max() != 1:
                return Finding(
                    "meshes", "broken", f"{name} was read incorrectly", "report this as a bug"
                )
    from pointcmt.datasets.sources import formats

    images = ", ".join(suffix for each in formats.IMAGES.values() for suffix in each)
    read = ", ".join(formats.MESHES)
    tested = _tested(names, MESHES)
    return Finding("meshes", "ok", f"{read}; textures: {images}; {tested}")


def _clouds(names: Iterable[str]) -> Finding:
    """Read some of CLOUDS and numpy's files; this also compiles and caches the readers."""
    import numpy as np

    from pointcmt.datasets.store.schema import ShapeRecord
    from pointcmt.render.load.clouds import CloudLoader

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in names:
            (root / name).write_bytes(CLOUDS[name])
        expected = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
        np.save(root / "points.npy", expected)
        np.savez(root / "points.npz", points=expected)
        loader = CloudLoader("clouds", root)
        for name in (*names, "points.npy", "points.npz"):
            cloud, _ = loader.load(ShapeRecord(name, None, "train", name))
            if not np.array_equal(cloud.points, expected):
                what = f"{name} was read incorrectly"
                return Finding("clouds", "broken", what, "report this as a bug")
    from pointcmt.datasets.sources import formats

    read, tested = ", ".join(formats.CLOUDS), _tested((*names, ".npy", ".npz"), CLOUDS)
    return Finding("clouds", "ok", f"{read}; .h5 of the datasets that use it; {tested}")


def _tested(names: Iterable[str], files: Iterable[str]) -> str:
    """Return which formats were tested, and which of these files' formats --compile would add."""
    tested, more = (
        list(dict.fromkeys(f".{name.rpartition('.')[2]}" for name in each))
        for each in (names, files)
    )
    rest = ", ".join(suffix for suffix in more if suffix not in tested)
    return f"tested: {', '.join(tested)}" + (f"; with --compile also {rest}" if rest else "")


def _embree() -> Finding:
    """Render a textured shape on the CPU; this also compiles and caches the kernels."""
    from pointcmt.render.startup import remedy

    try:
        import open3d
    except ImportError as error:
        return Finding("embree", "broken", f"open3d cannot be loaded: {error}", remedy(error))
    import numpy as np

    from pointcmt.cameras import find_rig
    from pointcmt.datasets.sources import toy
    from pointcmt.geometry import normalize, sample_points, shape_seed
    from pointcmt.render.config import RenderConfig
    from pointcmt.render.draw.cpu import draw_views
    from pointcmt.render.draw.raycaster import RayCaster
    from pointcmt.render.draw.visibility import visible_points

    config = RenderConfig(find_rig("ortho6"), size=64)
    mesh, _ = normalize(toy.build("table/0000"), "z")
    started = time.perf_counter()
    caster, camera = RayCaster(mesh), config.rig.cameras(config.size)
    views = draw_views(caster, camera, config)
    points, faces = sample_points(mesh, 256, shape_seed(0, "doctor"))
    visible_points(caster, points.astype(np.float32), faces, camera)
    seconds = time.perf_counter() - started
    if not np.any(views.face_index >= 0):
        return Finding(
            "embree", "broken", "a test shape rendered to nothing", "report this as a bug"
        )
    return Finding("embree", "ok", f"open3d {open3d.__version__}, test shape in {seconds:.2f} s")


def _drawing() -> Finding:
    """Draw a cloud, and a shape with smooth normals; this also compiles and caches the kernels."""
    import numpy as np

    from pointcmt.cameras import find_rig
    from pointcmt.datasets.sources import toy
    from pointcmt.geometry import normalize, normalize_cloud, sample_points, shape_seed
    from pointcmt.render.config import RenderConfig
    from pointcmt.render.draw import splatter
    from pointcmt.render.draw.cpu import draw_views
    from pointcmt.render.draw.raycaster import RayCaster
    from pointcmt.render.load.corner_normals import for_shading
    from pointcmt.shapes import Cloud

    config = RenderConfig(find_rig("ortho6"), size=64, shading="smooth", crease_angle=30.0)
    camera = config.rig.cameras(config.size)
    mesh, _ = normalize(toy.build("table/0000"), "z")
    smooth = for_shading(mesh, config.shading, config.crease_angle)
    meshes = draw_views(RayCaster(smooth), camera, config)
    points, _ = sample_points(mesh, 256, shape_seed(0, "doctor"))
    cloud, _ = normalize_cloud(Cloud(points, np.tile([0.0, 0, 1], (len(points), 1))), "z")
    splats = splatter.splat(cloud.points, camera, 1.5)
    clouds = splatter.draw_cloud(cloud, splats, camera, config)
    if not all(np.any(views.face_index >= 0) for views in (meshes, clouds)):
        return Finding(
            "drawing", "broken", "a test shape rendered to nothing", "report this as a bug"
        )
    return Finding("drawing", "ok", "a cloud as discs, and a shape with smooth normals")


def _egl() -> Finding:
    """Draw a triangle on every EGL device, in a separate process, since a driver may crash it."""
    probe = [sys.executable, "-m", "pointcmt.render.draw.egl.probe"]
    done = subprocess.run(probe, capture_output=True, text=True, timeout=120)
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        remedy = "update the driver, or use --backend embree"
        return Finding("egl", "missing", f"the EGL driver crashed the process with {name}", remedy)
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        return Finding(
            "egl", "broken", done.stderr.strip()[-500:] or "no output", "report this as a bug"
        )
    state = "ok" if found["works"] else "missing"
    return Finding("egl", state, "; ".join(found["devices"]), found["remedy"])


def _gpu() -> Finding:
    if shutil.which("nvidia-smi") is None:
        return Finding(
            "gpu", "missing", "nvidia-smi not found", "optional: rendering also works on the CPU"
        )
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=60)
    if done.returncode:
        return Finding(
            "gpu", "broken", done.stdout.strip() or done.stderr.strip(), "check the NVIDIA driver"
        )
    return Finding("gpu", "ok", "; ".join(done.stdout.strip().splitlines()))


def _torch() -> Finding:
    try:
        import torch
    except ImportError as error:
        return Finding("torch", "missing", str(error), f"for training, {install('train')}")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU only"
    return Finding("torch", "ok", f"{torch.__version__}, {device}")


def _operations() -> Finding:
    """Run the compiled operations of training on a CPU; this also caches them."""
    import torch

    from pointcmt.training import ops
    from pointcmt.training.ops.emd import earth_movers_distance

    points = torch.rand(2, 64, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    room = points.detach()[:1].repeat(1, 64, 1)  # large clouds are searched with a tree
    ops.farthest_points(points, 16)
    ops.farthest_points(room, 16)
    ops.ball_query(points, points, 0.5, 8)
    index, _ = ops.k_nearest(points, points, 8)
    ops.k_nearest(points, points, 3)  # so few are searched in another way
    ops.k_nearest(points[:, :8], points[:, :8], 8)
    ops.gather(points, index).sum().backward()
    distance, _ = earth_movers_distance(points.detach(), points.detach().flip(1))
    if distance.max() > 1e-6 or index[..., 0].ne(torch.arange(64)).any():
        return Finding("ops", "broken", "wrong neighbors or distances", "report this as a bug")
    return Finding("ops", "ok", "sampling, neighbors and the earth mover's distance on the CPU")


def _parts() -> Finding:
    """Import the data sources, networks and recipes that other packages provide."""
    found, broken = [], []
    for group in plugins.GROUPS:
        for name in plugins.names(group):
            try:
                plugins.find(group, name)
                found.append(f"{group.what} {name} ({plugins.origin(group, name)})")
            except PointcmtError as error:
                broken.append(f"{group.what} {name}: {error.what}")
    if broken:
        remedy = "update or uninstall the package that provides it (docs/own-parts.md)"
        return Finding("parts", "broken", "; ".join(broken), remedy)
    return Finding("parts", "ok", "; ".join(found) or "none from other packages")


def _disk(folder: Path) -> Finding:
    """Write and sync a file where stores will go."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            started = time.perf_counter()
            file.write(os.urandom(1 << 24))
            file.flush()
            os.fsync(file.fileno())
            speed = 16 / (time.perf_counter() - started)
    except OSError as error:
        remedy = "choose another folder, or free some space"
        return Finding("disk", "broken", f"{folder}: {error.strerror}", remedy)
    free = shutil.disk_usage(folder).free / 2**30
    return Finding("disk", "ok", f"{folder}: {free:.0f} GiB free, {speed:.0f} MiB/s synced")
