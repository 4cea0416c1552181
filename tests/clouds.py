"""Data sets of clouds in their published layouts, made by the tests."""

import json

import h5py
import numpy as np

from pointcmt.datasets.sources.shapenetpart import CATEGORIES, FIRST_PART


def banded_cloud(synset, count=120, seed=0):
    """(points [M,3] f32, unit normals [M,3], parts [M] of 0..49): a part is a band of x.

    The bands are 1 wide and begin at 0, so that a point's part follows from its x.
    """
    class_name, names = CATEGORIES[synset]
    rng = np.random.default_rng(seed)
    own = np.arange(count) % len(names)
    points = np.stack([own + rng.uniform(0.05, 0.95, count), *rng.random((2, count))], axis=1)
    normals = rng.normal(size=(count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return points.astype(np.float32), normals, FIRST_PART[class_name] + own


def text_of(*columns):
    """A line of numbers per point, precise enough for float32."""
    table = np.column_stack([np.asarray(c, np.float64) for c in columns])
    return "".join(" ".join(map(repr, row)) + "\n" for row in table.tolist())


def write_shapenetpart_text(root, shapes, listed=True):
    """The text layout. shapes: (synset, id, split) → (points, normals, parts)."""
    for (synset, name, _), columns in shapes.items():
        (root / synset).mkdir(parents=True, exist_ok=True)
        (root / synset / f"{name}.txt").write_text(text_of(*columns))
    return write_shapenetpart_lists(root, shapes, listed)


def write_shapenetpart_pts(root, shapes):
    """The older text layout, without normals; its parts count from 1 within the class."""
    for (synset, name, _), (points, _, parts) in shapes.items():
        for folder in ("points", "points_label"):
            (root / synset / folder).mkdir(parents=True, exist_ok=True)
        (root / synset / f"points/{name}.pts").write_text(text_of(points))
        own = parts - FIRST_PART[CATEGORIES[synset][0]] + 1
        (root / synset / f"points_label/{name}.seg").write_text("".join(f"{n}\n" for n in own))
    return write_shapenetpart_lists(root, shapes)


def write_shapenetpart_lists(root, shapes, listed=True):
    """Write the lists that both text layouts have; listed: whether to write lists of splits."""
    (root / "train_test_split").mkdir(exist_ok=True)
    for split in ("train", "val", "test") if listed else ():
        mine = [f"shape_data/{s}/{name}" for s, name, own in shapes if own == split]
        path = root / "train_test_split" / f"shuffled_{split}_file_list.json"
        path.write_text(json.dumps(mine))
    lines = [f"{name.capitalize()}\t{synset}\n" for synset, (name, _) in CATEGORIES.items()]
    (root / "synsetoffset2category.txt").write_text("".join(lines))
    return root


def write_shapenetpart_hdf5(root, shapes, prefix="ply_data_", parts="pid"):
    """The HDF5 layout, a file per split. shapes: as above, with equally many points."""
    root.mkdir(parents=True, exist_ok=True)
    order = list(CATEGORIES)
    for split in ("train", "val", "test"):
        mine = [(key[0], value) for key, value in shapes.items() if key[2] == split]
        if mine:
            write_hdf5(
                root / f"{prefix}{split}0.h5",
                data=np.stack([points for _, (points, _, _) in mine]).astype(np.float32),
                label=np.array([[order.index(synset)] for synset, _ in mine], np.uint8),
                **{parts: np.stack([part for _, (_, _, part) in mine]).astype(np.uint8)},
            )
            (root / f"{split}_hdf5_file_list.txt").write_text(f"{prefix}{split}0.h5\n")
    return root


def write_modelnet(root, points, classes=("airplane", "cup", "sofa"), per_split=(2, 1)):
    """ModelNet40's text layout; returns the clouds [M,3] by id. Each class has its own size."""
    clouds, lists = {}, {"train": [], "test": []}
    for number, label in enumerate(classes):
        splits = [split for split, n in zip(lists, per_split, strict=True) for _ in range(n)]
        (root / label).mkdir(parents=True)
        for index, split in enumerate(splits):
            name = f"{label}_{index + 1:04d}"
            rng = np.random.default_rng([number, index])
            cloud = rng.normal(size=(points, 3)) * rng.uniform(0.1, 0.5, 3) + rng.uniform(-1, 1, 3)
            clouds[f"{label}/{name}"] = cloud
            normals = cloud / np.linalg.norm(cloud, axis=1, keepdims=True)
            (root / label / f"{name}.txt").write_text(text_of(cloud, normals).replace(" ", ","))
            lists[split].append(f"{name}\n")
    for split, names in lists.items():
        (root / f"modelnet40_{split}.txt").write_text("".join(names))
    return clouds


def write_hdf5(path, **arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, compression="gzip")


SHAPES = {
    ("02691156", "aaa", "train"): banded_cloud("02691156", seed=1),
    ("02691156", "bbb", "test"): banded_cloud("02691156", seed=2),
    ("03001627", "ccc", "train"): banded_cloud("03001627", seed=3),
    ("03001627", "ddd", "val"): banded_cloud("03001627", seed=4),
    ("04379243", "eee", "train"): banded_cloud("04379243", seed=5),
}
