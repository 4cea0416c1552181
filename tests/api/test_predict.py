"""`predict`: classes and parts of stores, files, folders and objects, as values and files."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from typer.testing import CliRunner

import pointcmt as pc
from pointcmt.cli import app
from pointcmt.datasets.sources import list_shapes
from pointcmt.datasets.sources.toy import build
from tests.commands import pointcmt
from tests.pages import Page
from tests.stores import render_listing, render_toy

CPU = {"device": "cpu"}


def command(*arguments):
    return pointcmt("predict", *arguments, "--device", "cpu")


def write_mesh(path, mesh):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"OFF\n{len(mesh.vertices)} {len(mesh.faces)} 0"]
    rows += [" ".join(map(repr, vertex)) for vertex in np.asarray(mesh.vertices).tolist()]
    rows += [f"3 {a} {b} {c}" for a, b, c in mesh.faces.tolist()]
    path.write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def meshes(tmp_path_factory):
    """A folder of classes with two meshes each, some of them toy shapes' classes."""
    root = tmp_path_factory.mktemp("meshes")
    records = [
        r for r in list_shapes("toy", None).shapes if r.class_name in ("chair", "mug", "car")
    ]
    for name in ("chair", "mug", "car"):
        for record in [r for r in records if r.class_name == name][:2]:
            write_mesh(root / name / f"{record.id.replace('/', '-')}.off", build(record.id))
    return root


@pytest.fixture(scope="module")
def of_meshes(meshes, tmp_path_factory):
    """The same meshes as a store, rendered like the store of the run."""
    listing = list_shapes("folder", meshes, up="z")
    return render_listing(listing, tmp_path_factory.mktemp("of_meshes") / "S")


@pytest.fixture(scope="module")
def teacher(toy_store, tmp_path_factory):
    out = tmp_path_factory.mktemp("teacher") / "T"
    settings = {"data__batch_size": 8, "optimizer__accumulate": 1, "data__views": 1}
    pc.train("teacher", data=toy_store.path, out=out, epochs=1, device="cpu", **settings)
    return out


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmenter")
    store = render_toy(folder / "S", limit=40)
    settings = {"data__points": 64, "data__batch_size": 4, "model__backbone": "dgcnn"}
    out = folder / "P"
    pc.train("partseg", data=store.path, out=out, epochs=2, load="none", device="cpu", **settings)
    return out, store


def test_a_store_is_predicted_as_its_network_computes(trained, toy_store):
    found = pc.predict(trained.folder, toy_store.path, top=0, **CPU)
    model, store = pc.load_run(trained.folder), pc.open_store(toy_store.path)
    assert [shape.id for shape in found.shapes] == [shape.id for shape in store]
    assert len(found) == 40
    for shape in list(store)[:5]:
        with torch.no_grad():
            logits = model.logits(torch.from_numpy(shape.points[None, :64]))
        expected = dict(zip(model.class_names, logits.softmax(dim=1)[0].tolist(), strict=True))
        got = next(each for each in found.shapes if each.id == shape.id)
        assert got.scores.keys() == expected.keys()
        assert all(abs(got.scores[name] - expected[name]) < 1e-5 for name in expected)
        assert list(got.scores.values()) == sorted(got.scores.values(), reverse=True)
        assert got.true == shape.class_name
    assert all(abs(sum(shape.scores.values()) - 1) < 1e-5 for shape in found.shapes)


def test_its_accuracy_is_that_of_evaluate(trained, toy_store):
    report = pc.evaluate(trained.folder, data=toy_store.path, **CPU)
    facts = pc.predict(trained.folder, toy_store.path, split="test", **CPU).as_json()
    assert facts["with_class"] == report.shapes
    assert facts["correct"] == sum(c["correct"] for c in report.per_class.values())


