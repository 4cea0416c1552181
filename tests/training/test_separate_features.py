"""Training from read-only stores: image features are kept in a separate place."""

import os
import shutil
from pathlib import Path

import pytest

from pointcmt.datasets.enclosing import require_outside
from pointcmt.datasets.store.features import FRESH, STALE, list_features, open_features
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import StoreError, UsageError
from pointcmt.training.loop import train
from pointcmt.training.networks.backbones import BACKBONES, DENSE
from tests.stores import tree
from tests.training.equal_runs import metrics
from tests.training.plain_dense import PlainDense
from tests.training.stores import small_config

pytestmark = pytest.mark.usefixtures("small_resnet", "plain")


@pytest.fixture
def plain(monkeypatch):
    """Replace `dgcnn` by a network that takes a millisecond."""
    monkeypatch.setitem(DENSE, "dgcnn", PlainDense)
    monkeypatch.setitem(BACKBONES, "dgcnn", PlainDense)


def read_only(path):
    """Remove write permission from every folder of a store; only root ignores this."""
    for folder, _, _ in os.walk(path):
        os.chmod(folder, 0o555)


def writable(path):
    for folder, _, _ in os.walk(path):
        os.chmod(folder, 0o755)


@pytest.fixture
def stores(store, rendered, tmp_path):
    """A read-only store without features for each recipe."""
    found = {}
    for recipe, each in (("student", store), ("mvnet", rendered)):
        found[recipe] = Path(shutil.copytree(each.path, tmp_path / f"store of {recipe}"))
        for name in ("features", *(path.name for path in found[recipe].glob("commits/features-*"))):
            place = found[recipe] / (name if name == "features" else f"commits/{name}")
            shutil.rmtree(place, ignore_errors=True)
        read_only(found[recipe])
    yield found
    for path in found.values():
        writable(path)


@pytest.mark.parametrize("recipe", ["student", "mvnet"])
def test_a_recipe_trains_equally_without_writing_to_the_store(stores, recipe, tmp_path):
    path, features, before = stores[recipe], tmp_path / "F", tree(stores[recipe])
    if recipe == "student":
        teacher = small_config("teacher", epochs=1)
        train(ViewStore.open(path, features=features), teacher, tmp_path / "T", device="cpu")
        config = small_config(
            "student", "distillation.feature.weight=0", epochs=1, teacher=str(tmp_path / "T")
        )
    else:
        config = small_config("mvnet", "images.cache=true", epochs=1)
    elsewhere = ViewStore.open(path, features=features)
    train(elsewhere, config, tmp_path / "elsewhere", device="cpu")
    assert tree(path) == before
    (key,) = list_features(elsewhere)
    states = open_features(elsewhere, key).states()
    assert FRESH in states.values()
    assert STALE not in states.values()
    kept = tree(features)
    assert len({name.partition("/")[0] for name in kept}) == 1

    again = ViewStore.open(path, features=features)
    train(again, config, tmp_path / "again", device="cpu")
    assert tree(features) == kept, "they are not computed twice"

    writable(path)
    train(ViewStore.open(path), config, tmp_path / "inside", device="cpu")
    assert metrics(tmp_path / "inside") == metrics(tmp_path / "elsewhere")
    inside = {name: data for name, data in tree(path).items() if name not in before}
    assert inside == {name.partition("/")[2]: data for name, data in kept.items()}


def test_features_of_two_stores_do_not_mix_in_one_place(stores, tmp_path):
    """Not even for data sets with the same names, whose roots do not tell them apart."""
    other = shutil.copytree(stores["mvnet"], tmp_path / "other")
    first, second = (
        ViewStore.open(path, features=tmp_path / "F") for path in (stores["mvnet"], other)
    )
    writable(other)
    assert first.identity == second.identity
    assert first.derived.path != second.derived.path


def test_a_read_only_store_is_reported_with_a_fix(stores, tmp_path):
    """Not even root can write to it."""
    writable(stores["mvnet"])
    (stores["mvnet"] / "features").write_text("in the way")
    config = small_config("mvnet", "images.cache=true", epochs=1)
    with pytest.raises(StoreError) as refused:
        train(ViewStore.open(stores["mvnet"]), config, tmp_path / "run", device="cpu")
    assert "--features" in refused.value.fix


def test_a_place_for_features_that_is_a_file_is_refused(stores, tmp_path):
    (tmp_path / "F").write_text("")
    config = small_config("mvnet", "images.cache=true", epochs=1)
    store = ViewStore.open(stores["mvnet"], features=tmp_path / "F")
    with pytest.raises(StoreError, match="is a file"):
        train(store, config, tmp_path / "run", device="cpu")


def test_a_place_for_features_inside_a_store_is_refused(stores):
    run = stores["mvnet"].parent / "run"
    for place in (stores["mvnet"], stores["mvnet"] / "rgb" / "deep", "", run, run / "features"):
        with pytest.raises(UsageError, match=r"inside the|is empty"):
            require_outside(str(place), run)
    require_outside(str(run.parent / "features"), run)
    require_outside("s3://bucket/features", run)
