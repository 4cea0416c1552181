"""Export as datasets of nerfstudio: `ns-train splatfacto --data OUT/chair/0000`.

Its conventions: docs.nerf.studio/quickstart/data_conventions.html, and what reads the file,
nerfstudio/data/dataparsers/nerfstudio_dataparser.py. Points are in the coordinates of the cameras,
so `applied_transform` is the identity. The world has +Z up already, and `orientation_override`
keeps it. Depth keeps the stored steps, whose length nerfstudio takes from its command line alone:
`nerfstudio-data --depth-unit-scale-factor`, the number that the file repeats.
"""

import numpy as np

from pointcmt.datasets.export.images import encode_png
from pointcmt.datasets.export.ply import encode_points
from pointcmt.datasets.export.shapes import ShapeViews
from pointcmt.datasets.export.transforms import encode, facts, intrinsics, transform_matrices

POINTS = "sparse_pc.ply"  # as `ns-process-data` calls it
OWN = r"transforms\.json|sparse_pc\.ply|(images|depths)/\d{3,}\.png"


def files(shape: ShapeViews, text: bool = False) -> dict[str, bytes]:
    """Return the files of a shape by name; `transforms.json` is the last one."""
    names = shape.view_names()
    found = {f"images/{name}.png": encode_png(shape.rgb[v]) for v, name in enumerate(names)}
    found |= {f"depths/{name}.png": encode_png(shape.depth[v]) for v, name in enumerate(names)}
    found[POINTS] = encode_points(shape)
    common, each = intrinsics(shape.camera)
    frames = [
        {
            "file_path": f"images/{name}.png",
            "depth_file_path": f"depths/{name}.png",
            **each[view],
            "transform_matrix": matrix.tolist(),
        }
        for view, (name, matrix) in enumerate(
            zip(names, transform_matrices(shape.camera), strict=True)
        )
    ]
    table = {
        **facts(shape),
        "camera_model": "OPENCV",
        **common,
        "orientation_override": "none",
        "applied_transform": np.eye(4)[:3].tolist(),
        "ply_file_path": POINTS,
        "depth_unit_scale_factor": shape.depth_scale,
        "frames": frames,
    }
    return {**found, "transforms.json": encode(table)}
