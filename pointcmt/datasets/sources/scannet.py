"""ScanNet v2: scans of indoor spaces with the labels of its segmentation and detection benchmarks.

`scans/sceneXXXX_YY/`, `scans_test/sceneXXXX_YY/` and `scannet_frames_25k/sceneXXXX_YY/`; XXXX is
the space, YY a scan of it. Layout, classes and splits follow github.com/ScanNet/ScanNet.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from pointcmt.datasets.sources.listing import (
    Listing,
    files,
    folders,
    is_inside,
    read_about,
    require_root,
    unrecognized,
)
from pointcmt.datasets.sources.split_lists import FOLDERS, apply_lists
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import printable
from pointcmt.scenes import SceneLabels

URL = "http://www.scan-net.org"
LICENSE = "ScanNet terms of use: non-commercial research and education"
OBTAIN = (
    f"sign the terms of use ({URL}), and set --root to the folder that contains scans and "
    "scannetv2-labels.combined.tsv"
)
EXPECTED = "scans/scene0000_00, scans_test/… or scannet_frames_25k/…"
OFFICIAL = {"train": 1201, "test": 100, "val": 312}
LABEL_TABLE = "scannetv2-labels.combined.tsv"
MESH = "_vh_clean_2"  # the decimated mesh, whose vertices are the points of both benchmarks
# Folders of scenes below the root; a scene's own folder is the first that has it.
MESHES = ("scans", "scans_test", "")
FRAMES = ("scannet_frames_25k", "tasks/scannet_frames_25k", "scannet_frames_test", "frames")
FIRST_TEST = 707  # spaces from here on are the hidden test set

# The 20 classes of the semantic benchmark, in its order: NYU40 id, name, and color in pictures (as
# in the benchmark's util.py).
CLASSES: dict[int, tuple[str, tuple[int, int, int]]] = {
    1: ("wall", (174, 199, 232)),
    2: ("floor", (152, 223, 138)),
    3: ("cabinet", (31, 119, 180)),
    4: ("bed", (255, 187, 120)),
    5: ("chair", (188, 189, 34)),
    6: ("sofa", (140, 86, 75)),
    7: ("table", (255, 152, 150)),
    8: ("door", (214, 39, 40)),
    9: ("window", (197, 176, 213)),
    10: ("bookshelf", (148, 103, 189)),
    11: ("picture", (196, 156, 148)),
    12: ("counter", (23, 190, 207)),
    14: ("desk", (247, 182, 210)),
    16: ("curtain", (219, 219, 141)),
    24: ("refrigerator", (255, 127, 14)),
    28: ("shower curtain", (158, 218, 229)),
    33: ("toilet", (44, 160, 44)),
    34: ("sink", (112, 128, 144)),
    36: ("bathtub", (227, 119, 194)),
    39: ("otherfurniture", (82, 84, 163)),
}
NAMES = tuple(name for name, _ in CLASSES.values())
WITHOUT_BOXES = 2  # wall and floor, the first classes, are not detected
LABELS = SceneLabels(NAMES, NAMES[WITHOUT_BOXES:], tuple(color for _, color in CLASSES.values()))
# Types of scenes that the benchmark of scene classification scores, in its order.
SCENE_TYPES = (
    *("apartment", "bathroom", "bedroom / hotel", "bookstore / library", "conference room"),
    *("copy/mail room", "hallway", "kitchen", "laundry room", "living room / lounge", "office"),
    *("storage / basement / garage", "misc."),
)

_SCENE = re.compile(r"scene(\d{4})_\d{2}")
_SPLIT_LIST = re.compile(r"scannetv2_(train|val|test)\.txt")


def list_scannet(dataset: str, root: Path | None, follow_links: bool = False) -> Listing:
    """List the scans below `root`, each once, in the order of their names.

    The class of a scan is the `sceneType` in its text file, if the benchmark scores that type.
    Splits come from `scannetv2_train.txt`, `_val.txt` and `_test.txt`, in the root or in a folder
    of lists; without them, spaces 0 to 706 are train, since only the lists tell which of them are
    val, with a note. A root one level too low (`scans`) is accepted. Without `follow_links`, links
    to folders outside the root are left out with a note. Raises UsageError if there are no scans.
    """
    given = require_root(root, dataset, OBTAIN)
    root = given
    if given.name in MESHES[:2] and LABEL_TABLE in files(given.parent):
        root = given.parent
    found: dict[str, str] = {}
    left = []
    for name, path in _scenes(root):
        if not (follow_links or is_inside(root / path, root)):
            left.append(path)
        elif root == given or path.startswith(f"{given.name}/"):
            found.setdefault(name, path)
    notes = [] if root == given else [f"the root is one level too low: using '{root.name}'"]
    if left:
        what = f"{len(left)} links to folders outside the root are left out"
        notes.append(f"{what}, such as {left[0]} (see --follow-links)")
    if not found:
        raise unrecognized(root, EXPECTED, "; ".join([OBTAIN, *notes]))
    types = {name: _scene_type(root, found[name], follow_links) for name in sorted(found)}
    scenes = [
        ShapeRecord(name, _CLASS_OF_TYPE.get(_letters(kind)), _split(name), found[name])
        for name, kind in types.items()
    ]
    lists = _split_lists(root)
    if lists:
        scenes, more = apply_lists(scenes, root, lists)
        notes += more
    else:
        notes.append(
            "without scannetv2_train.txt and scannetv2_val.txt, all scans of the spaces 0 to 706 "
            "are train, those of the validation split included"
        )
    notes += [*_leaks(scenes), *_unscored(types)]
    return Listing(
        name=dataset,
        root=root,
        shapes=tuple(scenes),
        class_names=SCENE_TYPES,
        up="z",
        license=LICENSE,
        url=URL,
        official=OFFICIAL,
        notes=tuple(notes),
        kind="scene",
        labels=LABELS,
        follow_links=follow_links,
        spaces={scene.id: space_of(scene.id) for scene in scenes},
    )


def space_of(scene: str) -> str:
    """Return the space that a scan shows: several scans may show the same room."""
    return scene.split("_", maxsplit=1)[0]


def frame_folders(root: Path, scene: str) -> list[str]:
    """Return the folders, relative to the root, that may hold exported frames of a scene."""
    return [f"{place}/{scene}" for place in FRAMES if (root / place / scene).is_dir()]


def _scenes(root: Path) -> Iterator[tuple[str, str]]:
    """Yield (name, path below the root) of every scan, preferred places first."""
    for place in (*MESHES, *FRAMES):
        if (root / place).is_dir():
            for name in sorted(folders(root / place)):
                if _SCENE.fullmatch(name):
                    yield name, f"{place}/{name}" if place else name


def _split(scene: str) -> str:
    return "test" if int(scene[len("scene") :].split("_")[0]) >= FIRST_TEST else "train"


def _split_lists(root: Path) -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {}
    for folder in FOLDERS:
        if (root / folder).is_dir():
            for name in sorted(files(root / folder)):
                match = _SPLIT_LIST.fullmatch(name)
                if match and match[1] not in lists:
                    lists[match[1]] = [f"{folder}/{name}" if folder else name]
    return lists


def _scene_type(root: Path, path: str, follow_links: bool) -> str:
    """Return the type of a scan, "" if it is not known, as for the test set."""
    info = root / path / f"{Path(path).name}.txt"
    for line in read_about(info, root, follow_links).splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "sceneType":
            return value.strip()
    return ""


def _letters(name: str) -> str:
    """Return the letters of a type of scenes: the files' spaces, slashes and dots vary."""
    return "".join(filter(str.isalpha, name.lower()))


_CLASS_OF_TYPE = {_letters(name): name for name in SCENE_TYPES}


def _unscored(types: dict[str, str]) -> list[str]:
    """Return a note on scans of types that the benchmark does not score."""
    others = [kind for kind in types.values() if kind and _letters(kind) not in _CLASS_OF_TYPE]
    if not others:
        return []
    what = f"{len(others)} scans are of types that the benchmark does not score"
    return [f"{what}, such as {printable(min(others))}: they have no class"]


def _leaks(scenes: list[ShapeRecord]) -> list[str]:
    """Return a note on spaces that are in several splits; there are none in the official lists."""
    of_space: dict[str, set[str]] = {}
    for scene in scenes:
        of_space.setdefault(space_of(scene.id), set()).add(scene.split)
    shared = sorted(space for space, splits in of_space.items() if len(splits) > 1)
    if not shared:
        return []
    what = f"{len(shared)} spaces are in several splits, such as {shared[0]}"
    return [f"{what}: scans of the same room are trained on and tested"]
