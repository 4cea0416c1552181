"""Recordings in three layouts: Redwood's (Open3D), TUM RGB-D's, ScanNet's exported frames.

All three count pixels from the center of the first one: half a pixel is added to cx and cy.
"""

import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.sources.frames import COLORS, DEPTH, POSES, TUM_LISTS, trajectories
from pointcmt.errors import Reason, ShapeRefused, printable
from pointcmt.render.load.scenes.folder import SceneFolder
from pointcmt.render.load.scenes.images import ColorCamera
from pointcmt.render.load.scenes.poses import (
    as_matrix,
    is_pose,
    nearest_time,
    parse_log,
    parse_matrix,
    parse_numbers,
    parse_tum,
)
from pointcmt.render.load.scenes.recording import Lens, Recording, Shot, shot_of_files
from pointcmt.render.load.scenes.sidecar import Sidecar, number

_IMAGES = (".jpg", ".jpeg", ".png", ".ppm")
_NUMBER = re.compile(r"\d+")
_MOST_DIGITS = 9  # of a frame's number, which is stored in 32 bits
_CAMERA_FILE = "camera_intrinsic.json"
_SYNCHRONOUS = 0.02  # seconds between an image and a pose that belong together (TUM's associate.py)
_TUM_UNIT = 1 / 5000  # meters per step
_VGA = (640, 480)
# What the TUM benchmark recommends for all of its sequences, and publishes for those of its third
# camera, whose images are undistorted (cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats).
_TUM_LENS, _TUM_LENS_3 = (525.0, 525.0, 319.5, 239.5), (535.4, 539.2, 320.1, 247.6)
# Where exporters write intrinsics: reader.py of ScanNet, scannet_frames_25k, others' tools.
_INTRINSICS = ("intrinsic/intrinsic_{}.txt", "intrinsics_{}.txt", "intrinsic_{}.txt")
_COMMON = ("intrinsics.txt", "intrinsic.txt")
_EXTRINSICS = ("intrinsic/extrinsic_{}.txt", "extrinsics_{}.txt", "extrinsic_{}.txt")


def redwood(folder: SceneFolder, sidecar: Sidecar) -> Recording:
    """Read color/ (or image/, rgb/), depth/, a trajectory and camera_intrinsic.json.

    The poses belong to the images in order, or, if there are more of them, to the images whose
    numbers their first integers are. Raises ShapeRefused.
    """
    images, notes = _numbered_images(folder)
    found = [sidecar.trajectory] if sidecar.trajectory else trajectories(folder.path)
    if len(found) > 1 and found[0].lower() != "trajectory.log":
        what = (
            f"several trajectories: {', '.join(map(printable, found[:4]))}; name one in scene.json"
        )
        raise ShapeRefused(Reason.UNKNOWN_FORMAT, what)
    if not found:
        raise ShapeRefused(Reason.MISSING_FILE, "no trajectory: expected a file *.log")
    entries = parse_log(folder.text(found[0]), found[0])
    if len(entries) == len(images):
        poses = dict(zip(sorted(images), (pose for _, pose in entries), strict=True))
    else:
        poses = dict(entries)
        if not images.keys() <= poses.keys():
            what = (
                f"{printable(found[0])} has {len(entries)} poses for {len(images)} images, and "
                "their numbers differ"
            )
            raise ShapeRefused(Reason.COUNT_MISMATCH, what)
        notes.append(f"{len(entries)} poses for {len(images)} images, matched by their numbers")
    lens = _given(sidecar) or _open3d_lens(folder)
    return Recording(
        shots=_shots(folder, images, poses),
        lens=lens,
        depth_unit=sidecar.depth_unit or 0.001,
        up=sidecar.up_axis("camera"),
        notes=tuple(notes),
    )


