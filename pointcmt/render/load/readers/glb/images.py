"""Textures of glTF: images by their sources, and where on a surface they are."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointcmt.render.load.readers.glb.buffers import Buffers, data_of, find_uri, is_data
from pointcmt.render.load.readers.glb.container import member, whole
from pointcmt.render.load.readers.sidecars import NotRead, printable, read_sidecar
from pointcmt.render.load.readers.textures import Textures
from pointcmt.shapes import Wrap

_TRANSFORM = "KHR_texture_transform"
_SOURCES = ("EXT_texture_webp", "MSFT_texture_dds")  # extensions whose images can be decoded
_WRAPS: dict[int, Wrap] = {33071: "clamp", 33648: "mirror", 10497: "repeat"}
_GREATEST_UV = 1e6  # above this float32 cannot distinguish the texels of a texture


class Placement(NamedTuple):
    """Where a texture is: the number of its set of coordinates, KHR_texture_transform, the modes
    of its sampler to the side and upward."""

    coordinates: int = 0
    offset: tuple[float, float] = (0.0, 0.0)
    rotation: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    wrap: tuple[Wrap, Wrap] = ("repeat", "repeat")

    def apply(self, uv: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert coordinates [·,2] of the file (v down) to those of the image (v up).

        offset · rotation · scale, counterclockwise as one sees the image.
        """
        cos, sin = np.cos(self.rotation), np.sin(self.rotation)
        turn = np.array([[cos, sin], [-sin, cos]]) if self.rotation else np.eye(2)
        with np.errstate(all="ignore"):
            placed = (uv * self.scale) @ turn.T + self.offset
            placed[:, 1] = 1 - placed[:, 1]
            placed[~(np.abs(placed) <= _GREATEST_UV)] = 0
        return placed


class Picture(NamedTuple):
    """A decoded image [h,w,3 or 4] u8 sRGB. key: the same for the same image."""

    key: Hashable
    pixels: NDArray[np.uint8]


@dataclass
class Images:
    """The images of a file, each decoded once."""

    tree: dict[str, Any]
    buffers: Buffers
    textures: Textures = field(default_factory=Textures)

    def placement(self, info: dict[str, Any]) -> Placement:
        """Return where the texture of a textureInfo is. Raises KeyError, ValueError, …"""
        transform = info.get("extensions", {}).get(_TRANSFORM, {})
        texture = member(self.tree, "textures", info["index"])
        sampler: dict[str, Any] = {}
        if "sampler" in texture:
            sampler = member(self.tree, "samplers", texture["sampler"])
        u, v = transform.get("offset", (0, 0))
        wide, high = transform.get("scale", (1, 1))
        return Placement(
            whole(transform.get("texCoord", info.get("texCoord", 0))),
            (float(u), float(v)),
            float(transform.get("rotation", 0)),
            (float(wide), float(high)),
            (_wrap(sampler.get("wrapS")), _wrap(sampler.get("wrapT"))),
        )

    def picture(self, info: dict[str, Any]) -> Picture:
        """Decode the image of a textureInfo: the first of its sources that can be. Raises NotRead,
        ShapeRefused, KeyError, ValueError, …"""
        texture = member(self.tree, "textures", info["index"])
        extensions = texture.get("extensions", {})
        sources = [extensions[name]["source"] for name in _SOURCES if name in extensions]
        sources += [texture["source"]] if "source" in texture else []
        if not sources:
            kinds = ", ".join(printable(str(name)) for name in extensions)
            what = f"images of {kinds} are not supported" if kinds else "it has no image"
            raise NotRead(f"{what}: save it as PNG or JPEG")
        for number, source in enumerate(sources, start=1):
            try:
                return self._decoded(source)
            except NotRead:
                if number == len(sources):
                    raise
        raise AssertionError  # the last source has returned or raised

    def _decoded(self, index: Any) -> Picture:
        source, name = member(self.tree, "images", index), f"image {index}"
        if "bufferView" in source:
            view = member(self.tree, "bufferViews", source["bufferView"])
            place = (view.get("buffer", 0), view.get("byteOffset", 0), view["byteLength"])
            return Picture(
                place,
                self.textures.image(place, name, lambda: self.buffers.view(source["bufferView"])),
            )
        uri = source.get("uri", "")
        if is_data(uri):
            return Picture(uri, self.textures.image(uri, name, lambda: data_of(uri)))
        path = find_uri(self.buffers.folder, uri)
        return Picture(path, self.textures.image(path, path.name, lambda: read_sidecar(path)))


def _wrap(code: Any) -> Wrap:
    return _WRAPS.get(code, "repeat") if isinstance(code, int) else "repeat"
