"""Files of published weights, evaluated as their authors would: same input, same network."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import pointcmt as pc
from pointcmt.cli import app
from pointcmt.datasets.streams import evaluation_config, open_stream
from pointcmt.errors import StoreError, UsageError
from pointcmt.input_frame import InputFrame
from pointcmt.training.config.files import load_config
from pointcmt.training.evaluation.classifier import predict
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.evaluation.published import FileOptions, open_file
from pointcmt.training.export.networks import export, load_exported
from pointcmt.training.loop import train
from pointcmt.training.networks.backbones import build_backbone
from pointcmt.training.runs.published_weights import load_published
from tests.test_input_frame import pc_normalize
from tests.training import textbooks
from tests.training.runs.published_files import POINTS, Learning3D, PublishedDGCNN, Yanx27

NETWORKS = {
    "pointnet2-ssg": lambda: Yanx27(multi=False),
    "pointnet2-msg": lambda: Yanx27(multi=True),
    "dgcnn": PublishedDGCNN,
    "pointnet": Learning3D,
}


def published(name, folder):
    """A network of random weights and statistics, and a file of them with the published names."""
    torch.manual_seed(0)
    theirs = NETWORKS[name]()
    textbooks.disturb(theirs)
    named = theirs.published() if name == "dgcnn" else theirs.state_dict()
    torch.save({"model_state_dict": named, "epoch": 199}, folder / f"{name}.pth")
    return theirs.eval(), folder / f"{name}.pth"


def authors_input(modelnet_clouds, shapes, count):
    """The points that a store holds of these shapes, by the authors' loader, from the files."""
    clouds, store = modelnet_clouds
    rows = [store.read("point_face", shape)[:count] for shape in shapes.tolist()]
    own = [
        pc_normalize(clouds[store.shapes[shape].id][row])
        for shape, row in zip(shapes.tolist(), rows, strict=True)
    ]
    return torch.from_numpy(np.stack(own))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_published_head_gives_the_published_scores(name, tmp_path):
    """All of the file is loaded: nothing is reported as left out."""
    theirs, file = published(name, tmp_path)
    theirs, model = theirs.double(), build_backbone(name, 40, "published").double().eval()
    notes = load_published(file, model)
    assert not any("not loaded" in note for note in notes)
    with torch.no_grad():
        expected, found = theirs.logits(POINTS), model(POINTS).logits
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6 * expected.abs().max().item())
    assert (expected[0] - expected[1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["pointnet2-ssg", "pointnet"])
def test_evaluating_a_file_equals_the_authors_code_on_the_authors_input(
    name, modelnet_clouds, tmp_path
):
    store = modelnet_clouds[1]
    theirs, file = published(name, tmp_path)
    shapes = np.flatnonzero(store.splits == 1)
    points = authors_input(modelnet_clouds, shapes, 512)
    with torch.no_grad():
        expected = theirs.double().logits(points).log_softmax(dim=1)
    opened, _ = open_file(file, store, FileOptions(points=512), 1, "cpu")
    stream = open_stream(store, shapes, evaluation_config(opened.recipe.stream, 4))
    found = predict(opened.recipe, stream).double()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert (found[0] - found[1]).abs().max() > 1e-3

    report = evaluate(file, store, device="cpu", file=FileOptions(points=512))
    assert np.array_equal(report.predicted, expected.argmax(dim=1).numpy())
    assert np.array_equal(report.true, store.labels[shapes])
    assert report.describe().startswith(f"{name}, the file {name}.pth, 3 test shapes\n")
    assert any(InputFrame("y", "centroid").describe() in note for note in report.notes)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]  # nothing is written


def test_the_whole_train_split_is_evaluated(modelnet_clouds, tmp_path):
    """A file has no validation shapes of its own."""
    _, file = published("pointnet", tmp_path)
    store = modelnet_clouds[1]
    report = evaluate(file, store, "train", device="cpu", file=FileOptions(points=64))
    assert report.shapes == 6


def test_another_frame_gives_other_predictions(modelnet_clouds, tmp_path):
    store = modelnet_clouds[1]
    _, file = published("pointnet", tmp_path)
    shapes, found = np.flatnonzero(store.splits == 1), []
    for frame in (None, InputFrame("y", "centroid"), InputFrame()):
        opened, notes = open_file(file, store, FileOptions("pointnet", 64, frame), 1, "cpu")
        assert any("takes the points" in note for note in notes) == (frame != InputFrame())
        stream = open_stream(store, shapes, evaluation_config(opened.recipe.stream, 4))
        found.append(predict(opened.recipe, stream))
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2], atol=1e-3)


