"""Untrusted stores with missing or wrong fields, and stores changed by other tools: they work or
raise one of our errors, without a traceback and in bounded memory and time.
"""

import copy
import itertools
import json
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

from pointcmt.cli import app
from pointcmt.datasets.store.creation import create
from pointcmt.datasets.store.features import create_features, open_features
from pointcmt.datasets.store.metadata import (
    group_metadata,
)
from pointcmt.datasets.store.root import (
    identity_digest,
)
from pointcmt.datasets.store.schema import (
    CORRESPONDENCES,
    PLAN,
    RENDER,
    ROOT,
    digest,
    encode_line,
    marker_key,
)
from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.datasets.summary import summarize
from pointcmt.errors import DamageError, PointcmtError
from pointcmt.render.jobs.job import job_of_store
from pointcmt.render.jobs.repair import repair
from pointcmt.render.jobs.run import Options
from pointcmt.render.preview import preview
from tests.stores import render_toy, tree

QUIET = Options(workers=1)
WRONG = (None, -1, 10**30, "x", [], {}, 1.5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Three shapes in two shards; the toy data set has parts."""
    return render_toy(tmp_path_factory.mktemp("whole") / "S", limit=3, shard=2, size=16, points=16)


@pytest.fixture
def store(whole, tmp_path):
    return ViewStore.open(shutil.copytree(whole.path, tmp_path / "S"))


def places(value, path=()):
    """The paths of all fields of a JSON value; for lists, only those of the first entry."""
    if isinstance(value, dict):
        for key in value:
            yield (*path, key)
            yield from places(value[key], (*path, key))
    elif isinstance(value, list) and value:
        yield (*path, 0)
        yield from places(value[0], (*path, 0))


def changed(value, path, new):
    """A copy of a JSON value with a field replaced, or removed if new is KeyError."""
    value = copy.deepcopy(value)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    if new is KeyError:
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return value


def forgeries(value):
    """Copies of a JSON value, each with a field missing or of a wrong type.

    Of the eight ways in which a field can be wrong, each field has every third, from another on.
    """
    cases = itertools.product(places(value), (KeyError, *WRONG))
    for path, new in itertools.islice(cases, None, None, 3):
        yield path, new, changed(value, path, new)


def use(path, run):
    """Call everything that reads a store; each call succeeds or raises the project's error."""
    with suppress(PointcmtError):
        verify(path)
    try:
        store = ViewStore.open(path)
    except PointcmtError:
        return  # as does everything else
    uses = (
        lambda: summarize(path),
        store.require_complete,
        lambda: preview(store, run, 1, 1),
        lambda: job_of_store(store, None),
        lambda: [store.outcomes(), store.failures()],
    )
    for one in uses:
        with suppress(PointcmtError):
            one()


def write_root(store, attributes):
    Path(store.path, ROOT).write_bytes(group_metadata(attributes))


def adopt_markers(store, attributes):
    """Rewrite all commit markers so that they belong to the store with the forged root."""
    try:
        identity = identity_digest(attributes)
    except (KeyError, TypeError):
        return
    for stage in (RENDER, CORRESPONDENCES):
        for shard in range(2):
            path = Path(store.path, marker_key(stage, shard))
            write_marker(path, {**json.loads(path.read_bytes()), "store": identity})


def write_marker(path, marker):
    """Write a marker with a valid checksum."""
    body = {key: value for key, value in marker.items() if key != "checksum"}
    body["checksum"] = digest(encode_line(body))
    path.write_bytes(encode_line(body))


def test_a_root_with_any_field_missing_or_wrong(store, tmp_path):
    for path, new, attributes in forgeries(store.attributes):
        if path[0] == "versions" or len(path) > 4:  # never read; only the first view is tested
            continue
        write_root(store, attributes)
        adopt_markers(store, attributes)
        try:
            use(store.path, tmp_path / "P")
        except Exception as error:
            raise AssertionError(f"{path} = {new!r}") from error


@pytest.mark.parametrize("stage", [RENDER, CORRESPONDENCES])
def test_a_marker_with_any_field_missing_or_wrong(store, tmp_path, stage):
    path = Path(store.path, marker_key(stage, 0))
    right = json.loads(path.read_bytes())
    if stage == CORRESPONDENCES:
        outcome = json.loads(Path(store.path, marker_key(RENDER, 0)).read_bytes())["outcomes"][0]
        right["failures"] = [{**outcome, "status": "failed", "reason": "timeout"}]
    for field, new, marker in forgeries(right):
        write_marker(path, marker)
        try:
            use(store.path, tmp_path / "P")
        except Exception as error:
            raise AssertionError(f"{field} = {new!r}") from error


def test_a_plan_with_any_field_missing_or_wrong(store, tmp_path):
    lines = Path(store.path, PLAN).read_bytes().splitlines()
    for field, new, table in forgeries(json.loads(lines[0])):
        plan = b"\n".join([encode_line(table).strip(), *lines[1:]]) + b"\n"
        Path(store.path, PLAN).write_bytes(plan)
        attributes = {**store.attributes, "plan_sha256": digest(plan)}
        write_root(store, attributes)
        adopt_markers(store, attributes)
        try:
            use(store.path, tmp_path / "P")
        except Exception as error:
            raise AssertionError(f"{field} = {new!r}") from error


@pytest.mark.parametrize("name", [ROOT, PLAN, f"rgb/{ROOT}", marker_key(RENDER, 0)])
@pytest.mark.parametrize("data", [b"", b"[" * 100_000, b"null", b"[]", b'{"a": 1' + b"0" * 9999])
def test_a_file_replaced_by_something_else(store, tmp_path, name, data):
    Path(store.path, name).write_bytes(data + b"\n")
    use(store.path, tmp_path / "P")


def test_a_marker_cannot_name_files_outside_of_its_shard(store):
    path = Path(store.path, marker_key(RENDER, 0))
    marker = json.loads(path.read_bytes())
    marker["files"]["../../secret"] = "0" * 64
    write_marker(path, marker)
    with pytest.raises(DamageError, match="wrong files"):
        store.markers(RENDER, [0])


# Other tools.


def consolidate(path):
    zarr.consolidate_metadata(path)


def add_attribute(path):
    zarr.open_group(path, mode="r+").attrs["note"] = "seen by me"


def add_attribute_to_an_array(path):
    zarr.open_group(path, mode="r+")["rgb"].attrs["note"] = "seen by me"


def add_attribute_to_features(path):
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    group["features/0123456789abcdef"].attrs["note"] = "seen by me"


TOOLS = [consolidate, add_attribute, add_attribute_to_an_array, add_attribute_to_features]


@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently", "ignore:Object at ")
@pytest.mark.parametrize("tool", TOOLS)
def test_a_store_stays_usable_after_another_tool_adds_metadata(store, whole, tool):
    features = create_features(store, "0123456789abcdef", 2, {"teacher": "x"})
    for shard in features.pending():
        images = features.images(shard)
        features.write(images, np.ones((len(images.done), store.schema.views, 2)))
    before = tree(store.path)
    tool(store.path)
    after = tree(store.path)
    assert after != before, "the tool has written something"
    again = ViewStore.open(store.path)
    assert again.attributes == whole.attributes
    np.testing.assert_array_equal(again.read("rgb"), whole.read("rgb"))
    assert open_features(again, "0123456789abcdef").states() == {0: "fresh", 1: "fresh"}
    assert verify(store.path).ok
    assert summarize(store.path)["done"] == 3
    create(store.storage, whole.attributes, whole.shapes)  # what a resumed `render` does first
    assert tree(store.path) == after, "what the tool has added is left alone"
    assert repair(store.path, None, QUIET).verdict.ok
    assert tree(store.path) == after


@pytest.mark.parametrize("what", ["versions", "source", "checksum"])
def test_a_changed_root_is_repaired_from_the_rest_of_the_store(store, whole, what):
    """The markers determine the bytes; versions and addresses do not."""
    path = Path(store.path, ROOT)
    root = json.loads(path.read_bytes())
    if what == "versions":
        del root["attributes"]["versions"]["numpy"]
    elif what == "source":
        root["attributes"]["source"]["url"] = "changed"
    else:
        root["attributes"]["checksum"] = "0" * 64
    path.write_text(json.dumps(root))
    with pytest.raises(DamageError):
        ViewStore.open(store.path)
    assert not verify(store.path).ok
    assert repair(store.path, None, QUIET).verdict.ok
    again = ViewStore.open(store.path)
    assert again.identity == whole.identity
    np.testing.assert_array_equal(again.read("rgb"), whole.read("rgb"))


@pytest.mark.parametrize("how", ["another seed", "sorted"])
def test_a_repair_never_turns_a_root_into_another_store(store, how):
    path = Path(store.path, ROOT)
    root = json.loads(path.read_bytes())
    if how == "another seed":
        root["attributes"]["render"]["seed"] = 5
    path.write_text(json.dumps(root, sort_keys=how == "sorted"))
    with pytest.raises(DamageError):
        repair(store.path, None, QUIET)
    assert json.loads(path.read_bytes()) == root, "nothing was written"


def test_a_store_of_an_impossible_size_is_refused(store):
    for key, value in (("shapes", 10**12), ("size", 10**6), ("views", 10**9), ("points", 10**12)):
        schema = {**store.attributes["schema"], key: value}
        write_root(store, {**store.attributes, "schema": schema})
        found = CliRunner().invoke(app, ["info", store.path])
        assert isinstance(found.exception, DamageError), key
