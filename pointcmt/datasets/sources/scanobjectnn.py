"""ScanObjectNN, clouds of scanned objects, in its published HDF5 layout; all variants."""

from pathlib import Path

from pointcmt.datasets.sources.hdf5 import list_rows
from pointcmt.datasets.sources.listing import Listing, require_root, unrecognized
from pointcmt.errors import UsageError
from pointcmt.input_frame import InputFrame

URL = "https://hkust-vgd.github.io/scanobjectnn"
LICENSE = "research, after agreeing to the terms of use (Uy et al., ICCV 2019)"
OBTAIN = f"agree to the terms at {URL} ({LICENSE}), and set --root to the unpacked h5_files"

CLASSES = (  # in the order of the labels
    "bag bin box cabinet chair desk display door shelf table bed pillow sink sofa toilet"
)
# By name of the dataset: directory, suffix of its file names, published number of shapes.
_ALL, _OBJECTS = {"train": 11416, "test": 2882}, {"train": 2309, "test": 581}
_PERTURBED = {  # by the paper's name; T: moved by a share of the size, R: rotated, S: scaled
    "pb_t50_rs": ("_augmentedrot_scale75", _ALL),  # the hardest
    "pb_t50_r": ("_augmentedrot", None),
    "pb_t25_r": ("_augmented25rot", None),
    "pb_t25": ("_augmented25_norot", None),
}
VARIANTS: dict[str, tuple[str, str, dict[str, int] | None]] = {
    "scanobjectnn": ("main_split", *_PERTURBED["pb_t50_rs"]),
    **{f"scanobjectnn-{name}": ("main_split", *files) for name, files in _PERTURBED.items()},
    "scanobjectnn-obj_bg": ("main_split", "", _OBJECTS),
    "scanobjectnn-obj_only": ("main_split_nobg", "", _OBJECTS),
    **{
        f"scanobjectnn-{name}_nobg": ("main_split_nobg", *files)
        for name, files in _PERTURBED.items()
    },
}


def list_scanobjectnn(dataset: str, root: Path | None) -> Listing:
    """List a variant of ScanObjectNN. Raises UsageError if `root` does not hold it.

    The root is `h5_files`, the directory above it, or the split's own directory. File names are the
    same with and without background; the split directory's name distinguishes them.
    """
    root = require_root(root, dataset, OBTAIN)
    folder, ending, official = VARIANTS[dataset]
    names = {
        "train": f"training_objectdataset{ending}.h5",
        "test": f"test_objectdataset{ending}.h5",
    }
    places = _places(root, folder)
    present = [
        (place, [(name, split) for split, name in names.items() if (place / name).is_file()])
        for place in places
    ]
    base, named = next((found for found in present if found[1]), (root, []))
    if not named:
        raise _unrecognized(root, dataset, f"{folder}/{names['train']} and {names['test']}")
    classes = tuple(CLASSES.split())
    shapes, notes = list_rows(base, named, classes)
    if len(named) < len(names):
        notes.append(f"only one of its two files was found: {named[0][0]}")
    return Listing(
        name=dataset,
        root=base,
        shapes=tuple(shapes),
        class_names=classes,
        up="y",
        license=LICENSE,
        url=URL,
        official=official,
        notes=tuple(notes),
        kind="cloud",
        input=InputFrame("y", "none", "none"),  # PointMLP's, for one
    )


def _places(root: Path, folder: str) -> list[Path]:
    """Return where a variant's files may be: below the root, or in the root if it is `folder`."""
    places = [root / "h5_files" / folder, root / folder]
    if root.resolve().name.endswith("_nobg") == folder.endswith("_nobg"):
        places.append(root)
    return places


def _unrecognized(root: Path, dataset: str, expected: str) -> UsageError:
    """Return the error for a directory without the variant, naming the variants that it has."""
    present = [
        name
        for name, (folder, ending, _) in VARIANTS.items()
        if any(
            (place / f"{kind}_objectdataset{ending}.h5").is_file()
            for place in _places(root, folder)
            for kind in ("training", "test")
        )
    ]
    fix = OBTAIN
    if present:
        fix = f"use the variant that is present: --dataset {' or '.join(present)}"
    return unrecognized(root, f"{expected} for {dataset}", fix)
