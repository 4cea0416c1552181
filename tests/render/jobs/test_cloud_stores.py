"""Stores of clouds, from every layout of files."""

import json
import shutil

import numpy as np
import pytest

from pointcmt.cameras import Rig, View, find_rig
from pointcmt.datasets.sources import list_shapes, select
from pointcmt.datasets.store.schema import SPLITS, digest, encode_json
from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import Reason, UsageError
from pointcmt.render.config import RenderConfig, fit
from pointcmt.render.jobs.job import Job, create_store, job_of_store
from pointcmt.render.jobs.repair import repair
from pointcmt.render.jobs.run import Options, build_correspondences
from pointcmt.render.preview import preview
from tests.clouds import (
    SHAPES,
    banded_cloud,
    text_of,
    write_hdf5,
    write_shapenetpart_hdf5,
    write_shapenetpart_pts,
    write_shapenetpart_text,
)
from tests.commands import pointcmt
from tests.stores import render_listing, tree

SMALL = {"size": 48, "points": 100, "shard": 2}
IMAGES = ("rgb", "depth", "face_index")
POINTS = ("points", "normals", "point_face", "part", "visible")


def command(root, out, *more, dataset="shapenetpart"):
    sizes = ("--rig", "ortho6", "--size", 48, "--points", 100, "--shard-size", 2)
    return pointcmt("render", "--dataset", dataset, "--root", root, "--out", out, *sizes, *more)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """ShapeNetPart's text layout with five good shapes and four broken ones."""
    root = write_shapenetpart_text(tmp_path_factory.mktemp("parts"), SHAPES)
    points, normals, parts = banded_cloud("03001627", seed=9)
    broken = points.astype(float)
    broken[:, 1] = np.nan
    good = text_of(points, normals, parts)
    files = {
        "nan": text_of(broken, normals, parts),
        "part": text_of(points, normals, parts + 30),
        "cut": good[: good.rindex(" ")],
        "xyz": text_of(points),
    }
    for name, text in files.items():
        (root / "03001627" / f"{name}.txt").write_text(text)
    return root


BROKEN = {"nan": "not_finite", "part": "bad_index", "cut": "truncated", "xyz": "bad_syntax"}


@pytest.fixture(scope="session")
def finished(shapes, tmp_path_factory):
    """The store of `shapes`, rendered in this process."""
    out = tmp_path_factory.mktemp("finished") / "S"
    return render_listing(list_shapes("shapenetpart", shapes), out, **SMALL)


def done(store):
    """(id, index) of the shapes that are rendered."""
    return [
        (outcome.id, index)
        for index, outcome in enumerate(store.outcomes())
        if outcome.status == "done"
    ]


def test_a_job_with_two_workers_writes_the_same_bytes_and_lists_failures(
    shapes, finished, tmp_path
):
    run = command(shapes, tmp_path / "S", "--workers", 2, "--json")
    assert run.returncode == 3, run.stderr
    facts = json.loads(run.stdout.splitlines()[-1])
    assert (facts["planned"], facts["done"], facts["failed"]) == (9, 5, 4)
    reasons = {f["id"].split("/")[1]: f["reason"] for f in facts["failures"]}
    assert reasons == BROKEN
    assert "rendering with splat (a cloud)" in run.stderr
    assert tree(tmp_path / "S") == tree(finished.path)


def test_a_store_of_clouds_verifies_and_has_a_preview(finished, tmp_path):
    verdict = verify(finished.path)
    assert verdict.broken == ()
    assert verdict.pending == 0
    pictures = preview(finished, tmp_path, 5, 6)
    assert [path.name for path in pictures] == ["contact_sheet.png", "points.png", "index.html"]
    for outcome in finished.outcomes():
        if outcome.status == "done":
            assert (outcome.backend, outcome.faces) == ("splat", 120)


def test_points_equal_the_files_points_and_keep_their_parts(finished):
    assert len(done(finished)) == 5
    for shape_id, index in done(finished):
        synset, name = shape_id.split("/")
        split = SPLITS[finished.splits[index]]
        points, normals, parts = SHAPES[synset, name, split]
        chosen = finished.read("point_face", index)
        assert len(set(chosen.tolist())) == 100
        matrix = finished.read("source_to_world", index)
        world = points @ matrix[:3, :3].T + matrix[:3, 3]
        np.testing.assert_allclose(finished.read("points", index), world[chosen], atol=1e-6)
        turn = matrix[:3, :3] / np.linalg.norm(matrix[0, :3])
        turned = normals[chosen] @ turn.T
        np.testing.assert_allclose(finished.read("normals", index), turned, atol=1e-6)
        part = finished.read("part", index)
        np.testing.assert_array_equal(part, np.floor(points[chosen, 0]))  # its band of x
        first = parts.min()
        np.testing.assert_array_equal(part + first, parts[chosen])
        names = finished.attributes["part_names"][finished.shapes[index].class_name]
        assert part.max() < len(names)


