"""ShapeNetPart, clouds with part labels: the two published text layouts and the HDF5 layout.

Text: `<synset>/<id>.txt` with lines x y z nx ny nz part, and `train_test_split/`. Older text, with
the same lists: `<synset>/points/<id>.pts` with lines x y z, `<synset>/points_label/<id>.seg` with
the part of each, from 1 within the class. HDF5: `ply_data_train0.h5`, … with data, label, pid (or
`train0.h5`, … with data, label, seg).
"""

import re
from collections.abc import Container, Iterable, Iterator
from itertools import accumulate
from pathlib import Path, PurePosixPath

from pointcmt.datasets.sources.hdf5 import list_rows
from pointcmt.datasets.sources.listing import (
    Listing,
    files,
    folders,
    read_list,
    require_root,
    unrecognized,
)
from pointcmt.datasets.sources.modelnet_hdf5 import holds_hdf5
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import UsageError
from pointcmt.files import parse_json, read_regular
from pointcmt.input_frame import InputFrame

URL = "https://shapenet.org"
LICENSE = "non-commercial research and education, after registration (ShapeNet terms of use)"
OBTAIN = (
    f"register at {URL}, accept its terms ({LICENSE}), and set --root to the unpacked "
    "shapenetcore_partanno_segmentation_benchmark_v0_normal, "
    "shapenetcore_partanno_segmentation_benchmark_v0 or shapenet_part_seg_hdf5_data"
)
LAYOUT = (
    "ShapeNetPart as <synset>/<id>.txt, as <synset>/points/<id>.pts with points_label/<id>.seg, "
    "or as ply_data_train0.h5, …"
)
OFFICIAL = {"train": 12137, "test": 2874, "val": 1870}

# The 16 synsets (Yi et al. 2016) in label order, and the parts of each in the order of the official
# numbers 0 to 49. The part names are our own descriptions: the dataset has none.
CATEGORIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "02691156": ("airplane", ("body", "wing", "tail", "engine")),
    "02773838": ("bag", ("handle", "body")),
    "02954340": ("cap", ("crown", "visor")),
    "02958343": ("car", ("roof", "hood", "wheel", "body")),
    "03001627": ("chair", ("back", "seat", "leg", "arm")),
    "03261776": ("earphone", ("earcup", "headband", "wire")),
    "03467517": ("guitar", ("head", "neck", "body")),
    "03624134": ("knife", ("blade", "handle")),
    "03636649": ("lamp", ("base", "shade", "canopy", "tube")),
    "03642806": ("laptop", ("keyboard", "screen")),
    "03790512": ("motorbike", ("tank", "seat", "wheel", "handlebar", "light", "frame")),
    "03797390": ("mug", ("handle", "body")),
    "03948459": ("pistol", ("barrel", "handle", "trigger")),
    "04099429": ("rocket", ("body", "fin", "nose")),
    "04225987": ("skateboard", ("wheel", "deck", "belt")),
    "04379243": ("table", ("top", "leg", "drawer")),
}
PART_NAMES: dict[str, tuple[str, ...]] = dict(CATEGORIES.values())
_FIRST = accumulate((len(parts) for parts in PART_NAMES.values()), initial=0)
FIRST_PART: dict[str, int] = dict(zip(PART_NAMES, _FIRST, strict=False))  # by class: 0, 4, 6, …

# Subdirectory of a synset's directory, and suffix of the file names in it.
_TXT, _PTS, _SEG = ("", ".txt"), ("points", ".pts"), ("points_label", ".seg")
_HDF5 = re.compile(r"(?:ply_data_)?(train|test|val)(\d+)\.h5")
MAX_FILES = 1 << 20  # bytes of a list of HDF5 files: the published ones have about 100


def list_shapenetpart(dataset: str, root: Path | None) -> Listing:
    """List "shapenetpart", any layout. Raises UsageError if `root` does not hold it.

    A root one level too high is accepted with a note. In a text layout, shapes that the split
    lists do not name are train. Listed shapes that are missing are noted.
    """
    root = require_root(root, dataset, OBTAIN)
    places = [root] if _holds(root) else [root / name for name in folders(root)]
    places = [place for place in places if _holds(place)]
    if len(places) > 1:
        raise UsageError(
            f"more than one copy of ShapeNetPart found: {', '.join(p.name for p in places)}",
            where=str(root),
            fix="set --root to one of them",
        )
    if not places:
        if any(map(holds_hdf5, (root, *(root / name for name in folders(root))))):
            raise UsageError(
                "these are ModelNet40's HDF5 files, which have no part labels",
                where=str(root),
                fix="use `--dataset modelnet40-clouds`",
            )
        raise unrecognized(root, LAYOUT, OBTAIN)
    base = places[0]
    notes = (
        []
        if base == root
        else [f"the root is one level too high: using its subfolder '{base.name}'"]
    )
    layout = _text_layout(base)
    if layout and _has_hdf5(base):
        notes.append("both text and HDF5 files are present: using the text files")
    shapes, more = _list_text(base, layout) if layout else _list_hdf5(base)
    return Listing(
        name=dataset,
        root=base,
        shapes=tuple(shapes),
        class_names=tuple(PART_NAMES),
        up="y",
        license=LICENSE,
        url=URL,
        official=OFFICIAL,
        notes=(*notes, *more),
        part_names=PART_NAMES,
        kind="cloud",
        input=InputFrame("y", "centroid"),
    )


