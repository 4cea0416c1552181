"""The audit finds each planted fault and nothing else, and nothing in a clean store."""

from dataclasses import replace

import numpy as np
import pytest

from pointcmt.audit import findings as kinds
from pointcmt.audit.duplicates import Group
from pointcmt.audit.judgment import check_duplicates
from pointcmt.audit.leaks import check_cameras
from pointcmt.audit.rendered import find_rendered
from pointcmt.audit.run import audit, read_surface
from pointcmt.datasets.sources import list_shapes
from pointcmt.datasets.sources.toy import build
from pointcmt.datasets.store.creation import create
from pointcmt.datasets.store.storage import Storage
from pointcmt.errors import StoreError
from tests.audit.planted import planted, random_rotation, rolled, write_mesh
from tests.scene_stores import CONFIG, render_rooms
from tests.stores import render_listing, render_toy

ODD = ("chair", "table", "lamp", "mug", "airplane")  # half of the classes


def found(store):
    """The findings by kind."""
    findings = audit(store).findings
    by_kind = {finding.kind: finding for finding in findings}
    assert len(by_kind) == len(findings)
    return by_kind


def zoomed(images, factor, fill):
    """Images [O,V,H,W,...] enlarged about their center; what lies outside is `fill`."""
    H, W = images.shape[2:4]
    places = [((np.arange(n) + 0.5 - n / 2) / factor + n / 2) for n in (H, W)]
    rows, columns = (np.floor(place).astype(int) for place in places)
    picked = images[:, :, rows.clip(0, H - 1)][:, :, :, columns.clip(0, W - 1)]
    picked[:, :, (rows < 0) | (rows >= H)] = fill
    picked[:, :, :, (columns < 0) | (columns >= W)] = fill
    return picked


def test_a_clean_store_has_no_finding(toy_store):
    result = audit(toy_store)
    assert result.findings == ()
    assert result.ok
    text = result.describe()
    for word in ("cameras", "scale", "framing", "views", "coverage"):
        assert f"ok           {word}" in text
    assert "not checked  duplicates: 40 shapes of fewer than 512 points" in text


def test_another_camera_roll_for_half_of_the_classes(toy_store, tmp_path):
    """Images and cameras are rolled together, so that they still agree."""

    def edit(arrays, classes):
        odd = np.isin(classes, ODD)
        for name in ("rgb", "depth", "face_index"):
            arrays[name][odd], turn = rolled(arrays[name][odd])
        arrays["world_to_camera"][odd, :, :3] = turn @ arrays["world_to_camera"][odd, :, :3]

    store = planted(toy_store, tmp_path / "S", edit)
    by_kind = found(store)
    assert [*by_kind] == [kinds.CAMERAS]
    finding = by_kind[kinds.CAMERAS]
    assert set(finding.facts["classes"]) == set(ODD) or set(finding.facts["classes"]) == (
        set(store.class_names) - set(ODD)
    )
    assert finding.facts["accuracy"] > 2 * finding.facts["chance"]
    assert finding.facts["p"] <= 0.01
    assert "turned by up to 90.0°" in finding.what


def test_cameras_that_differ_without_telling_the_class(toy_store, tmp_path):
    def edit(arrays, classes):
        odd = np.random.default_rng(0).random(len(classes)) < 0.5
        for name in ("rgb", "depth", "face_index"):
            arrays[name][odd], turn = rolled(arrays[name][odd])
        arrays["world_to_camera"][odd, :, :3] = turn @ arrays["world_to_camera"][odd, :, :3]

    result = audit(planted(toy_store, tmp_path / "S", edit))
    assert result.ok
    assert any("do not reveal the class" in text for text in result.verdict.passed)


@pytest.mark.parametrize(("apart", "sets"), [(1e-9, 1), (9e-5, 1), (1.1e-4, 2)])
def test_cameras_within_the_tolerance_are_equal(toy_store, tmp_path, apart, sets):
    """Wherever they lie: here about the middle between two multiples of the tolerance."""

    def edit(arrays, classes):
        middle = (np.round(arrays["world_to_camera"][0, 0, 0, 3] / 1e-4) + 0.5) * 1e-4
        odd = np.isin(classes, ODD)
        arrays["world_to_camera"][:, 0, 0, 3] = np.where(
            odd, middle - apart / 2, middle + apart / 2
        )

    verdict = check_cameras(find_rendered(planted(toy_store, tmp_path / "S", edit)))
    if sets == 1:
        assert verdict.passed == ("cameras: the same for all 40 shapes",)
    else:
        assert verdict.findings[0].facts["sets"] == sets