def test_pixels_show_points_of_the_file_at_their_depth(finished):
    scale = finished.schema.depth_scale
    for shape_id, index in done(finished):
        synset, name = shape_id.split("/")
        split = SPLITS[finished.splits[index]]
        matrix = finished.read("source_to_world", index)
        world = SHAPES[synset, name, split][0] @ matrix[:3, :3].T + matrix[:3, 3]
        face, depth = finished.read("face_index", index), finished.read("depth", index)
        camera = finished.camera(index)
        radius = finished.attributes["render"]["splat"]
        for view in range(len(camera)):
            row, column = np.nonzero(face[view] >= 0)
            assert len(row) > 50
            uv, reach = camera[view].project(world)
            shown = face[view, row, column]
            away = uv[shown] - np.stack([column, row], axis=1) - 0.5
            assert np.linalg.norm(away, axis=1).max() <= radius + 1e-4
            assert np.abs(depth[view, row, column] * scale - reach[shown]).max() < 1e-4


def test_every_layout_gives_the_same_shapes(tmp_path):
    shapes = {key: (p, np.zeros_like(n), part) for key, (p, n, part) in SHAPES.items()}
    roots = [
        write_shapenetpart_text(tmp_path / "text", shapes),
        write_shapenetpart_pts(tmp_path / "pts", shapes),
        write_shapenetpart_hdf5(tmp_path / "pid", shapes, "ply_data_", "pid"),
        write_shapenetpart_hdf5(tmp_path / "seg", shapes, "", "seg"),
    ]
    stores = [
        render_listing(list_shapes("shapenetpart", root), tmp_path / f"S-{root.name}", **SMALL)
        for root in roots
    ]
    for store in stores:
        assert verify(store.path).ok
        assert len(done(store)) == 5
    key = [(s.class_name, s.split) for s in stores[0].shapes]
    for other in stores[1:]:
        for index, shape in enumerate(other.shapes):
            same = key.index((shape.class_name, shape.split))
            for name in (*IMAGES, *POINTS, "label", "source_to_world"):
                np.testing.assert_array_equal(
                    other.read(name, index), stores[0].read(name, same), err_msg=name
                )


def test_parts_in_separate_files_are_stored_and_their_errors_stay_local(tmp_path):
    root, out = write_shapenetpart_pts(tmp_path / "pts", SHAPES), tmp_path / "S"
    wrong, gone = root / "03001627/points_label/ccc.seg", root / "02691156/points_label/bbb.seg"
    kept = wrong.read_text(), gone.read_text()
    wrong.write_text(kept[0].replace("4", "5"))
    gone.unlink()
    run = command(root, out, "--json")
    assert run.returncode == 3, run.stderr
    failures = json.loads(run.stdout.splitlines()[-1])["failures"]
    assert {f["id"]: f["reason"] for f in failures} == {
        "03001627/ccc": "bad_index",
        "02691156/bbb": "missing_file",
    }
    wrong.write_text(kept[0])
    gone.write_text(kept[1])
    run = command(root, out, "--retry-failed")
    assert run.returncode == 0, run.stderr
    assert verify(str(out)).ok
    store = ViewStore.open(out)
    assert len(done(store)) == 5
    for shape_id, index in done(store):
        synset, name = shape_id.split("/")
        own = (root / synset / f"points_label/{name}.seg").read_text().split()
        expected = np.array(own, np.uint8)[store.read("point_face", index)] - np.uint8(1)
        part = store.read("part", index)
        assert (part.dtype, part.tobytes()) == (np.uint8, expected.tobytes())


def test_no_correspondences_are_built_for_changed_parts(tmp_path):
    root = write_shapenetpart_pts(tmp_path / "pts", SHAPES)
    listing = list_shapes("shapenetpart", root)
    store = render_listing(listing, tmp_path / "S", correspondences=False, **SMALL)
    path = root / "03001627/points_label/ccc.seg"
    path.write_text("".join(f"{line}\n" for line in reversed(path.read_text().split())))
    summary = build_correspondences(store, job_of_store(store, None), Options(workers=1))
    assert [(f.id, f.reason) for f in summary.failures] == [("03001627/ccc", Reason.SOURCE_CHANGED)]


