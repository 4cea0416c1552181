"""Exports of segmenters and pre-trained encoders, and what cannot be exported."""

import json
from itertools import accumulate

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from pointcmt.errors import StoreError, UsageError
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.export.forms import ENCODER, FORMS, REFUSED, SEGMENTER
from pointcmt.training.export.networks import as_strings, export, load_exported
from pointcmt.training.export.onnx import TOLERANCE, Ends, to_onnx
from pointcmt.training.loop import train
from pointcmt.training.pipeline import train_pipeline
from pointcmt.training.recipes import RECIPES
from pointcmt.training.runs.checkpoint import read_weights
from tests.training.export.onnx_inputs import clouds, session
from tests.training.stores import CLASSES, PARTS, small_config
from tests.training.test_whole_recipes import pipeline_config

pytestmark = pytest.mark.usefixtures("small_resnet")

OWN = {"classes": 3, "parts": {"a": ["x", "y"], "b": ["x"], "c": ["x", "y", "z"]}}


@pytest.fixture(scope="module")
def segmenter(make_store, tmp_path_factory):
    """A run that segments, and its store."""
    store, out = make_store(parts=True), tmp_path_factory.mktemp("parts") / "P"
    train(store, small_config("partseg", "load=none", epochs=2), out, device="cpu")
    return out, store


@pytest.fixture(scope="module")
def encoder(rendered, tmp_path_factory):
    """A pre-trained network."""
    out = tmp_path_factory.mktemp("mvnet") / "M"
    train(rendered, small_config("mvnet", epochs=1), out, device="cpu")
    return out


def test_onnx_runtime_segments_the_test_split_as_evaluate_does(segmenter, tmp_path):
    run, store = segmenter
    report = evaluate(run, store, device="cpu")
    exported = export(run, "onnx", tmp_path / "P.onnx")
    assert exported.difference <= TOLERANCE
    ready = session(exported.path)
    rows = np.flatnonzero(store.splits == 1)
    points, category = store.read("points", rows), store.labels[rows]
    (logits,) = ready.run(["logits"], {"points": points, "category": category})
    facts = {k: json.loads(v) for k, v in ready.get_modelmeta().custom_metadata_map.items()}
    assert facts == exported.facts
    assert facts["parts"] == PARTS
    counts = [len(names) for names in facts["parts"].values()]
    first = [0, *accumulate(counts)]
    assert logits.shape == (len(rows), points.shape[1], first[-1])
    for own, label, found in zip(logits, category, report.predicted, strict=True):
        assert np.array_equal(own[:, first[label] : first[label + 1]].argmax(axis=1), found)
    assert 0 < report.measures["point_accuracy"] < 1


def test_a_segmenter_is_loaded_from_its_exported_file_alone(segmenter, tmp_path):
    run, store = segmenter
    exported = export(run, "safetensors", tmp_path / "P.safetensors", "last")
    model, facts = load_exported(exported.path)
    assert facts == exported.facts
    wanted = read_weights(run / "last")[1]
    found = model.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    rows = np.array([0, 20, 40])
    given = torch.from_numpy(store.read("points", rows)), torch.from_numpy(store.labels[rows])
    parts = {"parts": {name: tuple(names) for name, names in PARTS.items()}}
    config = small_config("partseg", "load=none").model_copy(update=parts)
    recipe = RECIPES["partseg"](config, len(CLASSES), False)
    recipe.model.load_state_dict(wanted)
    with torch.no_grad():
        assert torch.equal(model(*given), recipe.model.eval()(*given))


