"""Scans in ScanNet's layout, as published: .sens, meshes, segments, objects, names, alignment."""

import io
import json
import struct
import zlib

import numpy as np
from PIL import Image

from tests.render.load.scenes.recordings import INTEGER_K, matrix_text, png, stored
from tests.render.load.scenes.rooms import HIGH, LOW, SIZE, show

# Color as ScanNet has it: another size than depth's, and another lens.
COLOR_SIZE = (160, 120)
COLOR_K = np.array([[140.0, 0, 84.0], [0, 138.0, 58.0], [0, 0, 1]])

# Objects: objectId, raw name, box (low, high). The names' NYU40 ids are in NAMES.
OBJECTS = [
    (7, "floor", (-2.0, -1.5, 0.0), (2.0, 1.5, 0.0)),
    (3, "office chair", (-1.0, -0.5, 0.0), (-0.4, 0.1, 0.9)),
    (12, "coffee table", (0.2, 0.3, 0.0), (1.4, 0.9, 0.5)),
    (0, "trash can", (1.6, -1.2, 0.0), (1.9, -0.9, 0.4)),
]
NAMES = [
    ("wall", 1),
    ("floor", 2),
    ("office chair", 5),
    ("coffee table", 7),
    ("trash can", 39),
    ("object", 40),
    ("object", 5),  # listed twice: the first row counts
    ("ceiling", 22),
    ('cloth "blue"', 21),
]
CLASS = {"floor": 1, "office chair": 4, "coffee table": 6, "trash can": 19}  # in the benchmark
YAW = 0.4


def alignment(yaw=YAW):
    """An axis alignment [4,4]: a turn about z, and a translation."""
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    matrix[:3, 3] = [3.0, -1.0, 0.05]
    return matrix


def box_mesh(low, high, steps=3):
    """A grid of vertices [n,3] on the faces of a box (or a rectangle), and their triangles."""
    low, high = np.array(low), np.array(high)
    vertices, faces = [], []
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        flat = high[axis] == low[axis]
        if not flat and (high == low).any():
            continue
        for side in (low,) if flat else (low, high):
            grid = np.linspace(0, 1, steps)
            a, b = np.meshgrid(grid, grid, indexing="ij")
            points = np.empty((steps * steps, 3))
            points[:, axis] = side[axis]
            for other, t in zip(others, (a, b), strict=True):
                points[:, other] = (low + (high - low) * t.reshape(-1, 1))[:, other]
            first = sum(map(len, vertices))
            for i in range(steps - 1):
                for j in range(steps - 1):
                    corner = first + i * steps + j
                    faces += [(corner, corner + steps, corner + 1)]
                    faces += [(corner + 1, corner + steps, corner + steps + 1)]
            vertices.append(points)
    return np.concatenate(vertices), np.array(faces)


def room_mesh():
    """(vertices [N,3], faces [F,3], object index [N], -1 = walls) of the objects and four walls."""
    parts, faces, owner = [], [], []
    for index, (_, _, low, high) in enumerate(OBJECTS):
        vertices, triangles = box_mesh(low, high)
        faces.append(triangles + sum(map(len, parts)))
        parts.append(vertices)
        owner += [index] * len(vertices)
    for axis in (0, 1):
        for side in (LOW, HIGH):
            low, high = LOW.copy(), HIGH.copy()
            low[axis] = high[axis] = side[axis]
            vertices, triangles = box_mesh(low, high)
            faces.append(triangles + sum(map(len, parts)))
            parts.append(vertices)
            owner += [-1] * len(vertices)
    return np.concatenate(parts), np.concatenate(faces), np.array(owner)


def into_file(points, aligned=True):
    """Points of the room in the coordinates of the files, which an alignment turns upright."""
    back = np.linalg.inv(alignment()) if aligned else np.eye(4)
    return points @ back[:3, :3].T + back[:3, 3]


def ply(vertices, faces, extra=()):
    """A binary PLY file with colors and alpha; extra: (name, values) of u16 per vertex."""
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}"]
    lines += [f"property float {axis}" for axis in "xyz"]
    lines += [f"property uchar {name}" for name in ("red", "green", "blue", "alpha")]
    lines += [f"property ushort {name}" for name, _ in extra]
    lines += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header"]
    kinds = [("p", "<f4", 3), ("c", "u1", 4), *((name, "<u2") for name, _ in extra)]
    rows = np.zeros(len(vertices), kinds)
    rows["p"], rows["c"] = vertices, colors(len(vertices))
    for name, values in extra:
        rows[name] = values
    triangles = np.zeros(len(faces), [("n", "u1"), ("v", "<i4", 3)])
    triangles["n"], triangles["v"] = 3, faces
    return "\n".join(lines).encode() + b"\n" + rows.tobytes() + triangles.tobytes()


