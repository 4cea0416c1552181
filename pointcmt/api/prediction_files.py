"""The files that `predict` writes: a table, JSON, a picture, and the parts or classes of points."""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

from pointcmt.api.layouts import encode_layout
from pointcmt.api.predicted import PredictedBoxes, PredictedParts, PredictedPoints
from pointcmt.api.predictions import (
    COLUMNS,
    MADE_BY,
    NAME,
    Palette,
    Prediction,
    Predictions,
)
from pointcmt.datasets.enclosing import store_around
from pointcmt.datasets.page_folder import write_files
from pointcmt.errors import StoreError, UsageError, printable
from pointcmt.files import open_regular
from pointcmt.training.figures.boxes import class_colors
from pointcmt.training.figures.plots import PARTS
from pointcmt.training.runs.folder import FACTS

SUFFIXES = (".csv", ".json", ".png")
FOLDERS = {"parts": "parts", "points": "scenes", "boxes": "boxes"}  # by what is predicted
# Triangles of a box, counter-clockwise from outside: bottom, top, front, left, back, right.
SIDES = np.array(
    [
        *((0, 2, 1), (0, 3, 2), (4, 5, 6), (4, 6, 7), (3, 0, 4), (3, 4, 7)),
        *((0, 1, 5), (0, 5, 4), (1, 2, 6), (1, 6, 5), (2, 3, 7), (2, 7, 6)),
    ]
)
HEAD = 4096  # bytes at the beginning of a file that tell who wrote it
_HEADERS = tuple(",".join(columns).encode() for columns in COLUMNS.values())


@dataclass(frozen=True)
class Plan:
    """Where the results go: all files into a folder, or one file."""

    folder: Path
    names: tuple[str, ...]
    whole: bool  # a folder, which parts and scenes are written into as well


def plan_files(out: Path, overwrite: bool) -> Plan:
    """Return what --out means, before anything is predicted.

    A name that ends in .csv, .json or .png is that file; anything else is a folder. Raises
    UsageError for a place in a view store, a run's own file, or, unless `overwrite`, a file that
    `predict` did not write.
    """
    single = out.suffix.lower() in SUFFIXES and not out.is_dir()
    names = (out.name,) if single else tuple(NAME + suffix for suffix in SUFFIXES)
    plan = Plan(out.parent if single else out, names, not single)
    store = store_around(out)
    if store is not None:
        raise UsageError(
            f"predictions cannot be written into a view store: {store}",
            where=f"--out {out}",
            fix="choose another --out",
        )
    if (plan.folder / FACTS).exists():
        raise UsageError(
            f"predictions cannot be written among the files of a run: {plan.folder}",
            where=f"--out {out}",
            fix=f"choose another --out, such as {plan.folder / NAME}",
        )
    if not plan.folder.is_dir() and plan.folder.exists():
        raise UsageError(
            "this is not a folder",
            where=f"--out {out}",
            fix=f"pass a folder, or a file name that ends in {', '.join(SUFFIXES)}",
        )
    existing = [plan.folder / name for name in plan.names if (plan.folder / name).exists()]
    foreign = [path.name for path in existing if not _is_ours(path)]
    if foreign and not overwrite:
        raise UsageError(
            f"this would replace files that `pointcmt predict` did not write: {', '.join(foreign)}",
            where=f"--out {out}",
            fix="choose another --out, or add --overwrite",
        )
    return plan


def write_predictions(plan: Plan, found: Predictions, layout: str | None = None) -> list[Path]:
    """Write the planned files, each completely or not at all. Raises StoreError.

    layout: also files for a benchmark, see `layouts`.
    """
    contents = {}
    for name in plan.names:
        match Path(name).suffix.lower():
            case ".csv":
                contents[name] = found.csv().encode()
            case ".json":
                contents[name] = found.json().encode()
            case _ if found.pictures:
                contents[name] = found.sheet()
    if not contents:
        raise StoreError(
            "there is nothing to draw: no shape could be predicted", where=str(plan.folder)
        )
    written = write_files(plan.folder, contents)
    if not plan.whole or found.kind == "classes":
        return written
    folder = plan.folder / FOLDERS[found.kind]
    for name, content in _files_of_shapes(found):  # one at a time: scenes are large
        written += write_files(folder, {name: content})
    for name, draw in found.pictures.items():
        if name != NAME:
            written += write_files(folder, {f"{name}.png": draw()})
    if layout is not None:
        for name, content in encode_layout(layout, found):
            place = plan.folder / layout / name
            written += write_files(place.parent, {place.name: content})
    return written


def _files_of_shapes(found: Predictions) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each shape's files: what is predicted in color, and arrays."""
    for name, shape in _named(found):
        if shape.parts is not None:
            yield f"{name}.ply", encode_parts(shape.parts)
            yield f"{name}.csv", encode_labels(shape.parts)
        if shape.points is not None:
            yield f"{name}.ply", encode_points(shape.points, found.palette)
            yield f"{name}.npz", encode_arrays(shape.points)
        if shape.boxes is not None:
            yield f"{name}.ply", encode_boxes(shape.boxes)


