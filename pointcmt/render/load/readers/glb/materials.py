"""Materials of glTF as one picture of what is seen: base color and emission, in sRGB.

What is reflected and what is emitted are added in linear light (specification, 3.9.3). Colors of
vertices multiply textures when they are drawn.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.errors import ShapeRefused
from pointcmt.render.load.readers import NEARLY_BLACK, without_texture
from pointcmt.render.load.readers.glb.blend import cut, lit
from pointcmt.render.load.readers.glb.buffers import Buffers
from pointcmt.render.load.readers.glb.container import member
from pointcmt.render.load.readers.glb.images import Images, Picture, Placement
from pointcmt.render.load.readers.sidecars import NotRead, printable
from pointcmt.render.load.readers.textures import lay_over
from pointcmt.shapes import Material
from pointcmt.srgb import to_linear, to_srgb

_GLOSSY = "KHR_materials_pbrSpecularGlossiness"
_STRENGTH = "KHR_materials_emissive_strength"
_UNLIT = "KHR_materials_unlit"  # its color is the base color alone
_NONE = np.zeros(3)


@dataclass(frozen=True)
class GlbMaterial:
    """A material of the mesh. factor, emission: linear [3], without textures. index: -1 for glTF's
    default."""

    index: int
    material: Material
    factor: NDArray[np.float64]
    emission: NDArray[np.float64]
    placement: Placement | None = None  # of its texture

    @property
    def textured(self) -> bool:
        """Whether it has a texture and texture coordinates."""
        return self.material.texture is not None

    def colors(self, own: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return sRGB colors [P,3] of vertices, from their linear ones: what multiplies the
        texture, or what is seen if there is none."""
        return to_srgb(own if self.textured else np.clip(own * self.factor + self.emission, 0, 1))


# glTF's default material is white. Here, surfaces without any color are gray.
_DEFAULT = GlbMaterial(-1, Material(), np.ones(3), _NONE)


