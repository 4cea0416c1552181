"""OpenGL without a display: the EGL devices of this machine, and contexts on them.

A context belongs to the process that made it: a child forked later would hang in the driver, so it
is refused there. Contexts are destroyed, displays never terminated (`eglTerminate` would kill every
other context on the same GPU).
"""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pointcmt.errors import DependencyError, PointcmtError, UsageError
from pointcmt.render import egl_remedies as remedies

MAX_DEVICES = 64
GL_VERSION = (3, 3)
DEVICE_AUTO = "auto"
SOFTWARE = ("llvmpipe", "softpipe", "swrast", "software rasterizer")  # GL_RENDERER of Mesa on a CPU

# EGL's numbers that PyOpenGL has no names for, from the Khronos registry.
EGL_CUDA_DEVICE_NV = 0x323A
EGL_DRM_DEVICE_FILE_EXT = 0x3233
EGL_CONTEXT_OPENGL_RESET_NOTIFICATION_STRATEGY = 0x31BD
EGL_LOSE_CONTEXT_ON_RESET = 0x31BF


class ContextLost(Exception):
    """The driver dropped a context (a GPU reset, a driver update); a new one may work."""


@dataclass(frozen=True)
class Device:
    """One EGL device. index: its number for --device; cuda: CUDA's number of the same GPU."""

    index: int
    handle: Any
    software: bool
    cuda: int | None = None
    drm: str = ""

    def __str__(self) -> str:
        kind = "software" if self.software else "GPU"
        known = [f"CUDA {self.cuda}" if self.cuda is not None else "", self.drm]
        extra = ", ".join(filter(None, known))
        return f"{self.index}: {kind}" + (f" ({extra})" if extra else "")


def load() -> Any:
    """PyOpenGL's EGL module. Raises DependencyError with the remedy where it cannot be loaded."""
    _refuse_after_fork()
    platform = os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
    if platform != "egl":
        raise DependencyError(
            f"PyOpenGL is told to use '{platform}' instead of EGL",
            where="PYOPENGL_PLATFORM",
            fix="unset it, or set it to egl",
        )
    try:
        import OpenGL
        import OpenGL.EGL as egl  # before OpenGL.GL and before the switches: 3.1.10 needs it so

        OpenGL.ERROR_CHECKING = False  # one glGetError per shape instead of one per call
        OpenGL.STORE_POINTERS = False
        import OpenGL.GL
    except (ImportError, AttributeError, TypeError) as error:
        raise DependencyError(
            f"EGL cannot be loaded: {error}", where="the EGL renderer", fix=remedies.no_library()
        ) from error
    return egl


def list_devices() -> list[Device]:
    """All devices: GPUs in CUDA's order (as CUDA_VISIBLE_DEVICES has it), then software.

    Raises DependencyError where there is no EGL, or no device at all.
    """
    egl = load()
    from OpenGL.EGL.EXT.device_base import eglQueryDevicesEXT

    if not eglQueryDevicesEXT:
        raise DependencyError(
            "this EGL cannot list its devices (EGL_EXT_device_enumeration)",
            where="the EGL renderer",
            fix=remedies.no_vendor(),
        )
    count, handles = egl.EGLint(), (egl.EGLDeviceEXT * MAX_DEVICES)()
    if not _try(eglQueryDevicesEXT, MAX_DEVICES, handles, count) or not count.value:
        raise DependencyError(
            "EGL knows no device", where="the EGL renderer", fix=remedies.no_vendor()
        )
    found = [_describe(egl, handle) for handle in handles[: count.value]]
    return [
        Device(index, *facts) for index, facts in enumerate(_in_order(found, _visible_to_cuda()))
    ]


def choose(devices: Sequence[Device], name: str, worker: int = 0) -> Device:
    """The device that --device names; "auto" shares the GPUs evenly among workers.

    Raises UsageError for a number that is none of the devices.
    """
    if name == DEVICE_AUTO:
        gpus = [device for device in devices if not device.software]
        return gpus[worker % len(gpus)] if gpus else devices[0]
    numbers = {str(device.index): device for device in devices}
    if name not in numbers:
        raise UsageError(
            f"there is no EGL device '{name}'",
            where="--device",
            fix="auto, or one of " + "; ".join(map(str, devices)),
        )
    return numbers[name]


