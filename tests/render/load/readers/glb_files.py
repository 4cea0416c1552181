"""GLB files made by the tests, part by part."""

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pointcmt.render.load.readers.glb.scene import read_glb
from pointcmt.shapes import Mesh

FLOAT, BYTE, SHORT, INT = 5126, 5121, 5123, 5125
SIGNED_BYTE, SIGNED_SHORT = 5120, 5122
NUMPY = {
    FLOAT: "<f4",
    BYTE: "<u1",
    SHORT: "<u2",
    INT: "<u4",
    SIGNED_BYTE: "<i1",
    SIGNED_SHORT: "<i2",
}
KINDS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
POINTS = [[0, 0, 0], [1, 0, 0], [0, 1, 0]]


class Builder:
    """A GLB file, part by part."""

    def __init__(self) -> None:
        self.tree: dict[str, Any] = {
            "asset": {"version": "2.0"},
            "accessors": [],
            "bufferViews": [],
            "meshes": [],
            "nodes": [],
        }
        self.binary = b""

    def view(self, data: bytes) -> int:
        self.tree["bufferViews"].append(
            {"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(data)}
        )
        self.binary += data + b"\0" * (-len(data) % 4)
        return len(self.tree["bufferViews"]) - 1

    def accessor(self, values: Any, kind: int = FLOAT, **more: Any) -> int:
        array = np.array(values, NUMPY[kind])
        width = array.shape[1] if array.ndim == 2 else 1
        return self.declared(
            bufferView=self.view(array.tobytes()),
            componentType=kind,
            count=len(array),
            type=KINDS[width],
            **more,
        )

    def declared(self, **fields: Any) -> int:
        """An accessor with these fields."""
        self.tree["accessors"].append(fields)
        return len(self.tree["accessors"]) - 1

    def sparse(self, count: int, items: Any, values: Any, **more: Any) -> int:
        """An accessor of floats that replaces a few items of others, or of zeros."""
        rows = np.array(values, "<f4")
        replaced = {
            "count": len(items),
            "indices": {
                "bufferView": self.view(np.array(items, "<u2").tobytes()),
                "componentType": SHORT,
            },
            "values": {"bufferView": self.view(rows.tobytes())},
        }
        return self.declared(
            componentType=FLOAT, count=count, type=KINDS[rows.shape[1]], sparse=replaced, **more
        )

    def mesh(self, *primitives: dict[str, Any], **more: Any) -> int:
        self.tree["meshes"].append({"primitives": list(primitives), **more})
        return len(self.tree["meshes"]) - 1

    def primitive(self, points: Any = POINTS, faces: Any = ((0, 1, 2),), **more: Any) -> Any:
        attributes = {"POSITION": self.accessor(points), **more.pop("attributes", {})}
        indices = self.accessor(np.ravel(faces), SHORT)
        return {"attributes": attributes, "indices": indices, **more}

    def node(self, **fields: Any) -> int:
        self.tree["nodes"].append(fields)
        return len(self.tree["nodes"]) - 1

    def bytes(self) -> bytes:
        if self.binary:
            self.tree.setdefault("buffers", [{"byteLength": len(self.binary)}])
        text = json.dumps(self.tree).encode()
        text += b" " * (-len(text) % 4)
        total = 28 + len(text) + len(self.binary)
        head = struct.pack("<4sIII4s", b"glTF", 2, total, len(text), b"JSON")
        return head + text + struct.pack("<I4s", len(self.binary), b"BIN\0") + self.binary

    def gltf(self, folder: Path, *sizes: int, name: str = "mesh.gltf") -> Path:
        """Write a .gltf file and its binary data, in one file or in parts of these sizes.

        Views are moved to the part that holds them: a part must not end within one.
        """
        ends = [*np.cumsum(sizes).tolist(), len(self.binary)]
        starts = [0, *ends[:-1]]
        for view in self.tree["bufferViews"]:
            part = max(k for k, start in enumerate(starts) if start <= view["byteOffset"])
            view["buffer"], view["byteOffset"] = part, view["byteOffset"] - starts[part]
        self.tree["buffers"] = []
        for part, (start, end) in enumerate(zip(starts, ends, strict=True)):
            (folder / f"part {part}.bin").write_bytes(self.binary[start:end])
            uri = f"part%20{part}.bin"
            self.tree["buffers"].append({"byteLength": end - start, "uri": uri})
        path = folder / name
        path.write_text(json.dumps(self.tree))
        return path

    def read(self, path: Path = Path("nowhere/mesh.glb")) -> Mesh:
        return read_glb(path, self.bytes())


def simple(**more: Any) -> Builder:
    """A file of one triangle."""
    build = Builder()
    build.node(mesh=build.mesh(build.primitive(**more)))
    return build


def picture(color: tuple[int, ...]) -> bytes:
    data = io.BytesIO()
    Image.new("RGBA" if len(color) == 4 else "RGB", (2, 2), color).save(data, "PNG")
    return data.getvalue()
