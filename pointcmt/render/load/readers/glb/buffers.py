"""Buffers of glTF: the binary chunk of a GLB, data URIs, external files, compressed views."""

import base64
import binascii
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.readers.glb.budget import Budget
from pointcmt.render.load.readers.glb.container import member, whole
from pointcmt.render.load.readers.sidecars import ModelFolder, NotRead, find, read_sidecar

MESHOPT = ("EXT_meshopt_compression", "KHR_meshopt_compression")
_MAX_EXTERNAL = 1 << 30  # bytes of all buffers outside the file


@dataclass
class Buffers:
    """The buffers of a file, each read once, and only if it is needed.

    binary: the binary chunk of a GLB, None for a .gltf file.
    """

    tree: dict[str, Any]
    binary: memoryview | None
    folder: ModelFolder
    budget: Budget
    _inline: dict[int, memoryview] = field(default_factory=dict)
    _files: dict[Path, memoryview] = field(default_factory=dict)
    _unpacked: dict[int, memoryview] = field(default_factory=dict)

    def view(self, index: Any) -> memoryview:
        """Return the bytes of a buffer view: a view of its buffer, or its decompressed content.

        A compressed view never reads the fallback that it also names. Raises ShapeRefused:
        truncated, too_large, bad_syntax (compressed data); NotRead if it has no buffer.
        """
        view = member(self.tree, "bufferViews", index)
        extensions = view.get("extensions", {})
        packed = next((extensions[name] for name in MESHOPT if name in extensions), None)
        if packed is None:
            return self._bytes(view)
        if index not in self._unpacked:
            self._unpacked[index] = self._unpack(view, packed)
        return self._unpacked[index]

    def _bytes(self, view: dict[str, Any]) -> memoryview:
        start, size = whole(view.get("byteOffset", 0)), whole(view["byteLength"])
        data = self._buffer(view.get("buffer", 0))
        if start + size > len(data):
            raise ShapeRefused(Reason.TRUNCATED, "a buffer view is longer than its buffer")
        return data[start : start + size]

    def _unpack(self, view: dict[str, Any], packed: dict[str, Any]) -> memoryview:
        from pointcmt.render.load.readers.glb.meshopt import Packed, unpack  # compiled code

        layout = Packed.of(packed)
        if layout.size != whole(view["byteLength"]):
            raise ValueError(f"a compressed view of {layout.size} bytes declares another length")
        data = self._bytes(packed)
        self.budget.found_compressed(len(data))
        self.budget.spend(2 * layout.size)
        return unpack(data, layout)

    def _buffer(self, index: Any) -> memoryview:
        uri = member(self.tree, "buffers", index).get("uri")
        if uri is None and index == 0 and self.binary is not None:
            return self.binary
        if not isinstance(uri, str):
            raise NotRead(f"{index} has no data")
        if is_data(uri):
            if index not in self._inline:
                self._inline[index] = memoryview(data_of(uri))
            return self._inline[index]
        return self._external(find_uri(self.folder, uri))

    def _external(self, path: Path) -> memoryview:
        if path not in self._files:
            data = read_sidecar(path)
            if len(data) + sum(len(other) for other in self._files.values()) > _MAX_EXTERNAL:
                raise NotRead(
                    f"external files of more than {_MAX_EXTERNAL >> 20} MiB in total are not read"
                )
            self.budget.found(len(data))
            self._files[path] = memoryview(data)
        return self._files[path]


def is_data(uri: str) -> bool:
    """Return whether a URI holds its data itself (RFC 2397)."""
    return uri[:5].lower() == "data:"


def data_of(uri: str) -> bytes:
    """Decode a data URI, in base64 or with percent signs. Raises NotRead."""
    kind, comma, text = uri.partition(",")
    if not comma:
        raise NotRead("in a data URI cannot be decoded")
    if not kind.lower().endswith(";base64"):
        return unquote_to_bytes(text)
    try:
        return base64.b64decode(unquote(text))
    except (binascii.Error, ValueError) as error:
        raise NotRead("in a data URI cannot be decoded") from error


def find_uri(folder: ModelFolder, uri: str) -> Path:
    """Return the real path of a file named by a URI reference (RFC 3986). Raises NotRead.

    Names are percent-encoded; many exporters write them as they are, which is tried next.
    """
    try:
        return find(folder, unquote(uri))
    except NotRead:
        if "%" not in uri:
            raise
    return find(folder, uri)
