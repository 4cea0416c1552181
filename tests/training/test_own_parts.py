"""Backbones, image networks and recipes from outside the package, through the real commands."""

import shutil
import sys

import pytest
import torch
from safetensors.torch import save_file

from pointcmt import plugins
from pointcmt.datasets.store.features import list_features, open_features
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import UsageError
from pointcmt.training.config.files import load_config
from pointcmt.training.export.networks import load_exported
from pointcmt.training.loop import train
from pointcmt.training.runs.folder import open_run
from tests.training.own_parts import OWN, begin, export_of, pointcmt, report_shapes
from tests.training.stores import small_config


@pytest.fixture
def own(installed, monkeypatch, tmp_path):
    """The current directory, with a module `own` that is not installed."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "own.py").write_text(OWN)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(folder))])
    monkeypatch.setattr(plugins, "_trusted", set())
    yield folder
    sys.modules.pop("own", None)


@pytest.mark.usefixtures("installed")
def test_an_installed_backbone_is_trained_evaluated_probed_and_exported(store, tmp_path):
    run = tmp_path / "RUN"
    begin("student", store, run, "model.backbone=outside-net")
    facts = open_run(run).facts
    assert facts["versions"]["outside-net"] == "outside-parts 1.2"
    assert set(pointcmt("evaluate", run, "--data", store.path)["per_class"]) == set(
        store.class_names
    )
    assert pointcmt("evaluate", run, "--data", store.path, "--probe", "svm")["svm"]
    for to in ("safetensors", "onnx"):
        made = pointcmt("export", run, "--to", to, "--out", tmp_path / f"net.{to}")
        assert made["facts"]["backbone"] == "outside-net"
    network, _ = load_exported(tmp_path / "net.safetensors")
    assert type(network).__name__ == "Net"


def test_code_named_in_a_run_is_imported_only_with_permission(own, store, tmp_path):
    run, file = tmp_path / "RUN", tmp_path / "net.safetensors"
    begin("student", store, run, "model.backbone=own:Net")
    assert open_run(run).facts["versions"]["own:Net"].startswith("sha256 ")
    (tmp_path / "c.yaml").write_text((run / "config.yaml").read_text())
    plugins._trusted.clear()
    sys.modules.pop("own")
    refused = (
        ("evaluate", run, "--data", store.path),
        ("export", run, "--to", "safetensors", "--out", file),
        ("train", "student", "--config", tmp_path / "c.yaml", "--data", store.path,
         "--out", tmp_path / "OTHER"),
    )  # fmt: skip
    for command in refused:
        with pytest.raises(UsageError, match="Python code that a file refers to") as caught:
            pointcmt(*command)
        assert "--trust own:Net" in caught.value.fix
    assert "own" not in sys.modules
    trust = ("--trust", "own:Net")
    assert "overall_accuracy" in pointcmt("evaluate", run, "--data", store.path, *trust)
    pointcmt("export", run, "--to", "safetensors", "--out", file, *trust)
    plugins._trusted.clear()
    with pytest.raises(UsageError, match="Python code that a file refers to"):
        load_exported(file)
    with pytest.raises(UsageError, match="does not have the form module:name"):
        pointcmt("evaluate", run, "--data", store.path, "--trust", "own")


def test_parts_of_entry_points_can_be_given_as_module_and_name(installed, monkeypatch):
    monkeypatch.setattr(plugins, "_trusted", set())
    assert plugins.find(plugins.BACKBONES, "outside_parts.networks:Net").__name__ == "Net"
    with pytest.raises(UsageError, match=r"outside_parts\.networks:IMAGES"):
        plugins.find(plugins.BACKBONES, "outside_parts.networks:IMAGES")


@pytest.mark.usefixtures("installed")
def test_pretraining_takes_an_outside_backbone_and_image_network(rendered, tmp_path):
    pre, parts = tmp_path / "PRE", tmp_path / "F"
    names = ("model.backbone=outside-net", "images.backbone=outside-images")
    begin("mvnet", rendered, pre, *names, "images.cache=true")
    versions = open_run(pre).facts["versions"]
    assert versions["outside-images"] == versions["outside-net"] == "outside-parts 1.2"
    facts = [open_features(rendered, key).facts for key in list_features(rendered)]
    assert [f["levels"] for f in facts if f["backbone"] == "outside-images"] == [
        [[16, 8, 8], [24, 4, 4]]
    ]
    for recipe in ("finetune", "partseg"):
        begin(recipe, rendered, parts / recipe, "model.backbone=''", f"init={pre}")
        assert open_run(parts / recipe).config.model.backbone == "outside-net"


@pytest.mark.usefixtures("installed")
def test_a_teacher_takes_an_outside_image_network_and_its_weights(store, tmp_path):
    from outside_parts.networks import Images

    torch.manual_seed(5)
    weights = Images().state_dict()
    (tmp_path / "weights").mkdir()
    save_file(weights, tmp_path / "weights/model.safetensors")
    run, override = tmp_path / "T", f"model.weights={tmp_path / 'weights'}"
    config = small_config("teacher", "model.backbone=outside-images", override, epochs=1)
    from pointcmt.training.recipes import build_recipe

    model = build_recipe(config, 3, True).model
    assert all(torch.equal(model.encoder.state_dict()[k], t) for k, t in weights.items())
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert "encoder.blocks.0.0.weight" in trained
    assert "encoder.head.weight" not in trained  # features do not use it
    feature = model.eval()(torch.zeros(1, 2, 32, 32, 3, dtype=torch.uint8))[1]
    assert feature.shape == (1, 512)
    begin("teacher", store, run, "model.backbone=outside-images", override)
    assert "overall_accuracy" in pointcmt("evaluate", run, "--data", store.path)
    begin("student", store, tmp_path / "S", f"teacher={run}", "distillation.method=features")
    file = tmp_path / "t.safetensors"
    pointcmt("export", run, "--to", "safetensors", "--out", file)
    assert type(load_exported(file)[0].encoder).__name__ == "Images"
    del weights["head.bias"]
    save_file(weights, tmp_path / "weights/model.safetensors")
    with pytest.raises(UsageError, match=r"do not match 1 tensors of outside-images, such as head"):
        build_recipe(config, 3, True)


@pytest.mark.parametrize("name", ["dinov3_vit", "siglip", "regnet", "clip", "sam2_hiera"])
def test_a_teacher_with_auto_uses_the_network_of_its_weights(name, make_store, folder_of, tmp_path):
    """Its run can be read, used by students and exported without the folder of weights."""
    from pointcmt.training.evaluation.evaluate import evaluate
    from pointcmt.training.export.networks import export
    from pointcmt.training.recipes.teacher_features import teacher_features

    store = ViewStore.open(shutil.copytree(make_store().path, tmp_path / "S"))
    folder = shutil.copytree(folder_of(name), tmp_path / "weights")
    size = "data.image_size=64" if name == "sam2_hiera" else "data.image_size=32"
    given = ("model.backbone=auto", f"model.weights={folder}", size)
    config = small_config("teacher", *given, epochs=1)
    train(store, config, tmp_path / "T", device="cpu")
    shutil.rmtree(folder)
    run = open_run(tmp_path / "T")
    assert run.config.model.architecture["statistics"] == [[0.4, 0.5, 0.6], [0.2, 0.25, 0.3]]
    report = evaluate(tmp_path / "T", store, device="cpu")
    known = teacher_features(store, run, report_shapes(store), torch.device("cpu"))
    assert torch.equal(known.logits.argmax(1), torch.from_numpy(report.predicted))
    export(tmp_path / "T", "safetensors", tmp_path / "t.safetensors")
    network, facts = load_exported(tmp_path / "t.safetensors")
    assert facts["backbone"] == "auto"
    images = torch.from_numpy(store.read("rgb", 0))[None]
    reread = load_exported(tmp_path / "t.safetensors")[0]
    torch.testing.assert_close(network(images), reread(images), rtol=0, atol=0)


def test_a_teacher_of_auto_needs_weights_that_name_a_network():
    for weights in ("hub", "random"):
        with pytest.raises(
            UsageError, match=f"'{weights}' does not identify one: use model__weights"
        ):
            small_config("teacher", "model.backbone=auto", f"model.weights={weights}")


def test_a_damaged_description_of_a_network_is_refused():
    from pointcmt.training.networks.mvcnn import build_mvcnn

    for table in (None, {}, {"kind": "vit", "config": {}, "statistics": [[0, 0, 0], [1, 1]]},
                  {"kind": "bert", "config": {}, "statistics": [[0, 0, 0], [1, 1, 1]]},
                  {"kind": "no", "config": {}, "statistics": [[0, 0, 0], [1, 1, 1]]}):  # fmt: skip
        with pytest.raises(UsageError):
            build_mvcnn("auto", "random", 3, 32, architecture=table)


@pytest.mark.usefixtures("installed")
def test_an_outside_recipe_is_trained_resumed_evaluated_and_exported(store, tmp_path):
    run = tmp_path / "RUN"
    command = ("train", "outside-recipe", "--data", store.path, "--device", "cpu")
    pointcmt(*command, "--out", run, "--epochs", 2)
    config = open_run(run).config
    assert (config.recipe, config.model.backbone) == ("outside-recipe", "outside-net")
    assert (run / "curve.png").exists()
    found = pointcmt("evaluate", run, "--data", store.path)
    assert "overall_accuracy" in found
    settings = load_config("outside-recipe", epochs=2)
    train(store, settings, tmp_path / "HALF", device="cpu", until=1)
    train(store, settings, tmp_path / "HALF", device="cpu")
    weights = [
        load_exported(export_of(folder, tmp_path / f"{folder.name}.safetensors"))[0].state_dict()
        for folder in (run, tmp_path / "HALF")
    ]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    again = load_config("outside-recipe", run / "config.yaml")
    assert again == config


def test_a_recipe_in_the_current_directory_is_given_as_module_and_name(own, store, tmp_path):
    run = tmp_path / "RUN"
    command = ("train", "own:RECIPE", "--data", store.path, "--out", run, "--device", "cpu")
    pointcmt(*command, "--epochs", 1, "--set", "model.backbone=own:Net")
    plugins._trusted.clear()
    with pytest.raises(UsageError, match="the recipe 'own:RECIPE' is Python code"):
        pointcmt("evaluate", run, "--data", store.path)
    both = ("--trust", "own:RECIPE", "--trust", "own:Net")
    assert "overall_accuracy" in pointcmt("evaluate", run, "--data", store.path, *both)
