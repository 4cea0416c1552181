"""How hard the toy rooms are for hand-made features, and how often each class is seen.

Usage: python benchmarks/rooms.py [--train 60] [--test 20]

Points are what 24 of a room's 48 cameras see, one per 5 cm. A random forest classifies them by
their height alone, by height and normal, and by these with the eigenvalues of the neighborhood, its
density, and the lowest and highest point above the same place, all from exact normals. Rooms are
meant to keep the first below 20 mIoU and the last below 45, so that there is something to learn.
"""

import argparse

import numpy as np
import open3d as o3d
from scipy.spatial import cKDTree
from sklearn.ensemble import RandomForestClassifier

from pointcmt.cameras import pixel_centers
from pointcmt.datasets.sources.toy.rooms.path import resize_cameras
from pointcmt.datasets.sources.toy.rooms.piece import CLASSES
from pointcmt.datasets.sources.toy.rooms.room import make_room

VOXEL = 0.05  # meters
COLUMN = 0.1
NEIGHBORS = 16
WIDTH, HEIGHT = 160, 120
FEATURES = {"height": 1, "height and normal": 2, "all": 9}  # how many of the columns


def seen_points(seed):
    """Return points [n,3], |normal z| [n] and classes [n] of one room's seen surface."""
    room = make_room(seed)
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(room.mesh.vertices.astype(np.float32), room.mesh.faces.astype(np.uint32))
    cameras = resize_cameras(room.cameras, WIDTH, HEIGHT)[::2]
    pixels = np.broadcast_to(
        pixel_centers(WIDTH, HEIGHT).reshape(-1, 2), (len(cameras), WIDTH * HEIGHT, 2)
    )
    origin = np.repeat(cameras.center[:, None], WIDTH * HEIGHT, axis=1)
    way = cameras.unproject(pixels, np.ones(WIDTH * HEIGHT)) - origin
    rays = np.concatenate([origin, way], axis=-1).reshape(-1, 6)
    hits = scene.cast_rays(o3d.core.Tensor(rays.astype(np.float32)))
    points = rays[:, :3] + rays[:, 3:] * hits["t_hit"].numpy()[:, None]
    face, normals = hits["primitive_ids"].numpy(), hits["primitive_normals"].numpy()
    upward = np.abs(normals[:, 2]) / np.linalg.norm(normals, axis=1)
    label = room.face_semantic[face.astype(np.int64)]
    places = np.floor(points / VOXEL).astype(np.int64)
    _, voxel, count = np.unique(places, axis=0, return_inverse=True, return_counts=True)
    votes = np.zeros((len(count), len(CLASSES)))
    np.add.at(votes, (voxel.ravel(), label), 1)
    sums = [np.bincount(voxel.ravel(), values) for values in (*points.T, upward)]
    mean = np.stack(sums, axis=1) / count[:, None]
    kept = count > 1  # a single pixel is often at the border of two surfaces
    return mean[kept, :3], mean[kept, 3], votes.argmax(axis=1)[kept]


def features(points, upward):
    """Return hand-made features [n,9], in the order of FEATURES."""
    tree = cKDTree(points)
    near = points[tree.query(points, NEIGHBORS + 1)[1]]
    near = near - near.mean(axis=1, keepdims=True)
    spread = np.linalg.eigvalsh(np.einsum("nki,nkj->nij", near, near) / (NEIGHBORS + 1))
    density = tree.query_ball_point(points, 4 * VOXEL, return_length=True)
    places = np.floor(points[:, :2] / COLUMN).astype(np.int64)
    _, column = np.unique(places, axis=0, return_inverse=True)
    column, z = column.ravel(), points[:, 2]
    top, bottom = np.full(column.max() + 1, -np.inf), np.full(column.max() + 1, np.inf)
    np.maximum.at(top, column, z)
    np.minimum.at(bottom, column, z)
    flat = spread[:, 0] / spread.sum(axis=1)
    return np.column_stack([z, upward, spread, density, top[column], bottom[column], flat])


def main():
    """Print the share of every class, and the scores of the forests."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--train", type=int, default=60, help="rooms to train on")
    options.add_argument("--test", type=int, default=20, help="rooms to test on")
    given = options.parse_args()
    values, labels, shares = [], [], []
    for seed in range(given.train + given.test):
        points, upward, label = seen_points(seed)
        count = 6000 if seed < given.train else 20_000
        chosen = np.random.default_rng(seed).permutation(len(label))[:count]
        values.append(features(points, upward)[chosen])
        labels.append(label[chosen])
        shares.append(np.bincount(label, minlength=len(CLASSES)) / len(label))
    shares = np.array(shares)
    print("class     share  in rooms")
    for name, share in zip(CLASSES, shares.T, strict=True):
        print(f"{name:8} {share.mean():6.2%}  {(share > 0.001).mean():6.0%}")
    for title, columns in FEATURES.items():
        forest = RandomForestClassifier(60, min_samples_leaf=5, max_samples=0.3, random_state=0)
        train = np.concatenate(values[: given.train])[:, :columns]
        forest.fit(train, np.concatenate(labels[: given.train]))
        test, truth = np.concatenate(values[given.train :]), np.concatenate(labels[given.train :])
        table = np.zeros((len(CLASSES), len(CLASSES)))
        np.add.at(table, (truth, forest.predict(test[:, :columns])), 1)
        right = np.diag(table)
        iou = right / np.maximum(table.sum(axis=0) + table.sum(axis=1) - right, 1)
        print(f"{title}: mIoU {iou.mean():.1%}, accuracy {right.sum() / table.sum():.1%}")
        print("  " + ", ".join(f"{n} {v:.0%}" for n, v in zip(CLASSES, iou, strict=True)))


if __name__ == "__main__":
    main()
