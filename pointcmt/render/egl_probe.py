"""`python -m pointcmt.render.egl_probe`: what EGL can do here, one line of JSON for `doctor`."""

import json

import numpy as np

from pointcmt.cameras import find_rig
from pointcmt.errors import PointcmtError
from pointcmt.mesh import Mesh
from pointcmt.render import shading
from pointcmt.render.config import RenderConfig
from pointcmt.render.egl import Device, list_devices
from pointcmt.render.rasterizer import Rasterizer


def main() -> None:
    """Draw a triangle on each device; devices: a text each; remedy: of the first that fails."""
    try:
        devices = list_devices()
    except PointcmtError as error:
        print(json.dumps({"works": False, "devices": [error.what], "remedy": error.fix}))
        return
    told, works, remedy = [], False, ""
    for device in devices:
        try:
            told.append(f"device {device}: {try_out(device)}")
            works = True
        except PointcmtError as error:
            told.append(error.what)
            remedy = remedy or error.fix
    print(json.dumps({"works": works, "devices": told, "remedy": "" if works else remedy}))


def try_out(device: Device) -> str:
    """What a device's driver calls itself. Raises PointcmtError where it draws nothing."""
    triangle = Mesh(np.eye(3), np.array([[0, 1, 2]], np.int32))
    config = RenderConfig(find_rig("ortho6"), size=16)
    with Rasterizer(device) as rasterizer:
        camera = config.rig.cameras(config.size)
        faces = np.zeros(1, np.int32)
        views = rasterizer.render(shading.make_surface(triangle), faces, camera, config)
        if not np.any(views.face_index == 0):
            raise PointcmtError(f"device {device} draws nothing", fix="update its driver")
        return rasterizer.context.renderer


if __name__ == "__main__":
    main()