def test_cameras_that_differ_by_class_without_an_odd_class(toy_store, tmp_path):
    """Half of the shapes of each of five classes have cameras of their class alone."""

    def edit(arrays, classes):
        for place, name in enumerate(ODD):
            arrays["world_to_camera"][np.flatnonzero(classes == name)[:2], :, 0, 3] += place + 1

    store = planted(toy_store, tmp_path / "S", edit)
    (finding,) = check_cameras(find_rendered(store)).findings
    assert "cameras differ by class, turned by" in finding.what
    assert "than the rest" not in finding.what
    assert (finding.facts["classes"], finding.facts["sets"]) == ([], 6)
    assert {store.shapes[shape].class_name for shape in finding.shapes} == set(ODD)
    assert len(finding.shapes) == 10
    assert len(finding.rows) == 4


def test_images_rolled_without_their_cameras(toy_store, tmp_path):
    def edit(arrays, classes):
        odd = np.isin(classes, ["guitar", "airplane"])
        for name in ("rgb", "depth", "face_index"):
            arrays[name][odd], _ = rolled(arrays[name][odd])

    store = planted(toy_store, tmp_path / "S", edit)
    by_kind = found(store)
    assert [*by_kind] == [kinds.FRAMING]
    assert {store.shapes[i].class_name for i in by_kind[kinds.FRAMING].shapes} == {
        "guitar",
        "airplane",
    }


@pytest.mark.parametrize("factor", [1.25, 0.7])
def test_a_class_rendered_larger_or_smaller(toy_store, tmp_path, factor):
    """Normalized otherwise: points and cameras agree with the images."""

    def edit(arrays, classes):
        odd = classes == "lamp"
        arrays["points"][odd] *= factor
        for name, fill in (("rgb", 255), ("depth", 0), ("face_index", -1)):
            arrays[name][odd] = zoomed(arrays[name][odd], factor, fill)

    store = planted(toy_store, tmp_path / "S", edit)
    by_kind = found(store)
    by_kind.pop(kinds.CROPPED, None)  # what no longer fits into the image
    assert [*by_kind] == [kinds.SCALE]
    assert {store.shapes[i].class_name for i in by_kind[kinds.SCALE].shapes} == {"lamp"}
    assert len(by_kind[kinds.SCALE].shapes) == 4
    assert by_kind[kinds.SCALE].facts["p"] <= 0.01


def test_images_of_a_class_enlarged_alone(toy_store, tmp_path):
    def edit(arrays, classes):
        odd = classes == "mug"
        for name, fill in (("rgb", 255), ("depth", 0), ("face_index", -1)):
            arrays[name][odd] = zoomed(arrays[name][odd], 0.6, fill)

    store = planted(toy_store, tmp_path / "S", edit)
    by_kind = found(store)
    assert [*by_kind] == [kinds.FRAMING]
    assert {store.shapes[i].class_name for i in by_kind[kinds.FRAMING].shapes} == {"mug"}


def test_faulty_views_are_told_apart(toy_store, tmp_path):
    """An empty, a dark, a washed-out and a cropped view, each of another shape."""
    faults = {kinds.EMPTY: (3, 2), kinds.DARK: (8, 0), kinds.BRIGHT: (9, 5), kinds.CROPPED: (20, 1)}

    def edit(arrays, classes):
        arrays["depth"][faults[kinds.EMPTY]] = 0
        arrays["rgb"][faults[kinds.EMPTY]] = 255
        for kind, shade in ((kinds.DARK, 3), (kinds.BRIGHT, 250)):
            covered = arrays["depth"][faults[kind]][..., None] > 0
            arrays["rgb"][faults[kind]] = np.where(covered, shade, arrays["rgb"][faults[kind]])
        shape, view = faults[kinds.CROPPED]
        for name, fill in (("rgb", 255), ("depth", 0)):
            arrays[name][shape, view] = zoomed(arrays[name][shape][None], 4.0, fill)[0, view]

    store = planted(toy_store, tmp_path / "S", edit)
    by_kind = found(store)
    assert {kind: finding.facts["views"] for kind, finding in by_kind.items()} == {
        kind: [[store.shapes[shape].id, view]] for kind, (shape, view) in faults.items()
    }


