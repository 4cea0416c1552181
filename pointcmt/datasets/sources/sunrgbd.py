"""SUN RGB-D: 10,335 single frames with oriented boxes, as released or as VoteNet extracts them.

- The release: `SUNRGBD/{kv1,kv2,realsense,xtion}/…`, with `SUNRGBDMeta.mat` (boxes of version 1, in
  SUNRGBDtoolbox.zip) or `SUNRGBDMeta3DBB_v2.mat` (version 2).
- VoteNet's extraction: `sunrgbd_trainval/{depth,image,calib,label_v1,label}/NNNNNN.*`.

Frames are numbered from 1 in the order of the release's list; the first 5,050 are the test split,
which VoteNet calls val.
"""

from pathlib import Path

from pointcmt.datasets.sources.listing import (
    Listing,
    files,
    folders,
    is_inside,
    read_about,
    read_list,
    require_root,
    unrecognized,
)
from pointcmt.datasets.sources.matlab.mat import Structs, read_mat
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import Reason, ShapeRefused, UsageError, printable
from pointcmt.scenes import SceneLabels

URL = "https://rgbd.cs.princeton.edu"
LICENSE = "the terms on its page"
OBTAIN = (
    f"unpack SUNRGBD.zip and SUNRGBDtoolbox.zip (boxes of version 1) from {URL} into one folder, "
    "with SUNRGBDMeta3DBB_v2.mat for boxes of version 2, and set --root to it"
)
# In VoteNet's order; boxes of other classes are not part of the benchmark.
CLASSES = (
    *("bed", "table", "sofa", "chair", "toilet", "desk", "dresser", "night_stand", "bookshelf"),
    "bathtub",
)
LABELS = SceneLabels(semantic=(), boxes=CLASSES)
# Types of scenes with more than 80 frames, which are those of published scene classification.
SCENE_TYPES = (
    *("bathroom", "bedroom", "classroom", "computer_room", "conference_room", "corridor"),
    *("dining_area", "dining_room", "discussion_area", "furniture_store", "home_office", "kitchen"),
    *("lab", "lecture_theatre", "library", "living_room", "office", "rest_space", "study_space"),
)
# Name of the dataset → version of its boxes. Published scores are on version 1.
VARIANTS = {"sunrgbd": 1, "sunrgbd-v2": 2}
META = {1: "SUNRGBDMeta.mat", 2: "SUNRGBDMeta3DBB_v2.mat"}
LABEL_FOLDERS = {1: "label_v1", 2: "label"}  # of VoteNet's extraction
TEST, ALL = 5050, 10335  # published numbers of frames
_SENSORS = ("kv1", "kv2", "realsense", "xtion")
_DATA = ("", "SUNRGBD", "OFFICIAL_SUNRGBD/SUNRGBD")
_TOOLBOX = "SUNRGBDtoolbox"
_META_PLACES = (
    *("", "SUNRGBD", "OFFICIAL_SUNRGBD", "Metadata", f"{_TOOLBOX}/Metadata"),
    *(f"{_TOOLBOX}/{_TOOLBOX}/Metadata", f"OFFICIAL_SUNRGBD/{_TOOLBOX}/Metadata"),
)


def list_sunrgbd(dataset: str, root: Path | None) -> Listing:
    """List the frames of SUN RGB-D ("sunrgbd": boxes of version 1; "sunrgbd-v2": of version 2).

    The id of a frame is its number, its source its folder, or its depth file in VoteNet's
    extraction. The class is the type in its `scene.txt`, if that is one of the 19 with more than 80
    frames; an extraction has no types. The release is used if both are there. Raises UsageError if
    `root` holds neither, or not with boxes of this version.
    """
    root = require_root(root, dataset, OBTAIN)
    version = VARIANTS[dataset]
    data, extracted = find_release(root), _find_extraction(root)
    meta = find_meta(root, version)
    if data is not None and meta:
        shapes, notes = _list_release(root, data, meta)
    elif extracted is not None:
        shapes, notes = _list_extraction(root, extracted, version)
    elif data is not None:
        other = f", or use --dataset {_other(version)}" if find_meta(root, 3 - version) else ""
        raise UsageError(
            f"{META[version]}, which lists the frames and their boxes, is missing",
            where=str(root),
            fix=f"{OBTAIN}{other}",
        )
    else:
        raise unrecognized(root, "SUNRGBD/kv1, … or sunrgbd_trainval/depth, …", OBTAIN)
    return Listing(
        name=dataset,
        root=root,
        shapes=tuple(shapes),
        class_names=SCENE_TYPES,
        up="z",
        license=LICENSE,
        url=URL,
        official={"train": ALL - TEST, "test": TEST},
        notes=tuple(notes),
        kind="scene",
        labels=LABELS,
    )


def find_release(root: Path) -> str | None:
    """Return the folder of the release's images relative to the root; None if there is none."""
    for place in _DATA:
        if any((root / place / sensor).is_dir() for sensor in _SENSORS):
            return place
    return None


def find_meta(root: Path, version: int) -> str | None:
    """Return the path of the list of frames relative to the root; None if there is none."""
    for place in _META_PLACES:
        name = f"{place}/{META[version]}".removeprefix("/")
        if (root / name).is_file():
            return name
    return None


def read_meta(path: Path) -> Structs:
    """Return the release's list of frames. Raises ShapeRefused for another or a damaged file."""
    frames = read_mat(path).get("SUNRGBDMeta")
    if not isinstance(frames, Structs) or not len(frames):
        raise ShapeRefused(Reason.BAD_SYNTAX, f"{path.name} has no structs named SUNRGBDMeta")
    return frames