@pytest.mark.parametrize("network", ["student", "teacher"])
def test_files_give_the_numbers_of_a_store_of_them(
    network, trained, teacher, meshes, of_meshes, toy_store
):
    """Loaded, normalized, sampled and rendered exactly as a store's shapes are: the same bits."""
    run = trained.folder if network == "student" else teacher
    from_store = pc.predict(run, of_meshes.path, top=0, **CPU)
    from_files = pc.predict(run, meshes, top=0, up="z", **CPU)
    assert [shape.id for shape in from_files.shapes] == [shape.id for shape in from_store.shapes]
    for one, other in zip(from_files.shapes, from_store.shapes, strict=True):
        assert one.scores == other.scores
        assert one.true == other.true
    assert from_files.failures == ()


def test_clouds_give_the_numbers_of_a_store_of_them(trained, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "clouds/mug").mkdir(parents=True)
    for number in range(3):
        np.savetxt(tmp_path / f"clouds/mug/{number}.xyz", rng.normal(size=(400, 3)))
    store = render_listing(list_shapes("clouds", tmp_path / "clouds"), tmp_path / "S")
    from_store = pc.predict(trained.folder, store.path, top=0, **CPU)
    from_files = pc.predict(trained.folder, tmp_path / "clouds", top=0, **CPU)
    assert [shape.scores for shape in from_files.shapes] == [s.scores for s in from_store.shapes]


def test_objects_are_predicted_like_their_files(trained, meshes, tmp_path):
    path = sorted(meshes.glob("chair/*.off"))[0]
    np.savetxt(tmp_path / "cloud.xyz", np.random.default_rng(1).normal(size=(300, 3)))
    cloud = pc.load_cloud(tmp_path / "cloud.xyz")
    found = pc.predict(trained.folder, cloud, tmp_path / "cloud.xyz", pc.load_mesh(path), **CPU)
    assert found.shapes[0].scores == found.shapes[1].scores
    assert [shape.id for shape in found.shapes] == ["cloud-0", "cloud", "mesh-2"]


def test_a_ply_file_is_a_mesh_or_a_cloud(trained, tmp_path):
    trimesh.creation.box().export(tmp_path / "box.ply")
    trimesh.PointCloud(np.random.default_rng(2).normal(size=(300, 3))).export(tmp_path / "dots.ply")
    found = pc.predict(trained.folder, tmp_path / "box.ply", tmp_path / "dots.ply", **CPU)
    assert [shape.id for shape in found.shapes] == ["box", "dots"]
    assert [shape.true for shape in found.shapes] == [None, None]


def test_what_cannot_be_read_is_recorded_and_the_others_go_on(trained, meshes, tmp_path):
    folder = shutil.copytree(meshes, tmp_path / "some")
    (folder / "chair/broken.off").write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n")
    (folder / "notes.txt").write_text("not a cloud\n")  # in a folder of meshes: not looked at
    done = command(trained.folder, folder, tmp_path / "none.off", "--up", "z", "--json")
    assert done.returncode == 3, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["shapes"] == 6
    found = {failed["id"]: failed for failed in facts["failures"]}
    assert found.keys() == {"chair/broken", "none"}
    assert found["none"]["reason"] == "missing_file"
    assert found["none"]["source"] == str(tmp_path / "none.off")
    assert found["chair/broken"]["reason"] == "truncated"
    assert "chair/broken.off: truncated" in done.stdout
    alone = command(trained.folder, tmp_path / "none.off")
    assert alone.returncode == 1
    assert "missing_file" in alone.stdout


