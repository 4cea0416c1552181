"""`python -m pointcmt.render.draw.egl.probe`: print EGL's status here as one line of JSON."""

import json
from typing import Any

import numpy as np

from pointcmt.cameras import find_rig
from pointcmt.errors import PointcmtError
from pointcmt.render.config import RenderConfig
from pointcmt.render.draw import shading
from pointcmt.render.draw.egl.contexts import Device, describe, list_devices
from pointcmt.render.draw.egl.rasterizer import Rasterizer
from pointcmt.render.draw.egl.remedies import has_gpu, no_driver, no_gpu
from pointcmt.shapes import Mesh


def main() -> None:
    """Draw a triangle on each device, and print the results.

    works: whether any device draws, and if there is a GPU, whether a GPU does. devices: a text for
    each. remedy: how to fix what does not work.
    """
    try:
        devices = list_devices()
    except PointcmtError as error:
        tell(works=False, devices=[error.what], remedy=error.fix)
        return
    texts, working, remedy = [], [], ""
    for device in devices:
        try:
            texts.append(f"device {device}: {try_out(device)}")
            working.append(device)
        except PointcmtError as error:
            texts.append(error.what)
            remedy = remedy or error.fix
        except Exception as error:  # whatever a driver raises, test the other devices too
            texts.append(f"EGL device {device} does not work: {describe(error)}")
            remedy = remedy or no_driver(device.software)
    if working and has_gpu() and all(device.software for device in working):
        tell(works=False, devices=texts, remedy=no_gpu())
    else:
        tell(works=bool(working), devices=texts, remedy="" if working else remedy)


def tell(**facts: Any) -> None:
    print(json.dumps(facts))


def try_out(device: Device) -> str:
    """Return the driver's name for itself. Raises PointcmtError if the device draws nothing."""
    triangle = Mesh(np.eye(3), np.array([[0, 1, 2]], np.int32))
    config = RenderConfig(find_rig("ortho6"), size=16)
    with Rasterizer(device) as rasterizer:
        camera = config.rig.cameras(config.size)
        faces = np.zeros(1, np.int32)
        views = rasterizer.render(shading.make_surface(triangle), faces, camera, config)
        if not np.any(views.face_index == 0):
            raise PointcmtError(f"device {device} renders nothing", fix="update its driver")
        return rasterizer.context.renderer


if __name__ == "__main__":
    main()
