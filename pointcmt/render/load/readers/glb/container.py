"""GLB and .gltf files as JSON and a binary chunk: its members, the extensions it requires."""

import json
import struct
from typing import Any, NamedTuple

from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.readers.sidecars import printable

_JSON, _BIN = 0x4E4F534A, 0x004E4942
_UNDERSTOOD = {
    "EXT_mesh_gpu_instancing",
    "EXT_meshopt_compression",
    "EXT_texture_webp",
    "KHR_draco_mesh_compression",
    "KHR_materials_emissive_strength",
    "KHR_materials_pbrSpecularGlossiness",
    "KHR_materials_unlit",
    "KHR_mesh_quantization",
    "KHR_meshopt_compression",
    "KHR_node_visibility",
    "KHR_texture_transform",
}
# Other extensions of these kinds change only light, materials, animation or what is not drawn.
_HARMLESS = (
    *("KHR_materials_", "EXT_materials_", "ADOBE_materials_", "KHR_texture_", "EXT_texture_"),
    *("KHR_lights_", "EXT_lights_", "KHR_xmp", "KHR_animation", "KHR_audio", "KHR_physics_"),
    *("KHR_interactivity", "KHR_node_", "KHR_character", "KHR_avatar", "KHR_techniques_"),
    *("EXT_structural_metadata", "EXT_mesh_features", "EXT_instance_features", "MSFT_", "VRM"),
    *("AGI_", "CESIUM_primitive_outline", "OMI_"),
)
_MOST_NAMES = 10  # of extensions in a message


class Container(NamedTuple):
    """tree: the JSON. binary: the binary chunk, None for a .gltf file."""

    tree: dict[str, Any]
    binary: memoryview | None
    notes: list[str]


def read_container(data: bytes) -> Container:
    """Split a file, GLB or JSON by its content, after checking its lengths.

    Raises ShapeRefused: unknown_format, truncated, bad_syntax.
    """
    if data[:4] == b"glTF":
        return _read_chunks(data)
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"{":
        what = "the file begins neither with 'glTF' nor as JSON"
        raise ShapeRefused(Reason.UNKNOWN_FORMAT, what)
    return Container(_parse(data, "it"), None, [])


def check_extensions(tree: dict[str, Any]) -> list[str]:
    """Return notes on required extensions that are not drawn.

    Raises ShapeRefused (unknown_format) for those that change the geometry, or may do so.
    """
    unknown = [str(name) for name in tree.get("extensionsRequired", []) if name not in _UNDERSTOOD]
    ignored = sorted({name for name in unknown if name.startswith(_HARMLESS)})
    refused = sorted(set(unknown) - set(ignored))
    if refused:
        what = f"it requires {_listed(refused)}: export it without, as plain glTF 2.0"
        raise ShapeRefused(Reason.UNKNOWN_FORMAT, what)
    return [f"required extensions that are not drawn: {_listed(ignored)}"] if ignored else []


def whole(value: Any) -> int:
    """Return a number after checking that it is 0, 1, 2, … Raises ValueError."""
    if type(value) is not int or value < 0:
        raise ValueError(f"{printable(str(value))} instead of an integer")
    return value


def member(tree: dict[str, Any], name: str, index: Any) -> dict[str, Any]:
    """Return an object from one of the file's lists. Raises ValueError, IndexError or KeyError."""
    found = tree[name][whole(index)]
    if not isinstance(found, dict):
        raise ValueError(f"{name} {index} is not an object")
    return found


def _read_chunks(data: bytes) -> Container:
    if len(data) < 20:
        raise ShapeRefused(Reason.TRUNCATED, "the file ends within its header")
    version, length = struct.unpack_from("<II", data, 4)
    if version != 2:
        raise ShapeRefused(Reason.UNKNOWN_FORMAT, f"glTF {version} is not supported, only glTF 2")
    if length > len(data):
        what = f"the header declares {length} bytes; the file has {len(data)}"
        raise ShapeRefused(Reason.TRUNCATED, what)
    notes = [f"{len(data) - length} bytes after the end ignored"] if length < len(data) else []
    content = memoryview(data)
    chunks: dict[int, memoryview] = {}
    at = 12
    while at + 8 <= length:
        size, kind = struct.unpack_from("<II", data, at)
        if at + 8 + size > length:
            raise ShapeRefused(Reason.TRUNCATED, "a chunk is longer than the file")
        chunks.setdefault(kind, content[at + 8 : at + 8 + size])
        at += 8 + size
    tree = _parse(bytes(chunks.get(_JSON, b"")), "its first chunk")
    binary = chunks.get(_BIN, content[:0])
    _check_binary(tree, len(binary))
    return Container(tree, binary, notes)


def _parse(text: bytes, what: str) -> dict[str, Any]:
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ShapeRefused(
            Reason.BAD_SYNTAX, f"{what} is not valid JSON: {printable(str(error))}"
        ) from error
    if not isinstance(tree, dict):
        raise ShapeRefused(Reason.BAD_SYNTAX, "its JSON is not an object")
    version = str(tree.get("asset", {}).get("version", "2.0"))
    if version.partition(".")[0] != "2":
        what = f"glTF {printable(version)} is not supported, only glTF 2"
        raise ShapeRefused(Reason.UNKNOWN_FORMAT, what)
    return tree


def _check_binary(tree: dict[str, Any], room: int) -> None:
    """Refuse a GLB whose binary chunk is shorter than its first buffer declares."""
    for buffer in tree.get("buffers", [])[:1]:
        placeholder = not room and buffer.get("extensions")  # a fallback of compressed data
        if "uri" not in buffer and not placeholder and buffer["byteLength"] > room:
            raise ShapeRefused(Reason.TRUNCATED, "the binary chunk is shorter than declared")


def _listed(names: list[str]) -> str:
    return ", ".join(printable(name) for name in names[:_MOST_NAMES])