@pytest.mark.slow
def test_the_files_hold_the_same_numbers_and_do_not_change(trained, meshes, of_meshes, tmp_path):
    out = tmp_path / "out"
    done = command(trained.folder, of_meshes.path, "--out", out, "--top", 2, "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert json.loads((out / "predictions.json").read_text()) == facts
    rows = list(csv.DictReader(io.StringIO((out / "predictions.csv").read_text())))
    assert [row["id"] for row in rows] == [row["id"] for row in facts["predictions"]]
    for row, shape in zip(rows, facts["predictions"], strict=True):
        assert row["true"] == shape["true"] == row["id"].split("/")[0]
        assert (row["predicted"], float(row["score"])) == (shape["predicted"], shape["score"])
        assert list(shape["scores"]) == [row["predicted"], row["predicted_2"]]
        assert float(row["score_2"]) == shape["scores"][row["predicted_2"]]
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert before.keys() == {"predictions.csv", "predictions.json", "predictions.png"}
    assert command(trained.folder, of_meshes.path, "--out", out, "--top", 2).returncode == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    for name in ("p.csv", "p.json", "p.png"):
        again = command(
            trained.folder, of_meshes.path, "--out", tmp_path / "one" / name, "--top", 2
        )
        assert again.returncode == 0, again.stderr
        assert (tmp_path / "one" / name).read_bytes() == before["predictions" + name[1:]]
    with Image.open(out / "predictions.png") as picture:
        assert picture.size[0] > 400


def test_what_predict_did_not_write_is_not_replaced(trained, meshes, toy_store, tmp_path):
    (tmp_path / "mine.csv").write_text("mine\n")
    target = sorted(meshes.glob("chair/*.off"))[0]
    with pytest.raises(pc.UsageError, match="did not write") as caught:
        pc.predict(trained.folder, target, out=tmp_path / "mine.csv", **CPU)
    assert "overwrite=True" in str(caught.value)
    pc.predict(trained.folder, target, out=tmp_path / "mine.csv", overwrite=True, **CPU)
    assert (tmp_path / "mine.csv").read_text().startswith("id,source,true,predicted,score,")
    inside = (toy_store.path, "view store"), (trained.folder, "files of a run")
    for folder, says in inside:
        for overwrite in (False, True):
            with pytest.raises(pc.UsageError, match=says):
                pc.predict(trained.folder, target, out=folder, overwrite=overwrite, **CPU)


def test_parts_of_a_store_are_those_that_evaluation_counts(segmenter):
    run, store = segmenter
    report = pc.evaluate(run, data=store.path, **CPU)
    found = pc.predict(run, store.path, split="test", **CPU)
    assert len(found) == report.shapes
    labels = np.stack([shape.parts.labels for shape in found.shapes])
    assert np.array_equal(labels, report.predicted)
    shape = found.shapes[0]
    assert sum(shape.parts.counts.values()) == 64
    world = pc.open_store(store.path)[shape.id]
    back = np.linalg.inv(store.read("source_to_world", world.index))
    own = world.points[:64] @ back[:3, :3].T + back[:3, 3]
    assert np.allclose(shape.parts.points, own, atol=1e-5)


def test_parts_of_files_are_written_as_labels_and_colored_points(segmenter, meshes, tmp_path):
    run, _ = segmenter
    out = tmp_path / "out"
    done = command(run, meshes, "--up", "z", "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert [row["true"] for row in facts["predictions"]] == ["car"] * 2 + ["chair"] * 2 + [
        "mug"
    ] * 2
    row = facts["predictions"][2]
    name = row["id"].replace("/", "_")
    table = list(csv.DictReader(io.StringIO((out / "parts" / f"{name}.csv").read_text())))
    assert len(table) == row["points"] == 64
    counts = {part: sum(line["name"] == part for line in table) for part in row["parts"]}
    assert counts == row["parts"]
    cloud = trimesh.load(out / "parts" / f"{name}.ply")
    points = np.array([[float(line[axis]) for axis in "xyz"] for line in table])
    assert np.allclose(cloud.vertices, points, atol=1e-5)
    assert len({tuple(color) for color in cloud.colors.tolist()}) == len(set(counts) - {
        part for part, count in counts.items() if not count
    })  # fmt: skip
    # The points lie on the mesh, in its own coordinates, on the faces that are named.
    mesh = pc.load_mesh(meshes / f"{row['id']}.off")
    corners = mesh.vertices[mesh.faces[[int(line["source"]) for line in table]]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    assert np.abs(np.sum((points - corners[:, 0]) * normals, axis=1)).max() < 1e-5
    rows = list(csv.DictReader(io.StringIO((out / "predictions.csv").read_text())))
    assert {(r["id"], r["part"]): int(r["points"]) for r in rows if r["id"] == row["id"]} == {
        (row["id"], part): count for part, count in row["parts"].items()
    }


def test_segmentation_needs_a_class_and_takes_the_one_that_is_given(segmenter, meshes, tmp_path):
    run, _ = segmenter
    path = sorted(meshes.glob("chair/*.off"))[0]
    found = pc.predict(run, path, **CPU)  # a file has no folder of its own: no class
    assert len(found) == 0
    (failed,) = found.failures
    assert failed.reason == "unknown_class"
    assert "--class-name" in failed.detail
    found = pc.predict(run, path, class_name="Chair", up="z", **CPU)
    assert found.shapes[0].true == "chair"
    assert set(found.shapes[0].parts.names) == set(
        pc.open_store(segmenter[1].path).attributes["part_names"]["chair"]
    )
    with pytest.raises(pc.UsageError, match="does not know the class 'chiar'") as caught:
        pc.predict(run, path, class_name="chiar", **CPU)
    assert "did you mean 'chair'?" in caught.value.fix


def test_unlabeled_stores_and_classes_that_the_run_does_not_know(trained, tmp_path, meshes):
    shutil.copytree(meshes / "chair", tmp_path / "loose")
    other = shutil.copytree(meshes / "mug", tmp_path / "other/teapot").parent
    plain = render_listing(list_shapes("folder", tmp_path / "loose"), tmp_path / "S1")
    strange = render_listing(list_shapes("folder", other), tmp_path / "S2")
    found = pc.predict(trained.folder, plain.path, strange.path, **CPU)
    assert [shape.true for shape in found.shapes] == [None, None, "teapot", "teapot"]
    assert found.as_json()["with_class"] == 0
    assert found.failures == ()


def test_what_cannot_be_meant(trained, tmp_path):
    for wrong, says in (
        ({"top": -1}, "cannot return -1 classes"),
        ({"split": "tset"}, "unknown split"),
        ({"votes": 0}, "votes must be at least 1"),
        ({"up": "w"}, "unknown up axis"),
        ({"checkpoint": "bets"}, "unknown checkpoint"),
    ):
        with pytest.raises(pc.UsageError, match=says):
            pc.predict(trained.folder, tmp_path / "a.off", **wrong, **CPU)
    with pytest.raises(pc.UsageError, match="nothing to predict"):
        pc.predict(trained.folder, **CPU)
    (tmp_path / "empty").mkdir()
    with pytest.raises(pc.UsageError, match="empty"):
        pc.predict(trained.folder, tmp_path / "empty", **CPU)
    done = command(tmp_path / "nowhere", tmp_path / "a.off")
    assert done.returncode == 1
    assert "there is no run here" in done.stderr


def test_data_is_a_target(trained, toy_store):
    done = command(trained.folder, "--data", toy_store.path, "--split", "test", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["shapes"] == 20


def test_the_page_of_a_store_shows_what_a_run_predicts(toy_store, trained, tmp_path):
    words = ["view", toy_store.path, "--out", tmp_path / "P", "--run", trained.folder, "--limit", 4]
    done = CliRunner().invoke(app, list(map(str, [*words, "--device", "cpu"])))
    assert done.exit_code == 0, done.output
    found = {shape.id: shape for shape in pc.predict(trained.folder, toy_store.path, **CPU).shapes}
    lines = Page(tmp_path / "P/index.html").json("index")["shapes"]
    assert len(lines) == 4
    for line in lines:
        shape = found[line["id"]]
        assert dict(line["predicted"]) == pytest.approx(shape.scores, abs=1e-4)
        assert line["right"] == (shape.true == shape.predicted)
