"""Real stores for tests, rendered in this process."""

from pointcmt.cameras import find_rig
from pointcmt.datasets.sources import list_shapes, select
from pointcmt.datasets.store import ViewStore
from pointcmt.render.config import RenderConfig
from pointcmt.render.job import Job, create_store, tasks
from pointcmt.render.shards import ShardRunner
from tests.render.shapes import BOX_CORNERS, BOX_FACES


def render_toy(out, limit, **settings):
    """A store of `limit` toy shapes; settings: see `render`."""
    return render(select(list_shapes("toy", None), None, limit), out, **settings)


def render_box(out, meshes, **settings):
    """A store of one cube [-1/√3, 1/√3]³; meshes: an empty folder for its file."""
    lines = [f"OFF\n{len(BOX_CORNERS)} {len(BOX_FACES)} 0"]
    lines += [" ".join(map(str, corner)) for corner in BOX_CORNERS]
    lines += [f"3 {a} {b} {c}" for a, b, c in BOX_FACES]
    (meshes / "box.off").write_text("\n".join(lines) + "\n")
    return render(list_shapes("folder", meshes), out, **settings)


def render(listing, out, rig="ortho6", correspondences=True, shard=None, **settings):
    """A store of a listing's shapes; settings: those of RenderConfig."""
    config = RenderConfig(find_rig(rig), **{"size": 32, "points": 256, **settings})
    job = Job(str(out), listing.name, listing.root, listing.up, config, correspondences)
    store = create_store(listing, job, shard)
    runner = ShardRunner(job)
    for task in tasks(store, render=True, correspondences=correspondences):
        runner(task, {}, lambda shape: None)
    return ViewStore.open(out)
