"""`predict` with a run that detects boxes: stores, anyone's scans, and files for benchmarks."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image
from typer.testing import CliRunner

import pointcmt as pc
from pointcmt.api.benchmark_boxes import encode_mmdet3d, encode_votenet, in_benchmark
from pointcmt.api.predicted import PredictedBoxes
from pointcmt.api.predictions import Prediction, Predictions
from pointcmt.api.targets import require_file_names
from pointcmt.cli import app
from pointcmt.datasets.sources.scannet import list_scannet
from pointcmt.datasets.sources.sunrgbd import list_sunrgbd
from pointcmt.training.evaluation.prediction import open_predictor
from pointcmt.training.loop import train
from pointcmt.training.ops.detection.scores import Detections
from pointcmt.training.ops.detection.selection import likeliest
from tests.fake_sunrgbd import CHAIR, FakeFrame, write_extraction
from tests.render.load.scenes import fake_scannet
from tests.scene_stores import CONFIG, render_rooms
from tests.stores import render_scenes
from tests.training.detectors import GUESSING, config, small_networks

CPU = {"device": "cpu"}
TINY = {"frames": 1, "height": 24, "width": 32, "points": 1000}


@pytest.fixture(scope="module", autouse=True)
def _small_networks():
    with small_networks():
        yield


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    out = tmp_path_factory.mktemp("boxes") / "S"
    return render_rooms(out, count=5, config=replace(CONFIG, frames=6, voxel=0.1))


@pytest.fixture(scope="module")
def run(rooms, tmp_path_factory):
    """A run whose network guesses."""
    folder = tmp_path_factory.mktemp("boxes") / "run"
    settings = (f"model.headings={GUESSING}", "model.proposals=64", "data.color=true")
    train(rooms, config(*settings, epochs=1), folder, device="cpu")
    return folder


@pytest.fixture(scope="module")
def scannet(tmp_path_factory):
    """A store of three scans of ScanNet with an alignment."""
    root = tmp_path_factory.mktemp("scannet") / "root"
    for number in range(3):
        fake_scannet.write_scan(root, f"scene{number:04d}_00", frames=False)
    return render_scenes(list_scannet("scannet", root), root.parent / "N", **TINY)


def into_json(command):
    done = CliRunner().invoke(app, ["predict", *map(str, command), "--device", "cpu", "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout.splitlines()[-1])


def test_boxes_of_a_store_are_those_that_evaluation_scores(run, rooms):
    report = pc.evaluate(run, data=rooms.path, **CPU)
    found = pc.predict(run, rooms.path, min_score=0.5, **CPU)
    assert [scene.id for scene in found.shapes] == [f"rooms/{n}" for n in range(5)]
    boxes, (scored,) = found.shapes[0].boxes, report.found
    best = likeliest(scored)
    kept = best.score > 0.5
    assert 0 < kept.sum() < len(kept)
    assert np.array_equal(boxes.boxes, best.boxes[kept])
    assert np.array_equal(boxes.score, best.score[kept].astype(np.float32))
    assert (np.diff(boxes.score) <= 0).all()
    fewer = pc.predict(run, rooms.path, split="test", **CPU).shapes[0].boxes
    assert len(fewer.label) == np.sum(best.score > 0.3)


def test_points_in_no_store_are_detected_as_those_of_a_store(run, rooms):
    predictor = open_predictor(run, "best", 1, "cpu")
    (batch,) = predictor.of_store(rooms, np.arange(1))
    channels = {"color": rooms.read("color", 0)}
    found = predictor.of_points(rooms.read("points", 0), channels), predictor.detect(batch)
    assert all(np.array_equal(*pair) for pair in zip(*map(vars_of, found), strict=True))


def vars_of(detections):
    return detections.boxes, detections.label, detections.score


def test_boxes_of_a_scan_are_in_its_own_coordinates(run, rooms):
    """Wherever it stands, and whatever axis points up in it."""
    points, colors = rooms.read("points", 0).astype(np.float64), rooms.read("color", 0) / 255
    turn = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])  # z up → y up
    shift = np.array([30.0, -20.0, 1.5])
    scans = [
        (points, "z"),
        (points + shift, "z"),
        ((points + shift) @ turn.T, "y"),
    ]
    clouds = [pc.Cloud(places, colors=colors) for places, _ in scans]
    plain, moved, turned = (
        pc.predict(run, cloud, up=up, **CPU).shapes[0].boxes
        for cloud, (_, up) in zip(clouds, scans, strict=True)
    )
    assert len(plain.label) > 3
    low, high = points.min(axis=0), points.max(axis=0)
    assert (plain.boxes[:, :3] > low).all()
    assert (plain.boxes[:, :3] < high).all()
    for found, back in ((moved, np.eye(3)), (turned, turn)):
        assert found.corners @ back - shift == pytest.approx(plain.corners, abs=1e-4)
        assert found.boxes[:, :3] == pytest.approx(found.corners.mean(axis=1))
        assert found.boxes[:, 3:] == pytest.approx(plain.boxes[:, 3:])


def test_files_tell_the_boxes_and_do_not_change(run, rooms, tmp_path):
    out = tmp_path / "P"
    facts = into_json([run, rooms.path, "--out", out])
    found = pc.predict(run, rooms.path, **CPU)
    assert json.loads((out / "predictions.json").read_text()) == facts == found.as_json()
    rows = list(csv.DictReader(io.StringIO((out / "predictions.csv").read_text())))
    assert len(rows) == sum(len(scene.boxes.label) for scene in found.shapes) > 0
    first = found.shapes[0].boxes
    for row, told, box in zip(rows, facts["predictions"][0]["boxes"], first.boxes, strict=False):
        numbers = [float(row[name]) for name in ("x", "y", "z", "dx", "dy", "dz", "yaw")]
        assert (row["id"], row["class"]) == ("rooms/0", "block")
        assert numbers == pytest.approx(box, abs=1e-4)
        assert [*told["center"], *told["size"], told["yaw"]] == numbers
        assert told["score"] == float(row["score"])
    for scene in found.shapes:
        mesh = trimesh.load(out / f"boxes/{scene.id.replace('/', '_')}.ply", process=False)
        assert np.array_equal(mesh.vertices, scene.boxes.corners.reshape(-1, 3).astype(np.float32))
        volumes = [part.volume for part in mesh.split()]
        assert np.sum(volumes) == pytest.approx(scene.boxes.boxes[:, 3:6].prod(axis=1).sum())
    for name in ("predictions.png", "boxes/frames.png"):
        with Image.open(out / name) as picture:
            assert picture.size[0] > 600
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    pc.predict(run, rooms.path, out=out, **CPU)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def as_predictions(scene, detections, names):
    """Predictions of a scene with all detections."""
    boxes = PredictedBoxes(names, np.zeros((0, 7)), *3 * [np.zeros(0, int)], detections)
    shape = Prediction(scene, "S", None, boxes=boxes)
    return Predictions("R", "detect", "best", 1, "boxes", names, (shape,), (), (), 3)


def corners_of(line):
    """Class, score and the eight corners of a line, in coordinates with z up."""
    label, numbers, score = line.split()
    x, down, forward = np.array(numbers.split(","), float).reshape(8, 3).T
    return int(label), float(score), np.stack([x, forward, -down], axis=1)


def test_true_boxes_of_scannet_are_written_where_its_files_have_them(scannet):
    """Axis-aligned around the objects of the room, in the coordinates of the alignment."""
    names = ("chair", "cabinet", "table", "otherfurniture")  # in an order of its own
    stored = [scannet.box_names[label] for label in scannet.read("box_label", 0).tolist()]
    label = np.array([names.index(name) for name in stored])
    detections = Detections(scannet.read("boxes", 0), label, np.full(len(label), 0.25))
    found = as_predictions("scene0001_00", in_benchmark(scannet, 0, detections, names), names)
    ((name, text),) = encode_votenet(found)
    assert name == "scene0001_00_pred_map_cls.txt"
    lines = [corners_of(line) for line in text.decode().splitlines()]
    numbers = {
        "office chair": 2,
        "coffee table": 4,
        "trash can": 17,
    }  # VoteNet's, of nyu40 5, 7, 39
    objects = {numbers[raw]: (low, high) for _, raw, low, high in fake_scannet.OBJECTS[1:]}
    assert {label for label, _, _ in lines} == {*objects}
    for label, score, corners in lines:
        low, high = objects[label]
        assert score == 0.25
        assert corners.min(axis=0) == pytest.approx(low, abs=1e-4)
        assert corners.max(axis=0) == pytest.approx(high, abs=1e-4)
        # As VoteNet's box3d_iou takes them: the first four are the bottom, in one turn.
        assert corners[:4, 2] == pytest.approx(low[2], abs=1e-4)
        sides = np.linalg.norm(np.diff(corners[:4, :2], axis=0), axis=1)
        assert sides[0] == pytest.approx(sides[2])
    ((name, text),) = encode_mmdet3d(found)
    result = json.loads(text)
    assert (name, result["box_type_3d"]) == ("preds/scene0001_00.json", "Depth")
    for label, box in zip(result["labels_3d"], result["bboxes_3d"], strict=True):
        low, high = map(np.array, objects[label])
        assert box[:3] == pytest.approx([*(low + high)[:2] / 2, low[2]], abs=1e-4)  # of the bottom
        assert box[3:6] == pytest.approx(high - low, abs=1e-4)


def test_true_boxes_of_sun_rgbd_are_written_where_its_files_have_them(tmp_path):
    """Turned by a heading; the camera is at the origin there, the floor of a store at z = 0."""
    _, center, (across, along, up), _ = CHAIR
    frame = FakeFrame(boxes=(("chair", center, (across, along, up), (0.6, 0.8)),))
    write_extraction(tmp_path / "root", {5051: frame})
    store = render_scenes(list_sunrgbd("sunrgbd", tmp_path / "root"), tmp_path / "D", **TINY)
    detections = Detections(store.read("boxes", 0), np.array([0]), np.ones(1))
    found = as_predictions("005051", in_benchmark(store, 0, detections, ["chair"]), ("chair",))
    ((_, text),) = encode_votenet(found)
    label, _, corners = corners_of(text.decode())
    assert label == 3
    assert corners.mean(axis=0) == pytest.approx(center, abs=1e-4)
    front = corners[[0, 1]].mean(axis=0)[:2] - np.array(center[:2])
    assert front == pytest.approx(along * np.array([0.6, 0.8]), abs=1e-4)
    ((_, text),) = encode_mmdet3d(found)
    (box,) = json.loads(text)["bboxes_3d"]
    assert box[:3] == pytest.approx([*center[:2], center[2] - up], abs=1e-4)
    assert box[3:] == pytest.approx([2 * along, 2 * across, 2 * up, np.arctan2(0.8, 0.6)], abs=1e-4)


@pytest.fixture(scope="module")
def of_scannet(scannet, tmp_path_factory):
    """A run on ScanNet."""
    folder = tmp_path_factory.mktemp("scannet") / "A"
    train(scannet, config("data.validation=0.3", epochs=1), folder, device="cpu")
    return folder


def test_one_command_writes_the_files_of_a_benchmark(scannet, of_scannet, tmp_path):
    scans = [shape.id for shape in scannet.shapes]
    for layout, names in (
        ("votenet", [f"{scan}_pred_map_cls.txt" for scan in scans]),
        ("mmdet3d", [f"preds/{scan}.json" for scan in scans]),
    ):
        out = tmp_path / layout
        pc.predict(of_scannet, scannet.path, layout=layout, out=out, **CPU)
        files = sorted(path for path in (out / layout).rglob("*") if path.is_file())
        assert [str(path.relative_to(out / layout)) for path in files] == names
    found = json.loads(files[0].read_text())
    assert len(found["labels_3d"]) == len(found["scores_3d"]) == len(found["bboxes_3d"])
    assert {*found["labels_3d"]} == {*range(18)}  # every box as every class, for their ranking


def test_an_alignment_that_is_gone_is_not_replaced_by_a_guess(scannet, of_scannet, tmp_path):
    root = Path(scannet.attributes["source"]["root"])
    moved = root.rename(root.with_name("moved"))
    with pytest.raises(pc.StoreError, match="axis alignment of scene0000_00"):
        pc.predict(of_scannet, scannet.path, layout="votenet", out=tmp_path / "Q", **CPU)
    moved.rename(root)
    (told,) = (root / scannet.shapes[0].source).glob("scene0000_00.txt")
    before = told.read_text()
    told.write_text("axisAlignment = 1 0 x\n")
    with pytest.raises(pc.StoreError, match="axis alignment of scene0000_00"):
        pc.predict(of_scannet, scannet.path, layout="votenet", out=tmp_path / "Q", **CPU)
    told.write_text(before)


def test_what_cannot_be_meant_is_refused(scannet, of_scannet, run, rooms, tmp_path):
    own = of_scannet, scannet.path
    for arguments, options, says in (
        ((run, rooms.path), {}, "those of a store of ScanNet or SUN RGB-D"),
        ((run, scannet.path), {}, "classes that the benchmark does not have: block"),
        ((*own, scannet.path), {}, "is there twice"),
        (own, {"out": tmp_path / "p.csv"}, "written into a folder"),
        (own, {"layout": "scannet"}, "which this run does not predict"),
        (own, {"votes": 2}, "votes are not available for boxes"),
        (own, {"min_score": 1.5}, "out of range"),
        (own, {"class_name": "chair"}, "boxes of scenes have classes of their own"),
    ):
        given = {"layout": "votenet", "out": tmp_path / "R", **options}
        with pytest.raises(pc.UsageError, match=says):
            pc.predict(*arguments, **given, **CPU)
    assert not (tmp_path / "R").exists()


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "..\\x", "C:x"])
def test_scans_whose_names_lead_out_of_the_folder_are_refused(name):
    require_file_names(["scene0000_00", "a/b"], "file")
    with pytest.raises(pc.UsageError, match="cannot be the name of a file"):
        require_file_names([name], "file")
