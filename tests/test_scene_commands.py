"""Every command on a store of scenes: it works, or says what it cannot do and changes nothing."""

import json

import pytest
from PIL import Image

import pointcmt as pc
from pointcmt.datasets.sources.frames import list_frames
from tests.datasets.store.remote_jobs import pointcmt
from tests.render.load.scenes.recordings import write_exported, write_redwood
from tests.stores import render_scenes, tree

TINY = ("--resolution", "32x24", "--frames", "2", "--points", "500")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    root = tmp_path_factory.mktemp("recordings")
    write_exported(root / "train/a")
    write_redwood(root / "test/b")
    return root


@pytest.fixture(scope="module")
def scenes(recordings, tmp_path_factory):
    """A store of two scenes."""
    out = tmp_path_factory.mktemp("scenes") / "S"
    sizes = {"frames": 4, "height": 24, "width": 32, "points": 2000}
    return render_scenes(list_frames("frames", recordings), out, **sizes).path


@pytest.fixture(scope="module")
def run(toy_store, tmp_path_factory):
    """A student, trained on shapes for one epoch."""
    out = tmp_path_factory.mktemp("run") / "R"
    small = {"epochs": 1, "data__batch_size": 20, "data__points": 32}
    pc.train("student", data=toy_store.path, out=out, device="cpu", **small)
    return out


NO_TRAINING = "a store of scenes, which the recipe '"
NO_EXPORT = "a store of scenes, which `export` cannot use"
REFUSED = {
    **{
        f"train {recipe}": (("train", *recipe.split(), "--data", "S", "--out", "OUT"), NO_TRAINING)
        for recipe in ("", "teacher", "cmpg", "student", "finetune", "partseg", "pointcmt")
    },
    "evaluate": (("evaluate", "RUN", "--data", "S"), NO_TRAINING),
    "probe": (
        ("evaluate", "RUN", "--data", "S", "--probe", "svm"),
        "which `evaluate --probe` cannot use",
    ),
    "predict": (("predict", "RUN", "S", "--out", "OUT"), "which `predict` cannot use"),
    **{
        f"export {form}": (("export", "S", "--to", form, "--out", "OUT"), NO_EXPORT)
        for form in ("png", "nerfstudio", "colmap", "ply")
    },
    "export onnx": (("export", "S", "--to", "onnx", "--out", "OUT"), "only applies to runs"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_commands_that_cannot_use_scenes_say_so(scenes, run, tmp_path, name):
    words, says = REFUSED[name]
    place = {"S": scenes, "RUN": run, "OUT": tmp_path / "out"}
    before = tree(scenes)
    code, said = pointcmt(*(place.get(word, word) for word in words))
    assert code == 2, said
    assert says in said
    assert str(scenes) in said
    assert "fix:" in said
    assert tree(scenes) == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("info", "S"),
        ("info", "S", "--json"),
        ("verify", "S"),
        ("verify", "S", "--sources", "--json"),
        ("build-correspondences", "S"),  # frames are stored with what they see
        ("preview", "S", "--out", "OUT"),
        ("preview", "S", "--out", "OUT", "--shapes", "1", "--views", "1", "--overwrite"),
        ("view", "S", "--out", "OUT", "--limit", "1", "--split", "train"),
    ],
)
def test_commands_that_only_read_take_scenes(scenes, tmp_path, words):
    place = {"S": scenes, "OUT": tmp_path / "out"}
    before = tree(scenes)
    code, said = pointcmt(*(place.get(word, word) for word in words))
    assert code == 0, said
    assert tree(scenes) == before
    if "--json" in words:
        assert json.loads(said.splitlines()[-1])
    if "preview" in words:
        written = {path.name for path in (tmp_path / "out").iterdir()}
        assert written == {"contact_sheet.png", "points.png", "index.html"}
        with Image.open(tmp_path / "out/points.png") as picture:
            assert picture.height >= 240  # of frames with 24 rows


@pytest.mark.parametrize(
    ("option", "value"),
    [("--rig", "ortho6"), ("--size", "64"), ("--backend", "egl"), ("--shading", "smooth")],
)
def test_scenes_are_not_drawn_with_the_options_of_shapes(recordings, tmp_path, option, value):
    source = ("render", "--dataset", "frames", "--root", recordings, "--out", tmp_path / "S")
    code, said = pointcmt(*source, *TINY, option, value)
    assert code == 2
    assert option.removeprefix("--") in said
    assert "frames has scenes, which are not drawn from a rig" in said
    assert not (tmp_path / "S").exists()


@pytest.mark.parametrize("option", [("--frames", "4"), ("--resolution", "64x48")])
def test_shapes_have_no_frames(tmp_path, option):
    code, said = pointcmt("render", "--dataset", "toy", "--out", tmp_path / "S", *option)
    assert code == 2
    assert "toy has no scenes" in said


def test_a_plan_of_scenes_is_told_without_rendering_it(recordings, tmp_path):
    source = ("render", "--dataset", "frames", "--root", recordings, "--out", tmp_path / "S")
    code, said = pointcmt(*source, *TINY, "--dry-run")
    assert code == 0
    assert "would store up to 4 frames of 32 × 24 pixels" in said
    assert not (tmp_path / "S").exists()
