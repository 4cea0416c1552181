"""The files of one scene: read only from inside the data set's root, and hashed."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from pointcmt.datasets.sources import listing
from pointcmt.errors import Reason, ShapeRefused, UsageError, printable
from pointcmt.files import MOST_BYTES, parse_json, read_regular
from pointcmt.render.load.files import read_shape_file

MAX_TEXT = 64 << 20  # bytes of a list, a trajectory or a table of labels
MAX_IMAGE = 128 << 20  # bytes of an image file
_TEXT = (".txt", ".json", ".log", ".tsv")


@contextmanager
def named(name: str) -> Iterator[None]:
    """Add the name of a file to refusals that lack it: a scene has many files."""
    try:
        yield
    except ShapeRefused as refused:
        if PurePosixPath(name).name in refused.detail:
            raise
        what = f"{printable(name)}: {refused.detail}"
        raise ShapeRefused(refused.reason, what) from refused.__cause__


class SceneFolder:
    """A scene's folder. All files are named by paths relative to it.

    A name that leads out of `root` is refused; so is a link, without follow_links. The digest
    covers the content of what `read`, `text` and `json` returned, and the names and sizes of
    images: their content would take longer to read than the rest of the scene.
    """

    def __init__(self, path: Path, root: Path, follow_links: bool = False) -> None:
        self.path = path
        self._root = root
        self._follow_links = follow_links
        self._known: dict[str, str] = {}

    def inside(self, name: str) -> Path:
        """Return the path of a file. Raises ShapeRefused (unreadable_file) if it is outside."""
        path = self.path / name
        try:
            outside = not Path(os.path.abspath(path)).is_relative_to(os.path.abspath(self._root))
            outside |= not (self._follow_links or listing.is_inside(path, self._root))
        except (OSError, ValueError) as error:  # a circle of links, or a NUL in the name
            what = f"{printable(name)} cannot be read: {error}"
            raise ShapeRefused(Reason.UNREADABLE_FILE, what) from error
        if outside:
            what = f"{printable(name)} is outside the root (see --follow-links)"
            raise ShapeRefused(Reason.UNREADABLE_FILE, what)
        return path

    def names(self, folder: str = "") -> list[str]:
        """Return the names of the files in a subfolder, sorted; none if it does not exist.

        Raises ShapeRefused (unreadable_file) for one that cannot be read.
        """
        path = self.inside(folder)
        try:
            return sorted(listing.files(path)) if path.is_dir() else []
        except UsageError as error:  # it would stop the whole job
            what = f"{printable(folder)}: {error.what}"
            raise ShapeRefused(Reason.UNREADABLE_FILE, what) from error

    def has(self, name: str) -> bool:
        """Return whether a file or folder exists inside the root."""
        return self.inside(name).exists()

    def read(self, name: str, most: int = MAX_TEXT, text: tuple[str, ...] = _TEXT) -> bytes:
        """Return the content of a file. text: suffixes of formats without binary data.

        Raises ShapeRefused: missing_file, unreadable_file, empty_file, lfs_pointer, html_page,
        too_large.
        """
        with named(name):
            data = read_shape_file(self.inside(name), text, most)
        self._known[name] = hashlib.sha256(data).hexdigest()
        return data

    def text(self, name: str) -> str:
        """Return the text of a file. Raises ShapeRefused like `read`, and bad_syntax."""
        data = self.read(name)
        with named(name):
            try:
                return data.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise ShapeRefused(Reason.BAD_SYNTAX, str(error)) from error

    def json(self, name: str) -> object:
        """Return the value of a JSON file. Raises ShapeRefused like `read`, and bad_syntax."""
        data = self.read(name, MOST_BYTES)
        with named(name):
            try:
                return parse_json(data)
            except ValueError as error:
                raise ShapeRefused(Reason.BAD_SYNTAX, str(error)) from error

    def add_image(self, name: str) -> None:
        """Add the name and size of an image to the digest. Raises ShapeRefused (missing_file)."""
        try:
            self._known[name] = str(os.stat(self.inside(name)).st_size)
        except (OSError, ValueError) as error:
            what = f"{printable(name)} is missing"
            raise ShapeRefused(Reason.MISSING_FILE, what) from error

    def read_image(self, name: str) -> bytes:
        """Return the content of an image, which the digest does not cover.

        Raises ShapeRefused: missing_file, unreadable_file, too_large.
        """
        try:
            return read_regular(self.inside(name), MAX_IMAGE)
        except FileNotFoundError as error:
            what = f"{printable(name)} is missing"
            raise ShapeRefused(Reason.MISSING_FILE, what) from error
        except (OSError, ValueError) as error:
            large = isinstance(error, OSError) and error.errno == errno.EFBIG
            reason = Reason.TOO_LARGE if large else Reason.UNREADABLE_FILE
            raise ShapeRefused(reason, f"{printable(name)}: {error}") from error

    def digest(self) -> str:
        """Return the SHA-256 of everything that was read or added so far."""
        lines = "".join(f"{name}\0{value}\n" for name, value in sorted(self._known.items()))
        return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