def tum(folder: SceneFolder, sidecar: Sidecar) -> Recording:
    """Read rgb.txt, depth.txt and groundtruth.txt: each depth image with what is nearest in time.

    Raises ShapeRefused.
    """
    color_list, depth_list, trajectory = TUM_LISTS
    times, poses = parse_tum(folder.text(trajectory), trajectory)
    colors = _timed_names(folder, color_list)
    color_times = np.array([time for time, _ in colors])
    shots, unmatched = [], 0
    for index, (time, depth) in enumerate(_timed_names(folder, depth_list)):
        color = nearest_time(color_times, time, _SYNCHRONOUS)
        pose = nearest_time(times, time, _SYNCHRONOUS)
        if color is None or pose is None:
            unmatched += 1
            continue
        shots.append(shot_of_files(folder, index, poses[pose], (colors[color][1], depth)))
    notes = []
    if unmatched:
        what = f"{unmatched} depth images left out: no color image or pose within"
        notes.append(f"{what} {_SYNCHRONOUS} s")
    third = "freiburg3" in folder.path.resolve().name.lower()
    lens = _given(sidecar)
    if lens is None:
        intrinsics = _TUM_LENS_3 if third else _TUM_LENS
        lens = Lens.of(intrinsics, _VGA)
        what = f"those that the benchmark recommends (fx {intrinsics[0]:g})"
        notes.append(f"the files hold no intrinsics: using {what}")
    unit = sidecar.depth_unit or _TUM_UNIT
    return Recording(tuple(shots), lens, unit, sidecar.up_axis("z"), notes=tuple(notes))


def exported(folder: SceneFolder, sidecar: Sidecar) -> Recording:
    """Read color/N.jpg, depth/N.png, pose/N.txt and the intrinsics of both cameras.

    Raises ShapeRefused.
    """
    images, notes = _numbered_images(folder)
    files = by_number(folder.names(POSES), (".txt",))
    without = images.keys() - files.keys()
    if without:
        notes.append(f"{len(without)} frames left out: they have no pose")
    poses = {
        key: parse_matrix(folder.text(f"{POSES}/{files[key]}"), f"{POSES}/{files[key]}")
        for key in sorted(images.keys() - without)
    }
    depth_K, color_K = _matrix(folder, "depth", notes), _matrix(folder, "color", notes)
    lens, camera = _given(sidecar), None
    if lens is None and depth_K is not None:
        lens = Lens(centered(depth_K))
    if lens is None:
        what = f"no intrinsics: expected {_INTRINSICS[0].format('depth')}, or K in scene.json"
        raise ShapeRefused(Reason.MISSING_FILE, what)
    rig = [_extrinsic(folder, kind, notes) for kind in ("depth", "color")]
    if color_K is not None and sidecar.intrinsics is None:
        camera = ColorCamera(centered(color_K), np.linalg.inv(rig[1]) @ rig[0])
    poses = {key: in_rig(pose, rig[0]) for key, pose in poses.items()}
    return Recording(
        shots=_shots(folder, {key: images[key] for key in poses}, poses),
        lens=lens,
        depth_unit=sidecar.depth_unit or 0.001,
        up=sidecar.up_axis("z"),
        color=camera,
        notes=tuple(notes),
    )