def labels_of(source: str) -> str:
    """Return the file of part labels for a file of points, `<synset>/points/<id>.pts`."""
    path = PurePosixPath(source)
    folder, suffix = _SEG
    return str(path.parent.parent / folder / f"{path.stem}{suffix}")


def _holds(folder: Path) -> bool:
    return _text_layout(folder) is not None or _has_hdf5(folder)


def _has_hdf5(folder: Path) -> bool:
    return any(map(_HDF5.fullmatch, files(folder))) and not holds_hdf5(folder)


def _text_layout(folder: Path) -> tuple[str, str] | None:
    """Return the subdirectory and suffix of the text layout found; None for neither of the two.

    Points without labels do not count: the full dataset, from before the benchmark, has labels in
    one directory per part. Raises UsageError for both layouts, since their shapes share ids.
    """
    shape = next(_find(folder, _TXT), None)
    older = next(_find(folder, _PTS), None) if any(_find(folder, _SEG)) else None
    if shape and older:
        raise UsageError(
            f"both text layouts of ShapeNetPart are present: {shape[2]}, {older[2]}",
            where=str(folder),
            fix="set --root to a folder that contains only one of them",
        )
    return _TXT if shape else _PTS if older else None


def _find(base: Path, place: tuple[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield (synset, id, source) of each file of a layout, in label order."""
    folder, suffix = place
    present = set(folders(base))
    for synset in filter(present.__contains__, CATEGORIES):
        if folder and folder not in folders(base / synset):
            continue
        where = PurePosixPath(synset, folder)
        for name in files(base / where):
            if name.endswith(suffix):
                yield synset, name.removesuffix(suffix), str(where / name)


def _list_hdf5(base: Path) -> tuple[list[ShapeRecord], list[str]]:
    matches = sorted(
        (match for name in files(base) if (match := _HDF5.fullmatch(name))),
        key=lambda match: (list(OFFICIAL).index(match[1]), int(match[2]), match[0]),
    )
    shapes, notes = list_rows(base, [(match[0], match[1]) for match in matches], tuple(PART_NAMES))
    listed, more = _listed_files(base)
    return shapes, [*notes, *more, *_missing("files", listed, {match[0] for match in matches})]


def _list_text(base: Path, layout: tuple[str, str]) -> tuple[list[ShapeRecord], list[str]]:
    splits = {
        shape: split
        for split in OFFICIAL
        for shape in _read_list(base / f"train_test_split/shuffled_{split}_file_list.json")
    }
    shapes = [
        ShapeRecord(
            id=f"{synset}/{name}",
            class_name=CATEGORIES[synset][0],
            split=splits.get((synset, name), "train"),
            source=source,
        )
        for synset, name, source in _find(base, layout)
    ]
    unlisted = sum(tuple(shape.id.split("/")) not in splits for shape in shapes)
    here = {shape.id for shape in shapes}
    notes = _missing("shapes", ["/".join(shape) for shape in splits], here)
    if unlisted:
        notes.append(
            f"{unlisted} shapes are not in the lists of train_test_split and are listed as train"
        )
    return shapes, notes


def _read_list(path: Path) -> list[tuple[str, str]]:
    """Return (synset, id) of each entry `shape_data/<synset>/<id>`; empty without a list."""
    if not path.is_file():
        return []
    fix = 'it must be a JSON list of "shape_data/<synset>/<id>"'
    text = read_list(path, fix=fix)
    try:
        entries = [str(entry).split("/") for entry in parse_json(text)]
        return [(synset, shape) for _, synset, shape in entries]
    except (ValueError, TypeError) as error:  # ValueError: also from unpacking
        raise UsageError(
            f"{path.name} cannot be read: {error}", where=str(path), fix=fix
        ) from error


def _listed_files(base: Path) -> tuple[Iterable[str], list[str]]:
    """Return the unique names of the HDF5 files that the file lists contain, and notes.

    A list may contain paths of the machine that wrote it: only the file names are used.
    """
    listed: dict[str, None] = {}
    notes = []
    for path in (base / f"{split}_hdf5_file_list.txt" for split in OFFICIAL):
        if not path.is_file():
            continue
        try:
            lines = read_regular(path, MAX_FILES).decode("utf-8-sig").splitlines()
        except (OSError, ValueError) as error:  # ValueError: from decoding
            notes.append(
                f"{path.name} cannot be read, so files that it lists may be missing: {error}"
            )
            continue
        names = (re.split(r"[/\\]", line.strip())[-1] for line in lines)
        listed.update(dict.fromkeys(filter(_HDF5.fullmatch, names)))
    return listed, notes


def _missing(what: str, listed: Iterable[str], here: Container[str]) -> list[str]:
    """Return a note, with the first missing name, if some of the names are missing."""
    names = list(listed)
    missing = [name for name in names if name not in here]
    if not missing:
        return []
    count = f"{len(names) - len(missing)} of {len(names)} listed {what} are present"
    return [f"{count}: {len(missing)} missing, such as {missing[0][:80]!r}"]
