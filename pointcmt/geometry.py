"""Normalize surfaces and clouds to the unit sphere, and sample them in farthest-point order."""

import hashlib
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pointcmt.compiled import compiled
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.input_frame import UP_AXES
from pointcmt.shapes import Cloud, Mesh, UnitMesh

MIN_AREA = 1e-12  # in the unit sphere; a smaller surface is only rounding noise
CANDIDATES_PER_POINT = 4  # sampled by area before the farthest-point order picks among them
SAME_PLANE = 1e-4  # in the unit sphere: how much normals and offsets of planes may differ
_LEAD = 0.53  # of a unit normal, a component that exceeds it gives its side: 1/√3 is the least
_BUCKET = 64  # candidates that share one bounding box in the farthest-point search


def normalize(mesh: Mesh, up: str) -> tuple[UnitMesh, NDArray[np.float64]]:
    """Center and scale a mesh into the unit sphere, +Z up; return it and `source_to_world` [4,4].

    Only vertices that faces use count: the center is that of their bounding box, the radius the
    distance of the farthest. Computed in float64, exact enough for offsets of 1e7 and for scales
    from 1e-150 to 1e150. Raises ShapeRefused (no_area) for a surface without extent.
    """
    used = np.zeros(len(mesh.vertices), bool)
    used[mesh.faces.ravel()] = True
    vertices = np.zeros_like(mesh.vertices)  # unreferenced vertices may be anywhere: leave them 0
    vertices[used], source_to_world = _to_unit_sphere(mesh.vertices[used], up)
    normalized = UnitMesh.of(mesh, vertices, np.array(UP_AXES[up], np.float64))
    if face_areas(normalized).max() < MIN_AREA:
        raise ShapeRefused(Reason.NO_AREA, f"all {len(mesh.faces)} faces have zero area")
    return normalized, source_to_world


def normalize_cloud(cloud: Cloud, up: str) -> tuple[Cloud, NDArray[np.float64]]:
    """Normalize a cloud like `normalize`, using all points; rotate its normals too.

    The result is rounded to float32 values, so that the stored points are exactly those drawn.
    """
    points, source_to_world = _to_unit_sphere(cloud.points, up)
    normals = cloud.normals @ np.array(UP_AXES[up], np.float64).T
    points = points.astype(np.float32).astype(np.float64)
    return replace(cloud, points=points, normals=normals), source_to_world


