"""Stores of box rooms (tests/render/scenes/box_room.py), rendered in this process."""

from dataclasses import replace

from pointcmt import plugins
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.render.jobs.job import create_store, grow_store, job_of_listing, tasks
from pointcmt.render.jobs.shards import ShardRunner
from pointcmt.render.scenes.config import SceneConfig
from tests.render.scenes import box_room

CONFIG = SceneConfig(frames=8, height=60, width=80, points=8000, boxes=4, voxel=0.05)
NAME = "tests.render.scenes.box_room:source"


def render_rooms(out, count=3, shard=2, config=CONFIG, **changes):
    """A store of box rooms with 6, 7, 8 … frames; changes: of the listing."""
    plugins.trust(NAME)
    listing = replace(box_room.listing(NAME, count), **changes)
    job = job_of_listing(listing, str(out), config)
    store = grow_store(create_store(listing, job, shard), listing, job)
    runner = ShardRunner(job)
    for task in tasks(store, render=True, correspondences=True):
        runner(task, {}, lambda shape: None)
    return ViewStore.open(out)
