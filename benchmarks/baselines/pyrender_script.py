"""The usual research script: trimesh, a pyrender renderer per object, PNG files for rgb and depth.

Usage: python pyrender_script.py OUT SIZE MESH [MESH ...]; the views are those of the rig dodeca20.
It is as simple as such scripts usually are: one process, EGL, no correspondences, no resume.
"""

import os
import sys

os.environ.setdefault("PYOPENGL_PLATFORM", "egl")

import numpy as np
import pyrender
import trimesh
from PIL import Image

from pointcmt.cameras import FOV, find_rig


def main() -> None:
    out, size, paths = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    poses = np.linalg.inv(find_rig("dodeca20").cameras(size).world_to_camera)
    poses = poses @ np.diag([1.0, -1.0, -1.0, 1.0])  # OpenCV axes → OpenGL axes
    for index, path in enumerate(paths):
        mesh = trimesh.load(path, force="mesh")
        mesh.apply_translation(-mesh.bounds.mean(axis=0))
        mesh.apply_scale(1 / np.linalg.norm(mesh.vertices, axis=1).max())
        scene = pyrender.Scene(bg_color=[1.0, 1.0, 1.0], ambient_light=[0.3, 0.3, 0.3])
        scene.add(pyrender.Mesh.from_trimesh(mesh, smooth=False))
        camera = scene.add(pyrender.PerspectiveCamera(yfov=np.radians(FOV)))
        light = scene.add(pyrender.DirectionalLight(intensity=3.0))
        renderer = pyrender.OffscreenRenderer(size, size)
        folder = os.path.join(out, f"{index:05d}")
        os.makedirs(folder, exist_ok=True)
        for view, pose in enumerate(poses):
            scene.set_pose(camera, pose)
            scene.set_pose(light, pose)
            color, depth = renderer.render(scene)
            Image.fromarray(color).save(os.path.join(folder, f"{view:02d}_rgb.png"))
            steps = np.round(depth / 4 * 65535).astype(np.uint16)
            Image.fromarray(steps).save(os.path.join(folder, f"{view:02d}_depth.png"))
        renderer.delete()


if __name__ == "__main__":
    main()
