"""Backbones, image networks and recipes from outside the package, through the real commands."""

import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from pointcmt import cli, plugins
from pointcmt.datasets.store.features import list_features, open_features
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import PointcmtError, UsageError
from pointcmt.training.config.files import load_config
from pointcmt.training.export.networks import load_exported
from pointcmt.training.loop import train
from pointcmt.training.runs.folder import open_run
from tests.outside import install
from tests.training.stores import SMALL, small_config

OWN = "from outside_parts.networks import IMAGES, Net\nfrom outside_parts.recipe import RECIPE\n"


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """The outside package, installed for one test."""
    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(install(tmp_path / "site"))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "outside_parts"]:
        del sys.modules[name]


@pytest.fixture
def own(installed, monkeypatch, tmp_path):
    """The current directory, with a module `own` that nobody has installed."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "own.py").write_text(OWN)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(folder))])
    monkeypatch.setattr(plugins, "_trusted", set())
    yield folder
    sys.modules.pop("own", None)


def pointcmt(*arguments):
    """Run a command in this process; returns what it prints with --json."""
    done = CliRunner().invoke(cli.app, [*map(str, arguments), "--json"])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout.splitlines()[-1])


def overrides(recipe, *more):
    return [word for text in (*SMALL[recipe], *more) for word in ("--set", text)]


def begin(recipe, store, out, *more):
    options = ("--data", store.path, "--out", out, "--epochs", 1, "--device", "cpu")
    return pointcmt("train", recipe, *options, *overrides(recipe, *more))


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


def test_code_that_a_run_names_is_imported_only_if_the_user_says_so(own, store, tmp_path):
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


def test_what_an_entry_point_names_may_be_named_as_module_and_name(installed, monkeypatch):
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
    assert "encoder.head.weight" not in trained  # no feature goes through it
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
def test_a_teacher_takes_whatever_its_weights_are_of(name, make_store, folder_of, tmp_path):
    """The run is read, resumed by its students and exported without the weights' folder."""
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


def report_shapes(store):
    from pointcmt.training.runs.splits import labeled

    return labeled(store, "test")[0]


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


def export_of(run, out):
    pointcmt("export", run, "--to", "safetensors", "--checkpoint", "last", "--out", out)
    return out


def test_a_recipe_of_the_current_directory_is_named_as_module_and_name(own, store, tmp_path):
    run = tmp_path / "RUN"
    command = ("train", "own:RECIPE", "--data", store.path, "--out", run, "--device", "cpu")
    pointcmt(*command, "--epochs", 1, "--set", "model.backbone=own:Net")
    plugins._trusted.clear()
    with pytest.raises(UsageError, match="the recipe 'own:RECIPE' is Python code"):
        pointcmt("evaluate", run, "--data", store.path)
    both = ("--trust", "own:RECIPE", "--trust", "own:Net")
    assert "overall_accuracy" in pointcmt("evaluate", run, "--data", store.path, *both)


BAD = """
import torch
from torch import nn
from pointcmt.training.networks.backbones.blocks import Prediction
from pointcmt.training.config.own_recipes import OwnRecipe
from pointcmt.training.config.sections import TrainConfig
from pointcmt.datasets.sources import Listing, Source
from pointcmt.datasets.store.schema import ShapeRecord

class Narrow(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.classifier = nn.Linear(256, classes)

class Net(nn.Module):
    answer = staticmethod(lambda x, logits: Prediction(logits, x.relu()))
    def __init__(self, classes):
        super().__init__()
        self.lift, self.classifier = nn.Linear(3, 512), nn.Linear(512, classes)
    def forward(self, points):
        x = self.lift(points.mean(dim=1))
        return self.answer(x, self.classifier(x))

class Tuple(Net):
    answer = staticmethod(lambda x, logits: (logits, x))

class Negative(Net):
    answer = staticmethod(lambda x, logits: Prediction(logits, -x.relu()))

class Points(Net):
    answer = staticmethod(lambda x, logits: Prediction(logits[:, :1], x.relu()))

def broken(classes):
    raise RuntimeError("out of ideas")

number = 5
recipe_without_defaults = OwnRecipe(TrainConfig, broken)
recipe_of_nothing = OwnRecipe(dict, broken)

def listing(*shapes, classes=("a",), up="z"):
    return Listing("", None, shapes, classes, up, "", "", None, ())

def lists_none(name, root): return listing()
def lists_a_list(name, root): return []
def lists_twice(name, root): return listing(*[ShapeRecord("a", "a", "train", "a.off")] * 2)
def lists_sideways(name, root): return listing(ShapeRecord("a", "a", "train", "a.off"), up="w")
def lists_strangers(name, root): return listing(ShapeRecord("a", "b", "train", "a.off"))
def lists_splits(name, root): return listing(ShapeRecord("a", "a", "valid", "a.off"))
def fails(name, root): return root / "x"
"""


