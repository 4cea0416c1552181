"""Real stores for tests, rendered in this process."""

from pointcmt.cameras import find_rig
from pointcmt.datasets.sources import list_shapes, select
from pointcmt.datasets.store import ViewStore
from pointcmt.render.config import RenderConfig, fit
from pointcmt.render.job import Job, create_store, tasks
from pointcmt.render.shards import ShardRunner


def render_toy(out, limit, **settings):
    """A store of `limit` toy shapes; settings: as below."""
    return render_listing(select(list_shapes("toy", None), None, limit), out, **settings)


def render_listing(listing, out, rig="ortho6", correspondences=True, shard=None, **settings):
    """A store of a listing's shapes; settings: those of RenderConfig."""
    config = RenderConfig(find_rig(rig), **{"size": 32, "points": 256, **settings})
    config = fit(config, listing.kind)
    job = Job(str(out), listing.name, listing.root, listing.up, config, correspondences)
    store = create_store(listing, job, shard)
    runner = ShardRunner(job)
    for task in tasks(store, render=True, correspondences=correspondences):
        runner(task, {}, lambda shape: None)
    return ViewStore.open(out)
