"""Check a store against its own metadata: files, checksums, counts, cameras, points."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.cameras import Camera
from pointcmt.datasets.store.features import GROUP, Features, list_features, open_features
from pointcmt.datasets.store.file_checks import MISSING
from pointcmt.datasets.store.metadata import (
    as_prescribed,
    is_array_metadata,
)
from pointcmt.datasets.store.root import (
    is_root_metadata,
)
from pointcmt.datasets.store.scene_checks import check_scene
from pointcmt.datasets.store.schema import (
    CORRESPONDENCES,
    DONE,
    FAILED,
    FEATURES,
    PLAN,
    RENDER,
    ROOT,
    SCENES,
    array_specs,
    digest,
    marker_key,
    unpack_visible,
)
from pointcmt.datasets.store.storage import Storage
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import DamageError

Arrays = dict[str, NDArray[Any]]
# Stored points are float32, cameras computed in float64: both are exact up to a few roundings.
POINT_TOLERANCE, CAMERA_TOLERANCE = 1e-5, 1e-9


@dataclass(frozen=True)
class Broken:
    """One finding: a file, array or shape, and what is wrong with it.

    stage, shard: what must be made again, if the finding concerns a single shard.
    """

    where: str
    what: str
    stage: str = ""
    shard: int = -1


@dataclass(frozen=True)
class Verdict:
    """All findings. checked: files and shapes. pending: shapes not rendered yet (not an error)."""

    checked: int
    pending: int
    broken: tuple[Broken, ...]

    @property
    def ok(self) -> bool:
        return not self.broken

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        broken = [{"where": b.where, "what": b.what} for b in self.broken]
        return {"ok": self.ok, "checked": self.checked, "pending": self.pending, "broken": broken}


def verify(
    place: str | Path | Storage, advance: Callable[[int], None] = lambda shapes: None
) -> Verdict:
    """Read every byte of a store and check it.

    place: as for `ViewStore.open`. advance: called with the number of shapes checked. Raises
    StoreError if there is no store, or if it cannot be read; the verdict reports everything else.
    """
    try:
        store = ViewStore.open(place)
        broken = list(_metadata(store))
    except DamageError as error:  # without a root and a plan, nothing else can be checked
        return Verdict(1, 0, (Broken(error.where, error.what),))
    checked = len(array_specs(store.schema)) + 2
    rendered, matched = set(store.committed(RENDER)), set(store.committed(CORRESPONDENCES))
    for shard in sorted(matched - rendered):
        where = marker_key(CORRESPONDENCES, shard)
        broken.append(Broken(where, "commit marker of a shard that is not rendered", RENDER, shard))
    for shard in sorted(rendered):
        found, looked_at = _shard(store, shard, shard in matched)
        broken += found
        checked += looked_at
        advance(len(store.schema.shapes_of(shard)))
    for key in list_features(store):
        found, looked_at = verify_features(store, key)
        broken += found
        checked += looked_at
    pending = sum(len(store.schema.shapes_of(i)) for i in store.pending(RENDER))
    return Verdict(checked, pending, tuple(broken))


def _metadata(store: ViewStore) -> Iterator[Broken]:
    """Check the root, the plan and the arrays' metadata. Raises DamageError for a damaged plan."""
    root = store.storage.read(ROOT) or b""
    if not is_root_metadata(root, store.attributes):
        yield Broken(ROOT, "the file has changed since it was written")
    if len(store.shapes) != store.schema.shapes:
        yield Broken(
            PLAN, f"{len(store.shapes)} shapes, but the root zarr.json says {store.schema.shapes}"
        )
    for name in array_specs(store.schema):
        data = store.storage.read(f"{name}/{ROOT}")
        if data is None:
            yield Broken(f"{name}/{ROOT}", MISSING)
        elif not is_array_metadata(data, store.schema, name):
            yield Broken(f"{name}/{ROOT}", "the file does not match the schema")


