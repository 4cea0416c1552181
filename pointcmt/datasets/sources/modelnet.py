"""ModelNet10 and ModelNet40 in their official layout, `<class>/<split>/<id>.off`."""

from collections import Counter
from pathlib import Path

from pointcmt.datasets.sources.listing import (
    SPLIT_FOLDERS,
    Listing,
    files,
    folders,
    require_root,
    unrecognized,
)
from pointcmt.datasets.store.schema import SPLITS, ShapeRecord

URL = "https://modelnet.cs.princeton.edu"
LICENSE = "academic research only; each model belongs to its author (Wu et al., CVPR 2015)"

CLASSES_40 = (
    "airplane bathtub bed bench bookshelf bottle bowl car chair cone cup curtain desk door dresser "
    "flower_pot glass_box guitar keyboard lamp laptop mantel monitor night_stand person piano "
    "plant radio range_hood sink sofa stairs stool table tent toilet tv_stand vase wardrobe xbox"
)
CLASSES_10 = "bathtub bed chair desk dresser monitor night_stand sofa table toilet"

CLASSES = {"modelnet10": tuple(CLASSES_10.split()), "modelnet40": tuple(CLASSES_40.split())}
OFFICIAL = {
    "modelnet10": {"train": 3991, "test": 908},
    "modelnet40": {"train": 9843, "test": 2468},
}


def list_modelnet(dataset: str, root: Path | None) -> Listing:
    """List "modelnet10" or "modelnet40". Raises UsageError if `root` does not hold it.

    A root one level too high, at one class, or at one split of a class is accepted with a note;
    ids and sources are always those of the whole dataset.
    """
    name = dataset.replace("modelnet", "ModelNet")
    obtain = f"download {name} from {URL} ({LICENSE}), unzip it, and set --root to its folder"
    root = require_root(root, dataset, obtain)
    place = _find(root, CLASSES[dataset], name)
    if place is None:
        raise unrecognized(root, f"{name} as <class>/<split>/<id>.off", obtain)
    base, only_class, only_split, notes = place
    pairs = [
        (label, folder)
        for label in CLASSES[dataset]
        if only_class in (None, label) and (base / label).is_dir()
        for folder in sorted(folders(base / label), key=_split_order)
        if folder.lower() in SPLIT_FOLDERS and only_split in (None, folder)
    ]
    files_of = {pair: _off_files(base / pair[0] / pair[1]) for pair in pairs}
    twice = Counter(f"{label}/{Path(f).stem}" for (label, _), fs in files_of.items() for f in fs)
    shapes = [
        ShapeRecord(
            id=f"{label}/{stem}" if twice[f"{label}/{stem}"] == 1 else f"{label}/{folder}/{stem}",
            class_name=label,
            split=SPLIT_FOLDERS[folder.lower()],
            source=f"{label}/{folder}/{file}",
        )
        for (label, folder), names in files_of.items()
        for file, stem in ((file, Path(file).stem) for file in names)
    ]
    if not shapes:
        raise unrecognized(root, f"{name} as <class>/<split>/<id>.off", obtain)
    others = [label for label in folders(base) if label not in CLASSES[dataset]]
    if others and only_class is None:
        notes.append(f"folders that are not classes of {name} are ignored: {', '.join(others)}")
    return Listing(
        name=dataset,
        root=base,
        shapes=tuple(shapes),
        class_names=CLASSES[dataset],
        up="z",
        license=LICENSE,
        url=URL,
        official=OFFICIAL[dataset],
        notes=tuple(notes),
    )


def _find(
    root: Path, classes: tuple[str, ...], name: str
) -> tuple[Path, str | None, str | None, list[str]] | None:
    """Return (directory of the dataset, only class to list, only split to list, notes)."""
    if set(folders(root)) & set(classes):
        return root, None, None, []
    own = root.resolve()
    if own.name in classes and any(folder.lower() in SPLIT_FOLDERS for folder in folders(root)):
        return (
            own.parent,
            own.name,
            None,
            [f"the root is the folder of one class: only '{own.name}' is listed"],
        )
    above = own.parent
    if above.name in classes and own.name.lower() in SPLIT_FOLDERS and _off_files(root):
        note = f"the root is the folder of one split: only '{above.name}/{own.name}' is listed"
        return above.parent, above.name, own.name, [note]
    deeper = [folder for folder in folders(root) if set(folders(root / folder)) & set(classes)]
    deeper = [folder for folder in deeper if folder == name] or deeper
    if len(deeper) != 1:
        return None
    note = f"the root is one level too high: using its subfolder '{deeper[0]}'"
    return root / deeper[0], None, None, [note]


def _off_files(folder: Path) -> list[str]:
    return sorted(file for file in files(folder) if file.lower().endswith(".off"))


def _split_order(folder: str) -> tuple[int, str]:
    split = SPLIT_FOLDERS.get(folder.lower())
    return (SPLITS.index(split) if split else len(SPLITS), folder)