class Context:
    """A GL context on a device; use it inside of `with context.current():`, from any thread.

    renderer: what the driver calls itself. Raises DependencyError where none can be made.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self._egl = load()
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._display = self._open_display()
        config = self._choose_config()
        self._surface = self._make_surface(config)
        self._context = self._make_context(config)
        try:
            with self.current():
                from OpenGL import GL

                self.renderer = (GL.glGetString(GL.GL_RENDERER) or b"?").decode()
                self.version = (GL.glGetString(GL.GL_VERSION) or b"?").decode()
        except BaseException:
            self.close()
            raise
        self.software = any(name in self.renderer.lower() for name in SOFTWARE)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Have GL calls of this thread go to this context. Raises ContextLost, PointcmtError."""
        if os.getpid() != self._pid:
            raise PointcmtError(
                "this renderer was made in a process that has been forked since",
                where="the EGL renderer",
                fix="make it in the process that uses it: start workers with spawn or forkserver",
            )
        egl = self._egl
        with self._lock:
            surface = self._surface
            if not _try(egl.eglMakeCurrent, self._display, surface, surface, self._context):
                raise ContextLost(f"eglMakeCurrent failed ({_error()})")
            try:
                yield
            finally:
                none = egl.EGL_NO_SURFACE
                _try(egl.eglMakeCurrent, self._display, none, none, egl.EGL_NO_CONTEXT)

    def close(self) -> None:
        """Destroy the context and all that was made in it; may be called twice."""
        if self._context is None or os.getpid() != self._pid:
            return
        egl, context = self._egl, self._context
        self._context = None
        _try(egl.eglDestroyContext, self._display, context)
        if self._surface is not egl.EGL_NO_SURFACE:
            _try(egl.eglDestroySurface, self._display, self._surface)

    def _open_display(self) -> Any:
        from OpenGL.EGL.EXT.platform_base import eglGetPlatformDisplayEXT
        from OpenGL.EGL.EXT.platform_device import EGL_PLATFORM_DEVICE_EXT

        egl = self._egl
        handle = self.device.handle
        display = _try(eglGetPlatformDisplayEXT, EGL_PLATFORM_DEVICE_EXT, handle, None)
        if not display or not _try(egl.eglInitialize, display, egl.EGLint(), egl.EGLint()):
            raise self._failure(f"EGL cannot open it ({_error()})")
        if not _try(egl.eglBindAPI, egl.EGL_OPENGL_API):
            raise self._failure("this EGL has OpenGL ES only")
        self._extensions = (egl.eglQueryString(display, egl.EGL_EXTENSIONS) or b"").decode().split()
        return display

    def _choose_config(self) -> Any:
        egl = self._egl
        wanted = [egl.EGL_RENDERABLE_TYPE, egl.EGL_OPENGL_BIT]
        wanted += [egl.EGL_SURFACE_TYPE, egl.EGL_PBUFFER_BIT, egl.EGL_NONE]
        configs, count = (egl.EGLConfig * 1)(), egl.EGLint()
        attributes = (egl.EGLint * len(wanted))(*wanted)
        _try(egl.eglChooseConfig, self._display, attributes, configs, 1, count)
        if not count.value:
            raise self._failure("EGL offers no configuration for OpenGL")
        return configs[0]

    def _make_surface(self, config: Any) -> Any:
        """A surface nobody draws on, only where the driver insists on one."""
        egl = self._egl
        if "EGL_KHR_surfaceless_context" in self._extensions:
            return egl.EGL_NO_SURFACE
        size = (egl.EGLint * 5)(egl.EGL_WIDTH, 1, egl.EGL_HEIGHT, 1, egl.EGL_NONE)
        surface = _try(egl.eglCreatePbufferSurface, self._display, config, size)
        if not surface:
            raise self._failure(f"EGL gives no surface ({_error()})")
        return surface

    def _make_context(self, config: Any) -> Any:
        egl = self._egl
        version = [egl.EGL_CONTEXT_MAJOR_VERSION, GL_VERSION[0]]
        version += [egl.EGL_CONTEXT_MINOR_VERSION, GL_VERSION[1]]
        version += [egl.EGL_CONTEXT_OPENGL_PROFILE_MASK, egl.EGL_CONTEXT_OPENGL_CORE_PROFILE_BIT]
        tells_loss = [EGL_CONTEXT_OPENGL_RESET_NOTIFICATION_STRATEGY, EGL_LOSE_CONTEXT_ON_RESET]
        for extra in (tells_loss, []):
            words = [*version, *extra, egl.EGL_NONE]
            attributes = (egl.EGLint * len(words))(*words)
            none = egl.EGL_NO_CONTEXT
            context = _try(egl.eglCreateContext, self._display, config, none, attributes)
            if context:
                return context
        want = ".".join(map(str, GL_VERSION))
        raise self._failure(f"it has no OpenGL {want} core context ({_error()})")

    def _failure(self, what: str) -> DependencyError:
        return DependencyError(
            f"EGL device {self.device} does not work: {what}",
            where="the EGL renderer",
            fix=remedies.no_driver(self.device.software),
        )


