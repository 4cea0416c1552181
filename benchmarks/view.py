"""The page that `pointcmt view` writes and serves: its size, and how soon a browser shows a shape.

    python benchmarks/view.py [--shapes 200] [--served 2000] [--rounds 5]

Renders built-in shapes (12 views of 224², 2,048 points) into a temporary folder and writes their
page. The store that is served has copies of these shapes under other names. A round is a new
process of headless Chromium with an empty profile: the time from the request of the page until its
first shape is drawn. One more round measures the memory of the page's JavaScript after 20 shapes.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

import pointcmt as pc
from pointcmt.datasets.store.creation import create
from pointcmt.datasets.store.documents import Outcome, encode_outcome
from pointcmt.datasets.store.schema import (
    CORRESPONDENCES,
    RENDER,
    render_arrays,
    schema_attributes,
)
from pointcmt.datasets.store.storage import Storage
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.view.contents import ViewOptions
from pointcmt.view.serve import serving
from pointcmt.view.write import write_view

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.view.browser import Browser, find_browser

STEPS = 20  # shapes that are looked at before the memory is measured
DRAWN = "state.shape !== null && $('large').width > 0"
DERIVED = ("plan_sha256", "store")  # attributes of a store that follow from the others


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", type=int, default=200)
    parser.add_argument("--served", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    count = arguments.shapes
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        out = Path(folder) / "S"
        pc.render("toy", out=out, limit=count, rig="mvnet12", size=224, points=2048, workers=1)
        store = pc.open_store(out)
        started = time.process_time()
        paths = write_view(store, Path(folder) / "P")
        seconds = time.process_time() - started
        size = sum(path.stat().st_size for path in paths)
        print(f"{count} shapes: {size / 1e6:.1f} MB, {size / count / 1e6:.3f} MB and "
              f"{seconds / count:.2f} CPU seconds per shape; "
              f"the page itself {paths[0].stat().st_size / 1e6:.2f} MB")  # fmt: skip
        measure(paths[0].as_uri(), arguments.rounds, f"{count} shapes from disk")
        large = repeat(store, arguments.served, Path(folder) / "L")
        started = time.perf_counter()
        with serving(large, ViewOptions()) as url:
            print(f"{arguments.served} shapes: the server starts in "
                  f"{time.perf_counter() - started:.2f} s")  # fmt: skip
            measure(url, arguments.rounds, f"{arguments.served} shapes served")


def measure(url: str, rounds: int, what: str) -> None:
    """Print how soon the first shape is drawn, and the memory after some more."""
    path = find_browser()
    if path is None:
        print("no Chromium here: ./system-packages.sh tests installs one")
        return
    seconds = []
    for _ in range(rounds):
        with opened(path) as browser:
            seconds.append(show(browser, url))
    with opened(path) as browser:
        show(browser, url)
        steps = min(STEPS, browser.evaluate("shown.length"))
        for place in range(1, steps):
            browser.evaluate("step(1)")
            browser.wait(f"state.place === shown[{place}] && state.shape")
        heap = browser.evaluate("performance.memory.usedJSHeapSize") / 1e6
    load, _, _ = os.getloadavg()
    print(f"{what}: drawn after {statistics.median(seconds):.2f} s (median of {rounds}, "
          f"{min(seconds):.2f} to {max(seconds):.2f}, at a load of {load:.1f} on {os.cpu_count()} "
        f"cores); {heap:.0f} MB of JavaScript after {steps} shapes",
        flush=True,
    )  # fmt: skip


@contextmanager
def opened(path: str) -> Iterator[Browser]:
    """Open a new browser with an empty profile."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(path, Path(profile))
        browser.resize(1280)
        try:
            yield browser
        finally:
            browser.close()


def show(browser: Browser, url: str) -> float:
    """Open the page; return the seconds until its first shape is drawn."""
    started = time.perf_counter()
    browser.send("Page.navigate", url=url)
    browser.wait("document.readyState === 'complete'")
    browser.wait(DRAWN)
    return time.perf_counter() - started


def repeat(store: ViewStore, count: int, out: Path) -> ViewStore:
    """Write a store of `count` shapes: those of another one, again and again, with other names."""
    sources = np.arange(count) % len(store.shapes)
    shapes = [
        replace(store.shapes[source], id=f"{store.shapes[source].id}-{number}")
        for number, source in enumerate(sources)
    ]
    attributes = {key: value for key, value in store.attributes.items() if key not in DERIVED}
    attributes["schema"] = schema_attributes(replace(store.schema, shapes=count))
    copy = create(Storage(out), attributes, shapes)
    for shard in range(copy.schema.shards):
        rows = np.array(copy.schema.shapes_of(shard))
        arrays = {name: store.read(name, sources[rows]) for name in render_arrays(copy.schema)}
        outcomes = [encode_outcome(Outcome(shapes[row].id, "done")) for row in rows]
        files = copy.write_shard(shard, arrays)
        copy.commit(RENDER, shard, {"outcomes": outcomes, "files": files})
        files = copy.write_shard(shard, {"visible": store.read("visible", sources[rows])})
        copy.commit(CORRESPONDENCES, shard, {"failures": [], "files": files})
    return ViewStore.open(out)


if __name__ == "__main__":
    main()
