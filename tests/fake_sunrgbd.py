"""Frames in the layouts of SUN RGB-D: as released, and as VoteNet's scripts extract them."""

import io
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

H, W = 24, 32
SERVER = "/n/fs/sun3d/data/"
META = {1: "SUNRGBDtoolbox/Metadata/SUNRGBDMeta.mat", 2: "SUNRGBDMeta3DBB_v2.mat"}
LABELS = {1: "label_v1", 2: "label"}
# class, centroid, coeffs, orientation
CHAIR = ("chair", (0.5, 2.0, -0.6), (0.3, 0.4, 0.5), (0.0, 1.0))


def rotation(pitch=0.2, roll=0.05):
    """Rtilt of a camera that looks down by `pitch`, in radians."""
    cp, sp, cr, sr = np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    return np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]]) @ np.array(
        [[cr, 0, sr], [0, 1, 0], [-sr, 0, cr]]
    )


def some_depth(seed=0):
    """Depth [H,W] in millimeters, 0 in a tenth of the pixels."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random((H, W)) < 0.1, 0, rng.integers(500, 7000, (H, W)))


@dataclass
class FakeFrame:
    """K counts pixels from 1, as the release does."""

    folder: str = "kv2/kinect2data/000001_2014-05-26_14-23-37_resize"
    millimeters: NDArray[np.int64] = field(default_factory=some_depth)
    K: NDArray[np.float64] = field(
        default_factory=lambda: np.array([[30.0, 0, 17.25], [0, 31, 12.5], [0, 0, 1]])
    )
    tilt: NDArray[np.float64] = field(default_factory=rotation)
    boxes: tuple = (CHAIR,)
    seed: int = 0
    scene: str = ""  # its type; "" = without a file

    def jpeg(self):
        colors = np.random.default_rng(self.seed).integers(0, 256, (H // 8, W // 8, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(colors.repeat(8, 0).repeat(8, 1)).save(file, "JPEG", quality=95)
        return file.getvalue()

    def colors(self):
        return np.asarray(Image.open(io.BytesIO(self.jpeg())))

    def table(self):
        """The points [N,6] of the toolbox's read3dPoints: column by column, colors from 0 to 1."""
        column, row = (n + 1.0 for n in np.meshgrid(np.arange(W), np.arange(H)))
        depth = np.minimum(self.millimeters / 1000, 8)
        x = (column - self.K[0, 2]) * depth / self.K[0, 0]
        y = (row - self.K[1, 2]) * depth / self.K[1, 1]
        points = np.stack([x, depth, -y], axis=-1).transpose(1, 0, 2).reshape(-1, 3)
        colors = self.colors().transpose(1, 0, 2).reshape(-1, 3) / 255
        return np.hstack([points @ self.tilt.T, colors])[points[:, 1] > 0]


def structs(elements):
    """A struct array of dicts with the same keys, as MATLAB stores one."""
    array = np.empty((1, len(elements)), [(name, object) for name in elements[0]])
    for i, element in enumerate(elements):
        for name, value in element.items():
            array[name][0, i] = value
    return array


def write_release(root, frames, version=1, prefix=SERVER + "SUNRGBD/"):
    """Write frames, and the list of them with boxes of a version."""
    for frame in frames:
        folder = root / "SUNRGBD" / frame.folder
        for name in ("image", "depth_bfx"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        if frame.scene:
            (folder / "scene.txt").write_text(frame.scene)
        (folder / "image/0001.jpg").write_bytes(frame.jpeg())
        bits = frame.millimeters.astype(np.uint16)
        Image.fromarray(bits << 3 | bits >> 13).save(folder / "depth_bfx/0001.png")
    path = root / META[version]
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = structs([_meta(frame, prefix) for frame in frames])
    savemat(path, {"SUNRGBDMeta": meta}, do_compression=True)
    return root


def _meta(frame, prefix):
    boxes = [
        {
            "basis": np.eye(3),
            "coeffs": np.array([coeffs]),
            "centroid": np.array([center]),
            "classname": name,
            "orientation": np.array([[*heading, 0.0]]),
            "label": np.array([[1.0]]),
        }
        for name, center, coeffs, heading in frame.boxes
    ]
    place = prefix + frame.folder
    return {
        "sequenceName": place,
        "Rtilt": frame.tilt,
        "K": frame.K,
        "depthpath": f"{place}/depth_bfx/0001.png",
        "rgbpath": f"{place}/image/0001.jpg",
        "valid": np.array([[1]], np.uint8),
        "groundtruth3DBB": structs(boxes) if boxes else np.zeros((0, 0)),
    }


def write_extraction(root, frames, version=1, lists=True):
    """Write frames by number as VoteNet's scripts do. Frames from 5051 on are train frames."""
    base = root / "sunrgbd_trainval"
    for folder in ("depth", "image", "calib", LABELS[version]):
        (base / folder).mkdir(parents=True, exist_ok=True)
    for number, frame in frames.items():
        name = f"{number:06d}"
        savemat(base / f"depth/{name}.mat", {"instance": frame.table()}, do_compression=True)
        (base / f"image/{name}.jpg").write_bytes(frame.jpeg())
        lines = [" ".join(f"{v:f}" for v in m.ravel("F")) for m in (frame.tilt, frame.K)]
        (base / f"calib/{name}.txt").write_text("\n".join(lines) + "\n")
        with open(base / LABELS[version] / f"{name}.txt", "w") as file:
            for kind, *numbers in frame.boxes:
                values = " ".join(f"{value:f}" for part in numbers for value in part)
                file.write(f"{kind} 10 20 30 40 {values}\n")
    for split, is_test in (("train", False), ("val", True)) if lists else ():
        mine = [str(number) for number in frames if (number <= 5050) == is_test]
        (base / f"{split}_data_idx.txt").write_text("\n".join(mine) + "\n" * bool(mine))
    return root
