"""Export as PLY: the points of a shape with normals and colors, in one binary file.

Each vertex has x, y, z, nx, ny, nz, the color that views show of the point (`point_colors`),
`views` (how many views see it), `face` (the face that it lies on; in stores of clouds the point's
number in its file) and, in datasets with parts, `part`.
"""

import numpy as np

from pointcmt.datasets.export.shapes import ShapeViews

OWN = r""  # the file is that of the shape itself
_TYPES = {"<f4": "float", "|u1": "uchar", "<u2": "ushort", "<i4": "int"}


def files(shape: ShapeViews, text: bool = False) -> dict[str, bytes]:
    """Return the only file of a shape, under the name ""."""
    return {"": encode_points(shape)}


def encode_points(shape: ShapeViews) -> bytes:
    """Encode the points of a shape, without colors if it has no correspondences."""
    columns = {
        **dict(zip(("x", "y", "z"), shape.points.T, strict=True)),
        **dict(zip(("nx", "ny", "nz"), shape.normals.T, strict=True)),
    }
    if shape.visible is not None:
        columns |= zip(("red", "green", "blue"), shape.colors.T, strict=True)
        columns["views"] = np.sum(shape.visible, axis=0).astype(np.uint16)
    columns["face"] = shape.point_face
    if shape.part is not None:
        columns["part"] = shape.part
    layout = np.dtype([(name, column.dtype.newbyteorder("<")) for name, column in columns.items()])
    vertices = np.empty(len(shape.points), layout)
    for name, column in columns.items():
        vertices[name] = column
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}"]
    lines += [f"property {_TYPES[layout[name].str]} {name}" for name in columns]
    return "\n".join([*lines, "end_header\n"]).encode() + vertices.tobytes()