@pytest.fixture
def bad(monkeypatch, tmp_path):
    (tmp_path / "bad_parts.py").write_text(BAD)
    (tmp_path / "bad_module.py").write_text("import no_such_library")
    (tmp_path / "worse_module.py").write_text("1 / 0")
    (tmp_path / "exits.py").write_text("import sys; sys.exit(5)")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("bad_parts", None)


@pytest.mark.usefixtures("bad")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no_module_at_all:Net", "module 'no_module_at_all' of"),
        ("bad_parts.sub:Net", "module 'bad_parts.sub' of"),
        ("bad_module:Net", "bad_module needs no_such_library"),
        ("worse_module:Net", "cannot be imported: ZeroDivisionError"),
        ("exits:Net", "cannot be imported: SystemExit"),
        ("bad_parts:Nett", "has no 'Nett'"),
        ("bad_parts:number", "must be callable"),
        ("bad_parts:listing", "must return an nn.Module, not a Listing"),
        ("bad_parts:broken", "fails: RuntimeError: out of ideas"),
        ("bad_parts:Narrow", r"must have the classifier nn.Linear\(512, 3\)"),
        ("bad_parts:Tuple", "must return a Prediction, not a tuple"),
        ("bad_parts:Negative", "negative values"),
        (
            "bad_parts:Points",
            r"must return logits \[2, 3\] for points \[2, 1024, 3\], not \[2, 1\]",
        ),
    ],
)
def test_a_backbone_that_is_none_is_said(name, says):
    from pointcmt.training.networks.backbones import build_backbone

    plugins.trust(name)
    with pytest.raises(UsageError, match=says) as caught:
        build_backbone(name, 3)
    assert caught.value.fix


@pytest.mark.usefixtures("bad")
def test_a_backbone_without_features_of_points_is_no_dense_one():
    from pointcmt.training.networks.backbones import build_backbone, build_dense

    plugins.trust("bad_parts:Net")
    state = torch.random.get_rng_state()
    assert build_backbone("bad_parts:Net", 3).training
    torch.random.set_rng_state(state)
    with pytest.raises(UsageError, match="must have local_width and least"):
        build_dense("bad_parts:Net", 3)


@pytest.mark.usefixtures("bad")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("bad_parts:number", "must be a Source or a function that returns a Listing, not a int"),
        ("bad_parts:Net", "must be a Source or a function that returns a Listing, not a type"),
        ("bad_parts:lists_none", "listed no shapes"),
        ("bad_parts:lists_a_list", "returned a list, not a Listing"),
        ("bad_parts:lists_twice", "several shapes with the same id"),
        ("bad_parts:lists_sideways", "up='w'"),
        ("bad_parts:lists_strangers", "whose class 'b' is not in class_names"),
        ("bad_parts:lists_splits", "in the split 'valid'"),
        ("bad_parts:fails", "failed to list its shapes: TypeError"),
    ],
)
def test_a_source_that_is_none_is_said(name, says):
    from pointcmt.datasets.sources import list_shapes

    plugins.trust(name)
    with pytest.raises(UsageError, match=says):
        list_shapes(name, None)


@pytest.mark.usefixtures("bad")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("bad_parts:number", "must be an OwnRecipe, not a int"),
        ("bad_parts:recipe_of_nothing", "not a subclass of TrainConfig"),
        ("bad_parts:recipe_without_defaults", "not valid with its defaults: epochs"),
    ],
)
def test_a_recipe_that_is_none_is_said(name, says):
    with pytest.raises(UsageError, match=says):
        load_config(name)


@pytest.mark.usefixtures("bad")
def test_an_image_network_that_is_none_is_said():
    from pointcmt.training.images.networks import named_network

    plugins.trust("bad_parts:Net")
    with pytest.raises(UsageError, match="must be an ImageNetwork, not a type"):
        named_network("bad_parts:Net")


@pytest.mark.usefixtures("installed")
def test_a_typo_is_answered_with_the_nearest_name_installed_ones_too():
    with pytest.raises(UsageError, match=r"did you mean 'outside-net'"):
        load_config("student", None, ["model.backbone=outside-nett"])
    with pytest.raises(UsageError, match=r"did you mean 'outside-recipe'"):
        load_config("outside-recip")
    with pytest.raises(PointcmtError, match=r"did you mean 'outside-boxes'"):
        pointcmt("render", "--dataset", "outside-boxe", "--out", "S")


@pytest.mark.usefixtures("installed")
def test_two_packages_with_one_name_are_told_apart(monkeypatch, tmp_path):
    folder = tmp_path / "site/other-2.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 2\n")
    (folder / "entry_points.txt").write_text("[pointcmt.backbones]\noutside-net = os:abort\n")
    with pytest.raises(UsageError, match="several packages") as caught:
        plugins.find(plugins.BACKBONES, "outside-net")
    assert "outside_parts.networks:Net" in caught.value.fix
