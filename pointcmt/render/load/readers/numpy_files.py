""".npy and .npz files of points. Nothing in them is ever unpickled: only their headers are parsed.

An .npz file is a zip archive of .npy files, one per array.
"""

import io
import math
import warnings
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.errors import Reason, ShapeRefused, printable
from pointcmt.render.load.readers.points import Table

_POINTS = (
    *("points", "xyz", "pos", "point", "positions", "pointcloud", "point_cloud", "pc", "cloud"),
    *("vertices", "coords", "coordinates", "data", "arr_0"),
)
_COLORS = ("colors", "rgb", "color", "colours", "rgba")
_NORMALS = ("normals", "normal", "normal_vectors")
_MOST_ARRAYS = 1000
_SPARE = 64 << 20  # bytes that the arrays of a small file may take
_MOST_PACKED = 100  # ratio of the arrays' size to the file's; points compress about twofold


def read_npy(data: bytes) -> Table:
    """Read the numbers [M,C] of a .npy file; the fields of a structured array are named columns.

    Raises ShapeRefused: unknown_format, bad_syntax, truncated, count_mismatch.
    """
    array = _parse(data)
    if array.dtype.names is None:
        if array.ndim != 2:
            raise _no_table(array.dtype, array.shape)
        return Table(_numbers(array))
    columns = [_numbers(array[name]) for name in array.dtype.names]
    return Table(np.stack(columns, axis=1), array.dtype.names)


