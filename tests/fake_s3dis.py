"""Rooms in the layouts of S3DIS and of 2D-3D-S, made by the tests."""

import json

import numpy as np
from PIL import Image

from pointcmt.datasets.sources.s3dis import ROOMS

ALIGNED, SCANNED = "Stanford3dDataset_v1.2_Aligned_Version", "Stanford3dDataset_v1.2"
UUID = "0123456789abcdef0123456789abcdef"
SIZE = 12  # pixels of a frame's side
K = [[10.0, 0, SIZE / 2], [0, 10.0, SIZE / 2], [0, 0, 1]]
DOWN = np.diag([1.0, -1, -1, 1])  # a camera that looks down: its x is the world's, its y is -y


def room_points(seed=0, at=(3.0, -2.0, 0.5), size=(4.0, 3.0, 2.5)):
    """Points [M,6] by name of the annotation: floor, ceiling, two chairs, stairs."""
    rng = np.random.default_rng(seed)

    def part(low, high, count):
        xyz = np.array(at) + np.array(size) * rng.uniform(low, high, (count, 3))
        return np.hstack([np.round(xyz, 3), rng.integers(0, 256, (count, 3))])

    return {
        "ceiling_1": part((0, 0, 1), (1, 1, 1), 300),
        "chair_1": part((0.1, 0.1, 0), (0.2, 0.2, 0.4), 50),
        "chair_2": part((0.6, 0.6, 0), (0.7, 0.7, 0.4), 60),
        "floor_1": part((0, 0, 0), (1, 1, 0), 400),
        "stairs_1": part((0.8, 0.1, 0), (0.9, 0.3, 0.3), 40),
    }


def line_of(point, scanned=False):
    xyz = " ".join(f"{value:.3f}" for value in point[:3])
    return xyz + "".join(f" {value:.6f}" if scanned else f" {int(value)}" for value in point[3:])


def write_room(area, name, parts=None, scanned=False):
    """Write a room's annotations, and its own file, which no reader should open."""
    folder = area / name / "Annotations"
    folder.mkdir(parents=True, exist_ok=True)
    for part, points in (room_points() if parts is None else parts).items():
        text = "".join(f"{line_of(point, scanned)}\r\n" for point in points)
        (folder / f"{part}.txt").write_bytes(text.encode())
    (area / name / f"{name}.txt").write_text("not a line of numbers\n")
    return folder


def write_s3dis(root, rooms, scanned=False, angles=None):
    """Write rooms: names such as "Area_1/office_1". angles: of the scanned version, in degrees."""
    for room in rooms:
        area, name = room.split("/")
        write_room(root / area, name, scanned=scanned)
        (root / area / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    if scanned:
        for area in {room.split("/")[0] for room in rooms}:
            mine = [room.split("/")[1] for room in rooms if room.startswith(f"{area}/")]
            lines = [f"{name} {(angles or {}).get(f'{area}/{name}', 0)}" for name in mine]
            head = "## Global alignment angle per disjoint space ##\n# Name Angle\n"
            path = root / area / f"{area}_alignmentAngle.txt"
            path.write_text(head + "\n".join(lines) + "\n")
    return root


def whole_release(root):
    """Write empty folders of all rooms, as many per area as are published."""
    for area, count in ROOMS.items():
        for number in range(count):
            (root / f"Area_{area}/office_{number + 1}/Annotations").mkdir(parents=True)
    return root


def write_frame(root, part, room, number, camera_to_world, depth, uuid=UUID, **pose):
    """Write a frame of 2D-3D-S. part: "area_1", "area_5b", …; depth [H,W] as stored."""
    color = np.zeros((*depth.shape, 3), np.uint8)
    color[..., 0], color[..., 1] = number, np.arange(depth.shape[1])
    stem = f"camera_{uuid}_{room}_frame_{number}_domain"
    data = root / part / "data"
    for folder, image in (("rgb", color), ("depth", depth.astype(np.uint16))):
        (data / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(data / folder / f"{stem}_{folder}.png")
    (data / "pose").mkdir(exist_ok=True)
    rt = np.linalg.inv(camera_to_world)[:3].tolist()
    text = json.dumps({"camera_k_matrix": K, "camera_rt_matrix": rt, "frame_num": number, **pose})
    (data / f"pose/{stem}_pose.json").write_text(text)
