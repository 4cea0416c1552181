"""Find the frames of a room of S3DIS in 2D-3D-S, the same buildings with images.

Its folders `area_1`, …, `area_5a`, `area_5b`, `area_6` are looked for in the dataset's root and in
the root's subfolders. Conventions (README of github.com/alexsax/2D-3D-Semantics, and the data):

- depth is along the camera's z axis, in 1/512 m; 65535 means that it is missing;
- `camera_rt_matrix` [3,4] turns coordinates of the area into OpenCV's of the camera;
- `camera_k_matrix` has the pixel centers at half numbers, as docs/conventions.md has them.
"""

import re
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.sources.listing import folders
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.files import parse_json
from pointcmt.render.load.scenes.folder import SceneFolder
from pointcmt.render.load.scenes.images import decode_color, decode_depth, in_meters
from pointcmt.scenes import Frame, Image, is_rigid

MAX_POSE = 1 << 20  # bytes of a pose
METERS = 1 / 512  # per step of the stored depth
# Area 5 was scanned in two parts with different origins. S3DIS has both in the coordinates of 5a;
# this turns those of 5b into them. Pointcept's preprocess_s3dis.py has it for meshes, whose y axis
# points up: [[0,0,-1,-4.09703582], [0,1,0,0], [1,0,0,-6.22617759]]; poses and points have z up.
FROM_5B = np.array(
    [[0, 1, 0, -4.09703582], [-1, 0, 0, 6.22617759], [0, 0, 1, 0], [0, 0, 0, 1]], np.float64
)
_POSE = re.compile(r"camera_([0-9a-f]+)_+([A-Za-z]+_[0-9]+)_frame_([0-9]+)_domain_+pose\.json")


def read_frames(
    folder: SceneFolder, room: str, scanned: bool, notes: list[str]
) -> tuple[Frame, ...]:
    """Return a room's frames, sorted by camera and number; none if there are no images of its area.

    room: its folder, "…/Area_5/office_1". scanned: whether the room's points are as scanned, like
    the poses; frames do not fit the aligned version and are left out. The number of a frame is its
    place among all frames of the room, from 0. Frames that lack an image or have no valid pose are
    left out. Adds notes. Raises ShapeRefused if a folder is outside the root.
    """
    area, name = room.split("/")[-2:]
    parts = ["area_5a", "area_5b"] if area == "Area_5" else [area.lower()]
    places = [
        (f"{place}/{part}/data".removeprefix("/"), part.endswith("b"))
        for place in ("", *folders(folder.path))
        for part in parts
        if (folder.path / place / part / "data").is_dir()
    ]
    found = sorted(
        (match[1], int(match[3]), place, match[0], from_b)
        for place, from_b in places
        for match in map(_POSE.fullmatch, folder.names(f"{place}/pose"))
        if match and match[2] == name
    )
    if found and not scanned:
        notes.append(
            f"{len(found)} frames were left out: their poses are those of Stanford3dDataset_v1.2, "
            "not of the aligned version"
        )
        return ()
    frames, dropped = [], {"an image": 0, "a valid pose": 0}
    images = {place: _images(folder, place) for place in {entry[2] for entry in found}}
    for number, (_, _, place, pose, from_b) in enumerate(found):
        color, depth = (re.sub(r"pose\.json$", end, pose) for end in ("rgb.png", "depth.png"))
        if color not in images[place][0] or depth not in images[place][1]:
            dropped["an image"] += 1
            continue
        data = folder.read(f"{place}/pose/{pose}", MAX_POSE)
        camera = _camera(data)
        if camera is None:
            dropped["a valid pose"] += 1
            continue
        images_of_frame = f"{place}/rgb/{color}", f"{place}/depth/{depth}"
        for image in images_of_frame:
            folder.add_image(image)
        read = partial(_read_image, folder, *images_of_frame)
        frames.append(Frame(number, camera[0], FROM_5B @ camera[1] if from_b else camera[1], read))
    for what, count in dropped.items():
        if count:
            notes.append(f"{count} of {len(found)} frames were left out: they lack {what}")
    return tuple(frames)


def _images(folder: SceneFolder, place: str) -> tuple[set[str], set[str]]:
    return set(folder.names(f"{place}/rgb")), set(folder.names(f"{place}/depth"))


def _camera(data: bytes) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return (K [3,3], camera_to_world [4,4]) of a pose file; None if it has no valid ones."""
    try:
        pose = parse_json(data)
        K = np.array(pose["camera_k_matrix"], np.float64)
        world_to_camera = np.eye(4)
        world_to_camera[:3] = np.array(pose["camera_rt_matrix"], np.float64).reshape(3, 4)
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    if K.shape != (3, 3) or not np.isfinite(K).all() or not is_rigid(world_to_camera):
        return None
    return K, np.asarray(np.linalg.inv(world_to_camera), np.float64)


def _read_image(folder: SceneFolder, color_name: str, depth_name: str) -> Image:
    """Return a frame's image. Raises ShapeRefused if its files are damaged or do not fit."""
    color = decode_color(folder.read_image(color_name), color_name)
    depth = decode_depth(folder.read_image(depth_name), depth_name)
    if depth.shape != color.shape[:2]:
        what = f"{color_name} has {color.shape[:2]} pixels, its depth {depth.shape}"
        raise ShapeRefused(Reason.COUNT_MISMATCH, what)
    return Image(color, in_meters(depth, METERS))
