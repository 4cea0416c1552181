"""GLB files (binary glTF 2.0): the geometry through trimesh, scene and materials by ourselves.

trimesh decodes the primitives; it is given no materials, because it keeps their linear colours in
8 bits. A mesh that several nodes place is there as often. Triangles come node by node, depth first
as the file lists them, and in a node's mesh primitive by primitive.
"""

import io
import json
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from trimesh.exchange.gltf import load_glb

from pointcmt.errors import Reason, ShapeRefused
from pointcmt.mesh import Mesh
from pointcmt.render.readers import MAX_FACES
from pointcmt.render.readers.glb_materials import GlbMaterial, GlbMaterials
from pointcmt.render.readers.sidecars import (
    ModelFolder,
    NotRead,
    find,
    folder_of,
    printable,
    read_sidecar,
)
from pointcmt.render.srgb import to_srgb

_JSON, _BIN = 0x4E4F534A, 0x004E4942
_ITEM_BYTES = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, 5126: 4}  # by component type
_FULL_SCALE = {5121: 255, 5123: 65535}  # of unsigned integers that stand for 0..1
_FLOAT = 5126
_WIDTH = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_UNDERSTOOD = {
    "KHR_materials_unlit",
    "KHR_materials_pbrSpecularGlossiness",
    "KHR_mesh_quantization",
    "KHR_texture_transform",
}
_DECODED_MODES, _TRIANGLE_MODES = (0, 1, 4, 5), (4, 5)  # of primitives: trimesh's, and ours
_DEEPEST = 200  # levels of nodes


@dataclass
class _Primitive:
    """One primitive as it lies in its mesh. P vertices, F faces."""

    vertices: NDArray[np.float64]  # [P,3]
    faces: NDArray[np.int64]  # [F,3]
    uv: NDArray[np.float64] | None  # [P,2], v downwards as glTF has it
    colors: NDArray[np.float64] | None  # [P,3] linear 0..1
    material: int | None


@dataclass
class _Placed:
    """A primitive, where it stands (mesh to scene [4,4]) and what it looks like."""

    matrix: NDArray[np.float64]
    primitive: _Primitive
    look: GlbMaterial


def read_glb(path: Path, data: bytes) -> Mesh:
    """The mesh of a GLB file's content: all meshes of its scene, where its nodes place them.

    Raises ShapeRefused: unknown_format, bad_syntax, truncated, missing_file (an external buffer),
    bad_index, no_faces, too_large.
    """
    tree, binary, notes = _read_chunks(data)
    try:
        _check_tree(tree, len(binary))
        primitives = _load_primitives(tree, binary, folder_of(path))
        materials = GlbMaterials(tree, binary, folder_of(path))
        placed = [
            _Placed(matrix, primitive, materials.get(primitive.material, primitive.uv is not None))
            for matrix, mesh in _placed_meshes(tree)
            for primitive in primitives[mesh]
        ]
        mesh = _assemble(placed, materials)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, AssertionError) as error:
        # The file's JSON does not have the shape of glTF.
        raise ShapeRefused(Reason.BAD_SYNTAX, f"{type(error).__name__}: {error}") from error
    return replace(mesh, notes=(*notes, *mesh.notes))


def _read_chunks(data: bytes) -> tuple[dict[str, Any], bytes, list[str]]:
    """The JSON and the binary chunk, whose lengths are checked against the file's."""
    if data[:4] != b"glTF":
        raise ShapeRefused(Reason.UNKNOWN_FORMAT, "the file does not begin with 'glTF'")
    if len(data) < 20:
        raise ShapeRefused(Reason.TRUNCATED, "the file ends within its header")
    version, length = struct.unpack_from("<II", data, 4)
    if version != 2:
        raise ShapeRefused(Reason.UNKNOWN_FORMAT, f"glTF {version} is not read, only glTF 2")
    if length > len(data):
        what = f"the header declares {length} bytes; the file has {len(data)}"
        raise ShapeRefused(Reason.TRUNCATED, what)
    notes = [f"{len(data) - length} bytes behind the end ignored"] if length < len(data) else []
    chunks: dict[int, bytes] = {}
    at = 12
    while at + 8 <= length:
        size, kind = struct.unpack_from("<II", data, at)
        if at + 8 + size > length:
            raise ShapeRefused(Reason.TRUNCATED, "a chunk is longer than the file")
        chunks.setdefault(kind, data[at + 8 : at + 8 + size])
        at += 8 + size
    try:
        tree = json.loads(chunks.get(_JSON, b""))
    except (ValueError, RecursionError) as error:
        raise ShapeRefused(Reason.BAD_SYNTAX, f"no JSON in its first chunk: {error}") from error
    if not isinstance(tree, dict):
        raise ShapeRefused(Reason.BAD_SYNTAX, "its JSON is no object")
    return tree, chunks.get(_BIN, b""), notes


