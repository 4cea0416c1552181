"""ModelNet10 and ModelNet40 as clouds of 10,000 points: `modelnet40_normal_resampled`."""

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
from pointcmt.datasets.store.schema import ShapeRecord

URL = "https://shapenet.cs.stanford.edu/media/modelnet40_normal_resampled.zip"
OBTAIN = f"unpack {URL} ({LICENSE}) and set --root to its folder"


def list_modelnet_clouds(dataset: str, root: Path | None) -> Listing:
    """List "modelnet10-clouds" or "modelnet40-clouds": listed shapes that are on disk.

    Raises UsageError if `root` does not hold them. A root one level too high is accepted.
    """
    name = dataset.removesuffix("-clouds")
    lists = {split: f"{name}_{split}.txt" for split in ("train", "test")}
    root = require_root(root, dataset, OBTAIN)
    places = [place for place in (root, *(root / f for f in folders(root))) if _has(place, lists)]
    if not places:
        expected = f"<class>/<id>.txt next to {' and '.join(lists.values())}"
        raise unrecognized(root, expected, OBTAIN)
    base = places[0]
    notes = (
        []
        if base == root
        else [f"the root is one level too high: using its subfolder '{base.name}'"]
    )
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
    if len(shapes) < len(names):
        notes.append(f"{len(names) - len(shapes)} files are ignored: no split file lists them")
    return Listing(
        name=dataset,
        root=base,
        shapes=tuple(shapes),
        class_names=CLASSES[name],
        up="y",
        license=LICENSE,
        url=URL,
        official=OFFICIAL[name],
        notes=tuple(notes),
        kind="cloud",
    )


def _has(folder: Path, lists: dict[str, str]) -> bool:
    return all((folder / name).is_file() for name in lists.values())
