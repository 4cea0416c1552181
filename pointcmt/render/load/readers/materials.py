"""MTL files: the colors, opacities and textures of an OBJ's materials."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from pointcmt.render.load.readers import without_texture
from pointcmt.render.load.readers.names.tiles import FIRST_TILE, numbered_name, tile_name
from pointcmt.render.load.readers.sidecars import (
    ModelFolder,
    NotRead,
    find,
    folder_of,
    printable,
    read_sidecar,
)
from pointcmt.render.load.readers.textures import Textures
from pointcmt.shapes import Material

# Options of map_ statements and their number of words; options with up to three numbers are below.
_OPTION_WORDS = {
    "-blendu": 1,
    "-blendv": 1,
    "-bm": 1,
    "-boost": 1,
    "-cc": 1,
    "-clamp": 1,
    "-colorspace": 1,
    "-imfchan": 1,
    "-mm": 2,
    "-texres": 1,
    "-type": 1,
}
_MOST_FILES = 100  # material files per model
_LONGEST_LINE = 8192  # characters: twice the longest path, and options
_OPTION_NUMBERS = {"-o", "-s", "-t"}
_MATTERS = {"-t", "-mm", "-type", "-imfchan"}  # would change the picture, and are not supported


@dataclass(frozen=True)
class Placed:
    """A material and the placement of its texture: uv of the image = scale × uv + offset.

    tile: of a texture in UDIM tiles, returns the material with another tile's image; 0 is outside
    of all tiles.
    """

    material: Material
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    tile: Callable[[int], Material] | None = field(default=None, compare=False)


@dataclass
class _Draft:
    """A material as its file describes it, before its texture is searched for."""

    place: Path  # the directory of the MTL file
    material: Material
    has_d: bool = False
    emitted: tuple[float, float, float] = (0.0, 0.0, 0.0)  # Ke
    texture: str = ""
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    notes: list[str] = field(default_factory=list)


@dataclass
class MaterialLibrary:
    """The materials that an OBJ may use, from all its material files. `notes` lists oddities."""

    folder: ModelFolder
    notes: list[str] = field(default_factory=list)
    _drafts: dict[str, _Draft] = field(default_factory=dict)
    _textures: Textures = field(default_factory=Textures)

    @classmethod
    def of(
        cls, model: Path, statements: Iterable[str], folder: ModelFolder | None = None
    ) -> "MaterialLibrary":
        """Read the files named by an OBJ's `mtllib` statements; the first definition counts."""
        library = cls(folder or folder_of(model))
        names = [name for text in dict.fromkeys(statements) for name in library._file_names(text)]
        for name in names[:_MOST_FILES]:
            try:
                path = find(library.folder, name)
                library._add(path.parent, read_sidecar(path))
            except NotRead as reason:
                library.notes.append(f"material file {reason}")
        if len(names) > _MOST_FILES:
            library.notes.append(f"{len(names) - _MOST_FILES} more material files are ignored")
        return library

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all materials."""
        return tuple(self._drafts)

    def get(self, name: str) -> Placed | None:
        """Return a material with its texture decoded; None, with a note, if it is not defined."""
        draft = self._drafts.get(name)
        if draft is None:
            self.notes.append(f"material {printable(name)!r} is not defined")
            return None
        self.notes += draft.notes
        material = _with_emission(draft)
        if not draft.texture:
            return Placed(material)
        if tile_name(draft.texture) is None:
            first = self._textured(draft, material, draft.texture)
            numbered = numbered_name(draft.texture, FIRST_TILE) is not None
            tiled = first.texture is not None and numbered
        else:
            first, tiled = without_texture(material), True
        tile = partial(self._tile, draft, material, first) if tiled else None
        return Placed(first, draft.scale, draft.offset, tile)

    def _textured(self, draft: _Draft, material: Material, name: str) -> Material:
        """Return a material with the image of this name; without one, with a note, if it fails."""
        try:
            path = self._find_texture(draft, name)
            return replace(material, texture=self._textures.opaque(path, material.color))
        except NotRead as reason:
            self.notes.append(str(reason))
            return without_texture(material)

    def _tile(self, draft: _Draft, material: Material, first: Material, tile: int) -> Material:
        """Return a material with the image of a UDIM tile.

        Coordinates outside of all tiles show the first. So do all of a texture that is named like
        the first tile, name.1001.png, if there is no file of the other: it repeats.
        """
        name = tile_name(draft.texture, tile)
        if tile == 0 and name is not None:
            self.notes.append(
                f"texture {printable(draft.texture)}: coordinates outside of UDIM tiles show the "
                "first tile"
            )
            return self._tile(draft, material, first, FIRST_TILE)
        if name is not None:
            return self._textured(draft, material, name)
        name = numbered_name(draft.texture, tile) or ""
        try:
            self._find_texture(draft, name)
        except NotRead:
            return first
        return self._textured(draft, material, name)

    def _file_names(self, statement: str) -> list[str]:
        """Return one name with spaces if that file exists, else several names (spaces escaped)."""
        if len(statement.split()) == 1:
            return [statement]
        try:
            find(self.folder, statement)
            return [statement]
        except NotRead:
            words = statement.replace("\\ ", "\0").split()
            return [word.replace("\0", " ") for word in words]

    def _find_texture(self, draft: _Draft, texture: str) -> Path:
        """Find a texture's file; if needed, drop a comment or option after its name."""
        first: NotRead | None = None
        for name in dict.fromkeys((texture, texture.split(" #")[0], texture.split(" -")[0])):
            try:
                return find(self.folder, name, [draft.place])
            except NotRead as reason:
                first = first or reason
        raise NotRead(f"texture {first}")

    def _add(self, place: Path, data: bytes) -> None:
        """Read one material file."""
        draft = _Draft(place, Material())
        for match in re.finditer(r"[^\r\n]+", decode_names(data)):
            if match.end() - match.start() > _LONGEST_LINE:
                draft.notes.append(f"material statement ignored: {printable(match[0])}")
                continue
            keyword, rest = _first_word(match[0])
            keyword = keyword.lower()
            if keyword == "newmtl":
                draft = _Draft(place, Material(name=rest))
                self._drafts.setdefault(rest, draft)
            elif keyword in ("kd", "ke", "d", "tr"):
                _set_number(draft, keyword, rest)
            elif rest and (keyword == "map_kd" or (keyword == "map_ke" and not draft.texture)):
                _set_texture(draft, rest)


