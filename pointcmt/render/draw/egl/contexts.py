"""OpenGL without a display: the EGL devices of this machine, and contexts on them.

A context belongs to the process that made it. In a process forked later, it would hang in the
driver, so using it there raises an error. Contexts are destroyed, but displays are never
terminated (`eglTerminate` would destroy all other contexts on the same GPU).
"""

import ctypes
import importlib
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from ctypes import POINTER, byref, c_char_p, c_int, c_ssize_t, c_uint, c_void_p
from dataclasses import dataclass
from typing import Any

from pointcmt.errors import DependencyError, PointcmtError, UsageError
from pointcmt.render.draw.egl import remedies as remedies

MAX_DEVICES = 64
GL_VERSION = (3, 3)
SOFTWARE = ("llvmpipe", "softpipe", "swrast", "software rasterizer")  # Mesa's GL_RENDERER on a CPU

# Numbers from the Khronos registry.
EGL_EXTENSIONS = 0x3055
EGL_CUDA_DEVICE_NV = 0x323A
EGL_DRM_DEVICE_FILE_EXT = 0x3233
EGL_PLATFORM_DEVICE_EXT = 0x313F
EGL_CONTEXT_OPENGL_RESET_NOTIFICATION_STRATEGY = 0x31BD
EGL_LOSE_CONTEXT_ON_RESET = 0x31BF


class OutOfMemory(Exception):
    """The device's memory is full, because of a large shape or of other processes."""


class ContextLost(Exception):
    """The driver dropped a context (a GPU reset, a driver update); a new one may work."""


@dataclass(frozen=True)
class Device:
    """One EGL device. index: its number for --device; cuda: the same GPU's number in CUDA."""

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
    """Import PyOpenGL's EGL module. Raises DependencyError with a remedy if that fails."""
    _refuse_after_fork()
    platform = os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
    if platform != "egl":
        raise DependencyError(
            f"PyOpenGL is configured to use '{platform}' instead of EGL",
            where="PYOPENGL_PLATFORM",
            fix="unset it, or set it to egl",
        )
    try:
        import OpenGL.EGL as egl  # before OpenGL.GL, as PyOpenGL 3.1.10 requires
        import OpenGL.GL  # noqa: F401  may fail too
    except (ImportError, AttributeError, TypeError) as error:
        raise DependencyError(
            f"EGL cannot be loaded: {error}", where="the EGL renderer", fix=remedies.no_library()
        ) from error
    return egl


def list_devices() -> list[Device]:
    """Return all devices: GPUs with a CUDA number in CUDA's order, other GPUs, software.

    Like CUDA, this counts only the GPUs in CUDA_VISIBLE_DEVICES. Raises DependencyError if there is
    no EGL, or no device at all.
    """
    load()
    query = _extension("eglQueryDevicesEXT", c_uint, c_int, POINTER(c_void_p), POINTER(c_int))
    count, handles = c_int(), (c_void_p * MAX_DEVICES)()
    if query is None or not query(MAX_DEVICES, handles, byref(count)) or not count.value:
        what = "EGL found no devices" if query else "this version of EGL cannot list devices"
        raise DependencyError(what, where="the EGL renderer", fix=remedies.no_vendor())
    found = [_describe(handle) for handle in handles[: count.value] if handle]
    return [Device(index, *facts) for index, facts in enumerate(_in_order(found))]


def choose(devices: Sequence[Device], names: str, worker: int = 0) -> Device:
    """Return a worker's device among those named by number ("1", "0,2"); workers share them evenly.

    Raises UsageError for a number that does not name a device.
    """
    numbers = {str(device.index): device for device in devices}
    chosen = [name.strip() for name in names.split(",")]
    for name in chosen:
        if name not in numbers:
            raise UsageError(
                f"unknown EGL device '{name}'",
                where="--device",
                fix="use auto, or one or more of: " + "; ".join(map(str, devices)),
            )
    return numbers[chosen[worker % len(chosen)]]


def share(devices: Sequence[Device], worker: int) -> Device | None:
    """Return a worker's GPU among those with a CUDA number, shared evenly; None without any."""
    numbered = [device for device in devices if device.cuda is not None]
    return numbered[worker % len(numbered)] if numbered else None


