"""Remedies for a failing EGL, from what can be seen of this machine."""

import ctypes.util
import glob
import os
from pathlib import Path

from pointcmt.extras import install

MESA = "libegl1 libegl-mesa0 libgl1-mesa-dri libgl1"
VENDOR_FOLDERS = ("/usr/share/glvnd/egl_vendor.d", "/etc/glvnd/egl_vendor.d")
NVIDIA_FILES = ("/dev/nvidia[0-9]*", "/proc/driver/nvidia/version")
# Device files of GPUs; "/dev/dxg" is that of the Windows Subsystem for Linux.
GPU_FILES = ("/dev/dri/renderD*", "/dev/nvidia[0-9]*", "/dev/dxg")
CONTAINER = (
    "the GPU was found, but not its EGL driver: in a container, set "
    "NVIDIA_DRIVER_CAPABILITIES=graphics,compute,utility; on a host, install the driver's "
    "libnvidia-gl package; if its vendor file is in another folder, set "
    "__EGL_VENDOR_LIBRARY_FILENAMES to it"
)


def no_library() -> str:
    """Return the remedy if libEGL or PyOpenGL could not be loaded."""
    if ctypes.util.find_library("EGL") is None:
        return (
            f"run `apt-get install {MESA}` (or install the packages that provide libEGL.so.1), or "
            "use --backend embree"
        )
    return f"{install('render')}; or use --backend embree"


def no_vendor() -> str:
    """Return the remedy if libEGL works but finds no driver."""
    overridden = [
        f"{name}={os.environ[name]}"
        for name in ("__EGL_VENDOR_LIBRARY_FILENAMES", "__EGL_VENDOR_LIBRARY_DIRS")
        if name in os.environ
    ]
    if overridden:
        return f"{overridden[0]} does not point to a driver: unset it"
    vendors = vendor_files()
    if has_nvidia() and not any("nvidia" in name for name in vendors):
        return CONTAINER
    if not vendors:
        return f"no vendor file in {VENDOR_FOLDERS[0]}: run `apt-get install {MESA}`"
    return f"{', '.join(vendors)} refers to a library that cannot be loaded: reinstall that driver"


def no_driver(software: bool) -> str:
    """Return the remedy if a device is listed but cannot be opened, or gives us no context."""
    if software:
        return f"run `apt-get install {MESA}`, or use --backend embree"
    return (
        "choose another --device, or check its driver and your permissions on /dev/dri (groups "
        "render and video; in a container, pass it in); without a GPU, use --backend embree"
    )


def vendor_files() -> list[str]:
    """Return the names of the files that list drivers for libEGL."""
    folders = [Path(folder) for folder in VENDOR_FOLDERS]
    return sorted(path.name for folder in folders if folder.is_dir() for path in folder.iterdir())


def no_gpu() -> str:
    """Return the remedy if EGL works, but on none of the GPUs of this machine."""
    return CONTAINER if has_nvidia() else no_driver(software=False)


def has_gpu() -> bool:
    """Return whether the kernel offers a GPU, whichever libraries are installed."""
    return any(glob.glob(pattern) for pattern in GPU_FILES)


def has_nvidia() -> bool:
    """Return whether the kernel offers an NVIDIA GPU."""
    return any(glob.glob(pattern) for pattern in NVIDIA_FILES)
