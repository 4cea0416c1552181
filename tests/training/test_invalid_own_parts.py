"""Invalid parts from outside the package are reported by name."""

import sys

import pytest
import torch

from pointcmt import plugins
from pointcmt.errors import PointcmtError, UsageError
from pointcmt.training.config.files import load_config
from tests.training.own_parts import pointcmt

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
def test_an_invalid_backbone_is_reported(name, says):
    from pointcmt.training.networks.backbones import build_backbone

    plugins.trust(name)
    with pytest.raises(UsageError, match=says) as caught:
        build_backbone(name, 3)
    assert caught.value.fix


@pytest.mark.usefixtures("bad")
def test_a_backbone_without_point_features_is_not_a_dense_one():
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
def test_an_invalid_source_is_reported(name, says):
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
def test_an_invalid_recipe_is_reported(name, says):
    with pytest.raises(UsageError, match=says):
        load_config(name)


@pytest.mark.usefixtures("bad")
def test_an_invalid_image_network_is_reported():
    from pointcmt.training.images.networks import named_network

    plugins.trust("bad_parts:Net")
    with pytest.raises(UsageError, match="must be an ImageNetwork, not a type"):
        named_network("bad_parts:Net")


@pytest.mark.usefixtures("installed")
def test_a_typo_is_refused_with_the_nearest_name_also_of_installed_parts():
    with pytest.raises(UsageError, match=r"did you mean 'outside-net'"):
        load_config("student", None, ["model.backbone=outside-nett"])
    with pytest.raises(UsageError, match=r"did you mean 'outside-recipe'"):
        load_config("outside-recip")
    with pytest.raises(PointcmtError, match=r"did you mean 'outside-boxes'"):
        pointcmt("render", "--dataset", "outside-boxe", "--out", "S")


@pytest.mark.usefixtures("installed")
def test_two_packages_with_the_same_entry_point_name_are_refused(monkeypatch, tmp_path):
    folder = tmp_path / "site/other-2.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 2\n")
    (folder / "entry_points.txt").write_text("[pointcmt.backbones]\noutside-net = os:abort\n")
    with pytest.raises(UsageError, match="several packages") as caught:
        plugins.find(plugins.BACKBONES, "outside-net")
    assert "outside_parts.networks:Net" in caught.value.fix
