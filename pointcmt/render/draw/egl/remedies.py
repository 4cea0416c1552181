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
    "the GPU is here but not its EGL driver: in a container set "
    "NVIDIA_DRIVER_CAPABILITIES=graphics,compute,utility; on a host install the driver's "
    "libnvidia-gl package; where its vendor file lies elsewhere, name that in "
    "__EGL_VENDOR_LIBRARY_FILENAMES"
)


def no_library() -> str:
    """Return the remedy if libEGL or PyOpenGL could not be loaded."""
    if ctypes.util.find_library("EGL") is None:
        return (
            f"apt-get install {MESA} (or the packages that have libEGL.so.1), or --backend embree"
        )
    return f"{install('render')}; or --backend embree"


def no_vendor() -> str:
    """Return the remedy if libEGL works but finds no driver."""
    overridden = [
        f"{name}={os.environ[name]}"
        for name in ("__EGL_VENDOR_LIBRARY_FILENAMES", "__EGL_VENDOR_LIBRARY_DIRS")
        if name in os.environ
    ]
    if overridden:
        return f"{overridden[0]} points to no driver: unset it"
    vendors = vendor_files()
    if has_nvidia() and not any("nvidia" in name for name in vendors):
        return CONTAINER
    if not vendors:
        return f"no vendor file in {VENDOR_FOLDERS[0]}: apt-get install {MESA}"
    return f"{', '.join(vendors)} names a library that does not load: reinstall that driver"


def no_driver(software: bool) -> str:
    """Return the remedy if a device is listed but cannot be opened, or gives us no context."""
    if software:
        return f"apt-get install {MESA}, or --backend embree"
    return (
        "choose another with --device, or check its driver and that you may open /dev/dri "
        "(groups render, video; in a container pass it in); without a GPU, --backend embree"
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
