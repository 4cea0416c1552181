"""Accuracy of correspondences on real meshes: visibility by depth tolerance, and pixel matches.

Usage: python benchmarks/correspondences.py MESH [MESH ...]

First table: the share of (point, view) pairs mislabeled by comparing with the depth image at the
point's pixel, for three tolerances, against a ray per point (which a store holds).
Second table: precision and recall of `match_pixels` between views 45° and 90° apart, against a ray
per pixel.
"""

import sys
from pathlib import Path

import numpy as np

from pointcmt.cameras import find_rig, pixel_centers
from pointcmt.correspondences import match_pixels, points_to_pixels
from pointcmt.geometry import normalize, sample_points, shape_seed
from pointcmt.render.config import RenderConfig
from pointcmt.render.draw.cpu import draw_views
from pointcmt.render.draw.raycaster import RayCaster
from pointcmt.render.draw.views import Views
from pointcmt.render.draw.visibility import visible_points
from pointcmt.render.load.meshes import load_mesh

TOLERANCES = (1e-3, 1e-2, 3e-2)
CONFIG = RenderConfig(find_rig("mvnet12"))
CAMERA = CONFIG.rig.cameras(CONFIG.size)


def main() -> None:
    rows = []
    for path in map(Path, sys.argv[1:]):
        mesh, _ = normalize(load_mesh(path), "z")
        caster = RayCaster(mesh)
        views = draw_views(caster, CAMERA, CONFIG)
        rows.append((path.stem, mislabeled(caster, views), matched(caster, views)))
    print(f"{'wrong by depth tolerance':26}" + "".join(f"{t:>9g}" for t in TOLERANCES))
    for name, wrong, _ in rows:
        print(f"{name:26}" + "".join(f"{share:9.1%}" for share in wrong))
    print(f"\n{'pixel matches':26}{'angle':>7}{'matches':>9}{'right':>9}{'found':>9}")
    for name, _, pairs in rows:
        for angle, count, right, found in pairs:
            print(f"{name:26}{angle:6}°{count:9}{right:9.2%}{found:9.2%}")


def mislabeled(caster: RayCaster, views: Views) -> list[float]:
    """Return the share of wrong labels per tolerance."""
    points, faces = sample_points(caster.mesh, CONFIG.points, shape_seed(0, "benchmark"))
    points32 = points.astype(np.float32)
    truth = visible_points(caster, points32, faces, CAMERA)
    _, pixel = points_to_pixels(points, np.ones_like(truth), CAMERA)
    _, reach = CAMERA.project(points)
    row, column = pixel[..., 0], pixel[..., 1]
    found = views.depth[np.arange(len(CAMERA))[:, None], row, column]
    guesses = ((found > 0) & (reach <= found + tolerance) for tolerance in TOLERANCES)
    return [float(np.mean(guess != truth)) for guess in guesses]


def matched(caster: RayCaster, views: Views) -> list[tuple[int, int, float, float]]:
    """Return (angle, matches, precision, recall) of two pairs of views."""
    centers = pixel_centers(CONFIG.size, CONFIG.size)
    covered = views.face_index[0] >= 0
    points = CAMERA[0].unproject(centers[covered], views.depth[0][covered]).astype(np.float32)
    rows = []
    for other, angle in ((1, 45), (2, 90)):
        pair = CAMERA[0], CAMERA[other]
        _, valid = match_pixels((views.depth[0], views.depth[other]), pair)
        truth = np.zeros(covered.shape, bool)
        faces = views.face_index[0][covered]
        truth[covered] = visible_points(caster, points, faces, CAMERA[other : other + 1])[0]
        rows.append((angle, int(valid.sum()), truth[valid].mean(), valid[truth].mean()))
    return rows


if __name__ == "__main__":
    main()