class Context:
    """A GL context on a device. Use it within `with context.current():`, from any thread.

    renderer: the driver's name for itself. Raises DependencyError if no context can be made.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self._egl = load()
        if device.cuda is None:
            _load_triton()
        self._pid = os.getpid()
        self._lock = threading.Lock()
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
        """Send this thread's GL calls to this context. Raises ContextLost, PointcmtError."""
        if os.getpid() != self._pid:
            raise PointcmtError(
                "this renderer was created before the process was forked",
                where="the EGL renderer",
                fix="create it in the process that uses it: start workers with spawn or forkserver",
            )
        egl = self._egl
        with self._lock:
            if self._context is None:
                raise ContextLost("this renderer is closed")
            surface = self._surface
            _try(egl.eglBindAPI, egl.EGL_OPENGL_API)  # set per thread
            if not _try(egl.eglMakeCurrent, self._display, surface, surface, self._context):
                raise ContextLost(f"eglMakeCurrent failed ({_error()})")
            try:
                yield
            finally:
                none = egl.EGL_NO_SURFACE
                _try(egl.eglMakeCurrent, self._display, none, none, egl.EGL_NO_CONTEXT)

    @contextmanager
    def drawing(self, what: str) -> Iterator[None]:
        """Enter `current` and raise driver errors as ContextLost or OutOfMemory."""
        from OpenGL.error import Error
        from OpenGL.GL import GL_OUT_OF_MEMORY

        with self.current():
            try:
                yield
            except Error as error:  # PyOpenGL checks after every call
                if getattr(error, "err", None) == GL_OUT_OF_MEMORY:
                    raise OutOfMemory(f"the device ran out of memory {what}") from error
                raise ContextLost(f"{describe(error)} {what}") from error

    def close(self) -> None:
        """Destroy the context and all objects made in it; may be called twice."""
        if self._context is None or os.getpid() != self._pid:
            return
        egl, context = self._egl, self._context
        self._context = None
        _try(egl.eglDestroyContext, self._display, context)
        if self._surface is not egl.EGL_NO_SURFACE:
            _try(egl.eglDestroySurface, self._display, self._surface)

    def _open_display(self) -> Any:
        egl = self._egl
        get = _extension("eglGetPlatformDisplayEXT", c_void_p, c_uint, c_void_p, c_void_p)
        address = get(EGL_PLATFORM_DEVICE_EXT, self.device.handle, None) if get else None
        display = ctypes.cast(address, egl.EGLDisplay) if address else None
        if not display or not _try(egl.eglInitialize, display, egl.EGLint(), egl.EGLint()):
            raise self._failure(f"EGL cannot open the device ({_error()})")
        if not _try(egl.eglBindAPI, egl.EGL_OPENGL_API):
            raise self._failure("this EGL only supports OpenGL ES")
        self._extensions = _words(_try(egl.eglQueryString, display, EGL_EXTENSIONS))
        return display

    def _choose_config(self) -> Any:
        egl = self._egl
        wanted = [egl.EGL_RENDERABLE_TYPE, egl.EGL_OPENGL_BIT]
        wanted += [egl.EGL_SURFACE_TYPE, egl.EGL_PBUFFER_BIT, egl.EGL_NONE]
        configs, count = (egl.EGLConfig * 1)(), egl.EGLint()
        attributes = (egl.EGLint * len(wanted))(*wanted)
        _try(egl.eglChooseConfig, self._display, attributes, configs, 1, count)
        if not count.value:
            raise self._failure("EGL has no configuration for OpenGL")
        return configs[0]

    def _make_surface(self, config: Any) -> Any:
        """Return an unused surface if the driver requires one."""
        egl = self._egl
        if "EGL_KHR_surfaceless_context" in self._extensions:
            return egl.EGL_NO_SURFACE
        size = (egl.EGLint * 5)(egl.EGL_WIDTH, 1, egl.EGL_HEIGHT, 1, egl.EGL_NONE)
        surface = _try(egl.eglCreatePbufferSurface, self._display, config, size)
        if not surface:
            raise self._failure(f"EGL cannot create a surface ({_error()})")
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
        raise self._failure(f"it does not support an OpenGL {want} core context ({_error()})")

    def _failure(self, what: str) -> DependencyError:
        return DependencyError(
            f"EGL device {self.device} does not work: {what}",
            where="the EGL renderer",
            fix=remedies.no_driver(self.device.software),
        )


