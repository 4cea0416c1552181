"""`render --holdout SHARE`: a test split for data sets that have none."""

import json
from collections import Counter
from dataclasses import replace

import pytest

import pointcmt as pc
from pointcmt.datasets.sources import list_shapes, select
from pointcmt.datasets.sources.holdout import hold_out, place
from pointcmt.datasets.sources.listing import Listing
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import StoreError, UsageError
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.loop import train
from tests.commands import pointcmt
from tests.stores import render_listing
from tests.training.stores import small_config


def listing_of(counts, split="train"):
    shapes = tuple(
        ShapeRecord(f"{name}/{n}", name, split, f"{name}/{n}.off")
        for name, count in counts.items()
        for n in range(count)
    )
    names = tuple(name for name in counts if name is not None)
    return Listing("folder", None, shapes, names, "y", "", "", None, ())


def chosen(listing, share, seed=0):
    return {s.id for s in hold_out(listing, share, seed).shapes if s.split == "test"}


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_about_a_share_of_each_class_is_set_aside(share):
    """Within four standard deviations of a binomial distribution, for classes of all sizes."""
    counts = {"ball": 4000, "box": 1000, "rod": 100, None: 400}
    before = listing_of(counts)
    after = hold_out(before, share)
    assert [shape.id for shape in after.shapes] == [shape.id for shape in before.shapes]
    tested = Counter(shape.class_name for shape in after.shapes if shape.split == "test")
    for name, count in counts.items():
        assert abs(tested[name] - share * count) <= 4 * (count * share * (1 - share)) ** 0.5
    for old, new in zip(before.shapes, after.shapes, strict=True):
        assert new in (old, replace(old, split="test"))
    total = sum(counts.values())
    note = f"{tested.total()} of {total} train shapes are set aside as the test split"
    assert after.notes == (note,)
    assert hold_out(before, None) is before


def test_shapes_that_are_added_or_removed_do_not_change_the_choice():
    whole = listing_of({"ball": 30, "box": 20, "new": 40})
    everything = chosen(whole, 0.3)
    for part in (whole.shapes[:30], whole.shapes[10:60:3], whole.shapes[::-1], whole.shapes[5:]):
        ids = {shape.id for shape in part}
        assert chosen(replace(whole, shapes=part), 0.3) == everything & ids
    first = {f"{name}/{n}" for name, n in (("ball", 9), ("box", 6), ("new", 12)) for n in range(n)}
    assert everything != first
    assert chosen(whole, 0.1) < everything < chosen(whole, 0.6)


def test_the_choice_depends_on_the_seed_and_the_class():
    one = listing_of({"ball": 40, "box": 40})
    assert chosen(one, 0.3) != chosen(one, 0.3, seed=1)
    renamed = replace(one, shapes=tuple(replace(s, class_name="other") for s in one.shapes))
    assert chosen(one, 0.3) != chosen(renamed, 0.3)
    assert len({place(shape, 0) for shape in one.shapes}) == 80


def test_classes_that_lack_test_or_train_shapes_are_named():
    listing = listing_of({"ball": 200, **{f"c{n}": 1 for n in range(60)}})
    after = hold_out(listing, 0.2)
    tested, trained = (
        {s.class_name for s in after.shapes if s.split == split} for split in ("test", "train")
    )
    untested, untrained = trained - tested, tested - trained
    assert untested
    assert untrained
    _, no_test, no_train = after.notes
    assert no_test.startswith(f"{len(untested)} classes have no test shapes: ")
    assert no_train.startswith(f"{len(untrained)} classes have no train shapes: ")
    assert sorted(untested)[0] in no_test
    assert no_test.endswith(f"and {len(untested) - 5} more")


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 20, float("nan")])
def test_what_is_no_share(share):
    with pytest.raises(UsageError, match="is not a share"):
        hold_out(listing_of({"ball": 4}), share)


