"""Materials of glTF: a linear base color and its texture, converted to sRGB for display."""

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.errors import ShapeRefused
from pointcmt.render.load.readers.glb.accessors import Buffers, data_of, member
from pointcmt.render.load.readers.sidecars import NotRead, find, printable, read_sidecar
from pointcmt.render.load.readers.textures import Textures, lay_over
from pointcmt.shapes import Material
from pointcmt.srgb import to_linear, to_srgb

_GLOSSY = "KHR_materials_pbrSpecularGlossiness"
_TRANSFORM = "KHR_texture_transform"


@dataclass(frozen=True)
class GlbMaterial:
    """A material of the mesh. factor: linear base color [3]. index: -1 for glTF's default."""

    index: int
    material: Material
    factor: NDArray[np.float64]
    scale: NDArray[np.float64] = field(default_factory=lambda: np.ones(2))
    offset: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))

    @property
    def textured(self) -> bool:
        """Whether it has a texture and texture coordinates."""
        return self.material.texture is not None

    def place(self, uv: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert texture coordinates [·,2] of the file (v down) to those of the image (v up)."""
        with np.errstate(all="ignore"):
            placed = uv * self.scale + self.offset
            placed[:, 1] = 1 - placed[:, 1]
            placed[~(np.abs(placed) <= 1e6)] = 0
        return placed


_DEFAULT = GlbMaterial(-1, Material(), to_linear(np.array(Material().color)))


@dataclass
class GlbMaterials:
    """The materials that a file's primitives use. `notes` lists oddities."""

    tree: dict[str, Any]
    buffers: Buffers
    materials: list[Material] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _known: dict[tuple[int, bool], GlbMaterial] = field(default_factory=dict)
    _textures: Textures = field(default_factory=Textures)

    def get(self, index: int | None, has_uv: bool) -> GlbMaterial:
        """Return a material by its index in the file; without coordinates, it has no texture."""
        if index is None:
            return _DEFAULT
        if (index, has_uv) not in self._known:
            made = self._make(member(self.tree, "materials", index), has_uv)
            self._known[index, has_uv] = made
            self.materials.append(made.material)
        return self._known[index, has_uv]

    def _make(self, source: dict[str, Any], has_uv: bool) -> GlbMaterial:
        base = source.get("pbrMetallicRoughness", {})
        factor, texture = base.get("baseColorFactor"), base.get("baseColorTexture")
        glossy = source.get("extensions", {}).get(_GLOSSY)
        if glossy is not None:
            factor, texture = glossy.get("diffuseFactor"), glossy.get("diffuseTexture")
        values = np.clip(np.nan_to_num(np.array(factor or (1, 1, 1, 1), np.float64)), 0, 1)
        opaque = source.get("alphaMode", "OPAQUE") == "OPAQUE"
        red, green, blue = (float(c) for c in to_srgb(values[:3]))
        material = Material(
            name=str(source.get("name", "")),
            color=(red, green, blue),
            opacity=1.0 if opaque else float(values[3]),
        )
        made = GlbMaterial(len(self.materials), material, values[:3])
        if texture is None:
            return made
        try:
            if not has_uv:
                raise NotRead("it has no supported texture coordinates")
            placed = self._place(made, texture)
            source = member(self.tree, "textures", texture["index"])["source"]
            image = self._image(source, values[:3], None if opaque else material.color)
        except (NotRead, ShapeRefused) as reason:
            what = reason.detail if isinstance(reason, ShapeRefused) else reason
            self.notes.append(f"texture of material {printable(material.name)!r}: {what}")
            return made
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            what = printable(str(error))
            self.notes.append(f"texture of material {printable(material.name)!r}: {what}")
            return made
        return replace(placed, material=replace(material, texture=image))

    def _place(self, made: GlbMaterial, texture: dict[str, Any]) -> GlbMaterial:
        """Apply the material's KHR_texture_transform. Raises NotRead if that is not possible."""
        transform = texture.get("extensions", {}).get(_TRANSFORM, {})
        if transform.get("texCoord", texture.get("texCoord", 0)) != 0:
            raise NotRead("a second set of texture coordinates is not supported")
        if transform.get("rotation"):
            raise NotRead("rotated texture coordinates are not supported")
        scale = np.array(transform.get("scale", (1, 1)), np.float64)
        offset = np.array(transform.get("offset", (0, 0)), np.float64)
        return replace(made, scale=scale, offset=offset)

    def _image(
        self, index: Any, factor: NDArray[np.float64], behind: tuple[float, float, float] | None
    ) -> NDArray[np.uint8]:
        """Return an image [h,w,3], times a factor; behind: color that shows through its alpha."""
        key, image = self._decoded(index)
        plain = (factor == 1).all()
        if plain and image.shape[2] == 3:
            return image

        def make() -> NDArray[np.uint8]:
            tinted = image if plain else _tinted(image, factor)
            if tinted.shape[2] == 4 and behind is not None:
                return lay_over(tinted, behind)
            return np.ascontiguousarray(tinted[:, :, :3])

        shown = behind if image.shape[2] == 4 else None
        return self._textures.variant((key, *factor, shown), image, make)

    def _decoded(self, index: Any) -> tuple[Hashable, NDArray[np.uint8]]:
        """Return an image [h,w,3 or 4] and its key: the location of its bytes."""
        source, name = member(self.tree, "images", index), f"image {index}"
        if "bufferView" in source:
            view = member(self.tree, "bufferViews", source["bufferView"])
            place = (view.get("buffer", 0), view.get("byteOffset", 0), view["byteLength"])
            return place, self._textures.image(
                place, name, lambda: self.buffers.view(source["bufferView"])
            )
        uri = source.get("uri", "")
        if uri.startswith("data:"):
            return uri, self._textures.image(uri, name, lambda: data_of(uri))
        path = find(self.buffers.folder, uri)
        return path, self._textures.image(path, path.name, lambda: read_sidecar(path))


def _tinted(image: NDArray[np.uint8], factor: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Multiply an image by a factor [3] in linear light."""
    if (factor == 1).all():
        return image
    light = to_linear(np.arange(256) / 255)
    table = np.rint(to_srgb(light[:, None] * factor) * 255).astype(np.uint8)
    channels = [table[image[:, :, channel], channel] for channel in range(3)]
    return np.dstack([*channels, image[:, :, 3:]])