def _named(found: Predictions) -> Iterator[tuple[str, Prediction]]:
    """Yield each shape with a file name of its own, without suffix."""
    taken: set[str] = set()
    for shape in found.shapes:
        plain = re.sub(r"[^\w.-]+", "_", shape.id).lstrip(".")[:150] or "shape"
        name, number = plain, 2
        while name.lower() in taken:
            name, number = f"{plain}-{number}", number + 1
        taken.add(name.lower())
        yield name, shape


def encode_parts(parts: PredictedParts) -> bytes:
    """Return a binary PLY file of the points, colored by part, with the property `part`."""
    colors = np.array([to_rgb(color) for color in PARTS])
    rgb = np.round(255 * colors[parts.labels % len(PARTS)]).astype(np.uint8)
    names = [f"part {i} {printable(name)}" for i, name in enumerate(parts.names)]
    return _encode_ply(parts.points, rgb, "part", parts.labels.astype(np.uint8), names)


def encode_points(points: PredictedPoints, palette: Palette) -> bytes:
    """Return a binary PLY file of a scene's points, colored by class, with the property `label`."""
    rgb = np.array(palette, np.uint8)[points.labels]
    names = [f"label {i} {printable(name)}" for i, name in enumerate(points.names)]
    return _encode_ply(points.points, rgb, "label", points.labels.astype(np.uint16), names)


def encode_boxes(boxes: PredictedBoxes) -> bytes:
    """Return a binary PLY file of boxes as closed surfaces, colored by class, with `label`."""
    rgb = np.rint(255 * class_colors(len(boxes.names))).astype(np.uint8)
    label = np.repeat(boxes.label, 8)
    faces = np.arange(len(boxes.label))[:, None, None] * 8 + SIDES
    names = [f"label {i} {printable(name)}" for i, name in enumerate(boxes.names)]
    points = boxes.corners.reshape(-1, 3)
    return _encode_ply(
        points, rgb[label], "label", label.astype(np.uint16), names, faces.reshape(-1, 3)
    )


def encode_arrays(points: PredictedPoints) -> bytes:
    """Return an .npz file of a scene: points, label, score, source, class_names and maybe true."""
    arrays: dict[str, Any] = {
        "points": points.points,
        "label": points.labels,
        "score": points.score,
        "source": points.source,
        "class_names": np.array(points.names, np.str_),
    }
    if points.true is not None:
        arrays["true"] = points.true
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _encode_ply(
    points: NDArray[np.floating],
    rgb: NDArray[np.uint8],
    name: str,
    labels: NDArray[np.unsignedinteger],
    comments: list[str],
    faces: NDArray[np.integer] | None = None,
) -> bytes:
    """Return a binary PLY file of points [N, 3] with colors [N, 3] and labels [N] of this name.

    faces: triangles [F, 3] between them, if there are any.
    """
    kinds = {"uint8": "uchar", "uint16": "ushort"}
    columns = dict(zip(("red", "green", "blue"), rgb.T, strict=True)) | {name: labels}
    fields = [(axis, np.dtype("<f4")) for axis in "xyz"]
    fields += [(key, column.dtype.newbyteorder("<")) for key, column in columns.items()]
    rows = np.zeros(len(labels), fields)
    for axis, values in zip("xyz", points.T, strict=True):
        rows[axis] = values
    for key, column in columns.items():
        rows[key] = column
    header = [
        "ply",
        "format binary_little_endian 1.0",
        *(f"comment {text}" for text in (MADE_BY, *comments)),
        f"element vertex {len(rows)}",
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property {kinds[column.dtype.name]} {key}" for key, column in columns.items()),
    ]
    triangles = np.zeros(0 if faces is None else len(faces), [("n", "u1"), ("corners", "<i4", 3)])
    if faces is not None:
        triangles["n"], triangles["corners"] = 3, faces
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    text = "\n".join([*header, "end_header", ""])
    return text.encode("ascii", "replace") + rows.tobytes() + triangles.tobytes()


def encode_labels(parts: PredictedParts) -> bytes:
    """Return a table of the points: position, face or point of the source, part and its name."""
    buffer = io.StringIO()
    write = csv.writer(buffer, lineterminator="\n").writerow
    write(("x", "y", "z", "source", "part", "name"))
    for point, source, part in zip(
        parts.points.tolist(), parts.source.tolist(), parts.labels.tolist(), strict=True
    ):
        write((*(f"{value:.7g}" for value in point), source, part, parts.names[part]))
    return buffer.getvalue().encode()


def _is_ours(path: Path) -> bool:
    """Return whether `predict` wrote a file: never for links and what is no regular file."""
    if path.is_symlink():
        return False
    try:
        with open_regular(path) as file:
            head = file.read(HEAD)
    except OSError:
        return False
    return MADE_BY.encode() in head or head.startswith(_HEADERS)
