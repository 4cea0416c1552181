"""Export as PNG files with a `transforms.json` per shape, for instant-ngp, NeRFs and own code.

rgb/000.png     8 bits, sRGB, exactly the stored pixels; normal/ and albedo/ likewise
depth/000.png   16 bits, exactly the stored steps: z depth = value × `integer_depth_scale`
mask/000.png    8 bits: 255 where the pixel's center shows the shape, 0 elsewhere
points.ply      points, normals and, with correspondences, colors
arrays.npz      face_index [V,H,W], point_face [N] and, if known, visible [V,N] and part [N]
transforms.json cameras
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.export.images import encode_npz, encode_png
from pointcmt.datasets.export.ply import encode_points
from pointcmt.datasets.export.shapes import ShapeViews
from pointcmt.datasets.export.transforms import encode, facts, intrinsics, transform_matrices

OWN = r"transforms\.json|points\.ply|arrays\.npz|(rgb|depth|mask|normal|albedo)/\d{3,}\.png"
# instant-ngp learns in the unit cube: world × scale + offset moves the unit sphere into it.
NGP = {"aabb_scale": 1, "scale": 0.5, "offset": [0.5, 0.5, 0.5]}


def files(shape: ShapeViews, text: bool = False) -> dict[str, bytes]:
    """Return the files of a shape by name; `transforms.json` is the last one."""
    mask = np.where(shape.face_index >= 0, 255, 0).astype(np.uint8)
    images: dict[str, NDArray[Any]]
    images = {"rgb": shape.rgb, "depth": shape.depth, "mask": mask, **shape.layers}
    names = shape.view_names()
    found = {
        f"{folder}/{name}.png": encode_png(views[view])
        for folder, views in images.items()
        for view, name in enumerate(names)
    }
    known = {"visible": shape.visible, "part": shape.part}
    arrays: dict[str, NDArray[Any]]
    arrays = {name: array for name, array in known.items() if array is not None}
    arrays |= {"face_index": shape.face_index, "point_face": shape.point_face}
    found["points.ply"] = encode_points(shape)
    found["arrays.npz"] = encode_npz(arrays)
    common, each = intrinsics(shape.camera)
    frames = [
        {
            "file_path": f"rgb/{name}.png",
            "depth_path": f"depth/{name}.png",
            "mask_path": f"mask/{name}.png",
            **{f"{layer}_path": f"{layer}/{name}.png" for layer in shape.layers},
            **each[view],
            "transform_matrix": matrix.tolist(),
            "K": shape.camera.K[view].tolist(),
            "world_to_camera": shape.camera.world_to_camera[view].tolist(),
        }
        for view, (name, matrix) in enumerate(
            zip(names, transform_matrices(shape.camera), strict=True)
        )
    ]
    depth = {"enable_depth_loading": True, "integer_depth_scale": shape.depth_scale}
    table = {**facts(shape), **common, **NGP, **depth, "frames": frames}
    return {**found, "transforms.json": encode(table)}
