"""Links out of the root, and names with terminal escapes, in whole jobs."""

import json
import os

import numpy as np
import pytest

from pointcmt.cameras import find_rig
from pointcmt.datasets.sources import list_shapes
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import ShapeRefused, UsageError
from pointcmt.render.config import RenderConfig
from pointcmt.render.jobs.job import Job, job_of_store
from pointcmt.render.jobs.kinds import kind_of
from pointcmt.render.jobs.origins import Recorded, SourceFiles, changed_sources
from pointcmt.render.jobs.repair import repair
from pointcmt.render.jobs.run import Options, build_correspondences
from pointcmt.render.load.clouds import CloudLoader
from pointcmt.render.preview import preview
from tests.clouds import SHAPES, write_shapenetpart_pts
from tests.commands import pointcmt
from tests.render.job_commands import render, write_off
from tests.render.shapes import box
from tests.stores import render_listing

NASTY = "sofa\x1b[2J\x1b]0;owned\x07[red]\u202e"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A class whose name contains terminal escapes, with a broken shape, and a linked class."""
    base = tmp_path_factory.mktemp("links")
    write_off(base / "root" / NASTY / "a.off", box())
    (base / "root" / NASTY / f"{NASTY}.off").write_text("OFF 1 1 0\n")
    write_off(base / "outside/chair/b.off", box())
    os.symlink(base / "outside/chair", base / "root/chair")
    return base / "root"


@pytest.fixture(scope="module")
def done(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "S"
    return out, render(root, out, "--follow-links", "--json")


def test_names_with_terminal_escapes_are_printed_safely(done, tmp_path):
    out, rendered = done
    shown = [rendered.stderr, *rendered.stdout.splitlines()[:-1], pointcmt("info", out).stdout]
    text = "\n".join(shown)
    assert "failed: sofa�[2J" in text
    assert "truncated" in text
    assert all(c.isprintable() for c in text.replace("\n", ""))
    failure = json.loads(rendered.stdout.splitlines()[-1])["failures"][0]
    assert failure["id"] == f"{NASTY}/{NASTY}"  # JSON is faithful, and escapes them
    assert len(preview(ViewStore.open(out), tmp_path / "P", 4, 2)) == 3


def test_a_store_records_that_links_were_followed(done, root):
    out, rendered = done
    assert rendered.returncode == 3, rendered.stderr
    store = ViewStore.open(out)
    assert store.shapes[0].id == "chair/b"
    assert store.attributes["source"]["follow_links"] is True
    assert job_of_store(store, None).follow_links
    assert build_correspondences(store, job_of_store(store, root), Options()).skipped == 2
    before = (out / "shapes.jsonl").read_bytes()
    (out / "shapes.jsonl").unlink()
    assert repair(str(out), None, Options()).verdict.ok
    assert (out / "shapes.jsonl").read_bytes() == before


def test_a_store_records_that_links_were_not_followed(root, tmp_path):
    rendered = render(root, tmp_path / "S")
    assert rendered.returncode == 3, rendered.stderr
    assert "such as chair (see --follow-links)" in rendered.stderr
    store = ViewStore.open(tmp_path / "S")
    assert store.attributes["source"]["follow_links"] is False
    assert store.class_names == [NASTY]


def test_a_store_of_an_earlier_version_follows_links(done):
    """Its root does not say whether links were followed, and earlier versions followed them."""
    store = ViewStore.open(done[0])
    del store.attributes["source"]["follow_links"]
    assert job_of_store(store, None).follow_links


def test_linked_sources_are_compared_with_their_recorded_hashes(tmp_path):
    root = write_shapenetpart_pts(tmp_path / "root", SHAPES)
    synset = next(iter(SHAPES))[0]
    os.rename(root / synset, tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", root / synset)
    listing = list_shapes("shapenetpart", root, follow_links=True)
    store = render_listing(listing, tmp_path / "S", size=16, points=16)
    job = job_of_store(store, None)
    assert job.follow_links
    assert changed_sources(store, job)[0] == []


def test_linked_files_of_parts_are_read_if_links_are_followed(tmp_path):
    root = write_shapenetpart_pts(tmp_path / "root", SHAPES)
    synset, name, _ = next(iter(SHAPES))
    os.rename(root / synset / "points_label", tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", root / synset / "points_label")
    record = next(s for s in list_shapes("shapenetpart", root).shapes if s.id == f"{synset}/{name}")
    with pytest.raises(ShapeRefused, match="is outside the dataset"):
        CloudLoader("shapenetpart", root).load(record)
    cloud, _ = CloudLoader("shapenetpart", root, follow_links=True).load(record)
    assert len(np.unique(cloud.part)) > 1


def test_a_store_of_linked_shapes_reports_the_flag_it_needs(done, tmp_path):
    """The store records the flag; a root that contains only links needs it again."""
    (tmp_path / "root").mkdir()
    os.symlink(done[0].parent, tmp_path / "root/linked")
    with pytest.raises(UsageError) as refused:
        list_shapes("folder", tmp_path / "root")
    assert "--follow-links" in refused.value.fix


def test_a_mesh_outside_of_the_data_set_is_not_read(tmp_path):
    """Even if the plan of an untrusted store names it."""
    write_off(tmp_path / "secret.off", box())
    (tmp_path / "root").mkdir()
    config = RenderConfig(find_rig("ortho6"), size=16, points=16)
    job = Job(str(tmp_path / "S"), "folder", tmp_path / "root", "z", config)
    for source in ("../secret.off", str(tmp_path / "secret.off"), "a/../../secret.off"):
        record = ShapeRecord("x", None, "train", source)
        with pytest.raises(ShapeRefused, match="is outside the dataset"):
            kind_of(job, 0).load(record)
        found = SourceFiles(job).difference(Recorded(record, "0" * 64))
        assert "is outside the dataset" in found