def _check_tree(tree: dict[str, Any], room: int) -> None:
    """Refuse what would be read wrongly, and counts that their data cannot hold."""
    unknown = set(tree.get("extensionsRequired", [])) - _UNDERSTOOD
    if unknown:
        names = ", ".join(sorted(printable(str(name)) for name in unknown))
        what = f"it needs {names}: export it without compression"
        raise ShapeRefused(Reason.UNKNOWN_FORMAT, what)
    for index, buffer in enumerate(tree.get("buffers", [])):
        if index == 0 and "uri" not in buffer and buffer["byteLength"] > room:
            raise ShapeRefused(Reason.TRUNCATED, "the binary chunk is shorter than declared")
    for accessor in tree.get("accessors", []):
        count, view = accessor["count"], accessor.get("bufferView")
        if not 0 <= count <= 3 * MAX_FACES:
            raise ShapeRefused(Reason.TOO_LARGE, f"an accessor of {count} items")
        needed = count * _ITEM_BYTES[accessor["componentType"]] * _WIDTH[accessor["type"]]
        if view is not None and needed > tree["bufferViews"][view]["byteLength"]:
            raise ShapeRefused(Reason.TRUNCATED, "an accessor is longer than its data")
    total = 0
    for mesh in tree.get("meshes", []):
        for primitive in mesh["primitives"]:
            if primitive.get("mode", 4) in _TRIANGLE_MODES:
                total += _check_primitive(tree, primitive)
    if total > 6 * MAX_FACES:  # many may share one accessor's data
        raise ShapeRefused(Reason.TOO_LARGE, f"its meshes have {total} vertices and indices")


def _check_primitive(tree: dict[str, Any], primitive: dict[str, Any]) -> int:
    """How many vertices and indices it has."""
    position = tree["accessors"][primitive["attributes"]["POSITION"]]
    indices = primitive.get("indices")
    used = [position] + ([] if indices is None else [tree["accessors"][indices]])
    if any("sparse" in accessor or "bufferView" not in accessor for accessor in used):
        raise ShapeRefused(Reason.UNKNOWN_FORMAT, "sparse or compressed geometry is not read")
    if position.get("normalized") or position["type"] != "VEC3":
        raise ShapeRefused(Reason.UNKNOWN_FORMAT, "normalized integer positions are not read")
    return sum(accessor["count"] for accessor in used)


def _load_primitives(
    tree: dict[str, Any], binary: bytes, folder: ModelFolder
) -> list[list[_Primitive]]:
    """The primitives of triangles of each mesh, decoded by trimesh."""
    # Anything but geometry is left out; a material must be there for coordinates to be decoded.
    kept = ("asset", "accessors", "bufferViews", "buffers")
    meshes = [
        {"primitives": [{**primitive, "material": 0} for primitive in mesh["primitives"]]}
        for mesh in tree.get("meshes", [])
    ]
    plain = {key: tree[key] for key in kept if key in tree} | {"meshes": meshes, "materials": [{}]}
    glb = _pack(plain, binary)
    names = [buffer["uri"] for buffer in tree.get("buffers", []) if "uri" in buffer]
    try:
        external = {
            name: read_sidecar(find(folder, name)) for name in names if not name.startswith("data:")
        }
    except NotRead as reason:
        raise ShapeRefused(Reason.MISSING_FILE, f"its buffer {reason}") from reason
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            loaded = load_glb(io.BytesIO(glb), resolver=external)["geometry"]
        except MemoryError:
            raise
        except Exception as error:
            raise ShapeRefused(Reason.BAD_SYNTAX, f"{type(error).__name__}: {error}") from error
    decoded = iter(loaded.values())  # in the order of meshes and their primitives
    found: list[list[_Primitive]] = []
    for mesh in tree.get("meshes", []):
        found.append([])
        for primitive in mesh["primitives"]:
            mode = primitive.get("mode", 4)
            geometry = next(decoded) if mode in _DECODED_MODES else {}
            if mode in _TRIANGLE_MODES:
                found[-1].append(_primitive(tree, primitive, geometry))
    return found


def _pack(tree: dict[str, Any], binary: bytes) -> bytes:
    """A GLB file of a tree and a binary chunk."""
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    length = 12 + 8 + len(text) + 8 + len(binary)
    head = struct.pack("<4sIIII", b"glTF", 2, length, len(text), _JSON)
    return head + text + struct.pack("<II", len(binary), _BIN) + binary