def describe(error: Exception) -> str:
    """Return a driver's error without PyOpenGL's long list of arguments."""
    code = getattr(error, "err", None)
    return type(error).__name__ + (f" 0x{int(code):04x}" if isinstance(code, int) else "")


def _extension(name: str, result: Any, *arguments: Any) -> Any:
    """Look up a function of an EGL extension; return None if this EGL lacks it.

    PyOpenGL's own lookup needs a display to check for the extension, and none is open yet.
    """
    library = ctypes.CDLL("libEGL.so.1")
    library.eglGetProcAddress.restype = c_void_p
    address = library.eglGetProcAddress(name.encode())
    return ctypes.CFUNCTYPE(result, *arguments)(address) if address else None


def _words(text: bytes | None) -> list[str]:
    return (text or b"").decode().split()


def _describe(handle: int) -> tuple[int, bool, int | None, str]:
    """Return a device's handle, whether it is software, its CUDA number, and its device file."""
    text = _extension("eglQueryDeviceStringEXT", c_char_p, c_void_p, c_int)
    extensions = _words(text(handle, EGL_EXTENSIONS)) if text else []
    cuda, drm = None, ""
    if "EGL_NV_device_cuda" in extensions:
        query = _extension("eglQueryDeviceAttribEXT", c_uint, c_void_p, c_int, POINTER(c_ssize_t))
        cuda = _cuda_number(query, handle)
    if "EGL_EXT_device_drm" in extensions:
        drm = (text(handle, EGL_DRM_DEVICE_FILE_EXT) or b"").decode()
    return handle, "EGL_MESA_device_software" in extensions, cuda, drm


def _cuda_number(query: Any, handle: int) -> int | None:
    """Return the CUDA number of a device; None if CUDA_VISIBLE_DEVICES hides it."""
    number = c_ssize_t(-1)
    if query is None or not query(handle, EGL_CUDA_DEVICE_NV, byref(number)):
        return None
    return number.value if number.value >= 0 else None


def _in_order(
    found: list[tuple[Any, bool, int | None, str]],
) -> list[tuple[Any, bool, int | None, str]]:
    """Sort devices: CUDA's GPUs in CUDA's order, other GPUs, software. Drop duplicate GPUs."""
    numbered = {d[2]: d for d in reversed(found) if d[2] is not None}
    cuda = [numbered[number] for number in sorted(n for n in numbered if n is not None)]
    taken = {d[3] for d in cuda} - {""}
    others = [d for d in found if d[2] is None and not d[1] and d[3] not in taken]
    return [*cuda, *others, *(d for d in found if d[1])]


def _try(function: Any, *arguments: Any) -> Any:
    """Call EGL; return None instead of raising PyOpenGL's exception, whose message is unhelpful."""
    from OpenGL.EGL import EGLError

    _last_error.text = _LastError.text
    try:
        return function(*arguments)
    except EGLError as error:
        _last_error.text = getattr(error.err, "name", str(error.err))
        return None


class _LastError(threading.local):
    text = "no reason given"


_last_error = _LastError()


def _error() -> str:
    return str(_last_error.text)


def _load_triton() -> None:
    """Load triton, which training may need later in this process, before Mesa loads LLVM.

    Mesa makes LLVM's symbols visible to all libraries. Triton contains its own LLVM, would use
    Mesa's symbols instead, and crashes.
    """
    with suppress(ImportError):
        importlib.import_module("triton._C.libtriton")


_loaded_in: int | None = None  # the process that loaded a driver


def _refuse_after_fork() -> None:
    global _loaded_in
    if _loaded_in is None:
        _loaded_in = os.getpid()
    elif _loaded_in != os.getpid():
        raise PointcmtError(
            "EGL was initialized before this process was forked, so its driver cannot be used here",
            where="the EGL renderer",
            fix="start workers with multiprocessing's spawn or forkserver instead of fork",
        )
