"""`CloudLoader`: read the clouds of a dataset as checked `Cloud`s, or refuse with a reason."""

import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.sources.hdf5 import POINTS, damage, find_array, open_hdf5
from pointcmt.datasets.sources.listing import is_inside, split_source
from pointcmt.datasets.sources.shapenetpart import FIRST_PART, PART_NAMES, labels_of
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.columns import cloud_of
from pointcmt.render.load.files import few_notes, path_in, read_shape_file, refusals
from pointcmt.render.load.readers.delimited import read_delimited
from pointcmt.render.load.readers.numpy_files import read_npy, read_npz
from pointcmt.render.load.readers.pcd import read_pcd
from pointcmt.render.load.readers.points import (
    MAX_POINTS,
    finite_cloud,
    read_ply_cloud,
    read_text,
)
from pointcmt.shapes import Cloud

_TEXT = (".xyz", ".txt", ".pts", ".asc", ".csv", ".xyzrgb", ".xyzn")
_KNOWN = ".xyz, .txt, .asc, .csv, .pts, .xyzrgb, .xyzn, .pcd, .npy, .npz, .ply"
_PART_ARRAYS = ("pid", "seg")
_NORMALS = ("normal",)  # name of an array [n,P,3] in ModelNet40's HDF5 files
_HOLDS, _FAR = 0.95, 5.0  # outliers are this many times as far out as that share of the points

# The meaning of a point's numbers by their count, in datasets that define it.
Columns = dict[int, tuple[str, ...]]
_MODELNET: Columns = {3: ("points",), 6: ("points", "normals")}
_BARE: Columns = {3: ("points",)}
_WITH_PARTS: Columns = {7: ("points", "normals", "part")}
_WIDTH = {"points": 3, "normals": 3, "part": 1}


class CloudLoader:
    """Load the clouds of one dataset. Keeps the last HDF5 file open for its next rows."""

    def __init__(self, dataset: str, root: Path, follow_links: bool = False) -> None:
        self._parts = dataset == "shapenetpart"
        self._columns = _WITH_PARTS if self._parts else None
        if dataset in ("modelnet10-clouds", "modelnet40-clouds"):
            self._columns = _MODELNET
        self._root, self._follow_links = root, follow_links
        self._opened: tuple[Path, Any] | None = None

    def load(self, record: ShapeRecord) -> tuple[Cloud, str]:
        """Return a shape's cloud and the SHA-256 of its source: its files, or an HDF5 file's row.

        Raises ShapeRefused for anything wrong with the source, and DependencyError if a library
        that reads it is missing.
        """
        name, row = split_source(record.source)
        path = self._root / name
        with refusals(path):
            path_in(self._root, name)
            cloud, digest = (
                self._read_file(path, record) if row is None else self._read_row(path, row, record)
            )
            if len(cloud.points) > MAX_POINTS:
                what = f"{len(cloud.points)} points, more than the maximum of {MAX_POINTS}"
                raise ShapeRefused(Reason.TOO_LARGE, what)
        notes = (*cloud.notes, *outlier_notes(cloud.points))
        return replace(cloud, notes=few_notes(notes)), digest

    def _read_file(self, path: Path, record: ShapeRecord) -> tuple[Cloud, str]:
        data, suffix = read_shape_file(path, _TEXT), path.suffix.lower()
        digest = sha256(data)
        if suffix == ".ply":
            cloud = read_ply_cloud(data)
        elif suffix == ".pcd":
            cloud = cloud_of(read_pcd(data))
        elif suffix in (".npy", ".npz"):
            cloud = cloud_of((read_npy if suffix == ".npy" else read_npz)(data))
        elif suffix == ".pts" and self._parts:
            table = read_text(data)
            part, labels = self._read_parts(record, len(table))
            digest.update(labels)
            cloud = from_table(table, _BARE, record, part)
        elif suffix in _TEXT and self._columns is not None:
            cloud = from_table(read_text(data), self._columns, record)
        elif suffix in _TEXT:
            cloud = cloud_of(read_delimited(data, csv=suffix == ".csv"), suffix)
        else:
            raise ShapeRefused(
                Reason.UNKNOWN_FORMAT, f"no reader for {suffix or 'no suffix'}; known: {_KNOWN}"
            )
        return cloud, digest.hexdigest()

    def _read_parts(self, record: ShapeRecord, count: int) -> tuple[NDArray[np.uint8], bytes]:
        """Read the parts of `count` points from their own file; also return its bytes.

        A link to it that leaves the dataset's directory is only followed with follow_links.
        """
        name = labels_of(record.source)
        path = Path(os.path.realpath(self._root / name))
        try:
            if not self._follow_links and not is_inside(path, self._root):
                raise ShapeRefused(Reason.UNREADABLE_FILE, f"{name} is outside the dataset")
            data = read_shape_file(path, (".seg",))
            table = read_text(data)
            if table.shape[1] != 1:
                raise ShapeRefused(Reason.BAD_SYNTAX, f"{table.shape[1]} numbers per line, not one")
            if len(table) != count:
                raise ShapeRefused(
                    Reason.COUNT_MISMATCH, f"{count} points, but {len(table)} part labels"
                )
            return own_parts(table[:, 0], record.class_name, first=1), data
        except ShapeRefused as refused:
            raise ShapeRefused(refused.reason, f"its part labels: {refused.detail}") from refused

    def _read_row(self, path: Path, row: int, record: ShapeRecord) -> tuple[Cloud, str]:
        """Read a row of an HDF5 file; hash the row's numbers, since files are large."""
        if self._opened is None or self._opened[0] != path:
            if self._opened is not None:
                self._opened[1].close()
                self._opened = None
            self._opened = path, open_hdf5(path)
        file, part, normals = self._opened[1], None, None
        with damage(path):
            points = _row(find_array(file, POINTS, "f"), row, 3)
            if points.shape[1] != 3:
                raise ShapeRefused(Reason.BAD_SYNTAX, f"{points.shape[1]} numbers per point, not 3")
            digest = sha256(points.tobytes())
            if self._parts:
                numbers = _row(find_array(file, _PART_ARRAYS, "iu"), row, 2)
                digest.update(numbers.tobytes())
                if len(numbers) != len(points):
                    raise ShapeRefused(
                        Reason.COUNT_MISMATCH,
                        f"{len(points)} points, but {len(numbers)} part labels",
                    )
                part = own_parts(numbers.astype(np.float64), record.class_name)
            if self._columns is _MODELNET and file.id.links.exists(_NORMALS[0].encode()):
                normals = _row(find_array(file, _NORMALS, "f"), row, 3)
                digest.update(normals.tobytes())
                if normals.shape != points.shape:
                    what = f"points of shape {points.shape}, but normals {normals.shape}"
                    raise ShapeRefused(Reason.COUNT_MISMATCH, what)
        with np.errstate(invalid="ignore"):  # signaling NaNs
            points = points.astype(np.float64)
            normals = None if normals is None else normals.astype(np.float64)
        return finite_cloud(points, normals, part=part), digest.hexdigest()