def test_points_that_no_view_sees(toy_store, tmp_path):
    def edit(arrays, classes):
        arrays["visible"][7] = 0

    by_kind = found(planted(toy_store, tmp_path / "S", edit))
    assert {kind: finding.shapes for kind, finding in by_kind.items()} == {kinds.UNSEEN: (7,)}


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """12 different shapes, and copies of three of them: rotated, scaled, in other places."""
    root = tmp_path_factory.mktemp("twins")
    for name in ("chair", "lamp", "airplane"):
        for number in range(4):
            mesh = build(f"{name}/{number:04d}")
            split = "train" if number < 3 else "test"
            write_mesh(root / f"D/{name}/{split}/{name}{number}.off", mesh)
    copies = (
        ("chair/0000", "chair/train/third.off", 0.5),  # one more of the same, in the first split
        ("chair/0000", "chair/test/again.off", 3.0),  # across splits
        ("lamp/0001", "lamp/train/again.off", 0.2),  # within a split
        ("airplane/0002", "chair/train/plane.off", 40.0),  # as another class
    )
    for seed, (source, path, scale) in enumerate(copies):
        write_mesh(root / "D" / path, build(source), scale, random_rotation(seed))
    listing = list_shapes("folder", root / "D")
    return render_listing(listing, root / "S", points=1100, rig="ortho6")


def test_duplicates_and_conflicting_labels(twins):
    ids = [shape.id for shape in twins.shapes]
    by_kind = found(twins)
    assert {*by_kind} == {kinds.ACROSS, kinds.WITHIN, kinds.CONFLICTS}

    def groups(kind):
        found = by_kind[kind].facts["groups"]
        return sorted(sorted(ids.index(name) for name in group["ids"]) for group in found)

    def place(end):
        (number,) = [i for i, name in enumerate(ids) if name.endswith(end)]
        return number

    chairs, lamps = [place("chair0"), place("third")], [place("lamp1"), place("train/again")]
    conflict = [place("airplane2"), place("plane")]
    assert groups(kinds.ACROSS) == [sorted([*chairs, place("test/again")])]
    assert groups(kinds.WITHIN) == sorted(map(sorted, (chairs, lamps, conflict)))
    assert groups(kinds.CONFLICTS) == [sorted(conflict)]
    assert "1 group of duplicates (3 shapes)" in by_kind[kinds.ACROSS].what
    shown = by_kind[kinds.ACROSS].rows[0]
    assert {twins.shapes[tile.shape].split for tile in shown[::2][:2]} == {"train", "test"}
    for name in ("airplane2", "plane", "airplane, train", "chair, train"):
        assert name in by_kind[kinds.CONFLICTS].what


def test_only_points_that_are_compared_are_read(twins):
    surface = read_surface(twins, 3)
    assert np.array_equal(surface.points, twins.read("points", 3)[:1024])
    assert np.array_equal(surface.normals, twins.read("normals", 3)[:1024])


def test_of_shapes_with_one_view_that_view_is_shown(tmp_path):
    store = render_toy(tmp_path / "S", limit=2, rig="fibonacci1", points=64)
    (finding,) = check_duplicates(find_rendered(store), [Group((0, 1), 0.01)]).findings[:1]
    assert [(tile.shape, tile.view) for row in finding.rows for tile in row] == [(0, 0), (1, 0)]


def test_a_store_without_labels_and_correspondences(toy_store, tmp_path):
    root = tmp_path / "D"
    for number in range(3):
        write_mesh(root / f"{number}.off", build(f"car/{number:04d}"))
    store = render_listing(list_shapes("folder", root), tmp_path / "S", correspondences=False)
    result = audit(store)
    assert result.ok
    skipped = " ".join(result.verdict.skipped)
    assert "no correspondences" in skipped
    assert "fewer than two classes" in skipped

    def edit(arrays, classes):
        arrays["world_to_camera"][0, :, 0, 3] += 0.1

    other = planted(store, tmp_path / "other", edit, correspondences=False)
    (skipped,) = check_cameras(find_rendered(other)).skipped
    assert skipped.startswith("cameras differ between shapes: 2 sets of them; without classes")


def test_scenes_are_audited_for_faulty_frames_and_coverage(tmp_path):
    config = replace(CONFIG, frames=2, voxel=0.2)
    result = audit(render_rooms(tmp_path / "R", count=1, shard=1, config=config))
    assert result.ok
    assert any("coverage" in text for text in result.verdict.passed)
    assert any(text.startswith("scenes: cameras") for text in result.verdict.skipped)
    assert "1 scene" in result.describe()


def test_a_store_without_a_rendered_shape_is_refused(toy_store, tmp_path):
    attributes = {k: v for k, v in toy_store.attributes.items() if k != "plan_sha256"}
    empty = create(Storage(tmp_path / "S"), attributes, list(toy_store.shapes))
    with pytest.raises(StoreError, match="no shape of this store has been rendered yet"):
        audit(empty)