def test_files_are_evaluated_by_the_command(modelnet_clouds, tmp_path):
    store = modelnet_clouds[1]
    _, file = published("pointnet", tmp_path)
    given = ["evaluate", str(file), "--data", store.path, "--device", "cpu", "--points", "64"]
    more = ["--backbone", "pointnet", "--frame", "y,centroid,farthest", "--json"]
    done = CliRunner().invoke(app, [*given, *more])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])
    report = evaluate(file, store, device="cpu", file=FileOptions(points=64))
    assert told["overall_accuracy"] == report.overall_accuracy


def test_files_that_do_not_fit_are_refused_with_the_reason(modelnet_clouds, store, tmp_path):
    _, file = published("pointnet", tmp_path)
    clouds = modelnet_clouds[1]
    with pytest.raises(StoreError, match="this file has 40 classes, and the store 3"):
        evaluate(file, store, device="cpu", file=FileOptions(points=64))
    with pytest.raises(StoreError, match="a different architecture, pointnet"):
        evaluate(file, clouds, device="cpu", file=FileOptions("dgcnn", 64))
    with pytest.raises(UsageError, match="1024 points per shape, but the store has 512"):
        evaluate(file, clouds, device="cpu")
    with pytest.raises(UsageError, match="unknown backbone 'pointnt'"):
        evaluate(file, clouds, device="cpu", file=FileOptions("pointnt", 64))
    with pytest.raises(UsageError, match="votes must be at least 1"):
        evaluate(file, clouds, votes=0, device="cpu", file=FileOptions(points=64))
    with pytest.raises(UsageError, match="no checkpoints to choose from"):
        evaluate(file, clouds, which="last", device="cpu", file=FileOptions(points=64))
    torch.save({"a.weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
    with pytest.raises(UsageError, match="the network of this file is not known") as caught:
        evaluate(tmp_path / "other.pth", clouds, device="cpu")
    assert "--backbone" in caught.value.fix
    given = ["evaluate", str(tmp_path), "--data", clouds.path, "--points", "64"]
    done = CliRunner().invoke(app, given)
    assert isinstance(done.exception, UsageError)
    assert "this option is for files of weights" in done.exception.what


def test_a_student_with_the_published_head_starts_from_all_of_a_file(modelnet_clouds, tmp_path):
    """It trains, is evaluated and exported like any other."""
    theirs, file = published("pointnet", tmp_path)
    store, run = modelnet_clouds[1], tmp_path / "run"
    settings = [
        "data.points=64",
        "data.batch_size=2",
        "data.validation=0.3",
        "model.head=published",
    ]
    config = load_config("student", None, [*settings, f"init={file}"], epochs=1)
    train(store, config, run, "cpu")
    report = evaluate(run, store, device="cpu")
    loaded, shapes = pc.load_run(run), np.flatnonzero(store.splits == 1)
    assert loaded.frame == InputFrame("y", "centroid").as_json()
    assert loaded.classifier is loaded.network.classifier.last
    stored = torch.from_numpy(store.read("points", shapes)[:, :64])  # turned by `logits`
    with torch.no_grad():
        assert np.array_equal(loaded.logits(stored).argmax(dim=1).numpy(), report.predicted)
    files = [f"{store.attributes['source']['root']}/{store.shapes[n].source}" for n in shapes]
    for targets, split in ([store.path], "test"), (files, None):
        found = pc.predict(run, *targets, split=split)
        guessed = [store.class_names.index(shape.predicted) for shape in found.shapes]
        assert guessed == report.predicted.tolist()
    export(run, "safetensors", tmp_path / "student.safetensors")
    model, facts = load_exported(tmp_path / "student.safetensors")
    assert facts["head"] == "published"
    assert InputFrame("y", "centroid").describe() in facts["input"]
    assert model.classifier.last.weight.shape == theirs.linear3.weight.shape
    with pytest.raises(UsageError, match=r"needs model\.head=linear"):
        load_config("student", None, [*settings, "teacher=T"])
