"""ModelNet40's HDF5 files, ScanObjectNN without background, and ShapeNetCore as GLB."""

import json

import h5py
import numpy as np
import pytest
import trimesh

from pointcmt.datasets.sources import list_shapes
from pointcmt.datasets.sources.modelnet import CLASSES
from pointcmt.datasets.sources.scanobjectnn import VARIANTS
from pointcmt.errors import Reason, ShapeRefused, UsageError
from pointcmt.render.load.clouds import CloudLoader
from pointcmt.render.load.meshes import load_mesh
from tests.clouds import write_hdf5

NAMES = CLASSES["modelnet40"]
RNG = np.random.default_rng(3)
LABELS = {"train0": [0, 8, 39], "train1": [33, 0], "test0": [8, 39]}
MODELS = {
    "train0": ["airplane/airplane_0001.ply", "chair/chair_0001.ply", "xbox/xbox_0001.ply"],
    "train1": ["table/table_0002.ply", "airplane/airplane_0009.ply"],
    "test0": ["chair/chair_0900.ply", "xbox/xbox_0110.ply"],
}


def modelnet(root, kind=np.uint8, models=None, normals=True):
    """The release's files, with 50 points per shape; returns the arrays by file."""
    arrays = {}
    for name, labels in LABELS.items():
        points = RNG.normal(size=(len(labels), 50, 3)).astype(np.float32)
        unit = points / np.linalg.norm(points, axis=2, keepdims=True)
        more = {"normal": unit} if normals else {}
        label = np.array(labels, kind)[:, None]
        face = np.zeros((len(labels), 50), np.int32)
        write_hdf5(root / f"ply_data_{name}.h5", data=points, label=label, faceId=face, **more)
        arrays[name] = points, unit
        if models:
            path = root / f"ply_data_{name[:-1]}_{name[-1]}_id2file.json"
            path.write_text(json.dumps(models[name]))
    for split in ("train", "test"):
        lines = [f"data/x/ply_data_{name}.h5\n" for name in LABELS if name.startswith(split)]
        (root / f"{split}_files.txt").write_text("".join(lines))
    (root / "shape_names.txt").write_text("\n".join(NAMES) + "\n")
    return arrays


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int64])
@pytest.mark.parametrize("high", [False, True])
def test_modelnet40_in_hdf5_files(tmp_path, kind, high):
    root = tmp_path / "modelnet40_ply_hdf5_2048"
    arrays = modelnet(root, kind)
    listing = list_shapes("modelnet40-clouds", tmp_path if high else root)
    assert [(s.id, s.class_name, s.split) for s in listing.shapes] == [
        ("ply_data_train0/0", "airplane", "train"),
        ("ply_data_train0/1", "chair", "train"),
        ("ply_data_train0/2", "xbox", "train"),
        ("ply_data_train1/0", "table", "train"),
        ("ply_data_train1/1", "airplane", "train"),
        ("ply_data_test0/0", "chair", "test"),
        ("ply_data_test0/1", "xbox", "test"),
    ]
    assert (listing.class_names, listing.up, listing.kind) == (NAMES, "y", "cloud")
    assert listing.official == {"train": 9843, "test": 2468}
    too_high = "the root is one level too high: using its subfolder 'modelnet40_ply_hdf5_2048'"
    assert listing.notes == ((too_high,) if high else ())
    loader = CloudLoader(listing.name, listing.root)
    for shape in listing.shapes:
        name, row = shape.id.removeprefix("ply_data_").split("/")
        cloud, _ = loader.load(shape)
        np.testing.assert_array_equal(cloud.points, arrays[name][0][int(row)])
        np.testing.assert_array_equal(cloud.normals, arrays[name][1][int(row)])
        assert cloud.notes == ()


def test_ids_are_the_models_where_the_release_names_them(tmp_path):
    modelnet(tmp_path, models=MODELS)
    listing = list_shapes("modelnet40-clouds", tmp_path)
    expected = [entry.removesuffix(".ply") for entries in MODELS.values() for entry in entries]
    assert [shape.id for shape in listing.shapes] == expected
    assert listing.shapes[3].source == "ply_data_train1.h5#0"
    assert listing.notes == ()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train0", None),
        ("train0", "["),
        ("train0", "{}"),
        ("test0", json.dumps(["chair/a.ply"])),
        ("test0", json.dumps(["xbox/a.ply", "chair/b.ply"])),  # not the classes of the rows
        ("test0", json.dumps(["chair/../../x", "xbox/b.ply"])),
        ("test0", json.dumps([1, 2])),
        ("train1", json.dumps(["table/a.ply", "airplane/airplane_0001.ply"])),  # as in train0
    ],
)
def test_ids_are_files_and_rows_unless_every_model_is_named_once(tmp_path, name, content):
    modelnet(tmp_path, models=MODELS)
    path = tmp_path / f"ply_data_{name[:-1]}_{name[-1]}_id2file.json"
    path.unlink() if content is None else path.write_text(content)
    listing = list_shapes("modelnet40-clouds", tmp_path)
    assert [s.id for s in listing.shapes][:1] == ["ply_data_train0/0"]
    assert len({s.id for s in listing.shapes}) == 7
    assert len(listing.notes) == (name == "train1")


