"""What to do where EGL does not work, from what can be seen of this machine."""

import ctypes.util
import os
from pathlib import Path

MESA = "libegl1 libegl-mesa0 libgl1-mesa-dri libgl1"
VENDOR_FOLDERS = ("/usr/share/glvnd/egl_vendor.d", "/etc/glvnd/egl_vendor.d")
NVIDIA_FILES = ("/dev/nvidia0", "/proc/driver/nvidia/version")


def no_library() -> str:
    """libEGL or PyOpenGL could not be loaded."""
    if ctypes.util.find_library("EGL") is None:
        return (
            f"apt-get install {MESA} (or the packages that have libEGL.so.1), or --backend embree"
        )
    return "pip install 'pointcmt[render]', or --backend embree"


def no_vendor() -> str:
    """libEGL works, but finds no driver behind it."""
    overridden = [
        f"{name}={os.environ[name]}"
        for name in ("__EGL_VENDOR_LIBRARY_FILENAMES", "__EGL_VENDOR_LIBRARY_DIRS")
        if name in os.environ
    ]
    if overridden:
        return f"{overridden[0]} points to no driver: unset it"
    vendors = vendor_files()
    if has_nvidia() and not any("nvidia" in name for name in vendors):
        return (
            "the GPU is here but not its EGL driver: in a container set "
            "NVIDIA_DRIVER_CAPABILITIES=graphics,compute,utility; "
            "on a host install the driver's libnvidia-gl package"
        )
    if not vendors:
        return f"no vendor file in {VENDOR_FOLDERS[0]}: apt-get install {MESA}"
    return f"{', '.join(vendors)} names a library that does not load: reinstall that driver"


def no_driver(software: bool) -> str:
    """A device is listed but cannot be opened, or has no context for us."""
    if software:
        return f"apt-get install {MESA}, or --backend embree"
    return (
        "choose another with --device, or check its driver; without one, --backend embree. "
        "In a container, /dev/dri and /dev/nvidia* must be passed in"
    )


def vendor_files() -> list[str]:
    """Names of the files that tell libEGL of drivers."""
    folders = [Path(folder) for folder in VENDOR_FOLDERS]
    return sorted(path.name for folder in folders if folder.is_dir() for path in folder.iterdir())


def has_nvidia() -> bool:
    """Whether the kernel has an NVIDIA GPU for us, whatever libraries are there."""
    return any(os.path.exists(path) for path in NVIDIA_FILES)
