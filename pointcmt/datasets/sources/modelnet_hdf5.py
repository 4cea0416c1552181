"""ModelNet40 as clouds of 2,048 points in HDF5 files: `modelnet40_ply_hdf5_2048` (Qi et al. 2017).

`ply_data_train0.h5`, … and `ply_data_test0.h5`, … hold data, label and normal. `train_files.txt`
and `test_files.txt` list them, `shape_names.txt` names the labels. If present,
`ply_data_train_0_id2file.json` has each row's model, such as `airplane/airplane_0627.ply`.
"""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

from pointcmt.datasets.sources.hdf5 import list_rows
from pointcmt.datasets.sources.listing import files, read_list
from pointcmt.datasets.sources.modelnet import CLASSES
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import UsageError
from pointcmt.files import parse_json

URL = "https://shapenet.cs.stanford.edu/media/modelnet40_ply_hdf5_2048.zip"
NAMES = "shape_names.txt"
LISTS = ("train_files.txt", "test_files.txt")
_FILE = re.compile(r"ply_data_(train|test)_?(\d+)\.h5")
_MODEL = re.compile(r"[\w.-]+/[\w.-]+")


def holds_hdf5(folder: Path) -> bool:
    """Return whether a directory holds this layout, not the similar one of ShapeNetPart.

    ShapeNetPart's files have the same names; the lists beside them differ.
    """
    names = set(files(folder))
    ours = names & {NAMES, *LISTS} or "modelnet" in folder.resolve().name.lower()
    return bool(ours) and any(map(_FILE.fullmatch, names))


def list_hdf5(base: Path) -> tuple[list[ShapeRecord], list[str]]:
    """Return the shapes, train before test, and notes on this directory.

    An id is that of the model if the release's JSON lists name every model once, else file and row.
    """
    names = set(files(base))
    found = sorted(
        (match for name in names if (match := _FILE.fullmatch(name))),
        key=lambda match: (match[1] == "test", int(match[2]), match[0]),
    )
    classes, notes = _class_names(base)
    shapes, more = list_rows(base, [(match[0], match[1]) for match in found], classes)
    notes += [*more, *_missing(base, {match[0] for match in found})]
    models: list[str] = []
    for match in found:
        rows = [shape for shape in shapes if shape.source.startswith(f"{match[0]}#")]
        listed = _models(base, match, names, rows)
        if listed is None:
            return shapes, notes
        models += listed
    twice = [model for model, count in Counter(models).items() if count > 1]
    if twice:
        notes.append(
            f"{len(twice)} models are listed more than once, such as {twice[0]}: ids are files and "
            "rows instead"
        )
        return shapes, notes
    shapes = [replace(shape, id=model) for shape, model in zip(shapes, models, strict=True)]
    return shapes, notes


def _class_names(base: Path) -> tuple[tuple[str, ...], list[str]]:
    """Return the class of each label by shape_names.txt, if present; notes.

    Raises UsageError for classes that are not ModelNet40's.
    """
    official = CLASSES["modelnet40"]
    if not (base / NAMES).is_file():
        return official, [f"no {NAMES}: labels are taken as the alphabetical order of the classes"]
    names = tuple(read_list(base / NAMES).split())
    unknown = [name for name in names if name not in official]
    if unknown or not names:
        raise UsageError(
            f"{NAMES} has classes that are not those of ModelNet40: {', '.join(unknown[:5])[:200]}"
            if unknown
            else f"{NAMES} is empty",
            where=str(base / NAMES),
            fix=f"unpack {URL} again",
        )
    note = "labels follow the order of shape_names.txt, which is not alphabetical"
    return names, [] if names == official[: len(names)] else [note]


def _missing(base: Path, here: set[str]) -> list[str]:
    """Return a note on files that the lists name but that are missing."""
    listed: dict[str, None] = {}
    for name in LISTS:
        if (base / name).is_file():
            ends = (re.split(r"[/\\]", line)[-1] for line in read_list(base / name).split())
            listed |= dict.fromkeys(filter(_FILE.fullmatch, ends))
    missing = [name for name in listed if name not in here]
    if not missing:
        return []
    what = f"{len(listed) - len(missing)} of {len(listed)} listed files are present"
    return [f"{what}: {len(missing)} missing, such as {missing[0]!r}"]


def _models(
    base: Path, match: re.Match[str], names: set[str], rows: list[ShapeRecord]
) -> list[str] | None:
    """Return the names of the models in a file, without suffix; None without a valid list of them.

    A name's class must be that of its row.
    """
    path = f"ply_data_{match[1]}_{match[2]}_id2file.json"
    if path not in names:
        return None
    try:
        entries = parse_json(read_list(base / path))
    except (ValueError, RecursionError):
        return None
    if not isinstance(entries, list) or len(entries) != len(rows):
        return None
    models = []
    for entry, row in zip(entries, rows, strict=True):
        if not isinstance(entry, str) or not _MODEL.fullmatch(entry):
            return None
        if entry.split("/")[0] != row.class_name:
            return None
        models.append(entry.removesuffix(".ply"))
    return models