def test_where_there_is_nothing_to_set_aside():
    with pytest.raises(UsageError, match="has a test split of 4 shapes"):
        hold_out(listing_of({"ball": 4}, "test"), 0.2)
    with pytest.raises(UsageError, match="puts none of the 2 train shapes into the test split"):
        hold_out(listing_of({"ball": 1, "box": 1}), 1e-9)
    with pytest.raises(UsageError, match="puts all of the 2 train shapes") as caught:
        hold_out(listing_of({"ball": 1, "box": 1}), 1 - 1e-9)
    assert "a smaller share" in caught.value.fix
    with pytest.raises(UsageError, match="has a test split of"):
        hold_out(select(list_shapes("toy", None), None, 40), 0.2)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("files")
    for name, height in (("flat", 0.2), ("high", 3.0)):
        (root / name).mkdir()
        for n in range(6):
            z = height * (1 + n / 10)
            (root / name / f"{n}.off").write_text(
                f"OFF\n4 4 0\n0 0 0\n1 0 0\n0 1 0\n0 0 {z}\n3 0 1 2\n3 0 1 3\n3 1 2 3\n3 0 2 3\n"
            )
    return root


@pytest.mark.slow
def test_the_advice_of_evaluate_works(files, tmp_path):
    """From a folder without splits to test accuracy, following what the messages say."""
    small = ("--rig", "ortho6", "--size", 32, "--points", 64, "--workers", 1)
    render = ("render", "--dataset", "folder", "--root", files, *small)
    assert pointcmt(*render, "--out", tmp_path / "S").returncode == 0
    settings = ("--set", "data.points=64", "--set", "data.batch_size=4", "--epochs", 1)
    train_it = ("train", "student", *settings, "--device", "cpu")
    done = pointcmt(*train_it, "--data", tmp_path / "S", "--out", tmp_path / "R")
    assert done.returncode == 0, done.stderr
    assert "this store has no test split" in done.stderr
    assert "--holdout 0.2" in done.stderr
    judge = ("evaluate", tmp_path / "R", "--device", "cpu", "--json")
    refused = pointcmt(*judge, "--data", tmp_path / "S")
    assert refused.returncode == 1
    assert "--holdout 0.2" in refused.stderr
    assert "--split val" in refused.stderr
    assert pointcmt(*judge, "--data", tmp_path / "S", "--split", "val").returncode == 0
    made = pointcmt(*render, "--out", tmp_path / "H", "--holdout", 0.2)
    assert made.returncode == 0, made.stderr
    assert "6 of 12 train shapes are set aside as the test split" in made.stderr
    assert "train 6, test 6" in made.stderr
    again = pointcmt(*render, "--out", tmp_path / "H", "--holdout", 0.2, "--json")
    assert json.loads(again.stdout.splitlines()[-1])["skipped"] == 12
    done = pointcmt(*train_it, "--data", tmp_path / "H", "--out", tmp_path / "RH")
    assert "no test split" not in done.stderr
    tested = pointcmt("evaluate", tmp_path / "RH", "--data", tmp_path / "H", "--json")
    assert tested.returncode == 0, tested.stderr
    per_class = json.loads(tested.stdout.splitlines()[-1])["per_class"]
    assert {name: c["shapes"] for name, c in per_class.items()} == {"flat": 4, "high": 2}


def test_from_python(files, tmp_path):
    settings = {"rig": "ortho6", "size": 32, "points": 64, "workers": 1}
    pc.render("folder", root=files, out=tmp_path / "S", holdout=0.5, **settings)
    store = pc.open_store(tmp_path / "S")
    expected = {shape.id for shape in store if place(store.shapes[shape.index], 0) < 0.5}
    assert {shape.id for shape in store.select(split="test")} == expected
    with pytest.raises(UsageError) as caught:
        pc.render("folder", root=files, out=tmp_path / "T", holdout=2.0, **settings)
    assert "holdout=" in str(caught.value) or "holdout" in str(caught.value)


def test_the_message_in_python_names_the_argument(files, tmp_path):
    store = render_listing(list_shapes("folder", files), tmp_path / "S", points=64)
    config = small_config("student", epochs=1)
    train(store, config, tmp_path / "run", device="cpu")
    with pytest.raises(StoreError) as caught:
        evaluate(tmp_path / "run", store, device="cpu")
    assert "holdout=0.2" in str(caught.value)
    assert "split=val" in str(caught.value)
