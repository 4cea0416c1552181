"""The guarantees of a store, checked without the package.

Stores are made by the command line and read with plain zarr; meshes are read by the slowest means;
rays are cast by brute force in float64.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from pointcmt.datasets.sources import toy
from tests import reference
from tests.commands import pointcmt

PIXELS, POINTS = 1500, 1500  # per shape
CLEARANCE = 1e-5  # docs/conventions.md


def rendered(out, *arguments):
    done = pointcmt("render", "--out", out, *arguments)
    assert done.returncode == 0, done.stderr
    return zarr.open_group(out, mode="r")


@pytest.fixture(scope="module")
def real(real_data, tmp_path_factory):
    """Eight ModelNet40 meshes with the default rig and sizes."""
    root = real_data / "ModelNet40"
    group = rendered(
        tmp_path_factory.mktemp("real") / "S", "--dataset", "modelnet40", "--root", root
    )
    return group, [reference.read_off(root / source) for source in sources(group)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two shapes of each toy class."""
    group = rendered(tmp_path_factory.mktemp("made") / "S", "--dataset", "toy", "--limit", 20)
    meshes = [toy.build(source.removeprefix("toy:")) for source in sources(group)]
    return group, [(mesh.vertices, mesh.faces) for mesh in meshes]


@pytest.fixture(params=["real", "made"])
def shapes(request):
    """(arrays of one shape by name, its vertices in the world, its faces) for every shape."""
    group, meshes = request.getfixturevalue(request.param)
    assert np.all(group["status"][...] == 1)
    found = []
    for index, (vertices, faces) in enumerate(meshes):
        names = [name for name in ARRAYS if name in group]
        arrays = {name: group[name][index] for name in names}
        arrays["z"] = arrays["depth"] * group["depth"].attrs["scale"]
        matrix = arrays["source_to_world"]
        found.append((arrays, vertices @ matrix[:3, :3].T + matrix[:3, 3], faces))
    return found


ARRAYS = (
    "depth", "face_index", "points", "normals", "point_face", "visible", "K", "world_to_camera",
    "source_to_world",
)  # fmt: skip


def sources(group):
    lines = (Path(group.store.root) / "shapes.jsonl").read_text().splitlines()
    return [json.loads(line)["source"] for line in lines]


def rays(arrays, view, row, column):
    """Origins and directions (length 1 = depth 1) of the rays through pixel centers, by hand."""
    focal, center = arrays["K"][view, 0, 0], arrays["K"][view, 0, 2]
    local = np.stack(
        [(column + 0.5 - center) / focal, (row + 0.5 - center) / focal, np.ones(len(view))], axis=1
    )
    pose = arrays["world_to_camera"][view]
    origin = -np.einsum("nji,nj->ni", pose[:, :3, :3], pose[:, :3, 3])
    return origin, np.einsum("nji,nj->ni", pose[:, :3, :3], local)


def project(arrays, points):
    """Pixel coordinates [V,N,2] of points, by hand."""
    pose, K = arrays["world_to_camera"], arrays["K"]
    local = np.einsum("vij,nj->vni", pose[:, :3, :3], points) + pose[:, None, :3, 3]
    image = np.einsum("vij,vnj->vni", K, local)
    return image[..., :2] / image[..., 2:]


def some(rng, mask, count):
    return rng.permutation(np.argwhere(mask))[:count].T


def test_shapes_fill_the_unit_sphere(shapes):
    for _, vertices, faces in shapes:
        used = vertices[np.unique(faces)]
        assert np.linalg.norm(used, axis=1).max() == pytest.approx(1, abs=1e-9)
        np.testing.assert_allclose(used.max(axis=0), -used.min(axis=0), atol=1e-9)


def test_points_lie_on_the_face_they_name(shapes):
    for arrays, vertices, faces in shapes:
        corners = vertices[faces[arrays["point_face"]]]
        away = reference.point_triangle_distance(arrays["points"].astype(np.float64), corners)
        assert away.max() <= 1e-6
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        np.testing.assert_allclose(arrays["normals"], normal, atol=1e-6)


