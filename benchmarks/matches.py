"""How often pixel matches are right: `match_pixels` against casting a ray for every pixel.

Usage: python benchmarks/matches.py MESH [MESH ...]. A match is right when no face lies between the
second camera and the surface point of the first view's pixel (clearance as for points).
"""

import sys
from pathlib import Path

import numpy as np

from pointcmt.cameras import find_rig, pixel_centers
from pointcmt.correspondences import match_pixels
from pointcmt.geometry import normalize
from pointcmt.render.config import RenderConfig
from pointcmt.render.meshes import load_mesh
from pointcmt.render.raycaster import RayCaster
from pointcmt.render.visibility import visible_points


def main() -> None:
    config = RenderConfig(find_rig("mvnet12"))
    camera = config.rig.cameras(config.size)
    print(f"{'mesh':24}{'angle':>7}{'matches':>9}{'right':>9}{'found':>9}")
    for path in sys.argv[1:]:
        mesh, _ = normalize(load_mesh(Path(path)), "z")
        caster = RayCaster(mesh)
        views = caster.render(camera, config)
        centers = pixel_centers(config.size, config.size)
        for other, angle in ((1, 45), (2, 90)):
            pair = camera[0], camera[other]
            uv, valid = match_pixels((views.depth[0], views.depth[other]), pair)
            covered = views.face_index[0] >= 0
            points = camera[0].unproject(centers[covered], views.depth[0][covered])
            truth = np.zeros(covered.shape, bool)
            faces = views.face_index[0][covered]
            truth[covered] = visible_points(
                caster, points.astype(np.float32), faces, camera[other : other + 1]
            )[0]
            right, found = truth[valid].mean(), valid[truth].mean()
            print(f"{Path(path).stem:24}{angle:6}°{valid.sum():9}{right:9.2%}{found:9.2%}")


if __name__ == "__main__":
    main()
