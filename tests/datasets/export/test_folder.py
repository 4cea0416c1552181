"""The output folder: resumed, never mixed up, and nothing of others replaced unasked."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pointcmt as pc
from pointcmt.datasets.export import job
from pointcmt.datasets.export.folder import FAILURES, INDEX, MARK, places
from pointcmt.datasets.store.schema import CORRESPONDENCES, RENDER, marker_key
from tests.stores import render_toy, tree

FORMATS = list(job.FORMATS)


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.*") if path.parent != folder}


@pytest.mark.parametrize("to", FORMATS)
def test_another_call_exports_what_is_missing_and_touches_nothing_else(meshes, tmp_path, to):
    out = tmp_path / "out"
    first = pc.export(meshes, to, out, split="test")
    before = stamps(out)
    again = pc.export(meshes.path, to, out)
    assert (first.skipped, first.done) == (0, first.planned)
    assert (again.planned, again.done, again.skipped) == (6, 6, first.done)
    assert again.done > first.done > 0
    assert before.items() <= stamps(out).items()
    assert [line["id"] for line in lines(out / INDEX)] == [shape.id for shape in meshes]
    pc.export(meshes, to, tmp_path / "at once")
    assert tree(out) == tree(tmp_path / "at once")
    assert not (out / FAILURES).exists()


@pytest.mark.parametrize("to", FORMATS)
def test_the_bytes_do_not_depend_on_the_threads(meshes, tmp_path, to):
    for workers in (1, 3):
        pc.export(meshes, to, tmp_path / str(workers), workers=workers)
    assert tree(tmp_path / "1") == tree(tmp_path / "3")


def test_what_a_killed_export_left_half_is_written_again(meshes, tmp_path):
    out = tmp_path / "out"
    pc.export(meshes, "png", out)
    whole = tree(out)
    index = (out / INDEX).read_bytes()
    (out / INDEX).write_bytes(index[: index.rindex(b'"place"')])  # the last line is torn
    path = out / meshes[5].id / "rgb/003.png"
    path.write_bytes(path.read_bytes()[:100])
    (out / meshes[5].id / "transforms.json").unlink()
    done = pc.export(meshes, "png", out)
    assert (done.done, done.skipped) == (6, 5)
    assert tree(out) == whole


def test_a_shape_that_was_deleted_is_written_again(meshes, tmp_path):
    pc.export(meshes, "ply", tmp_path / "out")
    whole = tree(tmp_path / "out")
    (tmp_path / "out" / f"{meshes[2].id}.ply").unlink()
    assert pc.export(meshes, "ply", tmp_path / "out").skipped == 5
    assert tree(tmp_path / "out") == whole


def test_shapes_that_are_rendered_later_are_added(copy, meshes, tmp_path):
    """Shapes of a shard without a marker are pending, not failed."""
    out = tmp_path / "out"
    markers = [Path(copy.path, marker_key(stage, 1)) for stage in (RENDER, CORRESPONDENCES)]
    kept = {path: path.read_bytes() for path in markers}
    for path in kept:
        path.unlink()
    first = pc.export(pc.open_store(copy.path), "colmap", out)
    assert (first.done, first.pending, first.failures) == (4, 2, ())
    for path, data in kept.items():
        path.write_bytes(data)
    second = pc.export(pc.open_store(copy.path), "colmap", out)
    assert (second.done, second.skipped, second.pending) == (6, 4, 0)
    pc.export(meshes, "colmap", tmp_path / "whole")
    assert tree(out) == tree(tmp_path / "whole")


def test_a_shard_that_was_rendered_again_with_other_bytes_is_exported_again(copy, tmp_path):
    out = tmp_path / "out"
    pc.export(copy, "ply", out)
    path = out / INDEX
    old = lines(path)
    old[0]["made_from"] = "0" * 64
    path.write_text("".join(json.dumps(line) + "\n" for line in old))
    assert pc.export(copy, "ply", out).skipped == 5
    assert all(line["made_from"] != "0" * 64 for line in lines(path))


def test_nothing_is_rendered_yet(copy, tmp_path):
    shutil.rmtree(Path(copy.path, "commits"))
    with pytest.raises(pc.StoreError, match="none of these shapes is rendered yet"):
        pc.export(pc.open_store(copy.path), "png", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Other exports and other files.


def test_another_export_is_refused_and_replaced_on_request(meshes, clouds, tmp_path):
    out = tmp_path / "out"
    pc.export(meshes, "colmap", out)
    before = tree(out)
    for store, to, how, what in (
        (meshes, "ply", {}, 'to: "colmap" here, "ply" now'),
        (clouds, "colmap", {}, "store: "),
        (meshes, "colmap", {"text": True}, "settings: "),
    ):
        with pytest.raises(pc.StoreError, match="this folder holds another export") as error:
            pc.export(store, to, out, **how)
        assert what in error.value.what
        assert "overwrite=True" in str(error.value)
    assert tree(out) == before
    (out / meshes[0].id / "notes.txt").write_text("mine")
    pc.export(clouds, "ply", out, overwrite=True)
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert files == {MARK, INDEX, "ball0.ply", "ball1.ply", f"{meshes[0].id}/notes.txt"}


def test_overwrite_exports_everything_again(meshes, tmp_path):
    out = tmp_path / "out"
    pc.export(meshes, "png", out)
    whole = tree(out)
    (out / meshes[1].id / "rgb/000.png").write_bytes(b"changed")
    assert pc.export(meshes, "png", out).skipped == 6
    assert pc.export(meshes, "png", out, overwrite=True).skipped == 0
    assert tree(out) == whole


def test_a_folder_with_other_files_is_refused(meshes, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(pc.StoreError, match=r"holds other files \(such as notes.txt\)") as error:
        pc.export(meshes, "ply", tmp_path)
    assert error.value.where == f"--out {tmp_path}"
    assert tree(tmp_path) == {"notes.txt": b"mine"}
    done = pc.export(meshes, "ply", tmp_path, overwrite=True)
    assert done.done == 6
    assert (tmp_path / "notes.txt").read_text() == "mine"
    (tmp_path / MARK).write_text("{}")  # now it is nobody's
    with pytest.raises(pc.StoreError, match="holds other files"):
        pc.export(meshes, "ply", tmp_path)


def test_nothing_is_written_into_a_store_or_a_run(meshes, copy, tmp_path):
    before = tree(copy.path)
    for out in (copy.path, f"{copy.path}/rgb", f"{copy.path}/new/folder"):
        for overwrite in (False, True):
            with pytest.raises(pc.UsageError, match="nothing is exported into a view store"):
                pc.export(meshes, "ply", out, overwrite=overwrite)
    (tmp_path / "link").symlink_to(Path(copy.path) / "rgb")
    with pytest.raises(pc.UsageError, match="nothing is exported into a view store"):
        pc.export(meshes, "ply", tmp_path / "link/new")
    assert tree(copy.path) == before
    (tmp_path / "RUN").mkdir()
    (tmp_path / "RUN/run.json").write_text("{}")
    with pytest.raises(pc.UsageError, match="into the folder of a run"):
        pc.export(meshes, "ply", tmp_path / "RUN", overwrite=True)


def test_nothing_is_written_through_links_or_into_a_store_below(meshes, copy, tmp_path):
    """Not even with --overwrite, where a shape's folder is somewhere else or another store."""
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    out.mkdir()
    top = meshes[0].id.split("/")[0]
    (out / top).symlink_to(elsewhere)
    with pytest.raises(pc.StoreError, match="there is a link where an export would write"):
        pc.export(meshes, "ply", out, overwrite=True)
    assert list(elsewhere.iterdir()) == []
    (out / top).unlink()
    shutil.copytree(copy.path, out / top)
    with pytest.raises(pc.StoreError, match="there is a view store where an export would write"):
        pc.export(meshes, "ply", out, overwrite=True)
    assert tree(out / top) == tree(copy.path)
    shutil.rmtree(out / top)
    (out / top).mkdir()
    (elsewhere / "precious").write_text("mine")
    (out / f"{meshes[0].id}.ply").symlink_to(elsewhere / "precious")
    pc.export(meshes, "ply", out, overwrite=True)
    assert (elsewhere / "precious").read_text() == "mine"
    assert not (out / f"{meshes[0].id}.ply").is_symlink()


