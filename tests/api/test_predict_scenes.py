"""`predict` with a run that segments scenes: stores, anyone's scans, and ScanNet's benchmark."""

import csv
import io
import json
import shutil
from functools import partial

import numpy as np
import pytest
import trimesh
from PIL import Image
from typer.testing import CliRunner

import pointcmt as pc
from pointcmt.cli import app
from pointcmt.datasets.sources.frames import list_frames
from pointcmt.datasets.sources.scannet import CLASSES, NAMES, list_scannet
from pointcmt.training.networks.backbones import DENSE
from pointcmt.training.networks.backbones.sparse_unet import DenseSparseUNet
from pointcmt.training.runs.folder import open_run
from pointcmt.training.runs.splits import split_shapes
from tests.render.load.scenes import fake_scannet as fake
from tests.render.load.scenes.recordings import write_exported
from tests.stores import render_scenes
from tests.training.networks.test_sparse_backbones import SMALL

CPU = {"device": "cpu"}
NAME = "sparse-unet-tiny"
SCANS = [f"scene{number:04d}_00" for number in range(3)]
HIDDEN = "scene0707_00"  # without labels and alignment
NYU40 = np.array([*CLASSES])
TINY = {"frames": 1, "height": 8, "width": 8, "points": 2000}


@pytest.fixture(scope="module", autouse=True)
def _small_unet():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DENSE, NAME, partial(DenseSparseUNet, config=SMALL))
        yield


@pytest.fixture(scope="module")
def scannet(tmp_path_factory):
    """ScanNet with three labeled scans and one of the hidden test set."""
    root = tmp_path_factory.mktemp("scannet")
    for name in SCANS:
        fake.write_scan(root, name, frames=False)
    folder = fake.write_scan(root, HIDDEN, place="scans_test", labeled=False, frames=False)
    shutil.copy(folder / f"{HIDDEN}_vh_clean_2.ply", folder / f"{HIDDEN}_vh_clean.ply")
    return root


@pytest.fixture(scope="module")
def store(scannet, tmp_path_factory):
    out = tmp_path_factory.mktemp("scannet") / "N"
    return render_scenes(list_scannet("scannet", scannet), out, **TINY)


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    """A run that reads colors and normals."""
    out = tmp_path_factory.mktemp("scannet") / "A"
    small = {"model__backbone": NAME, "data__voxel": 0.3, "data__crop": 0, "data__batch_size": 2}
    more = {"data__validation": 0.3, "data__normals": True, "schedule__warmup": 0}
    more["data__labeled_points"] = 100
    pc.train("semseg", data=store.path, out=out, epochs=3, **small, **more, **CPU)
    return out


def mesh_of(root, name, place="scans"):
    return root / place / name / f"{name}_vh_clean_2.ply"


def test_the_points_of_a_store_get_the_classes_that_evaluation_counts(run, store):
    report = pc.evaluate(run, data=store.path, split="train", **CPU)
    found = pc.predict(run, store.path, split="train", **CPU)
    assert [scene.id for scene in found.shapes] == SCANS
    for number, scene in enumerate(found.shapes):
        points, stored = scene.points, store.read("semantic", number)
        assert np.array_equal(points.true, stored)
        assert points.correct == np.sum(points.labels == stored)
        assert points.labeled == np.sum(stored >= 0) < len(stored)
        counts = np.bincount(points.labels, minlength=20).tolist()
        assert points.counts == dict(zip(NAMES, counts, strict=True))
        pose = store.read("source_to_world", number)
        world = points.points @ pose[:3, :3].T + pose[:3, 3]
        assert np.allclose(world, store.read("points", number), atol=1e-5)
        assert 1 / 20 <= points.score.min() <= points.score.max() <= 1
    learned = split_shapes(store, open_run(run).config.data).train.tolist()
    trained = [found.shapes[number].points for number in learned]
    share = sum(p.correct for p in trained) / sum(p.labeled for p in trained)
    assert report.measures["overall_accuracy"] == share


def test_every_vertex_of_a_scan_gets_the_class_of_its_point_in_the_store(run, store, scannet):
    """Predicting a file of the test set is predicting the store, in the order of the file."""
    of_store = pc.predict(run, store.path, split="test", **CPU).shapes[0]
    of_file = pc.predict(run, mesh_of(scannet, HIDDEN, "scans_test"), **CPU).shapes[0]
    assert (of_file.id, of_file.true, of_file.points.true) == (HIDDEN, None, None)
    vertices = np.asarray(
        trimesh.load(mesh_of(scannet, HIDDEN, "scans_test"), process=False).vertices
    )
    assert np.array_equal(of_file.points.points, vertices.astype(np.float32))
    assert of_file.points.source.tolist() == [*range(len(vertices))]
    assert len(of_store.points.labels) == len(vertices)
    # Each stored point is a vertex: the rows of both, as sets of places with label and score.
    assert _rows(of_store.points) == _rows(of_file.points)
    assert len(set(of_file.points.labels.tolist())) > 1


