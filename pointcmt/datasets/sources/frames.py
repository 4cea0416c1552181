"""Posed RGB-D frames: any tree of folders that hold color and depth images and camera poses.

Four layouts are recognized by the names in a folder (docs/datasets.md shows them):
`transforms.json` of nerfstudio and instant-ngp, TUM RGB-D, ScanNet's exported frames, and Redwood's
as Open3D uses it.
"""

import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from pointcmt.datasets.sources.listing import (
    SPLIT_FOLDERS,
    Listing,
    files,
    folders,
    is_inside,
    is_text,
    require_root,
    unrecognized,
)
from pointcmt.datasets.store.schema import ShapeRecord

OBTAIN = (
    "set --root to a folder of posed RGB-D frames, or to one that contains such folders; "
    "docs/datasets.md shows the layouts"
)
EXPECTED = (
    "transforms.json; rgb.txt, depth.txt and groundtruth.txt; or the folders color (or colors, "
    "image, rgb) and depth with a folder pose or a trajectory *.log"
)
TRANSFORMS = "transforms.json"
TUM_LISTS = ("rgb.txt", "depth.txt", "groundtruth.txt")
DEPTH, POSES = "depth", "pose"
COLORS = ("color", "colors", "image", "rgb")  # folders; the first one present is used
_TRAJECTORY = re.compile(r".*\.log|(?:.*[-_.])?traj(?:ectory)?\.txt", re.IGNORECASE)
MAX_DEPTH = 6  # levels of folders that are searched for scenes


class Layout(StrEnum):
    """How the frames of a scene are stored."""

    TRANSFORMS = "transforms.json"
    TUM = "TUM RGB-D"
    EXPORTED = "ScanNet export"
    REDWOOD = "Redwood"


def list_frames(dataset: str, root: Path | None, follow_links: bool = False) -> Listing:
    """List every folder of posed RGB-D frames below `root`, itself included, as a scene.

    A scene's id is its path below the root, and its split the first folder on that path that is
    named like one (default: train). Scenes have no class. Without `follow_links`, links to folders
    outside the root are left out with a note. Raises UsageError if there are no frames.
    """
    root = require_root(root, dataset, OBTAIN)
    found, left = _find_scenes(root, follow_links)
    names = [name for name in found if is_text(name)]
    notes = []
    if left:
        what = f"{len(left)} links to folders outside the root are not followed"
        notes.append(f"{what}, such as {left[0]} (see --follow-links)")
    if len(names) < len(found):
        notes.append(f"{len(found) - len(names)} folders ignored: their names are not valid UTF-8")
    if not names:
        raise unrecognized(root, EXPECTED, "; ".join([OBTAIN, *notes]))
    return Listing(
        name=dataset,
        root=root,
        shapes=tuple(_record(name, root) for name in sorted(names)),
        class_names=(),
        up="z",
        license="that of the files",
        url="",
        official=None,
        notes=tuple(notes),
        kind="scene",
        follow_links=follow_links,
    )


def layout_of(folder: Path) -> Layout | None:
    """Return the layout of the frames in a folder; None if it holds none. Raises OSError."""
    names, below = set(files(folder)), set(folders(folder))
    if TRANSFORMS in names:
        return Layout.TRANSFORMS
    if names.issuperset(TUM_LISTS):
        return Layout.TUM
    if DEPTH in below and below.intersection(COLORS):
        if POSES in below:
            return Layout.EXPORTED
        if trajectories(folder):
            return Layout.REDWOOD
    return None


def trajectories(folder: Path) -> list[str]:
    """Return the trajectory files of a scene in Redwood's layout, the preferred one first.

    `*.log`, or `livingroom1-traj.txt` and the like, as published; Open3D's reconstruction system
    writes its own into a subfolder `scene`.
    """
    names = sorted(name for name in files(folder) if _TRAJECTORY.fullmatch(name))
    names.sort(key=lambda name: name.lower() != "trajectory.log")
    scene = folder / "scene"
    if scene.is_dir() and "trajectory.log" in files(scene):
        names.append("scene/trajectory.log")
    return names


def _find_scenes(root: Path, follow_links: bool) -> tuple[list[str], list[str]]:
    """Return the scenes below the root as posix paths, and the links that are not followed."""
    found: list[str] = []
    left: list[str] = []
    seen: set[Path] = set()
    waiting = [(".", 0)]
    while waiting:
        name, level = waiting.pop()
        folder = root / name
        if not (follow_links or is_inside(folder, root)):
            left.append(name)
            continue
        try:
            real = folder.resolve()
            if real in seen:
                continue
            seen.add(real)
            if layout_of(folder):
                found.append(name)
            elif level < MAX_DEPTH:
                waiting += [(below, level + 1) for below in _below(name, folder)]
        except (OSError, RuntimeError):  # no permission, or links in a circle
            continue
    return found, sorted(left)


def _below(name: str, folder: Path) -> Iterator[str]:
    for each in sorted(folders(folder), reverse=True):
        yield each if name == "." else f"{name}/{each}"


def _record(name: str, root: Path) -> ShapeRecord:
    splits = [SPLIT_FOLDERS[part] for part in name.lower().split("/") if part in SPLIT_FOLDERS]
    own = root.resolve().name if name == "." else name
    return ShapeRecord(own or "scene", None, splits[0] if splits else "train", name)