def path_in_release(path: object) -> str:
    """Return a path of the release's list, such as /n/fs/sun3d/data/SUNRGBD/kv1/…, from kv1 on.

    Raises ShapeRefused for a path without one of the sensors' folders, or with "..".
    """
    parts = [part for part in str(path).split("/") if part not in ("", ".")]
    starts = [i for i, part in enumerate(parts) if part in _SENSORS]
    if not isinstance(path, str) or not starts or ".." in parts:
        what = f"the list has a path that is not in SUNRGBD: {printable(str(path))}"
        raise ShapeRefused(Reason.BAD_SYNTAX, what)
    return "/".join(parts[starts[0] :])


def frame_folder(frames: Structs, index: int) -> str:
    """Return the folder of a frame of the list, from kv1 on. Raises ShapeRefused."""
    return path_in_release(frames.get(index, "rgbpath")).rsplit("/", 2)[0]


def _list_release(root: Path, data: str, meta: str) -> tuple[list[ShapeRecord], list[str]]:
    try:
        if not is_inside(root / meta, root):
            raise ShapeRefused(Reason.UNREADABLE_FILE, "it is a link to outside the dataset")
        frames = read_meta(root / meta)
    except ShapeRefused as refused:
        raise UsageError(
            f"{meta} cannot be read: {refused.reason}: {refused.detail}",
            where=str(root / meta),
            fix="download it again",
        ) from refused
    places = [
        f"{data}/{_folder_or_number(frames, row)}".removeprefix("/") for row in range(len(frames))
    ]
    types = [read_about(root / place / "scene.txt", root).strip() for place in places]
    shapes = [
        ShapeRecord(_name(number), kind if kind in SCENE_TYPES else None, _split(number), place)
        for number, (place, kind) in enumerate(zip(places, types, strict=True), 1)
    ]
    notes = _other_types(types)
    if len(shapes) != ALL:
        what = f"{meta} lists {len(shapes)} frames instead of {ALL}"
        notes.append(f"{what}: the splits, which go by the number of a frame, may be wrong")
    return shapes, notes


def _other_types(types: list[str]) -> list[str]:
    """Return a note on frames of types that are too rare to be classes."""
    others = [kind for kind in types if kind and kind not in SCENE_TYPES]
    if not others:
        return []
    what = f"{len(others)} frames are of rare types of scenes"
    return [f"{what}, such as {printable(min(others))}: they have no class"]


def _folder_or_number(frames: Structs, row: int) -> str:
    """Return a frame's folder; its number if the list has no valid one, so that loading fails."""
    try:
        return frame_folder(frames, row)
    except ShapeRefused:
        return _name(row + 1)


def _find_extraction(root: Path) -> str | None:
    for place in ("", *folders(root)):
        if {"depth", "image", "calib"} <= set(folders(root / place)):
            return place
    return None


def _list_extraction(root: Path, place: str, version: int) -> tuple[list[ShapeRecord], list[str]]:
    base = root / place
    if not (base / LABEL_FOLDERS[version]).is_dir():
        raise UsageError(
            f"the folder {LABEL_FOLDERS[version]}, with boxes of version {version}, is missing",
            where=str(base),
            fix=f"run VoteNet's extract_rgbd_data_v{version}.m, or use `--dataset "
            f"{_other(version)}`",
        )
    present = {
        int(name[: -len(".mat")])
        for name in files(base / "depth")
        if name.endswith(".mat") and name[: -len(".mat")].isdecimal()
    }
    lists = {"train": "train_data_idx.txt", "test": "val_data_idx.txt"}
    notes = []
    if all((base / name).is_file() for name in lists.values()):
        splits = _read_splits(base, lists)
        lost = sorted(splits.keys() - present)
        if lost:
            notes.append(
                f"{len(lost)} listed frames are missing, such as {_name(lost[0])}: VoteNet's "
                "scripts leave out frames that fail without a message"
            )
        unlisted = len(present - splits.keys())
        if unlisted:
            notes.append(f"{unlisted} frames are left out: no split list names them")
    else:
        splits = {number: _split(number) for number in present}
        notes.append("there are no split lists: the splits go by the number of a frame")
    if not splits:
        raise unrecognized(base / "depth", "000001.mat, …", OBTAIN)
    folder = f"{place}/depth".removeprefix("/")
    return [
        ShapeRecord(_name(number), None, splits[number], f"{folder}/{_name(number)}.mat")
        for number in sorted(splits)
    ], notes


def _read_splits(base: Path, lists: dict[str, str]) -> dict[int, str]:
    splits: dict[int, str] = {}
    for split, name in lists.items():
        for line, word in enumerate(read_list(base / name).split(), 1):
            if not (word.isascii() and word.isdecimal() and 0 < int(word) <= 999_999):
                what = f"{name}, line {line}: {printable(word)} is not the number of a frame"
            elif splits.setdefault(int(word), split) != split:
                what = f"{name}, line {line}: frame {word} is in both lists"
            else:
                continue
            raise UsageError(what, where=str(base / name), fix="extract the data again")
    return splits


def _name(number: int) -> str:
    return f"{number:06d}"


def _split(number: int) -> str:
    return "test" if number <= TEST else "train"


def _other(version: int) -> str:
    return next(name for name, other in VARIANTS.items() if other != version)