@dataclass(frozen=True)
class _Source:
    """A material as the file describes it, in linear light. base, emitted: textureInfo objects."""

    name: str
    factor: NDArray[np.float64]  # [4], with alpha
    base: dict[str, Any] | None
    emission: NDArray[np.float64]  # [3]
    emitted: dict[str, Any] | None
    mode: str
    cutoff: float

    @classmethod
    def of(cls, source: dict[str, Any]) -> "_Source":
        """Read a material. Raises ValueError, TypeError or AttributeError."""
        extensions = source.get("extensions", {})
        model, prefix = source.get("pbrMetallicRoughness", {}), "baseColor"
        if _GLOSSY in extensions:
            model, prefix = extensions[_GLOSSY], "diffuse"
        factor = np.array(model.get(f"{prefix}Factor") or (1, 1, 1, 1), np.float64).reshape(4)
        emission = np.array(source.get("emissiveFactor") or (0, 0, 0), np.float64).reshape(3)
        strength = float(extensions.get(_STRENGTH, {}).get("emissiveStrength", 1))
        emission = np.maximum(np.nan_to_num(emission * strength), 0)
        emission /= max(1.0, emission.max())  # strong light keeps its hue
        if _UNLIT in extensions:
            emission = _NONE
        return cls(
            name=str(source.get("name", "")),
            factor=np.clip(np.nan_to_num(factor), 0, 1),
            base=model.get(f"{prefix}Texture"),
            emission=emission,
            emitted=source.get("emissiveTexture") if emission.any() else None,
            mode=str(source.get("alphaMode", "OPAQUE")),
            cutoff=float(source.get("alphaCutoff", 0.5)),
        )

    @property
    def plain(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return factor and emission [3] without textures."""
        return self.factor[:3], self.emission if self.emitted is None else _NONE

    @property
    def opacity(self) -> float:
        """Return the opacity without textures."""
        if self.mode == "MASK":
            return float(self.factor[3] >= self.cutoff)
        return float(self.factor[3]) if self.mode == "BLEND" else 1.0


@dataclass(frozen=True)
class _Layer:
    """A texture that could be read."""

    picture: Picture
    placement: Placement


@dataclass
class GlbMaterials:
    """The materials that a file's primitives use. `notes` lists oddities."""

    tree: dict[str, Any]
    buffers: Buffers
    materials: list[Material] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _known: dict[tuple[int, frozenset[int], bool], GlbMaterial] = field(default_factory=dict)
    _images: Images = field(init=False)

    def __post_init__(self) -> None:
        self._images = Images(self.tree, self.buffers)

    def get(self, index: int | None, sets: frozenset[int], colored: bool) -> GlbMaterial:
        """Return a material by its index in the file.

        sets: the numbers of the primitive's texture coordinates; a texture that needs others is not
        used. colored: whether the primitive has vertex colors, which multiply the texture.
        """
        if index is None:
            return _DEFAULT
        key = (index, sets, colored)
        if key not in self._known:
            source = _Source.of(member(self.tree, "materials", index))
            made = self._make(source, sets)
            if colored and made.textured:
                made = replace(made, material=replace(made.material, tinted=True))
                if source.emission.any():
                    self._note(source, "the colors of vertices multiply what it emits, too")
            self._known[key] = made
            self.materials.append(made.material)
        return self._known[key]

    def _make(self, source: _Source, sets: frozenset[int]) -> GlbMaterial:
        factor, emission = source.plain
        red, green, blue = (float(c) for c in to_srgb(np.clip(factor + emission, 0, 1)))
        material = Material(source.name, (red, green, blue), source.opacity)
        base = self._layer(source, source.base, sets)
        emitted = self._layer(source, source.emitted, sets)
        if base and emitted and base.placement != emitted.placement:
            base, emitted = self._choose(source, base, emitted)
        placed, index = base or emitted, len(self.materials)
        if placed:
            try:
                pixels = self._pixels(source, base, emitted, material.color)
                material = replace(material, texture=pixels, wrap=placed.placement.wrap)
                return GlbMaterial(index, material, factor, emission, placed.placement)
            except NotRead as reason:
                self._note(source, str(reason))
        if source.base is not None or source.emitted is not None:
            seen = without_texture(material)
            if seen is not material:
                factor, emission = to_linear(np.array(seen.color)), _NONE
            material = seen
        return GlbMaterial(index, material, factor, emission)

    def _layer(
        self, source: _Source, info: dict[str, Any] | None, sets: frozenset[int]
    ) -> _Layer | None:
        """Return a texture; None, with a note, if it cannot be read or placed."""
        if info is None:
            return None
        try:
            placement = self._images.placement(info)
            if placement.coordinates not in sets:
                missing = f"TEXCOORD_{placement.coordinates}"
                raise NotRead(f"its faces have no texture coordinates ({missing})")
            return _Layer(self._images.picture(info), placement)
        except (NotRead, ShapeRefused) as reason:
            self._note(source, reason.detail if isinstance(reason, ShapeRefused) else str(reason))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            self._note(source, printable(str(error)))
        return None

    def _choose(
        self, source: _Source, base: _Layer, emitted: _Layer
    ) -> tuple[_Layer | None, _Layer | None]:
        """Return one of two textures that are placed differently: one image cannot show both."""
        if source.factor[:3].max() <= NEARLY_BLACK:
            return None, emitted
        self._note(source, "the emitted one is placed differently and is ignored")
        return base, None

    def _pixels(
        self,
        source: _Source,
        base: _Layer | None,
        emitted: _Layer | None,
        behind: tuple[float, float, float],
    ) -> NDArray[np.uint8]:
        """Return what is seen [h,w,3]; behind: sRGB color behind transparent texels.

        At least one of the layers is not None. Raises NotRead if the model has too many textures.
        """
        factor, constant = source.plain
        emission = constant if emitted is None else source.emission
        reflected = None if base is None else base.picture.pixels
        added = None if emitted is None else emitted.picture.pixels
        clear = reflected is not None and reflected.shape[2] == 4 and source.mode != "OPAQUE"
        cutoff = source.cutoff if source.mode == "MASK" and clear else None

        def make() -> NDArray[np.uint8]:
            image = lit(reflected, factor, added, emission)
            if cutoff is not None:
                image = cut(image, float(source.factor[3]), cutoff)
                if not image[:, :, 3].all():
                    self._note(source, "its cut-outs are drawn in the material's color")
            return lay_over(image, behind) if clear else np.ascontiguousarray(image[:, :, :3])

        plain = added is None and (factor == 1).all() and not emission.any()
        if plain and reflected is not None and reflected.shape[2] == 3:
            return reflected
        keys = [None if one is None else one.picture.key for one in (base, emitted)]
        key = (*keys, *factor, *emission, behind if clear else None, cutoff, source.factor[3])
        sizes = [image.shape[:2] for image in (reflected, added) if image is not None]
        size = np.broadcast_to(np.uint8(0), (*np.max(sizes, axis=0), 3))
        return self._images.textures.variant(key, size, make)

    def _note(self, source: _Source, what: str) -> None:
        self.notes.append(f"texture of material {printable(source.name)!r}: {what}")