def _with_emission(draft: _Draft) -> Material:
    """Return the material with what it emits added to its color: there is one picture of both."""
    pairs = zip(draft.material.color, draft.emitted, strict=True)
    red, green, blue = (min(1.0, reflected + emitted) for reflected, emitted in pairs)
    return replace(draft.material, color=(red, green, blue))


def _set_number(draft: _Draft, keyword: str, rest: str) -> None:
    """Set Kd, Ke, d (opacity) or Tr (1 - opacity); d takes precedence over Tr."""
    words = [word for word in rest.partition("#")[0].split() if word != "-halo"]
    try:
        numbers = [min(1.0, max(0.0, float(word))) for word in words[:3]]  # nan becomes 0
        number = numbers[0]
    except (ValueError, IndexError):
        draft.notes.append(f"material statement ignored: {printable(f'{keyword} {rest}')}")
        return
    red, green, blue = numbers if len(numbers) == 3 else 3 * [number]
    if keyword == "kd":
        draft.material = replace(draft.material, color=(red, green, blue))
    elif keyword == "ke":
        draft.emitted = (red, green, blue)
    elif keyword == "d":
        draft.material, draft.has_d = replace(draft.material, opacity=number), True
    elif not draft.has_d:
        draft.material = replace(draft.material, opacity=1 - number)


def _set_texture(draft: _Draft, rest: str) -> None:
    """Set the texture (map_Kd or map_Ke): options, then a file name that may contain spaces."""
    option, behind = _first_word(rest)
    while option in _OPTION_WORDS or option in _OPTION_NUMBERS:
        if option in _OPTION_WORDS:
            for _ in range(_OPTION_WORDS[option]):
                _, behind = _first_word(behind)
        else:
            numbers, behind = _leading_numbers(behind)
            if option == "-s" and numbers:
                draft.scale = (numbers[0], numbers[1] if len(numbers) > 1 else 1.0)
            elif option == "-o" and numbers:
                draft.offset = (numbers[0], numbers[1] if len(numbers) > 1 else 0.0)
        if option in _MATTERS:
            draft.notes.append(f"texture option {option} ignored")
        rest = behind
        option, behind = _first_word(rest)
    draft.texture = rest


def decode_names(data: bytes) -> str:
    """Decode text of undeclared encoding: UTF-16 if it has a mark, else UTF-8, else Latin-1."""
    try:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            return data.decode("utf-16")
        return data.decode("utf-8-sig")
    except UnicodeError:
        return data.decode("latin-1")


def _first_word(text: str) -> tuple[str, str]:
    """Return the first word and the rest, both stripped; empty strings if the text is empty."""
    words = text.split(maxsplit=1)
    return (words[0], words[1].strip() if len(words) > 1 else "") if words else ("", "")


def _leading_numbers(text: str) -> tuple[list[float], str]:
    """Return up to three numbers at the start of the text, and the rest."""
    numbers: list[float] = []
    while len(numbers) < 3:
        word, behind = _first_word(text)
        try:
            numbers.append(float(word))
        except ValueError:
            break
        text = behind
    return numbers, text
