"""Small files that `pointcmt doctor` reads as tests."""

import struct

# A square or a triangle in each format that compiled functions read, except glTF: OBJ with normals,
# PLY as text and binary.
MESHES = {
    "square.off": b"OFF\n4 1 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3\n",
    "square.obj": b"v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvn 0 0 1\nf 1//1 2//1 3//1 4//1\n",
    "square.ply": b"""ply
format ascii 1.0
element vertex 4
property float x
property float y
property float z
element face 1
property list uchar int vertex_indices
end_header
0 0 0
1 0 0
1 1 0
0 1 0
4 0 1 2 3
""",
    "binary.ply": b"""ply
format binary_little_endian 1.0
element vertex 4
property float x
property float y
property float z
element face 1
property list uchar int vertex_indices
end_header
"""
    + struct.pack("<12fB4i", 0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0, 4, 0, 1, 2, 3),
    "triangle.stl": b"""solid triangle
facet normal 0 0 1
outer loop
vertex 0 0 0
vertex 1 0 0
vertex 0 1 0
endloop
endfacet
endsolid triangle
""",
}
# Three points as text, and compressed: x, y and z after each other, 32 and 4 bytes that are copied.
_COORDINATES = struct.pack("<9f", 0, 1, 0, 0, 0, 1, 0, 0, 0)
_COMPRESSED = b"\x1f" + _COORDINATES[:32] + b"\x03" + _COORDINATES[32:]
CLOUDS = {
    **{f"points{suffix}": b"0 0 0\n1 0 0\n0 1 0\n" for suffix in (".xyz", ".txt", ".asc")},
    "points.csv": b"x,y,z\n0,0,0\n1,0,0\n0,1,0\n",
    "points.pts": b"3\n0 0 0\n1 0 0\n0 1 0\n",
    "points.pcd": b"""VERSION .7
FIELDS x y z
SIZE 4 4 4
TYPE F F F
COUNT 1 1 1
WIDTH 3
HEIGHT 1
POINTS 3
DATA ascii
0 0 0
1 0 0
0 1 0
""",
    "compressed.pcd": b"""VERSION .7
FIELDS x y z
SIZE 4 4 4
TYPE F F F
COUNT 1 1 1
WIDTH 3
HEIGHT 1
POINTS 3
DATA binary_compressed
"""
    + struct.pack("<2I", len(_COMPRESSED), len(_COORDINATES))
    + _COMPRESSED,
    "points.ply": b"""ply
format ascii 1.0
element vertex 3
property float x
property float y
property float z
end_header
0 0 0
1 0 0
0 1 0
""",
}
