"""`Assembly`: solids with their parts and materials, put together into a `Mesh`."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.sources.toy_shapes.solid import Solid
from pointcmt.shapes import Material, Mesh

DECIMALS = 6  # of coordinates: coarser than what sines differ by from machine to machine
NUDGE = 1e-9  # so that what lies halfway is rounded alike there too


class Assembly:
    """Collects the solids of one shape.

    parts: the class's part names; faces are labelled with indices into it. place: what puts each
    solid into its final position, for shapes that are easier to describe lying down.
    """

    def __init__(
        self, parts: tuple[str, ...], place: Callable[[Solid], Solid] = lambda solid: solid
    ) -> None:
        self._parts = parts
        self._place = place
        self._materials: list[Material] = []
        self._pieces: list[tuple[Solid, NDArray[np.uint8], int]] = []

    def add(self, part: str, material: Material, *solids: Solid | Iterable[Solid]) -> None:
        """Solids, or lists of solids, of one part and one material."""
        label = self._parts.index(part)
        for entry in solids:
            for solid in (entry,) if isinstance(entry, Solid) else entry:
                self._add(solid, np.full(len(solid.faces), label, np.uint8), material)

    def add_split(
        self,
        part: str,
        other: str,
        belongs_to_other: Callable[[NDArray[np.float64]], NDArray[np.bool_]],
        material: Material,
        solid: Solid,
    ) -> None:
        """One solid in two parts; the map tells from the faces' centres [F,3] which is which."""
        centers = solid.vertices[solid.faces].mean(axis=1)
        labels = self._parts.index(part), self._parts.index(other)
        self._add(
            solid, np.array(labels, np.uint8)[belongs_to_other(centers).astype(int)], material
        )

    def mesh(self) -> Mesh:
        """All of it as one mesh that stands on z = 0, coordinates rounded to DECIMALS."""
        solids, labels, materials = zip(*self._pieces, strict=True)
        first = np.cumsum([0, *(len(solid.vertices) for solid in solids)])
        faces = [solid.faces + start for solid, start in zip(solids, first[:-1], strict=True)]
        vertices = np.concatenate([solid.vertices for solid in solids])
        vertices[:, 2] -= vertices[:, 2].min()
        counts = [len(solid.faces) for solid in solids]
        textured = any(material.texture is not None for material in self._materials)
        return Mesh(
            vertices=_rounded(vertices),
            faces=np.concatenate(faces).astype(np.int32),
            materials=tuple(self._materials),
            face_material=np.repeat(np.array(materials, np.int32), counts),
            uv=self._uv() if textured else None,
            face_part=np.concatenate(labels),
        )

    def _uv(self) -> NDArray[np.float32]:
        """Texture coordinates [F,3,2], zero on faces without texture."""
        drawn = [
            solid.uv if self._materials[material].texture is not None else np.zeros_like(solid.uv)
            for solid, _, material in self._pieces
        ]
        return _rounded(np.concatenate(drawn)).astype(np.float32)

    def _add(self, solid: Solid, labels: NDArray[np.uint8], material: Material) -> None:
        self._pieces.append((self._place(solid), labels, self._index(material)))

    def _index(self, material: Material) -> int:
        """Where the material is in the mesh's list; plain ones that look alike are one."""
        for index, known in enumerate(self._materials):
            plain = known.texture is None and material.texture is None
            if known is material or (plain and known == material):
                return index
        self._materials.append(material)
        return len(self._materials) - 1


def _rounded(coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.round(coordinates + NUDGE, DECIMALS) + 0.0  # + 0.0: no negative zeros