def read_npz(data: bytes) -> Table:
    """Read the points, normals and colors of an .npz file, by the names of its arrays.

    Points: points, xyz, pos and others, or the only array, or x, y, z. Other arrays are noted.
    Raises ShapeRefused: unknown_format, bad_syntax, truncated, count_mismatch, too_large.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise ShapeRefused(Reason.UNKNOWN_FORMAT, f"not an .npz file: {error}") from error
    entries = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if not entries or len(entries) > _MOST_ARRAYS:
        raise ShapeRefused(Reason.BAD_SYNTAX, f"the file has {len(entries)} arrays")
    names = {name.lower(): name for name in reversed(entries)}
    chosen = {"points": _first(names, _POINTS), "normals": _first(names, _NORMALS)}
    chosen["colors"] = _first(names, _COLORS)
    if chosen["points"] is None and len(entries) == 1:
        chosen["points"] = next(iter(entries))
    axes = [names[axis] for axis in "xyz" if axis in names] if chosen["points"] is None else []
    if chosen["points"] is None and len(axes) < 3:
        found = ", ".join(printable(name, 20) for name in list(entries)[:5])
        what = f"no array of points; known names: {', '.join(_POINTS[:3])}; found: {found}"
        raise ShapeRefused(Reason.BAD_SYNTAX, what)
    used = [name for name in (*chosen.values(), *axes) if name is not None]
    size = sum(entries[name].file_size for name in used)
    if size > _SPARE + _MOST_PACKED * len(data):
        what = f"the arrays take {size} bytes, {_MOST_PACKED} times as many as the file"
        raise ShapeRefused(Reason.TOO_LARGE, what)
    arrays = {name: _entry(archive, entries[name]) for name in used}
    if axes:
        points = _numbers(np.stack([_flat(axis, arrays[axis]) for axis in axes], axis=1))
    else:
        points = _matrix("points", arrays[str(chosen["points"])])
    unused = [name for name in entries if name not in used]
    listed = ", ".join(printable(name, 20) for name in unused[:5]) + ", …" * (len(unused) > 5)
    notes = (f"arrays not used: {listed}",) if unused else ()
    given = {kind: arrays[name] for kind, name in chosen.items() if name in arrays}
    return _join(points, given, notes)


def _join(
    points: NDArray[np.float64], given: dict[str, NDArray[Any]], notes: tuple[str, ...]
) -> Table:
    """Put points, normals and colors into one table. given: arrays by their kind."""
    more = [kind for kind in ("normals", "colors") if kind in given]
    if not more:
        return Table(points, notes=notes)
    if points.shape[1] > 3:
        notes = (f"columns 4 to {points.shape[1]} of the points not used", *notes)
    columns, names = [points[:, :3]], ["x", "y", "z"]
    for kind in more:
        array = given[kind]
        values = _matrix(kind, array)[:, :3]
        if len(values) != len(points) or values.shape[1] != 3:
            what = f"{len(points)} points, but {kind} of shape {list(array.shape)}"
            raise ShapeRefused(Reason.COUNT_MISMATCH, what)
        if kind == "colors" and array.dtype.kind == "u" and array.dtype.itemsize <= 2:
            values = values / np.iinfo(array.dtype.str).max  # else their range decides
        columns.append(values)
        names += ["nx", "ny", "nz"] if kind == "normals" else ["red", "green", "blue"]
    return Table(np.hstack(columns), tuple(names), notes)


def _first(names: dict[str, str], wanted: tuple[str, ...]) -> str | None:
    return next((names[name] for name in wanted if name in names), None)


def _entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    """Read an array of an archive, up to the size that the archive declares."""
    try:
        with archive.open(info) as stream:
            return _parse(stream.read(info.file_size + 1))
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ShapeRefused(Reason.TRUNCATED, f"{printable(info.filename)}: {error}") from error
    except (RuntimeError, NotImplementedError, OSError, ValueError) as error:
        what = f"{printable(info.filename)} cannot be read: {error}"  # encrypted, or another method
        raise ShapeRefused(Reason.BAD_SYNTAX, what) from error
    except ShapeRefused as refused:
        what = f"{printable(info.filename)}: {refused.detail}"
        raise ShapeRefused(refused.reason, what) from refused


def _parse(data: bytes) -> NDArray[Any]:
    """Return the array of numbers, or of records of numbers, in the bytes of a .npy file."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
    except ValueError as error:
        raise ShapeRefused(Reason.UNKNOWN_FORMAT, "not a .npy file") from error
    try:
        old = version == (1, 0)
        formats = np.lib.format
        read = formats.read_array_header_1_0 if old else formats.read_array_header_2_0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about headers written by Python 2
            shape, by_column, dtype = read(stream)
    except Exception as error:  # its parser of Python syntax raises many kinds of errors
        raise ShapeRefused(Reason.BAD_SYNTAX, f"the header: {error}") from error
    if not _is_numeric(dtype) or (dtype.names and len(shape) != 1):
        raise _no_table(dtype, shape)
    if not 1 <= len(shape) <= 2 or min(shape) < 0:
        raise _no_table(dtype, shape)
    body = memoryview(data)[stream.tell() :]
    expected = dtype.itemsize * math.prod(map(int, shape))
    if len(body) != expected:
        reason = Reason.TRUNCATED if len(body) < expected else Reason.COUNT_MISMATCH
        raise ShapeRefused(reason, f"{len(body)} bytes of data, but the header declares {expected}")
    return np.frombuffer(body, dtype).reshape(shape, order="F" if by_column else "C")


def _is_numeric(dtype: np.dtype[Any]) -> bool:
    """Return whether an element is a number, or a record of at most 1000 numbers."""
    if dtype.names is None:
        return dtype.kind in "fiu"
    fields = [dtype.fields[name][0] for name in dtype.names] if dtype.fields else []
    return 0 < len(fields) <= _MOST_ARRAYS and all(field.kind in "fiu" for field in fields)


def _no_table(dtype: np.dtype[Any], shape: tuple[int, ...]) -> ShapeRefused:
    return ShapeRefused(Reason.BAD_SYNTAX, f"{dtype} {shape} is not a table of numbers")


def _matrix(name: str, array: NDArray[Any]) -> NDArray[np.float64]:
    if array.ndim != 2 or array.dtype.names:
        what = f"'{name}' {array.dtype} {array.shape} is not a table of numbers"
        raise ShapeRefused(Reason.BAD_SYNTAX, what)
    return _numbers(array)


def _flat(name: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.names or max(array.shape) != array.size:
        what = f"'{printable(name)}' {array.dtype} {array.shape} is not a column of numbers"
        raise ShapeRefused(Reason.BAD_SYNTAX, what)
    return array.reshape(-1)


def _numbers(array: NDArray[Any]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # signaling NaNs
        return array.astype(np.float64, order="C")