def test_correspondences_of_clouds_built_later_are_the_same_bytes(shapes, finished, tmp_path):
    listing = list_shapes("shapenetpart", shapes)
    store = render_listing(listing, tmp_path / "S", correspondences=False, **SMALL)
    summary = build_correspondences(store, job_of_store(store, None), Options(workers=1))
    assert summary.done == 5
    assert tree(tmp_path / "S") == tree(finished.path)


def test_no_correspondences_are_built_for_a_changed_row(tmp_path):
    root = write_shapenetpart_hdf5(tmp_path / "h5", SHAPES)
    listing = list_shapes("shapenetpart", root)
    store = render_listing(listing, tmp_path / "S", correspondences=False, **SMALL)
    changed = dict(SHAPES)
    points, normals, parts = SHAPES["03001627", "ccc", "train"]
    changed["03001627", "ccc", "train"] = points[::-1].copy(), normals, parts
    at_one_place = np.zeros_like(points), *SHAPES["02691156", "bbb", "test"][1:]
    changed["02691156", "bbb", "test"] = at_one_place  # which could no longer be drawn
    write_shapenetpart_hdf5(root, changed)
    shutil.move(root, tmp_path / "moved")
    summary = build_correspondences(
        store, job_of_store(store, tmp_path / "moved"), Options(workers=1)
    )
    assert [(f.id, f.reason) for f in summary.failures] == [
        ("ply_data_train0/1", Reason.SOURCE_CHANGED),
        ("ply_data_test0/0", Reason.SOURCE_CHANGED),
    ]
    (tmp_path / "elsewhere").mkdir()
    write_hdf5(
        tmp_path / "elsewhere/ply_data_train7.h5", data=np.zeros((1, 5, 3), np.float32), label=[0]
    )
    with pytest.raises(UsageError, match="none of the store's 5 shapes was found there"):
        job_of_store(store, tmp_path / "elsewhere")


