"""HDF5 files of clouds, the published format of ShapeNetPart and ScanObjectNN: one shape per row.

The source of a row is written `ply_data_train0.h5#17`. Only plain arrays stored in the file itself
are read: links, external storage and virtual arrays could point to any other file on the machine.
Only this module imports h5py, and only when it opens a file.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import DependencyError, Reason, ShapeRefused, UsageError
from pointcmt.extras import install
from pointcmt.files import require_regular

POINTS, LABEL = ("data",), ("label",)  # names of the arrays [n,P,3] and [n] or [n,1]
MAX_ROWS = 10_000_000
CHUNK_CACHE = 64 << 20  # bytes: a chunk of the published files has parts of over a hundred rows
MOST_PACKED = 1100  # largest accepted compression ratio; deflate reaches at most 1032
SPARE = 1 << 20  # bytes that an array may declare without storing them
BYTES_OF_ROW = 32  # the least in a file of clouds
MAX_DECODED = 1 << 30  # bytes of one chunk or one row: limits the memory for reading a row


def open_hdf5(path: Path) -> Any:
    """Open an `h5py.File` for reading. Raises ShapeRefused, and DependencyError without h5py."""
    try:
        import h5py
    except ImportError as error:
        raise DependencyError(
            f"HDF5 files cannot be read: {error}",
            where=str(path),
            fix=install("render"),
        ) from error
    try:
        require_regular(path)
        return h5py.File(path, "r", locking=False, rdcc_nbytes=CHUNK_CACHE)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ShapeRefused(Reason.MISSING_FILE, f"file {path.name} not found") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        text = str(error)
        reason = Reason.UNREADABLE_FILE
        if "truncated" in text:
            reason = Reason.TRUNCATED
        elif "signature" in text:
            reason, text = Reason.UNKNOWN_FORMAT, "not an HDF5 file"
        raise ShapeRefused(reason, f"{path.name}: {text}") from error


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Turn the exceptions of h5py for damaged files into ShapeRefused (unreadable_file)."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise ShapeRefused(Reason.UNREADABLE_FILE, f"{path.name}: {error}") from error


def find_array(file: Any, names: Iterable[str], kinds: str) -> Any:
    """Return the first `h5py.Dataset` with one of these names. kinds: numpy kinds ("f", "iu").

    Raises ShapeRefused (bad_syntax, too_large, truncated) if it is missing or not safe to read.
    """
    import h5py

    links = file.id.links  # h5py's own `in` and `get` would follow links
    name = next((name for name in names if links.exists(name.encode())), None)
    if name is None:
        raise ShapeRefused(Reason.BAD_SYNTAX, f"the file has no array '{'/'.join(names)}'")
    if links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise ShapeRefused(Reason.BAD_SYNTAX, f"'{name}' is a link, which is not followed")
    array = file[name]
    if not isinstance(array, h5py.Dataset):
        raise ShapeRefused(Reason.BAD_SYNTAX, f"'{name}' is not an array")
    if array.external or array.is_virtual:
        raise ShapeRefused(
            Reason.BAD_SYNTAX, f"'{name}' is stored in other files, which are not read"
        )
    if array.dtype.kind not in kinds or not array.ndim:
        raise ShapeRefused(
            Reason.BAD_SYNTAX,
            f"'{name}' has an unexpected type or shape: {array.dtype} {array.shape}",
        )
    for shape in (array.shape[1:], array.chunks or ()):
        size = int(np.prod(shape, dtype=np.float64)) * array.dtype.itemsize
        if size > MAX_DECODED:
            raise ShapeRefused(
                Reason.TOO_LARGE,
                f"a row or chunk of '{name}' takes {size} bytes, more than the maximum of "
                f"{MAX_DECODED}",
            )
    stored = array.id.get_storage_size()
    if array.nbytes > MOST_PACKED * stored + SPARE:
        what = f"'{name}' should have {array.nbytes} bytes; the file only has {stored}"
        raise ShapeRefused(Reason.TRUNCATED, what)
    return array


def list_rows(
    root: Path, files: Iterable[tuple[str, str]], class_names: tuple[str, ...]
) -> tuple[list[ShapeRecord], list[str]]:
    """Return the shapes of files (relative name, split), row by row, and notes.

    Raises UsageError for an unreadable file, since its number of shapes is then unknown.
    """
    shapes, notes = [], []
    for name, split in files:
        try:
            labels = _labels(root / name)
        except ShapeRefused as refused:
            raise UsageError(
                f"{name} cannot be read: {refused.reason}: {refused.detail}",
                where=str(root / name),
                fix="unpack the download again",
            ) from refused
        known = (labels >= 0) & (labels < len(class_names))
        if not known.all():
            notes.append(f"{name}: {int((~known).sum())} rows have an unknown class")
        stem = name.removesuffix(".h5")
        shapes += [
            ShapeRecord(
                id=f"{stem}/{row}",
                class_name=class_names[label] if inside else None,
                split=split,
                source=f"{name}#{row}",
            )
            for row, (label, inside) in enumerate(zip(labels.tolist(), known, strict=True))
        ]
    return shapes, notes


def _labels(path: Path) -> NDArray[np.int64]:
    with open_hdf5(path) as file, damage(path):
        points, label = find_array(file, POINTS, "f"), find_array(file, LABEL, "iu")
        rows = label.shape[0]
        if points.ndim != 3 or points.shape[::2] != (rows, 3) or label.size != rows:
            raise ShapeRefused(
                Reason.COUNT_MISMATCH,
                f"data {points.shape} and label {label.shape} have incompatible shapes",
            )
        size = file.id.get_filesize()
        if rows * BYTES_OF_ROW > size + SPARE:
            what = f"{rows} rows declared in a file of {size} bytes: most of them are missing"
            raise ShapeRefused(Reason.TRUNCATED, what)
        if rows > MAX_ROWS:
            raise ShapeRefused(
                Reason.TOO_LARGE, f"{rows} rows, more than the maximum of {MAX_ROWS}"
            )
        return np.asarray(label[()], np.int64).reshape(rows)