def _describe(egl: Any, handle: Any) -> tuple[Any, bool, int | None, str]:
    """A device's handle, whether it is software, CUDA's number of it, and its device file."""
    from OpenGL.EGL.EXT.device_query import eglQueryDeviceAttribEXT, eglQueryDeviceStringEXT
    from OpenGL.raw.EGL._types import EGLAttrib

    extensions = (eglQueryDeviceStringEXT(handle, egl.EGL_EXTENSIONS) or b"").decode().split()
    software = "EGL_MESA_device_software" in extensions
    cuda, drm = None, ""
    if "EGL_NV_device_cuda" in extensions:
        number = EGLAttrib()
        if _try(eglQueryDeviceAttribEXT, handle, EGL_CUDA_DEVICE_NV, number):
            cuda = int(number.value)
    if "EGL_EXT_device_drm" in extensions and not software:
        drm = (eglQueryDeviceStringEXT(handle, EGL_DRM_DEVICE_FILE_EXT) or b"").decode()
    return handle, software, cuda, drm


def _in_order(
    found: list[tuple[Any, bool, int | None, str]], visible: list[int] | None
) -> list[tuple[Any, bool, int | None, str]]:
    """CUDA's GPUs in CUDA's order, other GPUs, software; no GPU twice (two drivers may list it)."""
    cuda = sorted((d for d in found if d[2] is not None), key=lambda d: d[2] or 0)
    if visible is not None and cuda:
        by_number = {d[2]: d for d in cuda}
        cuda = [by_number[number] for number in visible if number in by_number]
    taken = {d[3] for d in found if d[2] is not None} - {""}
    others = [d for d in found if d[2] is None and not d[1] and d[3] not in taken]
    return [*cuda, *others, *(d for d in found if d[1])]


def _visible_to_cuda() -> list[int] | None:
    """CUDA_VISIBLE_DEVICES as numbers; None where it is unset or names GPUs another way."""
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    words = [] if value is None else [word.strip() for word in value.split(",") if word.strip()]
    if value is None or not all(word.lstrip("-").isdigit() for word in words):
        return None
    numbers = [int(word) for word in words]
    return numbers[: numbers.index(-1)] if -1 in numbers else numbers


def _try(function: Any, *arguments: Any) -> Any:
    """Call EGL; None instead of PyOpenGL's exception, whose message is no help to users."""
    from OpenGL.EGL import EGLError

    try:
        return function(*arguments)
    except EGLError as error:
        _last_error.text = getattr(error.err, "name", str(error.err))
        return None


_last_error = threading.local()


def _error() -> str:
    return str(getattr(_last_error, "text", "no reason given"))


_loaded_in: int | None = None  # the process that has loaded a driver


def _refuse_after_fork() -> None:
    global _loaded_in
    if _loaded_in is None:
        _loaded_in = os.getpid()
    elif _loaded_in != os.getpid():
        raise PointcmtError(
            "EGL was used in the parent of this forked process, where its driver cannot work",
            where="the EGL renderer",
            fix="start workers with multiprocessing's spawn or forkserver instead of fork",
        )
