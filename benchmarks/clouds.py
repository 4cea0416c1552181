"""Clouds as disks: drawing speed and accuracy of visibility, on real meshes.

Usage: python benchmarks/clouds.py MESH [MESH ...]

Points are sampled from each mesh and drawn as a cloud with the normals of their faces, 20 views of
224². Visibility in each view is compared with a ray per point on the mesh: the share of (point,
view) pairs wrongly visible (through gaps between disks) and wrongly hidden, mean over the meshes.
views/s is this thread's time for drawing alone.
"""

import sys
import time
from pathlib import Path

import numpy as np

from pointcmt.cameras import find_rig
from pointcmt.geometry import normalize, sample_points, shape_seed
from pointcmt.render.config import RenderConfig, fit
from pointcmt.render.draw import splatter, visibility
from pointcmt.render.draw.raycaster import RayCaster
from pointcmt.render.load.meshes import load_mesh
from pointcmt.shapes import Cloud, Mesh

COUNTS, RADII = (2048, 10_000), (1.0, 2.0, 3.0, 4.0)
RIG = find_rig("dodeca20")
ROUNDS = 5


def main() -> None:
    meshes = [normalize(load_mesh(Path(path)), "z")[0] for path in sys.argv[1:]]
    heads = ("views/s", "wrongly visible", "wrongly hidden")
    print(f"{'points':>8}{'radius':>8}" + "".join(f"{head:>17}" for head in heads))
    for count in COUNTS:
        for radius in RADII:
            rows = np.array([measure(mesh, count, radius) for mesh in meshes])
            speed, shown, hidden = np.median(rows[:, 0]), *rows[:, 1:].mean(axis=0)
            print(f"{count:8}{radius:8g}{speed:17.0f}{shown:17.1%}{hidden:17.1%}")


def measure(mesh: Mesh, count: int, radius: float) -> tuple[float, float, float]:
    """Return views per second, share of pairs that are wrongly visible, and wrongly hidden."""
    config = fit(RenderConfig(RIG, splat=radius), "cloud")
    camera = RIG.cameras(config.size)
    points, faces = sample_points(mesh, count, shape_seed(0, "benchmark"))
    points32 = points.astype(np.float32)
    caster = RayCaster(mesh)
    truth = visibility.visible_points(caster, points32, faces, camera)
    cloud = Cloud(points32.astype(np.float64), caster.surface.normals[faces])
    seconds = []
    for _ in range(ROUNDS):
        started = time.thread_time()
        splats = splatter.splat(cloud.points, camera, radius)
        splatter.draw_cloud(cloud, splats, camera, config)
        seconds.append(time.thread_time() - started)
    everything = np.arange(count, dtype=np.int32)
    seen = splatter.visible_points(cloud, everything, splats, camera)
    return len(camera) / min(seconds), float(np.mean(seen & ~truth)), float(np.mean(truth & ~seen))


if __name__ == "__main__":
    main()
