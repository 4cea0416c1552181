"""Choose the renderer: EGL on a GPU, Embree on the CPU, or pyrender on request."""

import os
from typing import TYPE_CHECKING, Protocol

from pointcmt.cameras import Camera
from pointcmt.errors import DependencyError, PointcmtError, Reason, ShapeRefused
from pointcmt.render.config import RenderConfig
from pointcmt.render.draw.cpu import draw_views
from pointcmt.render.draw.egl.remedies import has_gpu
from pointcmt.render.draw.scene import Scene
from pointcmt.render.draw.views import Views

if TYPE_CHECKING:
    from pointcmt.render.draw.egl.rasterizer import Rasterizer

LARGE = 2_000_000  # faces: with this many, even an idle GPU may run out of memory


class Renderer(Protocol):
    """A renderer. backend: its name; reason: why it was chosen. Both are stored per shape."""

    backend: str
    reason: str

    def render(self, scene: Scene, camera: Camera, config: RenderConfig) -> Views:
        """Draw the scene from cameras [V]. Raises ShapeRefused."""
        ...


def make_renderer(name: str, device: str = "auto", worker: int = 0, threads: int = 1) -> Renderer:
    """Return the renderer for a backend's name: auto, egl, embree or pyrender.

    device: --device. worker: this process' number, used to share GPUs. threads: maximum for a
    software driver. Raises DependencyError if a backend requested by name does not work.
    """
    if name == "auto":
        return _choose(device, worker, threads)
    if name == "egl":
        return _Egl(device, worker, threads, "requested")
    if name == "pyrender":
        from pointcmt.render.draw.pyrender import Pyrender

        return Pyrender("requested")
    return _Embree("requested")


def _choose(device: str, worker: int, threads: int) -> Renderer:
    """Return a GPU renderer if one works, else Embree.

    Embree was faster than software GL on every mesh measured (benchmarks/RESULTS.md), so Mesa's
    software renderer is never chosen automatically.
    """
    if device != "auto":
        return _Egl(device, worker, threads, "device requested")
    if not has_gpu():
        return _Embree("no GPU found")
    try:
        renderer = _Egl(device, worker, threads, "a GPU")
    except DependencyError as error:
        return _Embree(f"no GPU that EGL can use: {error.what}")
    if renderer.software:
        renderer.close()
        return _Embree("no GPU that EGL can use, only a software renderer; see `pointcmt doctor`")
    return renderer


class _Embree:
    backend = "embree"

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def render(self, scene: Scene, camera: Camera, config: RenderConfig) -> Views:
        return draw_views(scene, camera, config)


class _Egl:
    backend = "egl"

    def __init__(self, device: str, worker: int, threads: int, reason: str) -> None:
        # By default Mesa starts a thread per core in every process, which slows all of them down.
        os.environ.setdefault("LP_NUM_THREADS", str(threads))
        self._device, self._worker = device, worker
        self._rasterizer = self._make()
        self.software = self._rasterizer.context.software
        self.reason = f"{reason}: {self._rasterizer.context.renderer}"

    def render(self, scene: Scene, camera: Camera, config: RenderConfig) -> Views:
        from pointcmt.render.draw.egl.contexts import ContextLost, OutOfMemory

        drawn = scene.surface, scene.faces, camera, config, scene.cast, scene.sides
        try:
            return self._rasterizer.render(*drawn)
        except (ContextLost, OutOfMemory):
            self.close()
        self._rasterizer = self._make()  # if this fails, the machine is at fault
        try:
            return self._rasterizer.render(*drawn)
        except ContextLost as error:
            self.close()
            raise ShapeRefused(
                Reason.CRASHED, f"the driver lost its context twice: {error}"
            ) from error
        except OutOfMemory as error:
            self.close()
            if len(scene.faces) > LARGE:
                raise ShapeRefused(Reason.TOO_LARGE, str(error)) from error
            raise PointcmtError(
                str(error), where="the EGL renderer", fix="use fewer --workers, or another --device"
            ) from error

    def close(self) -> None:
        self._rasterizer.close()

    def _make(self) -> "Rasterizer":
        try:
            return _open(self._device, self._worker)
        except PointcmtError:
            raise
        except Exception as error:  # drivers and PyOpenGL raise many kinds of errors
            raise DependencyError(
                f"the EGL driver does not work: {type(error).__name__}: {error}",
                where="the EGL renderer",
                fix="run `pointcmt doctor`, or use --backend embree",
            ) from error


def _open(device: str, worker: int) -> "Rasterizer":
    """Open a rasterizer on the requested device; "auto" shares GPUs of one kind evenly."""
    from pointcmt.render.draw.egl.contexts import choose, list_devices, share
    from pointcmt.render.draw.egl.rasterizer import Rasterizer

    devices = list_devices()
    if device != "auto":
        return Rasterizer(choose(devices, device, worker))
    mine = share(devices, worker)
    if mine is not None:
        return Rasterizer(mine)
    working: list[Rasterizer] = []
    failures = []
    for candidate in devices:
        if candidate.software and working:
            break
        try:
            working.append(Rasterizer(candidate))
        except DependencyError as error:  # Mesa also lists the GPUs of other drivers
            failures.append(error)
    if not working:
        raise failures[0]
    alike = [r for r in working if r.context.renderer == working[0].context.renderer]
    chosen = alike[worker % len(alike)]
    for other in working:
        if other is not chosen:
            other.close()
    return chosen