@pytest.mark.parametrize("out", ["s3://bucket/out", "gs://bucket/out"])
def test_object_storage_is_refused(meshes, out):
    with pytest.raises(pc.UsageError, match="only view stores can be on object storage") as error:
        pc.export(meshes, "png", out)
    assert error.value.fix == "use a local folder"
    with pytest.raises(pc.UsageError, match="empty") as error:
        pc.export(meshes, "png", "")
    assert "out=" in str(error.value)


def test_a_file_is_no_folder(meshes, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(pc.UsageError, match="this is a file, not a folder"):
        pc.export(meshes, "png", tmp_path / "file", overwrite=True)
    with pytest.raises(pc.StoreError, match="part of this path is a file"):
        pc.export(meshes, "png", tmp_path / "file/below")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_strangers_index_deletes_nothing_outside(meshes, clouds, tmp_path):
    out = tmp_path / "out"
    pc.export(meshes, "ply", out)
    (tmp_path / "precious.ply").write_text("mine")
    (tmp_path / "more").mkdir()
    (tmp_path / "more/transforms.json").write_text("mine")
    with (out / INDEX).open("a") as file:
        for place in (
            "../precious.ply",
            str(tmp_path / "precious.ply"),
            "a/../../more",
            "",
            ".",
            "/",
        ):
            file.write(json.dumps({"id": place, "place": place}) + "\n")
        file.write("[]\nnull\n" + "[" * 5000 + "\n" + '{"id": 5}\n')
    pc.export(clouds, "ply", out, overwrite=True)
    assert (tmp_path / "precious.ply").read_text() == "mine"
    assert (tmp_path / "more/transforms.json").read_text() == "mine"


def test_a_disk_that_refuses_is_said(meshes, tmp_path):
    if os.getuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(pc.StoreError, match="permission denied"):
        pc.export(meshes, "ply", tmp_path / "locked/out")


def test_a_folder_in_the_way_of_a_file_is_said(meshes, tmp_path):
    pc.export(meshes, "ply", tmp_path / "out", limit=1)
    path = tmp_path / "out" / f"{meshes[3].id}.ply"
    path.mkdir(parents=True)
    with pytest.raises(pc.StoreError) as error:
        pc.export(meshes, "ply", tmp_path / "out")
    assert error.value.where == str(path)


# Places.


def test_ids_are_places_where_they_can_be():
    assert places(["chair/0000", "tisch/Nr. 5", "бак", "a.b"]) == [
        "chair/0000",
        "tisch/Nr. 5",
        "бак",
        "a.b",
    ]
    assert places(["chair/0000"], ".ply") == ["chair/0000.ply"]
    assert places(["a:b", "..", "../x", "/etc", "con", "NUL.txt", ".git", "x ", "a\nb", "a~b"]) == [
        "a%3ab", "%2e%2e~1", "%2e%2e/x", "~/etc", "%63on", "%4eUL.txt", "%2egit", "x%20", "a%0ab",
        "a%7eb",
    ]  # fmt: skip
    assert places(["chair", "chair/1", "Lamp", "lamp"]) == [
        "chair~0",
        "chair/1",
        "Lamp~2",
        "lamp~3",
    ]
    assert places([MARK, INDEX.upper(), FAILURES]) == [
        f"{MARK}~0",
        f"{INDEX.upper()}~1",
        f"{FAILURES}~2",
    ]
    assert places(["a", "a.ply/b"], ".ply") == ["a~0.ply", "a.ply/b.ply"]
    (long,) = places(["x" * 5000])
    assert len(long) < 100


PARTS = st.text(st.sampled_from("aA./~% \\:\u202e\udcffé"), max_size=6)


@settings(deadline=None)
@given(st.lists(PARTS, unique=True, max_size=12), st.sampled_from(["", ".ply"]))
def test_places_are_safe_and_apart(ids, suffix):
    found = places(ids, suffix)
    assert len(found) == len(ids)
    folded = [place.casefold() for place in found]
    assert len(set(folded)) == len(ids)
    for place in folded:
        place.encode()
        assert place.isprintable()
        parts = place.split("/")
        assert all(part and part.strip(". ") == part for part in parts)
        assert not any(other.startswith(f"{place}/") for other in folded)


def test_a_store_of_strange_names_is_exported(tmp_path):
    import tests.datasets.export.conftest as own
    from pointcmt.datasets.sources import list_shapes
    from tests.stores import render_listing

    folder = tmp_path / "in"
    for name in ("a.off", "a/1.off", "b c/x:y.off", "é/%.off", "A/1.off"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(own.TRIANGLE)
    store = pc.open_store(
        render_listing(list_shapes("folder", folder), tmp_path / "S", size=16).path
    )
    for to in FORMATS:
        out = tmp_path / to
        assert pc.export(store, to, out).done == len(store) == 5
        assert pc.export(store, to, out).skipped == 5
        for line in lines(out / INDEX):
            place = out / line["place"]
            assert (
                place.is_file()
                if to == "ply"
                else (place / "images").is_dir() or (place / "rgb").is_dir()
            )


def test_an_interrupted_export_goes_on(meshes, tmp_path, monkeypatch):
    """Ctrl-C after the third shape: three are in the index, the rest follows."""
    out, real = tmp_path / "out", job.ExportFolder.record

    def interrupted(folder, line):
        real(folder, line)
        if len(folder.done) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(job.ExportFolder, "record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pc.export(meshes, "png", out, workers=1)
    monkeypatch.undo()
    assert len(lines(out / INDEX)) == 3
    done = pc.export(meshes, "png", out)
    assert (done.done, done.skipped) == (6, 3)
    pc.export(meshes, "png", tmp_path / "whole")
    assert tree(out) == tree(tmp_path / "whole")


def test_the_mark_says_what_the_folder_holds(meshes, tmp_path):
    pc.export(meshes, "nerfstudio", tmp_path / "out")
    mark = json.loads((tmp_path / "out" / MARK).read_text("utf-8"))
    assert (mark["generator"], mark["to"]) == ("pointcmt export", "nerfstudio")
    assert mark["store"] == meshes.identity
    assert mark["class_names"] == meshes.class_names
    assert mark["depth_scale"] == meshes.schema.depth_scale
    for line, shape in zip(lines(tmp_path / "out" / INDEX), meshes, strict=True):
        assert (line["id"], line["class"]) == (shape.id, shape.class_name)
        assert (line["label"], line["split"]) == (shape.label, shape.split)


def test_limits_are_spread_over_classes(tmp_path):
    store = pc.open_store(render_toy(tmp_path / "S", limit=20, size=16, points=16).path)
    pc.export(store, "ply", tmp_path / "out", limit=10)
    classes = [line["class"] for line in lines(tmp_path / "out" / INDEX)]
    assert len(classes) == len(set(classes)) == 10
    assert np.unique(store.labels).size == 10
