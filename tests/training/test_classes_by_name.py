"""Evaluation matches classes by name: another order, a subset, another data set."""

import json

import numpy as np
import pytest

from pointcmt.errors import StoreError
from pointcmt.training.evaluation.classes import match_names
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.loop import train
from tests.commands import pointcmt
from tests.training import stores
from tests.training.stores import small_config


@pytest.fixture(scope="module")
def student(store, tmp_path_factory):
    """A student that has learned something: its predictions depend on the shape."""
    out = tmp_path_factory.mktemp("by-name") / "run"
    train(store, small_config("student", epochs=6), out, device="cpu")
    return out


@pytest.fixture(scope="module")
def segmenter(make_store, tmp_path_factory):
    out = tmp_path_factory.mktemp("by-name-parts") / "run"
    config = small_config("partseg", "load=none", epochs=3)
    train(make_store(parts=True), config, out, device="cpu")
    return out


def test_another_order_gives_the_same_numbers(student, store, make_store):
    """The same shapes, whose classes are numbered in another order."""
    turned = make_store(class_names=("rod", "plate", "ball"), test=(7, 6, 5), train=(14, 14, 14))
    straight = evaluate(student, store, device="cpu").as_json()
    other = evaluate(student, turned, device="cpu").as_json()
    assert straight["overall_accuracy"] > 0.3
    for key in ("overall_accuracy", "mean_class_accuracy", "per_class", "left_out"):
        assert other[key] == straight[key]
    assert list(other["per_class"]) == ["ball", "plate", "rod"]  # the run's order
    assert any("matched by name" in note for note in other["notes"])
    assert not any("matched by name" in note for note in straight["notes"])


def test_a_subset_gives_the_numbers_of_these_classes(student, store, make_store):
    whole = evaluate(student, store, device="cpu").per_class
    some = make_store(class_names=("plate",), train=(2,), test=(6,), val=(0,))
    report = evaluate(student, some, device="cpu")
    assert report.per_class["plate"] == whole["plate"]
    assert report.overall_accuracy == whole["plate"]["accuracy"]
    assert report.per_class["rod"]["shapes"] == 0
    assert report.left_out == {}


def test_unknown_classes_are_left_out_counted_and_said(student, store, make_store, messages):
    whole = evaluate(student, store, device="cpu").per_class
    other = make_store(
        class_names=("cone", "rod", "tent", "plate"),
        train=(2,) * 4,
        test=(3, 7, 4, 6),
        val=(0,) * 4,
    )
    messages()
    report = evaluate(student, other, device="cpu")
    assert report.shapes == 13
    assert report.as_json()["left_out"] == {"cone": 3, "tent": 4}
    for name in ("rod", "plate"):
        assert report.per_class[name] == whole[name]
    said = "7 shapes of 2 classes that the run does not know are left out: cone (3), tent (4)"
    assert said in report.as_json()["notes"]
    assert said in messages()
    assert "cone (3), tent (4)" in report.describe()
    saved = json.loads((student / "evaluation.json").read_text())
    assert saved["left_out"] == {"cone": 3, "tent": 4}
    assert saved["shapes"] == 13


def test_the_command_says_it_and_prints_it(student, make_store):
    other = make_store(class_names=("cone", "rod"), train=(2, 2), test=(3, 7), val=(0, 0))
    done = pointcmt("evaluate", student, "--data", other.path, "--device", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["left_out"] == {"cone": 3}
    assert report["per_class"]["rod"]["shapes"] == 7
    assert "cone (3)" in done.stdout
    assert "cone (3)" in done.stderr


def test_no_common_class_lists_both(student, make_store):
    other = make_store(class_names=("cone", "tent"), train=(2, 2), test=(3, 4), val=(0, 0))
    with pytest.raises(StoreError, match="no class in common") as caught:
        evaluate(student, other, device="cpu")
    assert "ball, plate, rod" in caught.value.what
    assert "cone, tent" in caught.value.what


def test_names_that_differ_in_case_and_spaces_are_the_same(student, make_store):
    assert match_names(["Night-Stand", "TV stand"], ["tv_stand", "night_stand"]).tolist() == [1, 0]
    # Exact names come first, and what is ambiguous is unknown.
    assert match_names(["a b", "A B"], ["A B"]).tolist() == [-1, 0]
    assert match_names(["x y"], ["x_y", "X Y"]).tolist() == [-1]
    assert match_names(["X_Y", "x-y"], ["x y"]).tolist() == [-1, -1]
    spelled = make_store(class_names=("PLATE", "Ball"), train=(2, 2), test=(6, 5), val=(0, 0))
    report = evaluate(student, spelled, device="cpu")
    assert report.per_class["plate"]["shapes"] == 6
    assert report.per_class["ball"]["shapes"] == 5


def part_store(folder, plan, parts):
    """A store whose parts have these names, in this order; a cone's points all have its first."""

    def number(name, points):
        if name not in OWN:
            return np.zeros(len(points), np.uint8)
        order = [parts[name].index(part) if part in parts[name] else 0 for part in OWN[name]]
        return np.array(order, np.uint8)[own_number(name, points)]

    own_number = stores.part_of_points
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "part_of_points", number)
        patch.setattr(stores, "PARTS", parts)
        return stores.write_store(folder, plan)


OWN = dict(stores.PARTS)


def test_parts_are_matched_by_class_and_by_name(segmenter, make_store, tmp_path):
    """The same points; classes and parts are numbered in another order, and one class is new."""
    straight = evaluate(segmenter, make_store(parts=True), device="cpu")
    turned = {"rod": ["bottom", "top", "middle"], "cone": ["tip"], "ball": ["lower", "upper"]}
    plan = stores.Plan(
        class_names=tuple(turned), train=(2, 2, 2), test=(7, 3, 5), val=(0, 0, 0), parts=True
    )
    report = evaluate(segmenter, part_store(tmp_path / "S", plan, turned), device="cpu")
    assert report.left_out == report.as_json()["left_out"] == {"cone": 3}
    assert report.shapes == 12
    for name in ("rod", "ball"):
        assert report.per_class[name] == straight.per_class[name]
    assert report.per_class["plate"]["shapes"] == 0
    assert "cone (3)" in report.describe()


def test_other_parts_are_refused(segmenter, tmp_path):
    other = part_store(tmp_path / "S", stores.Plan(parts=True), {**OWN, "ball": ["upper", "keel"]})
    with pytest.raises(StoreError, match="divide ball into different parts") as caught:
        evaluate(segmenter, other, device="cpu")
    assert "upper, lower in the run, upper, keel in the store" in caught.value.what
