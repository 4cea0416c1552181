"""How well the frames and points of a store of real recordings agree, in millimeters and pixels.

Usage: python benchmarks/frames.py ROOT [--every] [--resolution 640x480]

Renders the recordings below ROOT (`--dataset frames`) into a temporary store, with the frames that
`pointcmt render` chooses, or with every frame, and measures from the store's arrays alone:

- depth: a frame's pixels, moved into another frame g frames later, against the depth there. The
  median difference of pixels that differ by less than 5 cm (others are hidden by something), and
  their share of all pixels.
- points: of those that a frame sees, the distance along its axis from the depth at their pixel.
- matches: pixels of two frames that the same point connects. The first one, moved into the second
  frame by its own depth: the share that agrees with the depth there within the tolerance of
  `visible`, and the share that lands within one and within two pixels of the point.
"""

import argparse
import itertools
import tempfile
from pathlib import Path

import numpy as np

from pointcmt.cameras import pixel_centers
from pointcmt.datasets.sources import list_shapes
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.render.jobs.job import job_of_listing
from pointcmt.render.jobs.run import Options, render
from pointcmt.render.scenes.config import SceneConfig, find_resolution
from pointcmt.render.scenes.visibility import tolerance

GAPS = (1, 10, 40, 100)
MOST_PAIRS = 20  # per gap
SAME_SURFACE = 0.05  # meters


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--every", action="store_true", help="store every frame, up to 256")
    parser.add_argument("--resolution", default="640x480")
    options = parser.parse_args()
    height, width = find_resolution(options.resolution)
    every = {"frames": 256, "distance": 0.0} if options.every else {}
    config = SceneConfig(height=height, width=width, **every)
    with tempfile.TemporaryDirectory() as folder:
        listing = list_shapes("frames", options.root)
        job = job_of_listing(listing, f"{folder}/S", config)
        done = render(listing, job, Options(workers=1))
        print(f"{done.done} scenes, {done.views} frames in {done.seconds:.1f} s")
        store = ViewStore.open(f"{folder}/S")
        for scene, record in enumerate(store.shapes):
            counts = store.counts(scene)
            print(f"\n{record.id}: {counts['view_count']} frames, {counts['point_count']} points")
            report(store, scene)


def report(store: ViewStore, scene: int) -> None:
    """Print all figures of a scene."""
    numbers = store.read("frame", scene).tolist()
    pairs = list(itertools.combinations(range(len(numbers)), 2))
    of_gap = {g: [(a, b) for a, b in pairs if numbers[b] - numbers[a] == g] for g in GAPS}
    if not any(of_gap.values()):  # frames were chosen: neighbors instead
        of_gap = {0: [(a, a + 1) for a in range(len(numbers) - 1)]}
    for gap, found in of_gap.items():
        if found:
            compared = [compare_depth(store, scene, a, b) for a, b in spread(found)]
            error, share = np.median(compared, axis=0)
            name = f"{gap} frames later" if gap else "stored next"
            print(f"  depth {name:17} {1000 * error:5.2f} mm, {share:4.0%} of the pixels")
    off = np.concatenate([off_depth(store, scene, view) for view in range(len(numbers))])
    median, most = 1000 * np.quantile(off, [0.5, 0.95])
    print(f"  points off the depth       {median:5.2f} mm, {most:.2f} mm for 95 % of them")
    matches = [np.zeros((0, 2)), *(match_errors(store, scene, a, b) for a, b in spread(pairs))]
    pixels, beyond = np.concatenate(matches).T
    if len(pixels):
        near = " and ".join(f"{np.mean(pixels < most):.1%} within {most} px" for most in (1, 2))
        print(f"  {len(pixels)} matches: {np.mean(beyond <= 0):.1%} agree in depth, {near}")


def spread(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return at most MOST_PAIRS pairs, evenly spaced."""
    return pairs[:: max(1, -(-len(pairs) // MOST_PAIRS))]


def compare_depth(store: ViewStore, scene: int, first: int, second: int) -> tuple[float, float]:
    """Return the median difference (meters) of two frames' depth, and the share of pixels."""
    depth, other = store.depth(scene, first), store.depth(scene, second)
    uv = pixel_centers(depth.shape[1], depth.shape[0])[depth > 0]
    points = store.camera(scene, first).unproject(uv, depth[depth > 0])
    uv, z = store.camera(scene, second).project(points)
    there, known = depth_at(other, uv, z)
    error = np.abs(z - there)[known]
    near = error < SAME_SURFACE
    return float(np.median(error[near])), near.sum() / len(points)


def off_depth(store: ViewStore, scene: int, view: int) -> np.ndarray:
    """Return the distance (meters) of a frame's visible points from its depth."""
    seen = store.visible(scene, view)
    uv, z = store.camera(scene, view).project(store.read("points", scene)[seen])
    there, known = depth_at(store.depth(scene, view), uv, z)
    return np.abs(z - there)[known]


def match_errors(store: ViewStore, scene: int, first: int, second: int) -> np.ndarray:
    """Return [n,2] for points that two frames see: pixels, and meters beyond the tolerance."""
    seen = store.visible(scene, first) & store.visible(scene, second)
    points = store.read("points", scene)[seen]
    camera, other = store.camera(scene, first), store.camera(scene, second)
    uv, z = camera.project(points)
    there, _ = depth_at(store.depth(scene, first), uv, z)
    moved, z = other.project(camera.unproject(uv, there))
    pixels = np.linalg.norm(moved - other.project(points)[0], axis=-1)
    there, known = depth_at(store.depth(scene, second), moved, z)
    beyond = np.where(known, np.abs(z - there) - tolerance(z), np.inf)
    return np.stack([pixels, beyond], axis=-1)


def depth_at(depth: np.ndarray, uv: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the depth at pixel coordinates [n,2], and whether it is known there."""
    height, width = depth.shape
    inside = (z > 0) & (uv >= 0).all(axis=-1) & (uv < [width, height]).all(axis=-1)
    column, row = np.where(inside[:, None], uv, 0).astype(int).T
    found = np.where(inside, depth[row, column], 0)
    return found, found > 0


if __name__ == "__main__":
    main()