def test_a_damaged_store_of_clouds_is_repaired_to_the_same_bytes(shapes, finished, tmp_path):
    out = tmp_path / "S"
    shutil.copytree(finished.path, out)
    for path in (out / "rgb/c/0/0/0/0/0", out / "visible/c/1/0/0"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 16
        path.write_bytes(data)
    mended = repair(str(out), None, Options(workers=1))
    assert mended.verdict.ok
    assert len(mended.repaired) == 2
    assert (mended.lost, mended.notes) == ((), ())
    assert tree(out) == tree(finished.path)


def test_retry_failed_renders_a_fixed_cloud(shapes, tmp_path):
    root, out = tmp_path / "parts", tmp_path / "S"
    shutil.copytree(shapes, root)
    render_listing(list_shapes("shapenetpart", root), out, **SMALL)
    for name in BROKEN:
        shutil.copy(root / "03001627/ccc.txt", root / f"03001627/{name}.txt")
    run = command(root, out, "--retry-failed")
    assert run.returncode == 0, run.stderr
    assert verify(str(out)).ok


def test_a_cloud_with_fewer_points_than_requested_repeats_them(tmp_path):
    points = np.random.default_rng(0).normal(size=(30, 3))
    (tmp_path / "clouds").mkdir()
    (tmp_path / "clouds/a.xyz").write_text(text_of(np.concatenate([points, points[:5]])))
    store = render_listing(list_shapes("clouds", tmp_path / "clouds"), tmp_path / "S", **SMALL)
    assert verify(store.path).broken == ()
    chosen = store.read("point_face", 0)
    assert sorted(chosen[:30]) == list(range(30))
    np.testing.assert_array_equal(chosen, np.resize(chosen[:30], 100))
    outcome = store.outcomes()[0]
    assert (outcome.faces, outcome.notes) == (
        35,
        ("the cloud only has 30 different points for 100: some are repeated",),
    )


def test_scanobjectnn_is_rendered_with_its_own_rig(tmp_path):
    rng = np.random.default_rng(0)
    data = rng.normal(size=(3, 300, 3)).astype(np.float32)
    for name, rows in (("training", data[:2]), ("test", data[2:])):
        path = tmp_path / f"main_split/{name}_objectdataset_augmentedrot_scale75.h5"
        write_hdf5(path, data=rows, label=np.arange(len(rows), dtype=np.int32) + 3)
    listing = list_shapes("scanobjectnn", tmp_path)
    store = render_listing(listing, tmp_path / "S", rig="simpleview6", points=300, size=64)
    assert verify(store.path).broken == ()
    assert store.labels.tolist() == [3, 4, 3]
    focal = store.read("K", 0)[0, 0, 0]
    assert focal == pytest.approx(32)  # 90°: half the image
    for index in range(3):
        center = store.camera(index).center
        np.testing.assert_allclose(np.linalg.norm(center, axis=1), 1.4)
        assert sorted(store.read("point_face", index)) == list(range(300))
        assert store.visible(index).any(axis=1).all()


def write_colored_cloud(folder, colors):
    """Write one cloud with these colors [200,3]."""
    folder.mkdir()
    points = np.random.default_rng(0).normal(size=(200, 3))
    rows = zip(points.tolist(), colors.tolist(), strict=True)
    header = "ply\nformat ascii 1.0\nelement vertex 200\n"
    header += "".join(f"property float {axis}\n" for axis in "xyz")
    header += "".join(f"property uchar {name}\n" for name in ("red", "green", "blue"))
    body = "".join(" ".join(map(str, [*point, *color])) + "\n" for point, color in rows)
    (folder / "a.ply").write_text(header + "end_header\n" + body)


def test_a_cloud_of_nearly_the_color_of_the_background_gets_a_note(tmp_path):
    write_colored_cloud(tmp_path / "clouds", np.full((200, 3), 250))
    listing = list_shapes("clouds", tmp_path / "clouds")
    on_white = render_listing(listing, tmp_path / "white", **SMALL)
    assert on_white.outcomes()[0].notes == (
        "100% of what is seen has nearly the background's color",
    )
    on_black = render_listing(listing, tmp_path / "black", background=(0, 0, 0), **SMALL)
    assert on_black.outcomes()[0].notes == ()


def test_colors_of_a_cloud_are_in_the_images(tmp_path):
    colors = np.random.default_rng(0).integers(0, 256, (200, 3))
    write_colored_cloud(tmp_path / "clouds", colors)
    store = render_listing(list_shapes("clouds", tmp_path / "clouds"), tmp_path / "S", **SMALL)
    face, rgb = store.read("face_index", 0), store.read("rgb", 0)
    np.testing.assert_array_equal(rgb[face >= 0], colors[face[face >= 0]])
    meshes = render_listing(list_shapes("folder", tmp_path / "clouds"), tmp_path / "M", **SMALL)
    outcome = meshes.outcomes()[0]
    assert outcome.reason is Reason.NO_FACES  # a mesh without its faces is not a cloud
    assert "--dataset clouds" in outcome.detail


# The configuration


def test_support_for_clouds_did_not_change_the_hash_of_mesh_stores():
    config = RenderConfig(Rig("one", (View((0.0, -3.0, 0.0)),)))
    attributes = config.attributes()
    assert digest(encode_json(attributes)) == (
        "dfe5aa818bea27b8466556a395c65bfb98bf1557a155bf10df173fe8ee7455df"
    )
    assert RenderConfig.from_attributes(attributes) == config
    clouds = fit(config, "cloud")
    assert clouds.splat == 3.0
    assert fit(RenderConfig(config.rig, size=48), "cloud").splat == 1.0
    assert RenderConfig.from_attributes(clouds.attributes()) == clouds


@pytest.mark.parametrize(
    ("dataset", "more", "where"),
    [
        ("toy", ("--splat", 2), "--splat"),
        ("shapenetpart", ("--splat", 0.5), "--splat"),
        ("shapenetpart", ("--splat", 100), "--splat"),
        ("shapenetpart", ("--backend", "embree"), "--backend"),
        ("shapenetpart", ("--device", "0"), "--device"),
    ],
)
def test_settings_for_meshes_are_refused_for_clouds_and_vice_versa(
    shapes, tmp_path, dataset, more, where
):
    root = () if dataset == "toy" else ("--root", shapes)
    run = pointcmt("render", "--dataset", dataset, *root, "--out", tmp_path / "S", *more)
    assert run.returncode == 2
    assert f"where: {where}" in run.stderr
    assert not (tmp_path / "S").exists()


def test_a_configuration_for_meshes_is_refused_for_clouds(shapes, tmp_path):
    listing = list_shapes("shapenetpart", shapes)
    config = RenderConfig(find_rig("ortho6"))
    with pytest.raises(UsageError, match="kind 'cloud'"):
        create_store(listing, Job(str(tmp_path / "S"), listing.name, shapes, "y", config))


# Real clouds


def test_real_clouds_make_a_store_that_verifies(real_data, tmp_path):
    listing = list_shapes("modelnet40-clouds", real_data / "modelnet40_normal_resampled")
    store = render_listing(select(listing, None, 5), tmp_path / "S", size=96, points=1024)
    assert verify(store.path).broken == ()
    for outcome in store.outcomes():
        assert (outcome.status, outcome.faces) == ("done", 10_000)
    visible = np.stack([store.visible(index) for index in range(5)])
    assert 0.15 < visible.mean() < 0.75
