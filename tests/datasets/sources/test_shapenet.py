"""Listings of ShapeNetCore, versions 1 and 2."""

import pytest

from pointcmt.datasets.sources import list_shapes
from pointcmt.datasets.sources.shapenet import SYNSETS
from tests.datasets.sources.listings import error, found, touch


def test_shapenet_v1_and_v2_are_listed(tmp_path):
    v1, v2 = tmp_path / "v1", tmp_path / "v2"
    touch(v1, "02691156/b/model.obj", "02691156/a/model.obj", "03001627/c/model.mtl")
    touch(v2, "02691156/a/models/model_normalized.obj", "99999999/z/models/model_normalized.obj")
    first, second = list_shapes("shapenetcore", v1), list_shapes("shapenetcore", v2)
    assert list(found(first)) == ["02691156/a", "02691156/b"]
    assert found(first)["02691156/a"] == ("airplane", "train")
    assert first.class_names == tuple(SYNSETS.values())
    assert found(second)["99999999/z"] == ("99999999", "train")
    assert second.class_names == (*SYNSETS.values(), "99999999")
    assert second.shapes[0].source == "02691156/a/models/model_normalized.obj"
    assert (first.up, first.official) == ("y", None)
    assert "no all.csv" in first.notes[0]
    assert len(SYNSETS) == len(set(SYNSETS.values())) == 55


def test_shapenet_prefers_v2_and_adds_a_note(tmp_path):
    touch(tmp_path, "02691156/a/model.obj", "02691156/a/models/model_normalized.obj")
    touch(tmp_path, "02691156/b/model.obj")
    listing = list_shapes("shapenetcore", tmp_path)
    assert [shape.source.count("/") for shape in listing.shapes] == [3, 2]
    assert "both versions are present: v2 for 1 models, v1 for 1" in listing.notes
    assert "1 models are present in both versions: using v2" in listing.notes


def test_shapenet_splits_come_from_all_csv(tmp_path):
    touch(tmp_path, *(f"02691156/{model}/model.obj" for model in "abcd"))
    (tmp_path / "all.csv").write_text(
        "id,synsetId,subSynsetId,modelId,split\n1,02691156,02690373,a,test\n"
        "2,2691156,2690373,b,val\n3,02691156,1,c,train\n4,02691156,1,gone,train\n"
    )
    listing = list_shapes("shapenetcore", tmp_path)
    assert [split for _, split in found(listing).values()] == ["test", "val", "train", "train"]
    assert listing.official == {"train": 2, "test": 1, "val": 1}
    assert listing.notes == ("1 models are not in all.csv and are listed as train",)


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "synsetId,modelId,split\n1,2,x\n", "modelId\n\xff"])
def test_a_broken_all_csv_is_reported(tmp_path, text):
    touch(tmp_path, "02691156/a/model.obj")
    (tmp_path / "all.csv").write_bytes(text.encode("latin-1"))
    assert "all.csv cannot be read" in error("shapenetcore", tmp_path).what


def test_shapenet_roots_one_level_too_high_or_too_low(tmp_path):
    base = touch(tmp_path / "ShapeNetCore.v2", "02691156/a/model.obj", "03001627/b/model.obj")
    high = list_shapes("shapenetcore", tmp_path)
    assert found(high) == found(list_shapes("shapenetcore", base))
    assert "one level too high" in high.notes[0]
    low = list_shapes("shapenetcore", base / "03001627")
    assert found(low) == {"03001627/b": ("chair", "train")}
    assert "only 03001627 is listed" in low.notes[0]