def test_a_pretrained_encoder_is_exported_without_its_heads(encoder, rendered, tmp_path):
    exported = export(encoder, "onnx", tmp_path / "M.onnx")
    assert exported.difference <= TOLERANCE
    assert "classes" not in exported.describe()
    model, facts = load_exported(export(encoder, "safetensors", tmp_path / "M.safetensors").path)
    assert (facts["recipe"], facts["classes"], facts["class_names"]) == ("mvnet", 0, [])
    points = rendered.read("points", np.arange(3))[:, : facts["points"]]
    (features,) = session(exported.path).run(["features"], {"points": points})
    weights = read_weights(encoder / "best")[1]
    assert {f"backbone.{n}" for n in model.backbone.state_dict()} == {
        name for name in weights if name.startswith("backbone.")
    }
    with torch.no_grad():
        expected = model(torch.from_numpy(points)).numpy()
    assert features.shape == expected.shape == (3, facts["points"], 1024)
    assert np.abs(features - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize(
    ("name", "points", "form"),
    [
        ("dgcnn", 40, ENCODER),
        ("pointnet2", 512, SEGMENTER),
        pytest.param("dgcnn", 40, SEGMENTER, marks=pytest.mark.slow),
        pytest.param("pointnet2", 512, ENCODER, marks=pytest.mark.slow),
        pytest.param("pointvit-s", 64, SEGMENTER, marks=pytest.mark.slow),
        pytest.param("pointvit-s", 64, ENCODER, marks=pytest.mark.slow),
    ],
)
def test_each_dense_network_equals_torch_for_any_batch_and_number_of_points(name, points, form):
    torch.manual_seed(0)
    facts = {"backbone": name, **OWN}
    model = form.build(facts).train()
    ends = Ends(form.outputs, 3 if form.category else 0)

    def given(count, total):
        category = torch.arange(count) % 3
        return (torch.from_numpy(clouds(count, total, seed=count)), category)[: len(ends.inputs)]

    with torch.no_grad():
        model(*given(4, points))  # so that batch norms have seen data
    data, difference = to_onnx(model.eval(), points, {"made": "here"}, name, ends)
    assert difference <= 2e-5
    graph = onnx.load_from_string(data).graph
    shapes = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
              for v in graph.input]  # fmt: skip
    assert shapes == [["B", "N", 3], ["B"]][: len(ends.inputs)]
    ready = session(data)
    for count, total in ((1, points), (5, points), (2, points + 33)):
        batch = given(count, total)
        arrays = dict(zip(ends.inputs, (each.numpy() for each in batch), strict=True))
        (found,) = ready.run(list(ends.outputs), arrays)
        with torch.no_grad():
            expected = model(*batch).numpy()
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 2e-5 * np.abs(expected).max()


def test_every_recipe_has_a_form_or_a_reason(store, tmp_path):
    assert FORMS.keys() | REFUSED.keys() == RECIPES.keys()
    train_pipeline(store, pipeline_config(epochs=1), tmp_path / "RUN", device="cpu")
    for name, to, says in (
        ("cmpg", "onnx", "'cmpg' cannot be exported to onnx: a generator turns"),
        ("cmpg", "safetensors", "'cmpg' cannot be exported to safetensors: a generator turns"),
        ("teacher", "onnx", "'teacher' cannot be exported to onnx: ONNX files hold networks of"),
    ):
        with pytest.raises(UsageError, match=says) as caught:
            export(tmp_path / "RUN" / name, to, tmp_path / "x")
        assert "export one of: " in caught.value.fix
        assert ("teacher" in caught.value.fix) == (to == "safetensors")
    assert not (tmp_path / "x").exists()


def test_headers_that_do_not_fit_are_refused(segmenter, encoder, tmp_path):
    path = tmp_path / "x.safetensors"
    facts = export(segmenter[0], "safetensors", path).facts
    weights = load_exported(path)[0].state_dict()
    for change, says in (
        ({"parts": {}}, "not the parts of the classes"),
        ({"parts": {"ball": ["a"]}}, "not the parts of the classes"),
        ({"parts": {**PARTS, "rod": []}}, "each class needs one or more"),
        ({"parts": {**PARTS, "rod": ["x"] * 300}}, "each class needs one or more"),
        ({"parts": {**PARTS, "rod": ["x"]}}, "a different architecture"),
        ({"classes": 10**12}, "not the parts of the classes"),
        ({"backbone": "pointnet"}, "no network of this name"),
        ({"backbone": "pointnet2"}, "a different architecture"),
        ({"recipe": "cmpg"}, "holds a cmpg"),
    ):
        save_file(weights, path, as_strings({**facts, **change}))
        with pytest.raises(StoreError, match=says):
            load_exported(path)
    facts = export(encoder, "safetensors", path).facts
    weights = load_exported(path)[0].state_dict()
    save_file(weights, path, as_strings({**facts, "classes": 3}))
    with pytest.raises(StoreError):
        load_exported(path)