def colors(count):
    """Colors and alpha [count,4] u8 of the vertices."""
    return np.arange(4 * count).reshape(count, 4).astype(np.uint8)


def jpeg(pixels):
    """The bytes of a JPEG file of high quality."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=98, subsampling=0)
    return file.getvalue()


COLOR_CODECS = {0: lambda pixels: pixels.tobytes(), 1: png, 2: jpeg}
DEPTH_CODECS = {0: lambda depth: depth.tobytes(), 1: lambda depth: zlib.compress(depth.tobytes())}


def _four(matrix):
    """A matrix [3,3] as the upper left part of [4,4]."""
    return np.block([[matrix, np.zeros((3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]])


def sens(poses, color_codec=2, depth_codec=1, shift=1000.0, **changes):
    """The bytes of a .sens file of the room's frames with these poses [4,4] in the file.

    changes: color_K, color_size, extrinsic_depth, extrinsic_color, version, codecs (as written).
    """
    color_K, color_size = changes.get("color_K", COLOR_K), changes.get("color_size", COLOR_SIZE)
    rig = [changes.get(f"extrinsic_{kind}", np.eye(4)) for kind in ("color", "depth")]
    written = color_K - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    matrices = [_four(written), rig[0], _four(INTEGER_K), rig[1]]
    name = b"StructureSensor"
    out = struct.pack("<IQ", changes.get("version", 4), len(name)) + name
    out += np.array(matrices).astype("<f4").tobytes()
    out += struct.pack("<2i", *changes.get("codecs", (color_codec, depth_codec)))
    out += struct.pack("<4IfQ", *color_size, *SIZE, shift, len(poses))
    from_depth = np.linalg.inv(rig[0]) @ rig[1]
    for index, pose in enumerate(poses):
        shown = show(index, color_K, color_size, from_depth)
        color = COLOR_CODECS[color_codec](shown.color)
        depth = DEPTH_CODECS[depth_codec](stored(shown.depth, 1 / shift))
        out += np.asarray(pose).astype("<f4").tobytes()
        out += struct.pack("<4Q", index, index, len(color), len(depth)) + color + depth
    return out + struct.pack("<Q", 0)  # no IMU frames


def write_table(root, names=NAMES):
    """scannetv2-labels.combined.tsv, with the columns that matter and one more."""
    lines = ["id\traw_category\tcount\tnyu40id\tnyu40class"]
    lines += [f"{i}\t{name}\t9\t{nyu}\tx" for i, (name, nyu) in enumerate(names)]
    (root / "scannetv2-labels.combined.tsv").write_text("\n".join(lines) + "\n")


def write_labels(folder, groups=None):
    """Segments and objects: each object has two segments, the walls one that no group names."""
    vertices, _, owner = room_mesh()
    segments = np.where(owner < 0, 900, 100 * (owner + 1) + np.arange(len(vertices)) % 2)
    stem = f"{folder.name}_vh_clean_2"
    table = {"sceneId": folder.name, "segIndices": segments.tolist()}
    (folder / f"{stem}.0.010000.segs.json").write_text(json.dumps(table))
    if groups is None:
        groups = [
            {"id": i, "objectId": number, "label": name, "segments": [100 * (i + 1), 100 * i + 101]}
            for i, (number, name, _, _) in enumerate(OBJECTS)
        ]
    path = folder / f"{folder.name}.aggregation.json"
    path.write_text(json.dumps({"sceneId": folder.name, "segGroups": groups}))


def write_scan(root, name="scene0001_00", place="scans", labeled=True, frames=True):
    """A scan of the room with all of its files. Scans that are not labeled have no alignment."""
    folder = root / place / name
    folder.mkdir(parents=True)
    vertices, faces, _ = room_mesh()
    (folder / f"{name}_vh_clean_2.ply").write_bytes(ply(into_file(vertices, labeled), faces))
    text = "colorWidth = 1296\nsceneType = Office\n"
    if labeled:
        text = f"axisAlignment = {matrix_text(alignment())!s}".replace("\n", " ") + f"\n{text}"
        write_labels(folder)
        write_table(root)
    (folder / f"{name}.txt").write_text(text)
    if frames:
        (folder / f"{name}.sens").write_bytes(sens(file_poses(labeled)))
    return folder


def file_poses(aligned=True):
    """The poses of the room's frames in the coordinates of the files."""
    back = np.linalg.inv(alignment()) if aligned else np.eye(4)
    return [back @ show(index).camera_to_world for index in range(4)]