def _shard(store: ViewStore, shard: int, matched: bool) -> tuple[list[Broken], int]:
    """Return the findings in one shard, and how many files and shapes were checked."""
    broken: list[Broken] = []
    outcomes: list[dict[str, Any]] = []
    expected: dict[str, tuple[str, str]] = {}  # by key: stage and SHA-256
    stages = [RENDER, CORRESPONDENCES] if matched else [RENDER]
    for stage in stages:
        where = marker_key(stage, shard)
        try:
            marker = store.markers(stage, [shard])[shard]
        except DamageError as error:
            broken.append(Broken(where, error.what, stage, shard))
            continue
        outcomes = outcomes or marker.get("outcomes", [])
        expected |= {key: (stage, sha256) for key, sha256 in marker["files"].items()}
    expected_names = {key.split("/")[0] for key in expected}
    for key, data in store.storage.read_many(expected):
        stage, sha256 = expected[key]
        if data is None:
            what = store.storage.problem(key) or MISSING
            broken.append(Broken(key, what, stage, shard))
        elif digest(data) != sha256:
            what = "the file's SHA-256 differs from the commit marker's"
            broken.append(Broken(key, what, stage, shard))
    looked_at = len(expected) + len(stages)
    if broken or not outcomes:
        return broken, looked_at  # the contents of damaged files need no check
    shapes = store.schema.shapes_of(shard)
    try:
        arrays = {
            name: store.read(name, slice(shapes.start, shapes.stop)) for name in expected_names
        }
    except DamageError as error:
        return [Broken(error.where, error.what, RENDER, shard)], looked_at
    for slot, shape in enumerate(shapes):
        record, outcome = store.shapes[shape], outcomes[slot]
        own = {name: array[slot] for name, array in arrays.items()}
        facts = {"label": store.labels[shape], "split": store.splits[shape]}
        problems = list(_shape(store, own, outcome, facts))
        if outcome["id"] != record.id:
            problems.append(f"its outcome belongs to '{outcome['id']}'")
        where = f"shape {shape} ({record.id})"
        broken += [Broken(where, problem, RENDER, shard) for problem in problems]
    return broken, looked_at + len(shapes)


def verify_features(store: ViewStore, key: str) -> tuple[list[Broken], int]:
    """Return the findings in the features of one teacher, and how many files were checked."""
    where, stage = f"{FEATURES}/{key}", f"{FEATURES}-{key}"
    broken = []
    group = store.storage.read(f"{FEATURES}/{ROOT}")
    if group is None or not as_prescribed(group, GROUP):
        broken.append(Broken(f"{FEATURES}/{ROOT}", "the file is missing or damaged"))
    try:
        features = open_features(store, key)
        if features is None:
            raise DamageError(MISSING)
    except DamageError as error:
        return [*broken, Broken(f"{where}/{ROOT}", error.what, stage)], 2
    looked_at, rendered = 2, set(store.committed(RENDER))
    for shard in store.committed(stage):
        looked_at += 2
        try:
            broken += _feature_shard(features, shard, shard in rendered)
        except DamageError as error:  # a damaged marker, or damaged data
            file = error.where.removeprefix(f"{store.path}/")
            broken.append(Broken(file, error.what, stage, shard))
    return broken, looked_at


def _feature_shard(features: Features, shard: int, rendered: bool) -> Iterator[Broken]:
    """Yield what is wrong with a shard's features. Raises DamageError for a damaged marker."""
    store, stage, where = features.store, features.stage, marker_key(features.stage, shard)
    marker = store.markers(stage, [shard])[shard]
    for key, data in store.storage.read_many(marker["files"]):
        if data is None:
            yield Broken(key, store.storage.problem(key) or MISSING, stage, shard)
            return
        if digest(data) != marker["files"][key]:
            what = "the file's SHA-256 differs from the commit marker's"
            yield Broken(key, what, stage, shard)
            return
    images = None
    if rendered:
        images = features.images_of(shard, store.markers(RENDER, [shard])[shard])
    if images is None or images.sha256 != marker["made_from"]:
        remedy = "they are recomputed by the next command that uses this teacher; or delete " + (
            f"{features.name} and commits/{features.stage}"
        )
        what = f"stale features, made from images that have been replaced: {remedy}"
        yield Broken(where, what, stage, shard)
        return
    shapes = store.schema.shapes_of(shard)
    array = store.read(features.name, slice(shapes.start, shapes.stop))
    if not np.all(np.isfinite(array)) or np.any(array[~images.done]):
        what = "features are not finite, or not 0 for a failed shape"
        yield Broken(where, what, stage, shard)


