"""What a folder holds besides shapes: files of models, formats that are not read, anything else."""

import pytest

from pointcmt.datasets.sources import formats, list_shapes
from tests.datasets.sources.listings import error, touch

BESIDE = (
    *("a.mtl", "t.PNG", "t.jpeg", "t.exr", "a.bin", "README", "LICENSE-MIT", "notes.txt", "a.json"),
    *("x.md", "COPYING", "model.config", "meta.pbtxt", "labels/list.csv", "a.xml"),
)


def test_files_of_models_and_about_them_are_not_called_ignored(tmp_path):
    touch(tmp_path, "chair/a.obj", *(f"chair/{name}" for name in BESIDE))
    assert list_shapes("folder", tmp_path).notes == ()


def test_other_files_are_counted_by_suffix(tmp_path):
    touch(tmp_path, "a.off", "b.xyzzy", "c.xyzzy", "d.swf", "Makefile")
    assert list_shapes("folder", tmp_path).notes == (
        "4 other files ignored (2 .xyzzy, 1 .swf, 1 no suffix)",
    )


@pytest.mark.parametrize("suffix", formats.UNREAD_SHAPES)
def test_every_other_format_of_shapes_is_named_with_a_way_to_convert_it(tmp_path, suffix):
    touch(tmp_path, "a.off", f"b{suffix}", f"c{suffix.upper()}")
    listing = list_shapes("folder", tmp_path)
    (kind,) = listing.not_read
    assert listing.not_read == {kind: 2}
    assert listing.notes == (f"2 {kind}",)
    assert kind.startswith(f"{suffix} files are not read: ")
    assert "{" not in kind
    touch(tmp_path / "alone", f"b{suffix}")
    refused = error("folder", tmp_path / "alone")
    assert f"1 {kind}" in refused.fix


@pytest.mark.parametrize(
    ("dataset", "shape", "other", "advice"),
    [
        ("folder", "a.off", "b.pcd", "use --dataset clouds"),
        ("folder", "a.off", "b.xyz", "use --dataset clouds"),
        ("clouds", "a.xyz", "b.glb", "use --dataset folder"),
        ("clouds", "a.xyz", "b.laz", "pdal translate in.laz out.ply"),
    ],
)
def test_shapes_of_the_other_kind_are_named_with_the_dataset_that_reads_them(
    tmp_path, dataset, shape, other, advice
):
    touch(tmp_path, shape, other)
    (note,) = list_shapes(dataset, tmp_path).notes
    assert advice in note


def test_the_tables_of_formats_do_not_overlap():
    read = {*formats.MESHES, *formats.CLOUDS}
    assert not read & set(formats.UNREAD_SHAPES)
    images = {suffix for each in formats.IMAGES.values() for suffix in each}
    assert not images & set(formats.UNREAD_IMAGES)
    assert not (images | set(formats.UNREAD_IMAGES)) & set(formats.UNREAD_SHAPES)


def test_the_commonest_format_comes_first_and_errors_name_a_few(tmp_path):
    touch(tmp_path, *(f"{n}{s}" for n in "ab" for s in (".step", ".fbx")), "c.fbx")
    touch(tmp_path, *(f"d{s}" for s in (".dae", ".3ds", ".max", ".skp", ".usdz")))
    refused = error("folder", tmp_path)
    assert refused.fix.startswith("3 .fbx files are not read: in Blender")
    assert refused.fix.count("files are not read") == 5
    assert "set --root to a folder that contains mesh files" in refused.fix
