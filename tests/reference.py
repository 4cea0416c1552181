"""Plain float64 references for the fast paths; they share no code with the package."""

import numba
import numpy as np


@numba.njit(cache=True, error_model="numpy")
def nearest_hits(vertices, faces, origins, directions):
    """First face each ray meets and the distance in direction lengths: every face is tried.

    Möller and Trumbore 1997. Returns faces [n] (-1 = none) and distances [n] (inf = none).
    """
    found, nearest = np.full(len(origins), -1), np.full(len(origins), np.inf)
    for n in range(len(origins)):
        for face in range(len(faces)):
            t = _meet(vertices, faces[face], origins[n], directions[n], 0.0)
            if 0.0 < t < nearest[n]:
                nearest[n], found[n] = t, face
    return found, nearest


@numba.njit(cache=True, error_model="numpy")
def distance_to_face(vertices, faces, chosen, origins, directions, slack):
    """Where each ray meets its face, enlarged by `slack` (barycentric units); inf = misses."""
    out = np.empty(len(origins))
    for n in range(len(origins)):
        out[n] = _meet(vertices, faces[chosen[n]], origins[n], directions[n], slack)
    return out


@numba.njit(cache=True, error_model="numpy")
def visible(vertices, faces, points, own, origins, clearance):
    """Whether the segment from each origin to its point is free up to `clearance` before it."""
    seen = np.ones(len(points), np.bool_)
    for n in range(len(points)):
        direction = points[n] - origins[n]
        reach = np.sqrt((direction * direction).sum())
        for face in range(len(faces)):
            if face != own[n]:
                t = _meet(vertices, faces[face], origins[n], direction, 0.0)
                if t > 0.0 and t * reach < reach - clearance:
                    seen[n] = False
                    break
    return seen


@numba.njit(cache=True, error_model="numpy")
def _meet(vertices, face, origin, direction, slack):
    a, b, c = vertices[face[0]], vertices[face[1]], vertices[face[2]]
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    dx, dy, dz = direction[0], direction[1], direction[2]
    px, py, pz = dy * vz - dz * vy, dz * vx - dx * vz, dx * vy - dy * vx
    determinant = ux * px + uy * py + uz * pz
    if determinant == 0.0:
        return np.inf
    sx, sy, sz = origin[0] - a[0], origin[1] - a[1], origin[2] - a[2]
    u = (sx * px + sy * py + sz * pz) / determinant
    if u < -slack or u > 1.0 + slack:
        return np.inf
    qx, qy, qz = sy * uz - sz * uy, sz * ux - sx * uz, sx * uy - sy * ux
    v = (dx * qx + dy * qy + dz * qz) / determinant
    if v < -slack or u + v > 1.0 + slack:
        return np.inf
    return (vx * qx + vy * qy + vz * qz) / determinant


def point_triangle_distance(points, triangles):
    """Distance of points [n,3] to triangles [n,3,3]: plane if inside, else the nearest edge."""
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    normal = np.cross(b - a, c - a)
    length = np.linalg.norm(normal, axis=1)
    unit = normal / np.maximum(length, 1e-300)[:, None]
    height = ((points - a) * unit).sum(axis=1)
    foot = points - height[:, None] * unit
    inside = np.ones(len(points), bool)
    edge = np.full(len(points), np.inf)
    for start, end in ((a, b), (b, c), (c, a)):
        inside &= (np.cross(end - start, foot - start) * unit).sum(axis=1) >= 0
        along = end - start
        share = ((points - start) * along).sum(axis=1) / np.maximum((along**2).sum(axis=1), 1e-300)
        nearest = start + np.clip(share, 0, 1)[:, None] * along
        edge = np.minimum(edge, np.linalg.norm(points - nearest, axis=1))
    return np.where(inside & (length > 0), np.abs(height), edge)


def farthest_points(points, count):
    """Farthest-point sampling from the first point on, ties to the lower index."""
    nearest, sample, chosen = np.full(len(points), np.inf), 0, []
    for _ in range(count):
        chosen.append(sample)
        x, y, z = (points - points[sample]).T
        nearest = np.minimum(nearest, x * x + y * y + z * z)
        sample = int(nearest.argmax())
    return np.array(chosen)


def nearest_gap(points):
    """The smallest distance between two of the points."""
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    return apart[~np.eye(len(points), dtype=bool)].min()


def read_off(path):
    """Vertices and triangles of an OFF file, token by token, with Python's own float()."""
    words = path.read_text().replace("OFF", " ", 1).split()
    count, faces = int(words[0]), int(words[1])
    numbers = [float(word) for word in words[3 : 3 + 3 * count]]
    rest = [int(word) for word in words[3 + 3 * count :]]
    assert len(rest) == 4 * faces, "triangles only"
    return np.array(numbers).reshape(-1, 3), np.array(rest, np.int32).reshape(-1, 4)[:, 1:].copy()
