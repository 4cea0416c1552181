"""`Builder`: make one shape from random decisions, materials and solids."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.sources.toy.objects import textures
from pointcmt.datasets.sources.toy.objects.colors import METALS, SCHEMES, WOODS, Scheme, mix
from pointcmt.datasets.sources.toy.objects.dice import Dice
from pointcmt.datasets.sources.toy.objects.solids import Solid
from pointcmt.shapes import Material, Mesh

DECIMALS = 6  # of coordinates: coarser than the differences of sines between machines
NUDGE = 1e-9  # so that all machines round values halfway between in the same direction


def printed(texture: textures.Texture, name: str = "print") -> Material:
    """Return a textured material; its color is the texture's mean."""
    red, green, blue = np.round(texture.reshape(-1, 3).mean(axis=0) / 255, 4).tolist()
    return Material(name, (red, green, blue), texture=texture)


class Builder(Dice):
    """The random decisions of one shape, its color scheme, and the solids added so far.

    parts: the class's part names; faces are labeled with indices into it. patterned: whether the
    shape's main materials are textured, as in about half of all shapes.
    """

    def __init__(self, key: str, parts: tuple[str, ...]) -> None:
        super().__init__(key)
        scheme = self.pick(SCHEMES)
        if self.chance(1 / 3):
            scheme = Scheme(scheme.accent, scheme.main, scheme.light, scheme.dark)
        self.scheme, self.patterned = scheme, self.chance(0.5)
        self._parts = parts
        self._materials: list[Material] = []
        self._pieces: list[tuple[Solid, NDArray[np.uint8], int]] = []

    def paint(self, *names: str) -> Material:
        """Return one of the named colors of the scheme: main, accent, light, dark."""
        return Material("paint", getattr(self.scheme, self.pick(names)))

    def metal(self, *names: str) -> Material:
        """Return one of the named metals, or any metal."""
        name = self.pick(names or tuple(METALS))
        return Material(name, METALS[name])

    def wood(self, *names: str, plain: bool = False) -> Material:
        """Return one of the named woods, or any wood; with its grain along v if patterned."""
        name = self.pick(names or tuple(WOODS))
        if self.patterned and not plain:
            return printed(textures.wood(self, *WOODS[name]), name)
        return Material(name, mix(*WOODS[name], self.between(0.2, 0.5)))

    def fabric(self, quiet: bool = False) -> Material:
        """Return a fabric in the main color, printed if patterned; quiet: in similar tones."""
        s = self.scheme
        if not self.patterned:
            return Material("felt", s.main)
        if quiet:
            near, dark = mix(s.main, s.light, 0.3), mix(s.main, s.dark, 0.3)
            s = Scheme(s.main, mix(s.main, s.accent, 0.45), near, dark)
        return printed(textures.cloth(self, s), "cloth")

    def glaze(self, *names: str) -> Material:
        """Return a decorated glaze if patterned, else one of the named colors of the scheme."""
        if self.patterned:
            return printed(textures.glaze(self, self.scheme), "glaze")
        return self.paint(*(names or ("main",)))

    def stone(self) -> Material:
        """Return marble or terrazzo, always textured."""
        s = self.scheme
        if self.chance(0.5):
            ground, vein = self.pick(((s.light, s.dark), (s.light, s.dark), (s.dark, s.light)))
            return printed(textures.marble(self, ground, vein), "marble")
        return printed(textures.spots(self, s.light, s.main, s.accent, s.dark), "terrazzo")

    def add(self, part: str, material: Material, *solids: Solid | Iterable[Solid]) -> None:
        """Add solids, or lists of solids, of one part and one material."""
        label = self._parts.index(part)
        for entry in solids:
            for solid in (entry,) if isinstance(entry, Solid) else entry:
                self._add(solid, np.full(len(solid.faces), label, np.uint8), material)

    def add_split(
        self,
        parts: tuple[str, str],
        is_second: Callable[[NDArray[np.float64]], NDArray[np.bool_]],
        material: Material,
        solid: Solid,
    ) -> None:
        """Add one solid of two parts, distinguished by a function of the face centers [F,3]."""
        labels = np.array([self._parts.index(part) for part in parts], np.uint8)
        second = is_second(solid.vertices[solid.faces].mean(axis=1))
        self._add(solid, labels[second.astype(int)], material)

    def _add(self, solid: Solid, labels: NDArray[np.uint8], material: Material) -> None:
        for index, known in enumerate(self._materials):
            plain = known.texture is material.texture is None
            if known is material or (plain and known == material):
                self._pieces.append((solid, labels, index))
                return
        self._pieces.append((solid, labels, len(self._materials)))
        self._materials.append(material)

    def mesh(self, axis: str = "z", degrees: float = 0.0) -> Mesh:
        """Return all solids as one mesh, turned about an axis, then placed on z = 0."""
        solids, labels, materials = zip(*self._pieces, strict=True)
        first = np.cumsum([0, *(len(solid.vertices) for solid in solids)])
        faces = [solid.faces + start for solid, start in zip(solids, first[:-1], strict=True)]
        vertices = np.concatenate([solid.turn(axis, degrees).vertices for solid in solids])
        vertices[:, 2] -= vertices[:, 2].min()
        textured = np.array([material.texture is not None for material in self._materials])
        index = np.repeat(np.array(materials, np.int32), [len(solid.faces) for solid in solids])
        uv = np.concatenate([solid.uv for solid in solids]) * textured[index][:, None, None]
        return Mesh(
            vertices=_rounded(vertices),
            faces=np.concatenate(faces).astype(np.int32),
            materials=tuple(self._materials),
            face_material=index,
            uv=_rounded(uv).astype(np.float32) if textured.any() else None,
            face_part=np.concatenate(labels),
        )


def _rounded(coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.round(coordinates + NUDGE, DECIMALS) + 0.0  # + 0.0: no negative zeros
