"""Normals as input: augmented, read, trained on, evaluated, predicted and exported with points."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize as unit

import pointcmt as pc
from pointcmt.datasets.streams import evaluation_config, open_stream
from pointcmt.errors import MisfitError, UsageError
from pointcmt.input_frame import AS_STORED, InputFrame
from pointcmt.training.config.files import load_config
from pointcmt.training.config.sections import Augmentation
from pointcmt.training.evaluation.classifier import predict
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.evaluation.probe import probe
from pointcmt.training.evaluation.published import FileOptions, open_file
from pointcmt.training.export.networks import export, load_exported
from pointcmt.training.loop import train
from pointcmt.training.recipes import build_recipe
from pointcmt.training.recipes.augmentation import augment
from pointcmt.training.runs.pretrained import resolve_config, start_from
from tests.test_input_frame import pc_normalize
from tests.training import textbooks
from tests.training.runs.published_files import Yanx27
from tests.training.runs.yanx27_files import Yanx27PointNetParts
from tests.training.stores import PARTS, small_config

Y_UP = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float32)  # turns +Z up into +Y up
EVERYTHING = Augmentation(
    point_dropout=0.5, scale=(0.5, 2.0), rotation=180.0, shift=0.3, jitter=0.0, normalize=True
)


def test_normals_stay_orthogonal_to_the_surface_under_every_change():
    """Points are in threes that span a plane each, with its normal."""
    rng = torch.Generator().manual_seed(0)
    corners = torch.randn(20, 30, 3, 3, generator=rng, dtype=torch.float64)
    edges = corners[:, :, 1:] - corners[:, :, :1]
    normals = unit(torch.linalg.cross(edges[:, :, 0], edges[:, :, 1]), dim=2)
    rows = torch.cat([corners, normals[:, :, None].expand_as(corners)], dim=3).flatten(1, 2)
    settings = EVERYTHING.model_copy(update={"point_dropout": 0.0})
    changed = augment(rows, settings, AS_STORED, torch.Generator().manual_seed(1))
    changed = changed.view(20, 30, 3, 6)
    edges = unit(changed[:, :, 1:, :3] - changed[:, :, :1, :3], dim=3)
    after = changed[..., 0, 3:]
    assert (edges * after[:, :, None]).sum(dim=3).abs().max() < 1e-9
    torch.testing.assert_close(after.norm(dim=2), torch.ones(20, 30, dtype=torch.float64))
    assert (after * normals).sum(dim=2).abs().mean() < 0.9  # they have turned


def test_points_with_normals_change_like_points_alone():
    """The same numbers are drawn, so that runs with and without normals can be compared."""
    rows = torch.randn(4, 50, 6, generator=torch.Generator().manual_seed(0))
    settings = EVERYTHING.model_copy(update={"jitter": 0.02})
    both = augment(rows, settings, AS_STORED, torch.Generator().manual_seed(1))
    alone = augment(rows[..., :3], settings, AS_STORED, torch.Generator().manual_seed(1))
    assert torch.equal(both[..., :3], alone)
    still = augment(rows, Augmentation(scale=(0.5, 2.0), isotropic=True, jitter=0.1), AS_STORED,
                    torch.Generator().manual_seed(2))  # fmt: skip
    assert torch.equal(still[..., 3:], rows[..., 3:])


@pytest.fixture(scope="module")
def run(modelnet_clouds, tmp_path_factory):
    """A PointNet of one epoch that takes positions and normals, +Y up."""
    folder = tmp_path_factory.mktemp("normals") / "run"
    settings = ["data.points=64", "data.batch_size=2", "data.validation=0.3", "data.normals=true"]
    config = load_config("student", None, settings, epochs=1)
    train(modelnet_clouds[1], config, folder, "cpu")
    return folder


def test_a_run_with_normals_is_evaluated_predicted_and_exported(modelnet_clouds, run, tmp_path):
    """All of these give the same classes, from the store and from files."""
    store = modelnet_clouds[1]
    report, shapes = evaluate(run, store, device="cpu"), np.flatnonzero(store.splits == 1)
    points, normals = (store.read(name, shapes)[:, :64] for name in ("points", "normals"))
    loaded = pc.load_run(run)
    assert loaded.frame["up"] == "y"
    with torch.no_grad():
        stored = torch.from_numpy(np.concatenate([points, normals], axis=2))
        logits = loaded.logits(stored)
        assert np.array_equal(logits.argmax(dim=1).numpy(), report.predicted)
        flat = torch.from_numpy(np.concatenate([points, 0 * normals], axis=2))
        assert not torch.allclose(loaded.logits(flat), logits)  # normals count
    voted = evaluate(run, store, votes=2, device="cpu")
    assert voted.shapes == report.shapes
    files = [f"{store.attributes['source']['root']}/{store.shapes[n].source}" for n in shapes]
    for targets, split in ((store.path,), "test"), (files, None):
        found = pc.predict(run, *targets, split=split)
        guessed = [store.class_names.index(shape.predicted) for shape in found.shapes]
        assert guessed == report.predicted.tolist()
    export(run, "safetensors", tmp_path / "a.safetensors")
    model, facts = load_exported(tmp_path / "a.safetensors")
    assert facts["normals"] is True
    assert "[B, N, 6] float32, positions and unit normals" in facts["input"]
    with torch.no_grad():
        placed = points - points.mean(axis=1, keepdims=True)
        placed = placed / np.linalg.norm(placed, axis=2).max(axis=1)[:, None, None]
        rows = torch.from_numpy(np.concatenate([placed @ Y_UP, normals @ Y_UP], axis=2))
        torch.testing.assert_close(model(rows).logits, logits, rtol=1e-4, atol=1e-4)
    assert export(run, "onnx", tmp_path / "a.onnx").difference < 1e-4


def test_features_of_a_run_with_normals_are_probed(modelnet_clouds, run):
    report = probe(run, modelnet_clouds[1], device="cpu")[0]
    assert report.as_json()["width"] == 512


def test_a_file_with_normals_is_evaluated_as_its_authors_would(modelnet_clouds, tmp_path):
    """Both are read from the clouds' files, turned like the benchmark's."""
    store = modelnet_clouds[1]
    torch.manual_seed(0)
    theirs = Yanx27(False, 6).eval()
    textbooks.disturb(theirs)
    torch.save({"model_state_dict": theirs.state_dict()}, tmp_path / "best_model.pth")
    shapes = np.flatnonzero(store.splits == 1)
    rows = []
    for shape in shapes.tolist():
        path = f"{store.attributes['source']['root']}/{store.shapes[shape].source}"
        chosen = np.loadtxt(path, delimiter=",")[store.read("point_face", shape)]
        rows.append(np.concatenate([pc_normalize(chosen[:, :3]), chosen[:, 3:]], axis=1))
    with torch.no_grad():
        expected = theirs.double().logits(torch.from_numpy(np.stack(rows))).log_softmax(dim=1)
    opened, notes = open_file(tmp_path / "best_model.pth", store, FileOptions(points=512), 1, "cpu")
    assert any("normals" in note for note in notes)
    stream = open_stream(store, shapes, evaluation_config(opened.recipe.stream, 4))
    found = predict(opened.recipe, stream).double()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert (found[0] - found[1]).abs().max() > 1e-3
    for wrong, error in (("dgcnn", UsageError), ("pointnet", MisfitError)):
        with pytest.raises(error) as caught:
            open_file(tmp_path / "best_model.pth", store, FileOptions(wrong, 512), 1, "cpu")
        assert caught.value.fix == "use --backbone pointnet2-ssg, or leave out --backbone"


def test_a_file_for_parts_is_evaluated_as_its_authors_would(make_store, tmp_path):
    """The parts of the category are the only ones that count."""
    store = make_store(parts=True)
    torch.manual_seed(0)
    counts = [len(names) for names in PARTS.values()]
    theirs = Yanx27PointNetParts(sum(counts), 6, len(PARTS)).eval()
    textbooks.disturb(theirs)
    torch.save({"model_state_dict": theirs.state_dict()}, tmp_path / "best_model.pth")
    options, file = FileOptions(points=64), tmp_path / "best_model.pth"
    opened, _ = open_file(file, store, options, 1, "cpu")
    shapes = np.flatnonzero((store.splits == 1) & (store.status() == 1))
    points = np.stack([pc_normalize(cloud) for cloud in store.read("points", shapes)])
    rows = np.concatenate([points @ Y_UP, store.read("normals", shapes) @ Y_UP], axis=2)
    labels = torch.from_numpy(store.labels[shapes].astype(np.int64))
    (batch,) = open_stream(store, shapes, evaluation_config(opened.recipe.stream, len(shapes)))
    with torch.no_grad():
        scores = theirs.double()(torch.from_numpy(rows).double(), labels)
        found = opened.recipe.logits(opened.recipe.model.eval(), batch).double()
    firsts = np.cumsum([0, *counts])
    for row, label in enumerate(labels.tolist()):
        own = scores[row, :, firsts[label] : firsts[label + 1]]
        torch.testing.assert_close(found[row, :, : counts[label]], own, rtol=1e-4, atol=1e-4)
        assert found[row, :, counts[label] :].isneginf().all()  # parts of other categories
    assert (scores[0] - scores[1]).abs().max() > 1e-2
    report = evaluate(file, store, device="cpu", file=options)
    assert np.array_equal(report.predicted, found.argmax(dim=2).numpy())
    assert report.describe().startswith("pointnet-part-seg, the file best_model.pth, 18 test")
    with pytest.raises(UsageError, match="2048 points per shape, but the store has 64"):
        evaluate(tmp_path / "best_model.pth", store, device="cpu")


def test_a_published_network_for_parts_is_trained_and_started_from(make_store, tmp_path):
    store = make_store(parts=True)
    settings = ["load=none", "model.backbone=pointnet-part-seg", "data.normals=true"]
    train(store, small_config("partseg", *settings, epochs=1), tmp_path / "a", device="cpu")
    assert 0 < evaluate(tmp_path / "a", store, device="cpu").measures["instance_miou"] < 1
    settings = ["load=all", "model.backbone=''", f"init={tmp_path / 'a'}"]  # normals as in a
    config = small_config("partseg", *settings, epochs=1)
    train(store, config, tmp_path / "b", device="cpu")
    export(tmp_path / "b", "safetensors", tmp_path / "b.safetensors")
    model, facts = load_exported(tmp_path / "b.safetensors")
    assert facts["backbone"] == "pointnet-part-seg"
    assert model(torch.rand(2, 64, 6), torch.tensor([0, 2])).shape == (2, 64, 7)


def test_networks_that_take_no_normals_are_refused_before_training(modelnet_clouds, tmp_path):
    settings = ["data.points=64", "data.batch_size=2", "data.normals=true", "data.validation=0.3"]
    config = load_config("student", None, [*settings, "model.backbone=dgcnn"], epochs=1)
    with pytest.raises(UsageError, match="dgcnn takes no normals") as caught:
        train(modelnet_clouds[1], config, tmp_path / "run", "cpu")
    assert caught.value.where == "data.normals"
    assert InputFrame() == AS_STORED


def test_normals_are_those_of_the_run_to_start_from(modelnet_clouds, run, tmp_path):
    store = modelnet_clouds[1]
    config = small_config("finetune", "model.backbone=''", f"init={run}")
    assert not config.data.normals
    resolved = resolve_config(config, store)
    assert resolved.data.normals
    assert resolved.model.backbone == "pointnet"
    model = build_recipe(resolved, len(store.class_names), False).model
    (note,) = start_from(resolved, model, store.class_names)
    assert note.startswith(f"load={resolved.load} from {run}")
    without = small_config("finetune", "load=none", "model.backbone=pointnet", f"init={run}")
    assert not resolve_config(without, store).data.normals
    other = small_config("finetune", "model.backbone=dgcnn", f"init={run}")
    assert not resolve_config(other, store).data.normals  # it takes none


def test_normals_that_the_run_to_start_from_does_not_take_are_refused(modelnet_clouds, tmp_path):
    settings = ["data.points=64", "data.batch_size=2", "data.validation=0.3"]
    config = load_config("student", None, settings, epochs=1)
    train(modelnet_clouds[1], config, tmp_path / "run", "cpu")
    config = small_config(
        "finetune", "model.backbone=''", "data.normals=true", f"init={tmp_path / 'run'}"
    )
    with pytest.raises(UsageError, match="takes no normals") as caught:
        resolve_config(config, modelnet_clouds[1])
    assert "data.normals=false" in caught.value.fix.replace("__", ".")