def test_irregular_directories_are_noted_or_refused(tmp_path):
    modelnet(tmp_path, normals=False)
    (tmp_path / "ply_data_train1.h5").unlink()
    listing = list_shapes("modelnet40-clouds", tmp_path)
    assert listing.notes == (
        "2 of 3 listed files are present: 1 missing, such as 'ply_data_train1.h5'",
    )
    cloud, _ = CloudLoader(listing.name, tmp_path).load(listing.shapes[0])
    assert not cloud.normals.any()
    (tmp_path / "shape_names.txt").write_text("\n".join(reversed(NAMES)))
    listing = list_shapes("modelnet40-clouds", tmp_path)
    assert listing.shapes[0].class_name == "xbox"
    assert "not alphabetical" in listing.notes[0]
    (tmp_path / "shape_names.txt").write_text("cat\ndog\n")
    with pytest.raises(UsageError, match="not those of ModelNet40: cat, dog"):
        list_shapes("modelnet40-clouds", tmp_path)
    (tmp_path / "shape_names.txt").unlink()
    listing = list_shapes("modelnet40-clouds", tmp_path)
    assert listing.shapes[0].class_name == "airplane"
    assert listing.notes[0].startswith("no shape_names.txt")
    write_hdf5(tmp_path / "ply_data_test0.h5", data=np.zeros((1, 5, 3)), label=[[77]])
    assert "1 rows have an unknown class" in list_shapes("modelnet40-clouds", tmp_path).notes[1]


def test_other_datasets_point_to_the_right_one(tmp_path):
    modelnet(tmp_path)
    for dataset in ("shapenetpart", "modelnet10-clouds"):
        with pytest.raises(UsageError) as raised:
            list_shapes(dataset, tmp_path)
        assert "--dataset modelnet40-clouds" in raised.value.fix
        assert raised.value.where == str(tmp_path)


def test_text_files_win_over_hdf5_beside_them(tmp_path):
    modelnet(tmp_path / "hdf5")
    (tmp_path / "chair").mkdir()
    (tmp_path / "chair/chair_0001.txt").write_text("0,0,0\n")
    (tmp_path / "modelnet40_train.txt").write_text("chair_0001\n")
    (tmp_path / "modelnet40_test.txt").touch()
    listing = list_shapes("modelnet40-clouds", tmp_path)
    assert [shape.source for shape in listing.shapes] == ["chair/chair_0001.txt"]
    assert listing.notes == ("HDF5 files are also present, in 'hdf5': using the text files",)


@pytest.mark.parametrize(
    ("normal", "reason"),
    [
        (np.zeros((3, 49, 3), np.float32), Reason.COUNT_MISMATCH),
        (np.zeros((3, 50), np.float32), Reason.BAD_SYNTAX),
        (np.zeros((3, 50, 3), np.int32), Reason.BAD_SYNTAX),
    ],
)
def test_normals_that_do_not_fit_are_refused(tmp_path, normal, reason):
    modelnet(tmp_path, normals=False)
    with h5py.File(tmp_path / "ply_data_train0.h5", "a") as file:
        file["normal"] = normal
    listing = list_shapes("modelnet40-clouds", tmp_path)
    with pytest.raises(ShapeRefused) as refused:
        CloudLoader(listing.name, tmp_path).load(listing.shapes[0])
    assert refused.value.reason is reason


# ScanObjectNN

ENDINGS = {
    "pb_t25": "_augmented25_norot",
    "pb_t25_r": "_augmented25rot",
    "pb_t50_r": "_augmentedrot",
    "pb_t50_rs": "_augmentedrot_scale75",
}