def _rows(points):
    places = np.round(points.points.astype(np.float64), 4) + 0.0
    return sorted(zip(map(tuple, places), points.labels, points.score, strict=True))


def test_label_files_for_the_benchmark_have_a_line_for_each_vertex(run, store, scannet, tmp_path):
    for target, out in ((scannet / "scans_test", "F"), (store.path, "S")):
        words = [run, target, "--split", "test", "--layout", "scannet", "--out", tmp_path / out]
        done = CliRunner().invoke(app, ["predict", *map(str, words), "--device", "cpu", "--json"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout.splitlines()[-1])["shapes"] == 1
        (file,) = (tmp_path / out / "scannet").iterdir()
        assert file.name == f"{HIDDEN}.txt"
    written = [(tmp_path / out / f"scannet/{HIDDEN}.txt").read_text() for out in "FS"]
    assert written[0] == written[1]
    found = pc.predict(run, mesh_of(scannet, HIDDEN, "scans_test"), **CPU).shapes[0].points
    assert [int(line) for line in written[0].splitlines()] == NYU40[found.labels].tolist()
    with np.load(tmp_path / f"S/scenes/{HIDDEN}.npz") as arrays:
        assert np.array_equal(arrays["label"], found.labels)
        assert np.array_equal(arrays["source"], np.arange(len(found.labels)))


def test_vertices_that_a_store_has_no_room_for_have_labels_too(run, tmp_path):
    """Also those that no face uses; the mesh is moved as the scene of the store was."""
    root = tmp_path / "scannet"
    folder = fake.write_scan(root, SCANS[0], frames=False)
    vertices, faces, _ = fake.room_mesh()
    more = np.random.default_rng(0).uniform(vertices.min(axis=0), vertices.max(axis=0), (300, 3))
    data = fake.ply(fake.into_file(np.concatenate([vertices, more])), faces)
    mesh_of(root, SCANS[0]).write_bytes(data)
    for name in folder.glob("*.json"):
        name.unlink()  # labels of other vertices
    small = render_scenes(list_scannet("scannet", root), tmp_path / "N", **{**TINY, "points": 200})
    assert len(small.read("points", 0)) == 200 < len(vertices)
    (scene,) = pc.predict(run, small.path, layout="scannet", out=tmp_path / "P", **CPU).shapes
    assert np.allclose(scene.points.points[: len(vertices)], fake.into_file(vertices), atol=1e-5)
    lines = (tmp_path / f"P/scannet/{SCANS[0]}.txt").read_text().splitlines()
    assert [int(line) for line in lines] == NYU40[scene.points.labels].tolist()
    assert len(lines) == len(vertices) + len(more)


def test_files_hold_the_labels_and_do_not_change(run, store, tmp_path):
    out = tmp_path / "out"
    found = pc.predict(run, store.path, out=out, **CPU)
    facts = json.loads((out / "predictions.json").read_text())
    assert facts == found.as_json()
    assert [row["labeled"] for row in facts["predictions"]][-1] == 0
    rows = list(csv.DictReader(io.StringIO((out / "predictions.csv").read_text())))
    counts = {(row["id"], row["class"]): int(row["points"]) for row in rows}
    for scene in found.shapes:
        assert {name: counts[scene.id, name] for name in NAMES} == scene.points.counts
        cloud = trimesh.load(out / f"scenes/{scene.id}.ply")
        assert np.array_equal(cloud.vertices.astype(np.float32), scene.points.points)
        palette = np.array([color for _, color in CLASSES.values()])
        assert np.array_equal(cloud.colors[:, :3], palette[scene.points.labels])
        with np.load(out / f"scenes/{scene.id}.npz") as arrays:
            assert np.array_equal(arrays["label"], scene.points.labels)
            assert np.array_equal(arrays["points"], scene.points.points)
            assert arrays["class_names"].tolist() == list(NAMES)
            assert ("true" in arrays) == (scene.id != HIDDEN)
    with Image.open(out / "predictions.png") as picture:
        assert picture.size[0] > 600
    again = pc.predict(run, out / f"scenes/{HIDDEN}.ply", **CPU)  # what is written can be read
    assert again.notes == (f"{HIDDEN}: it has no normals, which the network reads: estimated",)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    pc.predict(run, store.path, out=out, **CPU)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_scans_of_any_kind_are_read_in_meters_with_their_up_axis(run, scannet, tmp_path):
    """A cloud with the mesh's colors and normals is the mesh; turned to y up, it is the same."""
    mesh = pc.load_mesh(mesh_of(scannet, HIDDEN, "scans_test"))
    expected = pc.predict(run, mesh, **CPU).shapes[0].points
    plain = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    normals = np.zeros_like(mesh.vertices)
    for corner in mesh.faces.T:  # of the faces, weighted by area
        np.add.at(normals, corner, plain.face_normals * plain.area_faces[:, None])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    cloud = pc.Cloud(mesh.vertices, normals, mesh.vertex_colors)
    turn = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])  # z up → y up
    turned = pc.Cloud(cloud.points @ turn.T, cloud.normals @ turn.T, cloud.colors)
    table = np.hstack([cloud.points, 255 * cloud.colors, cloud.normals])
    np.savetxt(tmp_path / "room.txt", table, header="x y z red green blue nx ny nz", comments="")
    write_cloud(tmp_path / "room.ply", cloud)
    files = tmp_path / "room.txt", tmp_path / "room.ply"
    for target, up in ((cloud, "z"), (turned, "y"), *((file, None) for file in files)):
        (scene,) = pc.predict(run, target, up=up, **CPU).shapes
        assert np.mean(scene.points.labels == expected.labels) > 0.98
        assert np.allclose(scene.points.score, expected.score, atol=0.05)
    assert pc.predict(run, cloud, up="x", **CPU).shapes[0].points.counts != expected.counts


