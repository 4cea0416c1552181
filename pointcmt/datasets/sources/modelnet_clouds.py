"""ModelNet10 and ModelNet40 as clouds: `modelnet40_normal_resampled`, `modelnet40_ply_hdf5_2048`.

The first has 10,000 points per shape in text files; the second, of ModelNet40 alone, 2,048 in HDF5
files.
"""

from pathlib import Path

from pointcmt.datasets.sources.listing import (
    Listing,
    files,
    folders,
    read_list,
    require_root,
    unrecognized,
)
from pointcmt.datasets.sources.modelnet import CLASSES, LICENSE, OFFICIAL
from pointcmt.datasets.sources.modelnet_hdf5 import URL as HDF5_URL
from pointcmt.datasets.sources.modelnet_hdf5 import holds_hdf5, list_hdf5
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import UsageError
from pointcmt.input_frame import InputFrame

URL = "https://shapenet.cs.stanford.edu/media/modelnet40_normal_resampled.zip"
OBTAIN = f"unpack {URL} or {HDF5_URL} ({LICENSE}) and set --root to its folder"


def list_modelnet_clouds(dataset: str, root: Path | None) -> Listing:
    """List "modelnet10-clouds" or "modelnet40-clouds": listed shapes that are on disk.

    modelnet40-clouds also accepts the HDF5 files. Raises UsageError if `root` does not hold any of
    them. A root one level too high is accepted.
    """
    name = dataset.removesuffix("-clouds")
    lists = {split: f"{name}_{split}.txt" for split in ("train", "test")}
    root = require_root(root, dataset, OBTAIN)
    places = [place for place in (root, *(root / f for f in folders(root))) if _has(place, lists)]
    packed = [place for place in (root, *(root / f for f in folders(root))) if holds_hdf5(place)]
    if not places and packed and name == "modelnet10":
        what = f"{packed[0].name} has the classes of ModelNet40"
        raise UsageError(what, where=str(root), fix="use `--dataset modelnet40-clouds`")
    if not places and not packed:
        expected = f"<class>/<id>.txt next to {' and '.join(lists.values())}"
        if name == "modelnet40":
            expected += ", or ply_data_train0.h5, … with shape_names.txt"
        raise unrecognized(root, expected, OBTAIN)
    base = (places or packed)[0]
    notes = (
        []
        if base == root
        else [f"the root is one level too high: using its subfolder '{base.name}'"]
    )
    shapes, more = _list_text(base, lists, name) if places else list_hdf5(base)
    if places and packed:
        notes.append(f"HDF5 files are also present, in '{packed[0].name}': using the text files")
    return Listing(
        name=dataset,
        root=base,
        shapes=tuple(shapes),
        class_names=CLASSES[name],
        up="y",
        license=LICENSE,
        url=URL if places else HDF5_URL,
        official=OFFICIAL[name],
        notes=(*notes, *more),
        kind="cloud",
        input=InputFrame("y", "centroid"),
    )


def _list_text(base: Path, lists: dict[str, str], name: str) -> tuple[list[ShapeRecord], list[str]]:
    splits = {
        shape: split for split, list_ in lists.items() for shape in read_list(base / list_).split()
    }
    names = [
        (label, file.removesuffix(".txt"))
        for label in CLASSES[name]
        if label in folders(base)
        for file in files(base / label)
        if file.endswith(".txt")
    ]
    shapes = [
        ShapeRecord(f"{label}/{shape}", label, splits[shape], f"{label}/{shape}.txt")
        for label, shape in names
        if shape in splits
    ]
    if not shapes:
        raise unrecognized(base, "<class>/<id>.txt of the shapes in its lists", OBTAIN)
    left = len(names) - len(shapes)
    return shapes, [f"{left} files are ignored: no split file lists them"] if left else []


def _has(folder: Path, lists: dict[str, str]) -> bool:
    return all((folder / name).is_file() for name in lists.values())