@pytest.mark.parametrize("variant", ENDINGS)
@pytest.mark.parametrize("nobg", [False, True])
def test_every_perturbed_variant_with_and_without_background(tmp_path, variant, nobg):
    folder = "main_split_nobg" if nobg else "main_split"
    points = RNG.normal(size=(2, 2, 30, 3)).astype(np.float32)
    for i, kind in enumerate(("training", "test")):
        path = tmp_path / f"h5_files/{folder}/{kind}_objectdataset{ENDINGS[variant]}.h5"
        write_hdf5(path, data=points[i], label=[4, 14], mask=np.zeros((2, 30), np.int32))
    dataset = f"scanobjectnn-{variant}{'_nobg' if nobg else ''}"
    for root in (tmp_path, tmp_path / "h5_files", tmp_path / "h5_files" / folder):
        listing = list_shapes(dataset, root)
        assert [(s.class_name, s.split) for s in listing.shapes] == [
            ("chair", "train"), ("toilet", "train"), ("chair", "test"), ("toilet", "test"),
        ]  # fmt: skip
        loader = CloudLoader(dataset, listing.root)
        found = [loader.load(shape)[0].points for shape in listing.shapes]
        np.testing.assert_array_equal(np.stack(found), points.reshape(4, 30, 3))
    others = set(VARIANTS) - {dataset} - ({"scanobjectnn"} if variant == "pb_t50_rs" else set())
    for other in others - {"scanobjectnn"}:
        with pytest.raises(UsageError) as raised:
            list_shapes(other, tmp_path)
        assert dataset in raised.value.fix
        assert f"for {other}" in raised.value.what


# ShapeNetCore as GLB


def glb(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(trimesh.creation.box().export(file_type="glb"))


def test_shapenetcore_as_glb(tmp_path):
    root = tmp_path / "ShapeNetCore"
    for name in ("02691156/aaa.glb", "02691156/bbb.glb", "03001627/ccc.GLB", "99999999/ddd.glb"):
        glb(root / name)
    (root / "all.csv").write_text(
        "id,synsetId,subSynsetId,modelId,split\n1,02691156,1,bbb,test\n2,3001627,1,ccc,val\n"
    )
    for given in (root, tmp_path):
        listing = list_shapes("shapenetcore", given)
        assert [(s.id, s.class_name, s.split, s.source) for s in listing.shapes] == [
            ("02691156/aaa", "airplane", "train", "02691156/aaa.glb"),
            ("02691156/bbb", "airplane", "test", "02691156/bbb.glb"),
            ("03001627/ccc", "chair", "val", "03001627/ccc.GLB"),
            ("99999999/ddd", "99999999", "train", "99999999/ddd.glb"),
        ]
        assert listing.up == "y"
        for shape in listing.shapes:
            assert len(load_mesh(listing.root / shape.source).faces) == 12
    one = list_shapes("shapenetcore", root / "02691156")
    assert [shape.id for shape in one.shapes] == ["02691156/aaa", "02691156/bbb"]


@pytest.mark.parametrize(
    "name",
    [
        *("model.glb", "models/model_normalized.glb", "model_normalized.glb", "aaa.glb"),
        *("model.gltf", "models/model_normalized.gltf", "aaa.gltf"),
    ],
)
def test_a_glb_file_in_the_folder_of_its_model(tmp_path, name):
    glb(tmp_path / "02691156/aaa" / name)
    (shape,) = list_shapes("shapenetcore", tmp_path).shapes
    assert (shape.id, shape.source) == ("02691156/aaa", f"02691156/aaa/{name}")


def test_shapenetcore_as_gltf(tmp_path):
    synset = tmp_path / "02691156"
    synset.mkdir()
    for name in ("a.gltf", "b.glb", "b.gltf", ".gltf"):
        (synset / name).touch()
    listing = list_shapes("shapenetcore", tmp_path)
    assert [s.source for s in listing.shapes] == ["02691156/a.gltf", "02691156/b.glb"]
    assert not any("OBJ" in note for note in listing.notes)


def test_mixed_versions_say_that_they_face_elsewhere(tmp_path):
    for name in ("a/model.obj", "b/models/model_normalized.obj"):
        path = tmp_path / "02691156" / name
        path.parent.mkdir(parents=True)
        path.touch()
    for name in ("a.glb", "c.glb"):
        glb(tmp_path / "02691156" / name)
    listing = list_shapes("shapenetcore", tmp_path)
    assert [shape.source.removeprefix("02691156/") for shape in listing.shapes] == [
        "a/model.obj",
        "b/models/model_normalized.obj",
        "c.glb",
    ]
    assert "v1 models face +X, v2 models face -Z: they are turned against each other" in (
        listing.notes
    )
    assert "1 models are GLB or glTF files, the others OBJ files" in listing.notes
    assert "1 models are also present as GLB or glTF: using OBJ" in listing.notes