def test_points_are_in_farthest_point_order(shapes):
    for arrays, _, _ in shapes:
        points = arrays["points"][:300].astype(np.float64)
        apart = np.linalg.norm(points[:, None] - points[None], axis=2)
        gaps = [apart[i, :i].min() for i in range(1, len(points))]
        # Each point is as far from the earlier ones as possible.
        assert np.all(np.diff(gaps) <= 1e-6)


def test_the_face_at_a_pixel_center_is_the_nearest_hit(shapes):
    right, total = 0, 0
    for arrays, vertices, faces in shapes:
        rng = np.random.default_rng(0)
        pixels = some(rng, arrays["face_index"] >= 0, PIXELS)
        origin, direction = rays(arrays, *pixels)
        shown = arrays["face_index"][tuple(pixels)]
        _, nearest = reference.nearest_hits(vertices, faces, origin, direction)
        own = reference.distance_to_face(vertices, faces, shown, origin, direction, 1e-4)
        right += np.sum(own <= nearest + 1e-6)
        total += len(shown)
        z = arrays["z"][tuple(pixels)]
        hit = np.isfinite(nearest)
        assert np.abs(z - nearest)[hit].max() <= 1e-4
        lands = origin + z[:, None] * direction
        away = reference.point_triangle_distance(lands, vertices[faces[shown]])
        assert away.max() <= 1e-4
        background = some(rng, arrays["face_index"] < 0, PIXELS // 4)
        missed, _ = reference.nearest_hits(vertices, faces, *rays(arrays, *background))
        assert np.mean(missed < 0) >= 0.999
    assert right / total >= 0.999


def test_visibility_agrees_with_brute_force(shapes):
    agreed, total = 0, 0
    for arrays, vertices, faces in shapes:
        rng = np.random.default_rng(1)
        views, count = len(arrays["K"]), len(arrays["points"])
        seen = np.unpackbits(arrays["visible"], axis=-1, count=count).astype(bool)
        view, point = rng.integers(0, views, POINTS), rng.integers(0, count, POINTS)
        zeros = np.zeros(POINTS, int)
        origin, _ = rays(arrays, view, zeros, zeros)
        target = arrays["points"][point].astype(np.float64)
        own = arrays["point_face"][point]
        expected = reference.visible(vertices, faces, target, own, origin, CLEARANCE)
        agreed += np.sum(seen[view, point] == expected)
        total += POINTS
    assert agreed / total >= 0.998


def test_away_from_edges_the_pixel_of_a_visible_point_shows_its_plane(shapes):
    shown, total = 0, 0
    for arrays, vertices, faces in shapes:
        corners, index = vertices[faces], arrays["face_index"]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        area = np.linalg.norm(normal, axis=1)
        normal /= np.maximum(area[:, None], 1e-300)
        longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
        # A guitar's string fits between the centers of two pixels.
        pixel = arrays["z"].max() / arrays["K"][..., 0, 0].min()
        wide = area / np.maximum(longest, 1e-300) > pixel

        def in_plane(face, of, corners=corners, normal=normal):
            away = ((corners[face] - corners[of][:, :1]) * normal[of][:, None]).sum(axis=2)
            return np.abs(away).max(axis=1) < 1e-4

        seen = np.unpackbits(arrays["visible"], axis=-1, count=len(arrays["points"])).astype(bool)
        view, point = np.nonzero(seen)
        size = index.shape[1]
        column, row = np.floor(project(arrays, arrays["points"])[view, point]).astype(int).T
        inner = (np.minimum(column, row) > 0) & (np.maximum(column, row) < size - 1)
        view, point, column, row = view[inner], point[inner], column[inner], row[inner]
        around = [index[view, row + r, column + c] for r in (-1, 0, 1) for c in (-1, 0, 1)]
        here, own = around[4], arrays["point_face"][point]
        clear = (here >= 0) & wide[own]
        for other in around:
            clear &= (other >= 0) & in_plane(other, here)
        shown += np.sum((in_plane(here, own) | in_plane(own, here))[clear])
        total += np.sum(clear)
    assert total > 10_000
    assert shown / total >= 0.999