def outlier_notes(points: NDArray[np.float64]) -> tuple[str, ...]:
    """Return a note if a few points [M,3] lie so far out that they shrink the rest in its images.

    They are more than _FAR times as far from the median as the share _HOLDS of the points, by the
    largest difference of a coordinate.
    """
    if not len(points):
        return ()
    with np.errstate(over="ignore", invalid="ignore"):
        distance = np.abs(points - np.median(points, axis=0)).max(axis=1)
        near = np.quantile(distance, _HOLDS, method="lower")
        outside = distance > _FAR * near
    if not near > 0 or not outside.any():
        return ()
    first = int(np.argmax(distance))
    return (
        f"outliers: {int(outside.sum())} of {len(points)} points lie more than {_FAR:g} times as "
        f"far from the center as {_HOLDS:.0%} of the points (the farthest, point {first}, "
        f"{distance[first] / near:.3g} times); the rest appears smaller in the images",
    )


def from_table(
    table: NDArray[np.float64],
    columns: Columns,
    record: ShapeRecord,
    part: NDArray[np.uint8] | None = None,
) -> Cloud:
    """Make a cloud from rows of numbers [M,C]. Raises ShapeRefused: bad_syntax, bad_index."""
    names = columns.get(table.shape[1])
    if names is None:
        known = "; ".join(f"{count}: {', '.join(names)}" for count, names in columns.items())
        raise ShapeRefused(
            Reason.BAD_SYNTAX, f"{table.shape[1]} numbers per point; supported: {known}"
        )
    ends = np.cumsum([_WIDTH[name] for name in names])[:-1]
    found = dict(zip(names, np.split(table, ends, axis=1), strict=True))
    if "part" in found:
        part = own_parts(found["part"][:, 0], record.class_name)
    return finite_cloud(found["points"], found.get("normals"), part=part)


def own_parts(
    part: NDArray[np.float64], class_name: str | None, first: int | None = None
) -> NDArray[np.uint8]:
    """Convert ShapeNetPart's part numbers [M] to indices into the class's part names.

    first: number of the class's first part; None = the numbers count all classes' parts, 0..49.
    Raises ShapeRefused (bad_index) for a part that the class does not have.
    """
    if class_name not in FIRST_PART:
        raise ShapeRefused(Reason.BAD_INDEX, "it has part labels, but its class is unknown")
    count = len(PART_NAMES[class_name])
    first = FIRST_PART[class_name] if first is None else first
    own = part - first
    wrong = ~((own >= 0) & (own < count) & (own == np.floor(own)))
    if wrong.any():
        point = int(np.flatnonzero(wrong)[0])
        raise ShapeRefused(
            Reason.BAD_INDEX,
            f"point {point} (from 0) has the part label {part[point]:g}; those of {class_name} "
            f"are {first} to {first + count - 1}",
        )
    return own.astype(np.uint8)


def _row(array: Any, row: int, axes: int) -> NDArray[Any]:
    if array.ndim != axes:
        raise ShapeRefused(Reason.BAD_SYNTAX, f"'{array.name}' has {array.ndim} axes, not {axes}")
    if row >= len(array):
        raise ShapeRefused(
            Reason.COUNT_MISMATCH, f"row {row} is out of range: the file has {len(array)} rows"
        )
    return np.asarray(array[row])
