"""Which renderer draws: EGL on a GPU, Embree on the CPU, or pyrender for those who ask for it."""

import glob
import os
from typing import Protocol

from pointcmt.cameras import Camera
from pointcmt.errors import DependencyError, Reason, ShapeRefused
from pointcmt.render.config import RenderConfig
from pointcmt.render.raycaster import RayCaster, Views

# Where Linux shows a GPU to programs that may use it; "/dev/dxg" is Windows' subsystem for Linux.
GPU_FILES = ("/dev/dri/renderD*", "/dev/nvidia[0-9]*", "/dev/dxg")


class Renderer(Protocol):
    """Draws shapes. backend: its name; reason: why it was chosen. Both are stored per shape."""

    backend: str
    reason: str

    def render(self, caster: RayCaster, camera: Camera, config: RenderConfig) -> Views:
        """Draw the caster's shape from cameras [V]. Raises ShapeRefused."""
        ...


def make_renderer(name: str, device: str = "auto", worker: int = 0, threads: int = 1) -> Renderer:
    """The renderer of a backend's name: auto, egl, embree or pyrender.

    device: --device. worker: this process' number, by which GPUs are shared. threads: how many a
    software driver may use. Raises DependencyError where a backend asked for by name cannot work.
    """
    if name == "auto":
        return _choose(device, worker, threads)
    if name == "egl":
        return _Egl(device, worker, threads, "asked for")
    if name == "pyrender":
        from pointcmt.render.pyrender_backend import Pyrender

        return Pyrender("asked for")
    return _Embree("asked for")


def _choose(device: str, worker: int, threads: int) -> Renderer:
    """A GPU where there is one that works, else Embree.

    On software GL Embree was faster on every mesh measured, from 96 faces to a million
    (benchmarks/RESULTS.md), so Mesa is never chosen by itself.
    """
    if device == "auto" and not any(glob.glob(pattern) for pattern in GPU_FILES):
        return _Embree("no GPU here")
    try:
        renderer = _Egl(device, worker, threads, "a GPU")
    except DependencyError as error:
        return _Embree(f"no GPU that EGL can use: {error.what}")
    if renderer.software and device == "auto":
        renderer.close()
        return _Embree("only software OpenGL here, where Embree is faster")
    return renderer


class _Embree:
    backend = "embree"

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def render(self, caster: RayCaster, camera: Camera, config: RenderConfig) -> Views:
        return caster.render(camera, config)


class _Egl:
    backend = "egl"

    def __init__(self, device: str, worker: int, threads: int, reason: str) -> None:
        # Mesa takes a thread per core in every process, which slows all of them down.
        os.environ.setdefault("LP_NUM_THREADS", str(threads))
        from pointcmt.render import egl
        from pointcmt.render.rasterizer import Rasterizer

        self._lost = egl.ContextLost
        self._make = lambda: Rasterizer(egl.choose(egl.list_devices(), device, worker))
        self._rasterizer = self._make()
        self.software = self._rasterizer.context.software
        self.reason = f"{reason}: {self._rasterizer.context.renderer}"

    def render(self, caster: RayCaster, camera: Camera, config: RenderConfig) -> Views:
        try:
            return self._rasterizer.render(caster.surface, caster.faces, camera, config)
        except self._lost:
            self.close()
        try:  # once more on a new context: the loss may have been the machine's doing
            self._rasterizer = self._make()
            return self._rasterizer.render(caster.surface, caster.faces, camera, config)
        except self._lost as error:
            raise ShapeRefused(Reason.CRASHED, f"the driver gave up twice: {error}") from error

    def close(self) -> None:
        self._rasterizer.close()