def _shape(
    store: ViewStore, arrays: Arrays, outcome: dict[str, Any], facts: dict[str, Any]
) -> Iterator[str]:
    """Yield what is inconsistent in one shape's arrays."""
    for name, value in facts.items():
        if arrays[name] != value:
            yield f"{name} is {arrays[name]}, but the plan says {value}"
    done = outcome["status"] == "done"
    if arrays["status"] != (DONE if done else FAILED):
        yield f"status is {arrays['status']}, but the commit marker says {outcome['status']}"
    if store.schema.kind == SCENES:
        names = {"semantic": len(store.semantic_names), "box_label": len(store.box_names)}
        yield from check_scene(store.schema, names, arrays, done)
        return
    yield from _cameras(arrays, store.schema.size)
    if not done:
        return
    face, depth, faces = arrays["face_index"], arrays["depth"], outcome["faces"]
    if not -1 <= face.min() <= face.max() < faces:
        yield f"face_index ranges from {face.min()} to {face.max()}, but there are {faces} faces"
    if np.any((face >= 0) != (depth > 0)):
        yield "depth and face_index have different backgrounds"
    points, normals, point_face = arrays["points"], arrays["normals"], arrays["point_face"]
    if not 0 <= point_face.min() <= point_face.max() < faces:
        yield (
            f"point_face ranges from {point_face.min()} to {point_face.max()}, but there are "
            f"{faces} faces"
        )
    if not np.all(np.linalg.norm(points, axis=1) <= 1 + POINT_TOLERANCE):
        yield "points lie outside the unit sphere or are not finite"
    if not np.all(np.abs(np.linalg.norm(normals, axis=1) - 1) <= POINT_TOLERANCE):
        yield "normals are not unit vectors"
    if "visible" in arrays:
        yield from _visible(store, arrays)


def _cameras(arrays: Arrays, size: int) -> Iterator[str]:
    K, pose = arrays["K"], arrays["world_to_camera"]
    rotation = pose[:, :3, :3]
    orthonormal = np.allclose(
        rotation @ rotation.swapaxes(1, 2), np.eye(3), rtol=0, atol=CAMERA_TOLERANCE
    )
    if not orthonormal or np.any(np.linalg.det(rotation) < 0) or np.any(pose[:, 3] != [0, 0, 0, 1]):
        yield "world_to_camera is not a rigid transform"
    skewed = np.any(K[:, [0, 1, 2, 2], [1, 0, 0, 1]] != 0) or np.any(K[:, 2, 2] != 1)
    if skewed or np.any(K[:, [0, 1], [0, 1]] <= 0) or np.any(K[:, :2, 2] != size / 2):
        yield "K does not describe a camera with square images and a centered principal point"
    linear = arrays["source_to_world"][:3, :3]
    linear = linear / np.linalg.norm(linear[0] / np.abs(linear).max()) / np.abs(linear).max()
    if not np.allclose(linear @ linear.T, np.eye(3), rtol=0, atol=CAMERA_TOLERANCE):
        yield "source_to_world is not a similarity transform"


def _visible(store: ViewStore, arrays: Arrays) -> Iterator[str]:
    """Check that visible points project into the image."""
    size, count = store.schema.size, store.schema.points
    visible = unpack_visible(arrays["visible"], count)
    uv, depth = Camera(arrays["K"], arrays["world_to_camera"], size, size).project(arrays["points"])
    inside = np.all((uv >= 0) & (uv <= size), axis=2) & (depth > 0)
    if np.any(visible & ~inside):
        yield "points are marked visible outside the image"
    spare = np.unpackbits(arrays["visible"], axis=-1)[..., count:]
    if np.any(spare):
        yield "padding bits after the last point are set"
