"""Write PCD files in every encoding."""

import struct

import numpy as np

from tests.render.load.random_cloud import BYTES, LABELS, NORMALS, POINTS, M


def packed(colors):
    """Colors from 0 to 255 in the bits of float32, as the Point Cloud Library writes them."""
    red, green, blue = colors.astype(np.uint32).T
    return (red << 16 | green << 8 | blue).view(np.float32)[:, None]


def lzf(data):
    """LZF data: runs of literals, and copies where three bytes repeat (greedy, by a table)."""
    out, literals, seen, at = bytearray(), bytearray(), {}, 0

    def flush():
        for start in range(0, len(literals), 32):
            run = literals[start : start + 32]
            out.extend([len(run) - 1, *run])
        literals.clear()

    while at < len(data):
        key, length = data[at : at + 3], 0
        back = at - seen[key] - 1 if key in seen else 1 << 13
        seen[key] = at
        if len(key) == 3 and back < 1 << 13:
            while length < 264 and at + length < len(data):
                if data[at + length] != data[at + length - back - 1]:
                    break
                length += 1
        if length < 3:
            literals.append(data[at])
            at += 1
            continue
        flush()
        short = length - 2
        if short < 7:
            out.extend([short << 5 | back >> 8, back & 255])
        else:
            out.extend([7 << 5 | back >> 8, short - 7, back & 255])
        at += length
    flush()
    return bytes(out)


def write_pcd(path, fields, encoding, **changes):
    """fields: names → array [M,n]. changes: lines of the header by keyword, None = without it."""
    arrays = [a[:, i : i + 1] for names, a in fields.items() for i in range(len(names.split()))]
    names = " ".join(fields).split()
    if any(a.shape[1] > 1 and len(n.split()) == 1 for n, a in fields.items()):
        arrays, names = list(fields.values()), list(fields)
    kinds = {"f": "F", "i": "I", "u": "U"}
    header = {
        "VERSION": "0.7",
        "FIELDS": " ".join(names),
        "SIZE": " ".join(str(a.dtype.itemsize) for a in arrays),
        "TYPE": " ".join(kinds[a.dtype.kind] for a in arrays),
        "COUNT": " ".join(str(a.shape[1]) for a in arrays),
        "WIDTH": len(arrays[0]),
        "HEIGHT": 1,
        "VIEWPOINT": "0 0 0 1 0 0 0",
        "POINTS": len(arrays[0]),
        "DATA": encoding,
        **changes,
    }
    text = "# .PCD v0.7\n" + "".join(f"{k} {v}\n" for k, v in header.items() if v is not None)
    if encoding == "ascii":
        rows = zip(*[a.tolist() for a in arrays], strict=True)
        body = "".join(" ".join(repr(v) for c in row for v in c) + "\n" for row in rows).encode()
    elif encoding == "binary":
        body = b"".join(b"".join(a[i].tobytes() for a in arrays) for i in range(len(arrays[0])))
    else:
        plain = b"".join(a.tobytes() for a in arrays)
        squeezed = lzf(plain)
        body = struct.pack("<II", len(squeezed), len(plain)) + squeezed
    path.write_bytes(text.encode() + body)
    return path


FIELDS = {
    "x y z": POINTS.astype("<f4"),
    "_": np.zeros((M, 1), "<u1"),
    "normal_x normal_y normal_z": NORMALS.astype("<f4"),
    "rgb": packed(BYTES),
    "label": LABELS.astype("<u4"),
}
