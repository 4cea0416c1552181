"""Random damage to scenes: they load, or are refused with a reason; nothing else happens."""

import random
import re

import pytest

from pointcmt.datasets.sources.frames import list_frames
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.scenes.frames import load_frames
from pointcmt.render.load.scenes.scannet import load_scannet
from tests.render.load.scenes import fake_scannet as f
from tests.render.load.scenes.recordings import WRITERS

ROUNDS = 40
WORDS = ["inf", "nan", "-1e308", "1e308", "0", "null", "[]", '"x"', "9" * 40, "1e-320", ""]


def survives(load):
    """Load a scene and read its frames; True unless it was refused for its content."""
    try:
        [frame.read() for frame in load().frames]
    except ShapeRefused as refused:
        if refused.reason == Reason.INTERNAL_ERROR:
            raise
        return False
    return True


def flipped(content, chance):
    """Bytes of which a few, near the beginning more often, are replaced."""
    content = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        most = chance.choice([400, len(content)])
        content[chance.randrange(min(most, len(content)))] = chance.choice([0, 127, 128, 255])
    return bytes(content)


def replaced(text, chance):
    """Text of which a few numbers are replaced by something else."""
    numbers = list(re.finditer(r"-?\d[\d.e+-]*", text))
    for match in sorted(chance.sample(numbers, min(2, len(numbers))), key=lambda m: -m.start()):
        text = text[: match.start()] + chance.choice(WORDS) + text[match.end() :]
    return text


@pytest.mark.parametrize("name", [".sens", "_vh_clean_2.ply", ".aggregation.json", ".txt"])
def test_damaged_files_of_scans(tmp_path, name):
    folder, chance = f.write_scan(tmp_path), random.Random(name)
    record = ShapeRecord("scene0001_00", None, "train", "scans/scene0001_00")
    path = folder / f"scene0001_00{name}"
    content = path.read_bytes()
    good = 0
    for _ in range(ROUNDS):
        if name in (".sens", "_vh_clean_2.ply"):
            path.write_bytes(flipped(content, chance))
        else:
            path.write_text(replaced(content.decode(), chance))
        good += survives(lambda: load_scannet(record, tmp_path))
    assert good < ROUNDS
    path.write_bytes(content)
    assert survives(lambda: load_scannet(record, tmp_path))


TEXTS = {
    "redwood": ("trajectory.log", "camera_intrinsic.json"),
    "exported": ("pose/000001.txt", "intrinsics_depth.txt", "intrinsics_color.txt"),
    "tum": ("groundtruth.txt", "depth.txt", "scene.json"),
    "transforms": ("transforms.json",),
}


@pytest.mark.parametrize("layout", TEXTS)
def test_damaged_texts_of_frames(tmp_path, layout):
    root, chance = WRITERS[layout](tmp_path / "room"), random.Random(layout)
    (record,) = list_frames("frames", root).shapes
    for name in TEXTS[layout]:
        content = (root / name).read_text()
        for _ in range(ROUNDS):
            (root / name).write_text(replaced(content, chance))
            survives(lambda: load_frames(record, root))
        (root / name).write_text(content)
    assert survives(lambda: load_frames(record, root))
