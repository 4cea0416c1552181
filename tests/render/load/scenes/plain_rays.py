"""Casting rays at a mesh in float64, with nothing but numpy: what a camera sees, ray by ray."""

import numpy as np

BESIDE = 1e-4  # pixels: rays this far beside each other may hit different faces only at an edge
TIE = 1e-6  # meters: faces this close behind the nearest one cannot be told from it
AROUND = BESIDE * np.array([(0, 0), (-1, -1), (1, -1), (1, 1), (-1, 1)])


class Pinhole:
    """A camera in front of a mesh. K [3,3], world_to_camera [4,4]."""

    def __init__(self, mesh, K, world_to_camera):
        local = mesh.vertices @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
        in_front = (local[mesh.faces, 2] > 0).any(axis=1)
        self.faces, self.back = np.flatnonzero(in_front), np.linalg.inv(K)
        self.corners = local[mesh.faces[in_front]]
        with np.errstate(divide="ignore", invalid="ignore"):
            uv = self.corners @ K.T
            uv = uv[..., :2] / uv[..., 2:]
        entirely = (self.corners[..., 2] > 0).all(axis=1)[:, None]
        self.low = np.where(entirely, uv.min(axis=1) - 1e-3, -np.inf).T.copy()
        self.high = np.where(entirely, uv.max(axis=1) + 1e-3, np.inf).T.copy()

    def look(self, u, v):
        """The nearest depths [5] along the ray through (u, v) and four others BESIDE it, and the
        faces hit there: those of the five rays within TIE of the nearest."""
        across = (self.low[0] <= u) & (self.high[0] >= u)
        some = np.flatnonzero(across & (self.low[1] <= v) & (self.high[1] >= v))
        places = np.column_stack([AROUND + np.array([u, v]), np.ones(len(AROUND))])
        depth = intersect(places @ self.back.T, self.corners[some])
        nearest = depth.min(axis=1)
        return nearest, self.faces[some[(depth <= nearest[:, None] + TIE).any(axis=0)]]


def intersect(directions, corners):
    """The multiple [R,T] of each direction [R,3] from the origin at which it meets each triangle
    [T,3,3], inf where it does not: Möller and Trumbore (1997)."""
    first = corners[:, 0]
    one, two = corners[:, 1] - first, corners[:, 2] - first
    p = np.cross(directions[:, None], two[None])
    q = np.cross(-first, one)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 1 / np.einsum("rti,ti->rt", p, one)
        b = np.einsum("rti,ti->rt", p, -first) * scale
        c = np.einsum("ri,ti->rt", directions, q) * scale
        t = np.einsum("ti,ti->t", q, two) * scale
        met = (b >= 0) & (c >= 0) & (b + c <= 1) & (t > 0)
    return np.where(met, t, np.inf)