def in_rig(pose: NDArray[np.float64], rig: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the pose [4,4] of a camera from that of its rig; an invalid one as it is.

    rig: the camera's pose [4,4] in the rig.
    """
    return pose @ rig if np.isfinite(pose).all() else pose


def centered(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return K [3,3] with pixel centers at + 0.5 from a matrix [4,4] with integer ones."""
    K = matrix[:3, :3].copy()
    K[:2, 2] += 0.5
    return K


def _given(sidecar: Sidecar) -> Lens | None:
    return None if sidecar.intrinsics is None else Lens.of(sidecar.intrinsics)


def _matrix(folder: SceneFolder, kind: str, notes: list[str]) -> NDArray[np.float64] | None:
    """Return the matrix [4,4] of a camera's intrinsics; that of both if it has none of its own."""
    names = [*(name.format(kind) for name in _INTRINSICS), *(_COMMON if kind == "depth" else ())]
    for name in names:
        if folder.has(name):
            return parse_matrix(folder.text(name), name)
    return None


def _extrinsic(folder: SceneFolder, kind: str, notes: list[str]) -> NDArray[np.float64]:
    """Return the pose [4,4] of a camera in the rig, whose pose in the scene pose/ holds."""
    for name in (name.format(kind) for name in _EXTRINSICS):
        if folder.has(name):
            matrix = parse_matrix(folder.text(name), name)
            if is_pose(matrix):
                return matrix
            notes.append(f"{name} is not a rigid transform: taken as the identity")
    return np.eye(4)


def _open3d_lens(folder: SceneFolder) -> Lens:
    """Return the lens in camera_intrinsic.json: width, height, and K column by column."""
    if not folder.has(_CAMERA_FILE):
        what = (
            f"{_CAMERA_FILE} is missing: write it, or K in scene.json (the depth cameras of the "
            "Redwood data sets have fx 525, fy 525, cx 319.5, cy 239.5)"
        )
        raise ShapeRefused(Reason.MISSING_FILE, what)
    table = folder.json(_CAMERA_FILE)
    values = table.get("intrinsic_matrix") if isinstance(table, dict) else None
    if not isinstance(table, dict) or not isinstance(values, list) or len(values) != 9:
        what = f"{_CAMERA_FILE} must have width, height and an intrinsic_matrix of 9 numbers"
        raise ShapeRefused(Reason.BAD_SYNTAX, what)
    numbers = [number(value, f"{_CAMERA_FILE}: intrinsic_matrix") for value in values]
    K = as_matrix(numbers, _CAMERA_FILE)[:3, :3].T
    if K[0, 2] == K[1, 2] == 0:  # row by row, as by hand
        K = K.T
    width, height = (
        number(table.get(key), f"{_CAMERA_FILE}: {key}") for key in ("width", "height")
    )
    if not (width >= 1 and height >= 1):
        raise ShapeRefused(Reason.BAD_SYNTAX, f"{_CAMERA_FILE}: width and height must be positive")
    return Lens(centered(K), (round(width), round(height)))


def _shots(
    folder: SceneFolder,
    images: dict[int, tuple[str, str]],
    poses: dict[int, NDArray[np.float64]],
) -> tuple[Shot, ...]:
    return tuple(shot_of_files(folder, key, poses[key], images[key]) for key in sorted(images))


def _numbered_images(folder: SceneFolder) -> tuple[dict[int, tuple[str, str]], list[str]]:
    """Return the names of color and depth images by frame number, and notes on unpaired ones."""
    place = next((name for name in COLORS if folder.names(name)), COLORS[0])
    color = by_number(folder.names(place), _IMAGES)
    depth = by_number(folder.names(DEPTH), _IMAGES)
    both = color.keys() & depth.keys()
    if not both:
        what = f"no frame has images in both {place} and {DEPTH}"
        raise ShapeRefused(Reason.MISSING_FILE, what)
    notes = []
    if len(both) < len(color.keys() | depth.keys()):
        what = f"{len(color) - len(both)} color and {len(depth) - len(both)} depth images left out"
        notes.append(f"{what}: the other image of their frame is missing")
    return {key: (f"{place}/{color[key]}", f"{DEPTH}/{depth[key]}") for key in both}, notes


def by_number(names: Iterable[str], suffixes: tuple[str, ...]) -> dict[int, str]:
    """Return file names by the first integer in them. Raises ShapeRefused if two have the same."""
    found: dict[int, str] = {}
    for name in names:
        match = _NUMBER.search(name)
        if not match or not name.lower().endswith(suffixes):
            continue
        if len(match[0].lstrip("0")) > _MOST_DIGITS:
            what = f"the frame number of {printable(name)} has more than {_MOST_DIGITS} digits"
            raise ShapeRefused(Reason.UNKNOWN_FORMAT, what)
        other = found.setdefault(int(match[0]), name)
        if other != name:
            what = f"two files have the same frame number: {printable(other)}, {printable(name)}"
            raise ShapeRefused(Reason.UNKNOWN_FORMAT, what)
    return found


def _timed_names(folder: SceneFolder, name: str) -> list[tuple[float, str]]:
    """Return (seconds, file name) of each line of TUM's lists, in the order of time."""
    found = []
    for count, line in enumerate(folder.text(name).splitlines(), 1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        if len(words) != 2:
            what = f"{name}, line {count}: expected a timestamp and a file name"
            raise ShapeRefused(Reason.BAD_SYNTAX, what)
        found.append((parse_numbers(words[0], f"{name}, line {count}")[0], words[1]))
    return sorted(found)
