"""Stores rendered in this process, and the parts of two stores that must be equal."""

import json
from pathlib import Path

from pointcmt.cameras import find_rig
from pointcmt.datasets.sources import list_shapes, select
from pointcmt.datasets.store.file_checks import LOCK
from pointcmt.datasets.store.schema import arrays_of, shard_key
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.render.config import RenderConfig
from pointcmt.render.jobs.job import create_store, job_of_listing, tasks
from pointcmt.render.jobs.shards import ShardRunner
from pointcmt.render.scenes.config import SceneConfig
from tests.render.shapes import BOX_CORNERS, BOX_FACES


def render_toy(out, limit, **settings):
    """A store of `limit` toy shapes; settings: see below."""
    return render_listing(select(list_shapes("toy", None), None, limit), out, **settings)


def render_box(out, meshes, count=1, **settings):
    """A store of `count` equal cubes [-1/√3, 1/√3]³; meshes: an empty folder for their files."""
    lines = [f"OFF\n{len(BOX_CORNERS)} {len(BOX_FACES)} 0"]
    lines += [" ".join(map(str, corner)) for corner in BOX_CORNERS]
    lines += [f"3 {a} {b} {c}" for a, b, c in BOX_FACES]
    for number in range(count):
        (meshes / f"box{number or ''}.off").write_text("\n".join(lines) + "\n")
    return render_listing(list_shapes("folder", meshes), out, **settings)


def render_listing(
    listing, out, rig="ortho6", correspondences=True, shard=None, codec=None, **settings
):
    """A store of a listing's shapes; settings: those of RenderConfig."""
    config = RenderConfig(find_rig(rig), **{"size": 32, "points": 256, **settings})
    return _rendered(listing, out, config, correspondences, shard, codec)


def render_scenes(listing, out, **settings):
    """A store of a listing's scenes; settings: those of SceneConfig."""
    return _rendered(listing, out, SceneConfig(**settings))


def _rendered(listing, out, config, correspondences=True, shard=None, codec=None):
    job = job_of_listing(listing, str(out), config, correspondences)
    store = create_store(listing, job, shard, codec=codec)
    runner = ShardRunner(job)
    for task in tasks(store, render=True, correspondences=correspondences):
        runner(task, {}, lambda shape: None)
    return ViewStore.open(out)


def named_files(store, stage, shard):
    """The files that a stage writes for a shard, as a commit marker names them."""
    names = arrays_of(store.schema, stage)
    return {shard_key(store.specs[name], name, shard): "0" * 64 for name in names}


def tree(folder):
    """The bytes of every file by name, without what may differ."""
    files = (path for path in sorted(Path(folder).rglob("*")) if path.is_file())
    return settled({path.relative_to(folder).as_posix(): path.read_bytes() for path in files})


def tree_after_kills(folder):
    """The same as `tree`, without the locks of killed writers, which block nobody."""
    return {name: data for name, data in tree(folder).items() if not name.endswith(LOCK)}


def settled(files):
    """The same files, without what may differ from run to run: the seconds in commit markers."""
    return {name: _settled(data) if "commits/" in name else data for name, data in files.items()}


def _settled(data):
    try:
        marker = json.loads(data)
    except ValueError:
        return data
    marker.pop("checksum")
    for outcome in [*marker.get("outcomes", []), *marker.get("failures", [])]:
        outcome["seconds"] = 0
    return json.dumps(marker).encode()