def write_cloud(path, cloud):
    """A PLY file without faces."""
    names = [*"xyz", "nx", "ny", "nz"]
    lines = ["ply", "format ascii 1.0", f"element vertex {len(cloud.points)}"]
    lines += [f"property float {name}" for name in names]
    lines += [f"property uchar {name}" for name in ("red", "green", "blue")]
    rows = zip(cloud.points, cloud.normals, np.rint(255 * cloud.colors).astype(int), strict=True)
    lines += [
        "end_header",
        *(" ".join(repr(n) for part in row for n in part.tolist()) for row in rows),
    ]
    path.write_text("\n".join(lines) + "\n")


def test_what_a_scan_lacks_is_told(run, tmp_path):
    rng = np.random.default_rng(0)
    bare = pc.Cloud(rng.uniform(0, 3, (500, 3)) * [1, 1, 0.01])
    wide = pc.Cloud(rng.uniform(0, 3000, (500, 3)))
    large = pc.Cloud(rng.uniform(0, 300, (500, 3)))
    found = pc.predict(run, bare, wide, large, tmp_path / "none.ply", **CPU)
    assert [scene.id for scene in found.shapes] == ["cloud-0", "cloud-2"]
    assert [(f.id, f.reason) for f in found.failures] == [
        ("cloud-1", "too_large"),
        ("none", "missing_file"),
    ]
    assert "scans are in meters" in found.failures[0].detail
    told = "\n".join(found.notes)
    assert "cloud-0, cloud-2: it has no colors, which the network reads: taken as gray" in told
    assert "cloud-0, cloud-2: it has no normals, which the network reads: estimated" in told
    assert "cloud-2: it is 300 m wide: coordinates have to be in meters" in told


def test_what_cannot_be_meant_is_refused(run, store, scannet, toy_store, trained, tmp_path):
    target = mesh_of(scannet, SCANS[0])
    shutil.copy(target, tmp_path / "room.ply")
    scans, both = {"layout": "scannet"}, {"layout": "scannet", "out": tmp_path / "P"}
    for arguments, options, says in (
        ((run, target), {"class_name": "office"}, "classes of their own"),
        ((run, target), {"textures": tmp_path}, "without textures"),
        ((run, target), {"up": "w"}, "unknown up axis"),
        ((run, toy_store.path), {}, "store of objects, which the recipe 'semseg' cannot use"),
        ((trained.folder, store.path), {}, "store of scenes, which `predict` cannot use"),
        ((run, target), scans, "written into a folder"),
        ((run, target), {**scans, "out": tmp_path / "p.csv"}, "written into a folder"),
        ((run, tmp_path / "room.ply"), both, "vertices of ScanNet's meshes"),
        ((run, target, target), both, "is there twice"),
        ((trained.folder, target), both, "which this run does not predict"),
        ((run, target), {**both, "layout": "votenet"}, "which this run does not predict"),
        ((run, target), {**both, "layout": "scanet"}, "unknown layout 'scanet'"),
        ((run, target), {"min_score": 0.5}, "only boxes have a least score"),
    ):
        with pytest.raises(pc.UsageError, match=says):
            pc.predict(*arguments, **options, **CPU)
    assert not (tmp_path / "P").exists()


def test_a_store_without_labels_is_predicted(run, tmp_path):
    """With a run that was trained on few labels: there is nothing to choose them from here."""
    write_exported(tmp_path / "rooms/a")
    sizes = {"frames": 4, "height": 24, "width": 32, "points": 2000}
    plain = render_scenes(list_frames("frames", tmp_path / "rooms"), tmp_path / "S", **sizes)
    assert "semantic" not in plain.specs
    (scene,) = pc.predict(run, plain.path, **CPU).shapes
    assert len(scene.points.labels) == len(plain.read("points", 0))
    assert (scene.points.true, scene.points.labeled) == (None, 0)


def test_votes_are_averaged_and_do_not_depend_on_the_other_scenes(run, store):
    plain = pc.predict(run, store.path, **CPU)
    voted = pc.predict(run, store.path, votes=3, **CPU)
    alone = pc.predict(run, store.path, split="test", votes=3, **CPU)
    last = [found.shapes[-1].points for found in (plain, voted, alone)]
    assert not np.array_equal(last[0].score, last[1].score)
    assert np.array_equal(last[1].score, last[2].score)
    assert np.array_equal(last[1].labels, last[2].labels)
