"""Folders of posed frames of the room, in each of the layouts and with its own conventions."""

import io
import json

import numpy as np
from PIL import Image

from tests.render.load.scenes.rooms import SIZE, K, show

INTEGER_K = K - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])  # first pixel's center at (0, 0)
UNTRACKED = np.full((4, 4), -np.inf)


def png(pixels):
    """The bytes of a PNG file, of 16 bits for depth."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def stored(depth, unit=0.001):
    """Depth in meters as steps of a depth image."""
    return np.rint(depth / unit).astype(np.uint16)


def matrix_text(matrix):
    """A matrix as exporters write it."""
    return "\n".join(" ".join(f"{value:.9f}" for value in row) for row in matrix) + "\n"


def _write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def write_images(folder, shown, color="color", first=0, digits=5, unit=0.001):
    """Write color/N.png and depth/N.png."""
    for number, frame in enumerate(shown, first):
        _write(folder / color / f"{number:0{digits}}.png", png(frame.color))
        _write(folder / "depth" / f"{number:0{digits}}.png", png(stored(frame.depth, unit)))


def log_text(poses):
    """A trajectory in Redwood's format."""
    rows = [f"{n} {n} {n + 1}\n{matrix_text(pose)}" for n, pose in enumerate(poses)]
    return "".join(rows)


def frames(count=4, **camera):
    """The first frames of the room."""
    return [show(index, **camera) for index in range(count)]


def write_redwood(folder, color="color", log="trajectory.log", first=0):
    """Redwood's layout, as Open3D uses it."""
    shown = frames()
    write_images(folder, shown, color, first)
    _write(folder / log, log_text([frame.camera_to_world for frame in shown]))
    camera = {"width": SIZE[0], "height": SIZE[1], "intrinsic_matrix": INTEGER_K.T.ravel().tolist()}
    _write(folder / "camera_intrinsic.json", json.dumps(camera))
    return folder


def write_exported(folder, digits=6, names="intrinsics_{}.txt", poses=None, **camera):
    """ScanNet's exported frames. camera: of color, see `rooms.show`."""
    shown = frames(**camera)
    write_images(folder, shown, digits=digits)
    poses = poses or [frame.camera_to_world for frame in shown]
    for number, pose in enumerate(poses):
        _write(folder / "pose" / f"{number:0{digits}}.txt", matrix_text(pose))
    for kind, lens in (("depth", K), ("color", camera.get("color_K", K))):
        matrix = np.eye(4)
        matrix[:3, :3] = lens
        matrix[:2, 2] -= 0.5
        _write(folder / names.format(kind), matrix_text(matrix))
    return folder


def quaternion(rotation):
    """The unit quaternion x y z w of a rotation [3,3]."""
    values, vectors = np.linalg.eigh(_davenport(rotation))
    return vectors[:, np.argmax(values)]


def _davenport(R):
    """The symmetric matrix whose largest eigenvector is the quaternion of a rotation."""
    skew = np.array([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]])
    matrix = np.empty((4, 4))
    matrix[:3, :3] = R + R.T - np.trace(R) * np.eye(3)
    matrix[:3, 3] = matrix[3, :3] = skew
    matrix[3, 3] = np.trace(R)
    return matrix


def write_tum(folder, late=0.01):
    """TUM RGB-D. late: seconds between a depth image, its color image and its pose."""
    lists = {"rgb": "# color\n", "depth": "# depth\n"}
    truth = "# timestamp tx ty tz qx qy qz qw\n"
    for index, frame in enumerate(frames()):
        time = 1305031102.0 + index
        for kind, content, shift in (
            ("rgb", png(frame.color), late),
            ("depth", png(stored(frame.depth, 1 / 5000)), 0.0),
        ):
            name = f"{kind}/{time + shift:.6f}.png"
            _write(folder / name, content)
            lists[kind] += f"{time + shift:.6f} {name}\n"
        numbers = [*frame.camera_to_world[:3, 3], *quaternion(frame.camera_to_world[:3, :3])]
        for shift in (-late, 0.3):  # the pose of another time must not be used
            values = " ".join(f"{value + (shift > 0):.9f}" for value in numbers)
            truth += f"{time + shift:.4f} {values}\n"
    for kind, text in lists.items():
        _write(folder / f"{kind}.txt", text)
    _write(folder / "groundtruth.txt", truth)
    lens = [INTEGER_K[0, 0], INTEGER_K[1, 1], INTEGER_K[0, 2], INTEGER_K[1, 2]]
    _write(folder / "scene.json", json.dumps({"K": lens}))
    return folder


def transforms_table(shown, scale=1.0, **common):
    """The value of transforms.json: OpenGL's camera axes, pixel centers at + 0.5."""
    rows = []
    for index, frame in enumerate(shown):
        pose = frame.camera_to_world @ np.diag([1, -1, -1, 1])
        pose[:3, 3] *= scale
        rows.append(
            {
                "file_path": f"color/{index:05}.png",
                "depth_file_path": f"./depth/{index:05}.png",
                "transform_matrix": pose.tolist(),
            }
        )
    lens = {"fl_x": K[0, 0], "fl_y": K[1, 1], "cx": K[0, 2], "cy": K[1, 2]}
    return {"w": SIZE[0], "h": SIZE[1], **lens, **common, "frames": rows}


def write_transforms(folder, change=lambda table: None, unit=0.001, **common):
    """nerfstudio's and instant-ngp's layout; `change` may edit the table."""
    shown = frames()
    write_images(folder, shown, unit=unit)
    table = transforms_table(shown, **common)
    change(table)
    _write(folder / "transforms.json", json.dumps(table))
    return folder


WRITERS = {
    "redwood": write_redwood,
    "exported": write_exported,
    "tum": write_tum,
    "transforms": write_transforms,
}
