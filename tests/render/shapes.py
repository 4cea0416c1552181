"""Small meshes made by hand for the renderer's tests."""

import numpy as np

from pointcmt.shapes import Material, UnitMesh

BOX_CORNERS = np.array([[x, y, z] for z in (-1.0, 1) for y in (-1.0, 1) for x in (-1.0, 1)])
BOX_FACES = np.array(
    [
        [0, 2, 3], [0, 3, 1], [4, 5, 7], [4, 7, 6], [0, 1, 5], [0, 5, 4],
        [2, 6, 7], [2, 7, 3], [0, 4, 6], [0, 6, 2], [1, 3, 7], [1, 7, 5],
    ],
    np.int32,
)  # fmt: skip


def box(half=0.577350269, center=(0.0, 0.0, 0.0), **more):
    """A box inside the unit sphere."""
    return UnitMesh(BOX_CORNERS * half + np.array(center), BOX_FACES.copy(), **more)


def join(*meshes, materials=(), face_material=None):
    """Several meshes as one."""
    offsets = np.cumsum([0, *(len(m.vertices) for m in meshes[:-1])])
    return UnitMesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.faces + o for m, o in zip(meshes, offsets, strict=True)]).astype(
            np.int32
        ),
        materials=materials,
        face_material=face_material,
    )


def wall(texture=None, repeat=1.0, color=(1.0, 1.0, 1.0)):
    """A square in the plane y = 0 that faces the front (-Y), with a texture upright on it."""
    vertices = np.array([[-0.7, 0, -0.7], [0.7, 0, -0.7], [0.7, 0, 0.7], [-0.7, 0, 0.7]])
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    corner = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32) * repeat
    return UnitMesh(
        vertices,
        faces,
        materials=(Material("wall", color, texture=texture),),
        face_material=np.zeros(2, np.int32),
        uv=corner[faces],
    )


def sphere(rings=24):
    """A closed sphere of radius 1."""
    polar, azimuth = np.meshgrid(
        np.linspace(0, np.pi, rings + 1), np.linspace(0, 2 * np.pi, 2 * rings + 1), indexing="ij"
    )
    around = np.sin(polar)[..., None] * np.stack([np.cos(azimuth), np.sin(azimuth)], axis=-1)
    vertices = np.concatenate([around, np.cos(polar)[..., None]], axis=-1).reshape(-1, 3)
    row = 2 * rings + 1
    first = (np.arange(rings)[:, None] * row + np.arange(row - 1)).ravel()
    quads = np.stack([first, first + row, first + row + 1, first + 1], axis=1)
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)
    return UnitMesh(vertices, faces)