def _primitive(
    tree: dict[str, Any], primitive: dict[str, Any], geometry: dict[str, Any]
) -> _Primitive:
    attributes = primitive["attributes"]
    vertices = np.asarray(geometry["vertices"], np.float64).reshape(-1, 3)
    faces = np.asarray(geometry["faces"], np.int64).reshape(-1, 3)
    if len(faces) and not 0 <= faces.min() <= faces.max() < len(vertices):
        raise ShapeRefused(
            Reason.BAD_INDEX, f"vertex {faces.max()} of {len(vertices)} (from 0) is used"
        )
    visual = geometry["visual"]
    uv = None
    if "TEXCOORD_0" in attributes:
        accessor = tree["accessors"][attributes["TEXCOORD_0"]]
        if accessor["componentType"] == _FLOAT and len(visual.uv) == len(vertices):
            uv = np.asarray(visual.uv, np.float64).reshape(-1, 2)
            uv = np.stack([uv[:, 0], 1 - uv[:, 1]], axis=1)  # trimesh turns v upwards
    colors = None
    if "COLOR_0" in attributes and "color" in visual.vertex_attributes:
        kind = tree["accessors"][attributes["COLOR_0"]]["componentType"]
        colors = np.asarray(visual.vertex_attributes["color"], np.float64)[:, :3]
        colors = np.clip(np.nan_to_num(colors / _FULL_SCALE.get(kind, 1)), 0, 1)
    return _Primitive(vertices, faces, uv, colors, primitive.get("material"))


def _placed_meshes(tree: dict[str, Any]) -> Iterator[tuple[NDArray[np.float64], int]]:
    """(mesh to scene [4,4], mesh) of all nodes of the scene that have one, depth first."""
    nodes = tree.get("nodes", [])
    scenes = tree.get("scenes")
    if scenes:
        roots = scenes[tree.get("scene", 0)].get("nodes", [])
    else:  # no scene: each node that is nobody's child
        children = {child for node in nodes for child in node.get("children", [])}
        roots = [index for index in range(len(nodes)) if index not in children]
    seen = 0
    stack = [(root, np.eye(4), 0) for root in reversed(roots)]
    while stack:
        index, parent, depth = stack.pop()
        seen += 1
        if seen > 10 * len(nodes) + 10 or depth > _DEEPEST:  # a ring, or as good as one
            raise ShapeRefused(Reason.BAD_SYNTAX, "its nodes contain one another")
        matrix = parent @ _local_matrix(nodes[index])
        if "mesh" in nodes[index]:
            yield matrix, nodes[index]["mesh"]
        stack += [(c, matrix, depth + 1) for c in reversed(nodes[index].get("children", []))]


def _local_matrix(node: dict[str, Any]) -> NDArray[np.float64]:
    """A node to its parent [4,4]: its matrix, or translation · rotation · scale."""
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    x, y, z, w = np.array(node.get("rotation", (0, 0, 0, 1)), np.float64)
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * np.array(node.get("scale", (1, 1, 1)), np.float64)
    matrix[:3, 3] = node.get("translation", (0, 0, 0))
    return matrix


def _assemble(placed: list[_Placed], materials: GlbMaterials) -> Mesh:
    """One mesh of all primitives in their places."""
    total = sum(len(part.primitive.faces) for part in placed)
    if total == 0:
        raise ShapeRefused(Reason.NO_FACES, "its scene holds no triangles")
    if total > MAX_FACES:
        raise ShapeRefused(Reason.TOO_LARGE, f"{total} triangles, at most {MAX_FACES} are read")
    vertices = sum(len(part.primitive.vertices) for part in placed)
    if vertices > 3 * MAX_FACES:
        raise ShapeRefused(Reason.TOO_LARGE, f"{vertices} vertices, at most {3 * MAX_FACES}")
    starts = np.cumsum([0, *(len(part.primitive.vertices) for part in placed)])
    faces = [part.primitive.faces + start for part, start in zip(placed, starts, strict=False)]
    indices = [np.full(len(part.primitive.faces), part.look.index, np.int32) for part in placed]
    textured = any(part.look.textured for part in placed)
    colored = any(part.primitive.colors is not None and not part.look.textured for part in placed)
    return Mesh(
        vertices=np.concatenate([_moved(p.primitive.vertices, p.matrix) for p in placed]),
        faces=np.concatenate(faces).astype(np.int32),
        materials=tuple(materials.materials),
        face_material=np.concatenate(indices) if materials.materials else None,
        uv=np.concatenate([_corner_uv(part) for part in placed]) if textured else None,
        vertex_colors=np.concatenate([_colors(part) for part in placed]) if colored else None,
        notes=tuple(materials.notes),
    )


def _corner_uv(part: _Placed) -> NDArray[np.float32]:
    """Texture coordinates [F,3,2] of one primitive; 0 where its material has no texture."""
    if part.primitive.uv is None or not part.look.textured:
        return np.zeros((len(part.primitive.faces), 3, 2), np.float32)
    return part.look.place(part.primitive.uv)[part.primitive.faces].astype(np.float32)


def _colors(part: _Placed) -> NDArray[np.float32]:
    """sRGB [P,3] of one primitive's vertices: its colours, if any, times its material's."""
    colors = part.primitive.colors
    tint = np.ones((len(part.primitive.vertices), 3)) if colors is None else colors
    return to_srgb(tint * part.look.factor).astype(np.float32)


def _moved(points: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points [P,3] moved; untouched bit by bit where the matrix moves nothing."""
    if (matrix == np.eye(4)).all():
        return points
    with np.errstate(all="ignore"):
        return points @ matrix[:3, :3].T + matrix[:3, 3]