def _to_unit_sphere(
    points: NDArray[np.float64], up: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return points [n,3] centered by their bounding box, farthest at radius 1, +Z up, and the
    transform [4,4]."""
    low, high = points.min(axis=0), points.max(axis=0)
    center = low / 2 + high / 2  # halves first: the sum may overflow
    half = np.max(high / 2 - low / 2)
    if not half > np.abs(points).max() * 1e-15:
        raise ShapeRefused(Reason.NO_AREA, "all points coincide")
    radius = half * np.sqrt((((points - center) / half) ** 2).sum(axis=1).max())
    if not np.isfinite(radius) or not np.isfinite(1 / radius):
        raise ShapeRefused(
            Reason.NOT_FINITE, f"a radius of {radius:g} is out of the range of float64"
        )
    turn = np.array(UP_AXES[up], np.float64)
    source_to_world = np.eye(4)
    source_to_world[:3, :3] = turn / radius
    source_to_world[:3, 3] = -turn @ (center / radius)
    return ((points - center) / radius) @ turn.T, source_to_world


def face_normals(mesh: Mesh) -> NDArray[np.float64]:
    """Return unit normals [F,3] by the right-hand rule; zero for faces without area."""
    return _normals_and_areas(mesh.vertices, mesh.faces)[0]


def face_areas(mesh: Mesh) -> NDArray[np.float64]:
    """Return face areas [F] in the mesh's units squared."""
    return _normals_and_areas(mesh.vertices, mesh.faces)[1]


def first_twins(mesh: Mesh) -> NDArray[np.int32]:
    """Return for each face the first one with the same three corner positions (or itself), [F] i32.

    CAD exports contain thousands of duplicate faces. Which of them a ray hits first is arbitrary,
    so the first represents all of them in sampling, and those with its winding in images.
    """
    places = first_equal_rows((mesh.vertices + 0.0).view(np.int64))  # + 0.0: -0.0 becomes 0.0
    return first_equal_rows(np.sort(places[mesh.faces], axis=1))


def opposed_faces(
    mesh: Mesh, normals: NDArray[np.float64]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the faces that lie in one plane, to SAME_PLANE, with faces that face the other way.

    Two lists of indices, one per way: only faces of different lists can coincide and show different
    sides. normals [F,3]: of the faces.
    """
    plane, way = _planes(mesh.vertices, mesh.faces, normals)
    order = np.argsort(plane)
    group = np.cumsum(np.diff(plane[order], prepend=plane[order[:1]]) != 0)
    found = [np.bincount(group, way[order] == sign) > 0 for sign in (1, -1)]
    opposed = order[(found[0] & found[1])[group]]
    one, other = (np.sort(opposed[way[opposed] == sign]).astype(np.int32) for sign in (1, -1))
    return one, other


def shape_seed(seed: int, shape_id: str) -> np.random.Generator:
    """Return the random generator of one shape, which depends only on the seed and the id."""
    words = np.frombuffer(hashlib.sha256(shape_id.encode()).digest(), np.uint32)
    return np.random.default_rng([seed, *words.tolist()])


def sample_surface(
    mesh: Mesh, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Sample `count` points uniformly by area: positions [count,3] f64 and faces [count] i32.

    Systematic sampling along the cumulative area: each face gets its share of points to within
    one. Only the first of duplicate faces is used. The barycentric map is that of Osada et al.,
    Shape Distributions (2002), equation 1.
    """
    once = first_twins(mesh) == np.arange(len(mesh.faces))
    cumulative = np.cumsum(np.where(once, face_areas(mesh), 0))
    steps = (np.arange(count) + rng.random()) / count * cumulative[-1]
    faces = np.searchsorted(cumulative, steps, side="right").astype(np.int32)
    np.minimum(faces, len(mesh.faces) - 1, out=faces)
    root, along = np.sqrt(rng.random(count))[:, None], rng.random(count)[:, None]
    a, b, c = (mesh.vertices[mesh.faces[faces, corner]] for corner in range(3))
    return (1 - root) * a + root * (1 - along) * b + root * along * c, faces


def sample_points(
    mesh: Mesh, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Sample `count` surface points in farthest-point order, so that any first n are evenly spread.

    They are chosen from CANDIDATES_PER_POINT times as many uniform samples. Returns positions
    [count,3] f64 and faces [count] i32.
    """
    points, faces = sample_surface(mesh, count * CANDIDATES_PER_POINT, rng)
    order = spatial_order(points)
    chosen = order[farthest_points(points[order], count)]
    return points[chosen], faces[chosen]


def choose_points(points: NDArray[np.float64], count: int) -> NDArray[np.int32]:
    """Choose `count` of a cloud's points [M,3] in farthest-point order: indices [count] i32.

    The cloud must be in the unit sphere.
    Only the first of coinciding points is used. If fewer than `count` distinct points are left,
    their order repeats from its start, so that the points' counts differ by at most one.
    """
    places = np.unique(first_equal_rows((points + 0.0).view(np.int64)))  # + 0.0: -0.0 becomes 0.0
    places = places[spatial_order(points[places])]
    chosen = places[farthest_points(points[places], min(count, len(places)))]
    return np.resize(chosen, count).astype(np.int32)


@compiled
def first_equal_rows(rows):  # type: ignore[no-untyped-def]
    """Return for each row of integers [n,3] the index of the first row equal to it, [n] i32."""
    size = 4
    while size < 2 * len(rows):
        size *= 2
    table = np.full(size, -1, np.int32)  # open addressing
    first = np.empty(len(rows), np.int32)
    for row in range(len(rows)):
        a, b, c = np.uint64(rows[row, 0]), np.uint64(rows[row, 1]), np.uint64(rows[row, 2])
        # Multiplicative hashing; the constants are odd and have no pattern.
        mixed = a * np.uint64(0x9E3779B97F4A7C15) ^ b * np.uint64(0xC2B2AE3D27D4EB4F)
        mixed = (mixed ^ mixed >> np.uint64(29)) * np.uint64(0x165667B19E3779F9) + c
        mixed = (mixed ^ mixed >> np.uint64(32)) * np.uint64(0xD6E8FEB86659FD93)
        slot = np.int64((mixed ^ mixed >> np.uint64(32)) & np.uint64(size - 1))
        while table[slot] >= 0:
            other = table[slot]
            if (
                rows[other, 0] == rows[row, 0]
                and rows[other, 1] == rows[row, 1]
                and rows[other, 2] == rows[row, 2]
            ):
                break
            slot = (slot + 1) & (size - 1)
        if table[slot] < 0:
            table[slot] = row
        first[row] = table[slot]
    return first


@compiled
def farthest_points(points, count):  # type: ignore[no-untyped-def]
    """Return indices [count] of farthest-point sampling of points [M,3] f64, starting at the first.

    The result is exact (Eldar et al. 1997, ties to the lower index), but each step only visits the
    buckets of consecutive points that the new sample can be nearest to. Sort points along a
    space-filling curve first; otherwise it is slow.
    """
    total = len(points)
    buckets = (total + _BUCKET - 1) // _BUCKET
    low, high = np.empty((buckets, 3)), np.empty((buckets, 3))
    for bucket in range(buckets):
        first, last = bucket * _BUCKET, min(total, (bucket + 1) * _BUCKET)
        for axis in range(3):
            low[bucket, axis] = points[first:last, axis].min()
            high[bucket, axis] = points[first:last, axis].max()
    distance = np.full(total, np.inf)  # squared, to the nearest sample so far
    farthest = np.full(buckets, np.inf)  # the largest in each bucket, and where it is
    where = np.arange(buckets) * _BUCKET
    chosen = np.empty(count, np.int64)
    sample = 0
    for step in range(count):
        chosen[step] = sample
        x, y, z = points[sample]
        best, best_at = -1.0, 0
        for bucket in range(buckets):
            dx = max(low[bucket, 0] - x, 0.0, x - high[bucket, 0])
            dy = max(low[bucket, 1] - y, 0.0, y - high[bucket, 1])
            dz = max(low[bucket, 2] - z, 0.0, z - high[bucket, 2])
            if dx * dx + dy * dy + dz * dz < farthest[bucket]:
                top, top_at = -1.0, 0
                for i in range(bucket * _BUCKET, min(total, (bucket + 1) * _BUCKET)):
                    dx, dy, dz = points[i, 0] - x, points[i, 1] - y, points[i, 2] - z
                    near = min(distance[i], dx * dx + dy * dy + dz * dz)
                    distance[i] = near
                    if near > top:
                        top, top_at = near, i
                farthest[bucket], where[bucket] = top, top_at
            if farthest[bucket] > best:
                best, best_at = farthest[bucket], where[bucket]
        sample = best_at
    return chosen


@compiled
def _normals_and_areas(vertices, faces):  # type: ignore[no-untyped-def]
    normals, areas = np.zeros((len(faces), 3)), np.zeros(len(faces))
    for face in range(len(faces)):
        a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
        ux, uy, uz = (
            vertices[b, 0] - vertices[a, 0],
            vertices[b, 1] - vertices[a, 1],
            vertices[b, 2] - vertices[a, 2],
        )
        vx, vy, vz = (
            vertices[c, 0] - vertices[a, 0],
            vertices[c, 1] - vertices[a, 1],
            vertices[c, 2] - vertices[a, 2],
        )
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        length = np.sqrt(nx * nx + ny * ny + nz * nz)
        areas[face] = length / 2
        if length > 0.0:
            normals[face, 0], normals[face, 1], normals[face, 2] = (
                nx / length,
                ny / length,
                nz / length,
            )
    return normals, areas


@compiled
def _planes(vertices, faces, normals):  # type: ignore[no-untyped-def]
    """Return a number per face that faces in one plane share, and the way that it faces: 1, -1, or
    0 without area."""
    plane, way = np.zeros(len(faces), np.int64), np.zeros(len(faces), np.int8)
    for face in range(len(faces)):
        offset = lead = 0.0
        for axis in range(2, -1, -1):
            offset += normals[face, axis] * vertices[faces[face, 0], axis]
            if abs(normals[face, axis]) > _LEAD:
                lead = normals[face, axis]
        if lead != 0.0:
            way[face] = 1 if lead > 0.0 else -1
            for value in (normals[face, 0], normals[face, 1], normals[face, 2], offset):
                plane[face] = 32768 * plane[face] + np.int64(
                    np.rint(way[face] * value / SAME_PLANE)
                )
    return plane, way


@compiled
def is_wide(vertices, corners, faces, width):  # type: ignore[no-untyped-def]
    """Return for each of a mesh's `faces` (indices) whether its smallest height exceeds `width`."""
    wide = np.empty(len(faces), np.bool_)
    for n in range(len(faces)):
        a, b, c = corners[faces[n], 0], corners[faces[n], 1], corners[faces[n], 2]
        ux, uy, uz = (
            vertices[b, 0] - vertices[a, 0],
            vertices[b, 1] - vertices[a, 1],
            vertices[b, 2] - vertices[a, 2],
        )
        vx, vy, vz = (
            vertices[c, 0] - vertices[a, 0],
            vertices[c, 1] - vertices[a, 1],
            vertices[c, 2] - vertices[a, 2],
        )
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        uu, vv = ux * ux + uy * uy + uz * uz, vx * vx + vy * vy + vz * vz
        longest = max(uu, vv, uu + vv - 2 * (ux * vx + uy * vy + uz * vz))
        wide[n] = x * x + y * y + z * z > width * width * longest  # the height on the longest edge
    return wide


def spatial_order(points: NDArray[np.floating]) -> NDArray[np.intp]:
    """Return indices that sort points in [-1,1]³ along a Morton curve of 64³ cells."""
    cells = np.clip((points + 1) * 32, 0, 63).astype(np.int64)
    spread = np.array([sum(((i >> b) & 1) << (3 * b) for b in range(6)) for i in range(64)])
    code = spread[cells[:, 0]] << 2 | spread[cells[:, 1]] << 1 | spread[cells[:, 2]]
    return np.argsort(code, kind="stable")
