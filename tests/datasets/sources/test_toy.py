"""The toy shapes: listed once, identical bytes everywhere, closed solids with part labels."""

import hashlib
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from pointcmt.datasets.sources import toy
from pointcmt.errors import Reason, ShapeRefused

STEP = 8  # every eighth shape of a class is examined: 32 per class
OVERLAP = 2e-5  # distance within which parallel faces count as coplanar
INSIDE = np.array(  # barycentric points to test whether triangles overlap
    [(1, 1, 1), (8, 1, 1), (1, 8, 1), (1, 1, 8), (5, 5, 1), (1, 5, 5), (5, 1, 5)], float
)
INSIDE /= INSIDE.sum(axis=1, keepdims=True)

# Digests of the first test shape of each class; toy.VERSION changes when these do.
GOLDEN = {
    "chair/0200": "1800a1b2c6915188dd410a929531d71aad82ec954c3821c8be2e67f0f0469217",
    "table/0200": "636b8bc4b8892c0e03e84c3434bffc15c34ebe9924f245f574a4383211e7471c",
    "lamp/0200": "976cddafa34e8fe89c77c88382fd41402568c861089c02df0a229ae6f380cee9",
    "mug/0200": "2e95e2828f9fa02b9ba59e340d7c6a6b094b6e52e72428148c03104eb70f8d8a",
    "airplane/0200": "eea2a322df645d68d23c49c155d8b576246f55037ab3cdf47ad4d49261c943d6",
    "car/0200": "7b3de00a6b8a856e2f6b900e175b1fc7a3947a2eeb693e1063ededc772ffc12e",
    "bottle/0200": "0bf571d4bb5d947cc7c99b49f6fbba139d2f7fdf72d2d57837948c924dd44a60",
    "guitar/0200": "ca2d89c285afd3cb1f677dfd782ce9f0a9abc5f3f9864ce0d60cfa43445574af",
    "sofa/0200": "1960d023c858c5b511f7ee216a6c151e49bf245958eb0c57f671aef0ee11bcf5",
    "rocket/0200": "0ebc23e127b323285e28a6e87c731c1bced73853d6fd44a2b75829f5587bb0c1",
}


@pytest.fixture(scope="module")
def sample():
    """A few shapes of every class, by class and id."""
    shapes = [shape for number, shape in enumerate(toy.list_toy()) if number % STEP == 0]
    return {
        name: {s.id: toy.build(s.id) for s in shapes if s.class_name == name}
        for name in toy.CLASS_NAMES
    }


def digest(mesh):
    """SHA-256 of everything a mesh holds, materials and textures included."""
    hashed = hashlib.sha256()
    arrays = [mesh.vertices, mesh.faces, mesh.face_material, mesh.face_part, mesh.uv]
    for array in arrays + [material.texture for material in mesh.materials]:
        described = b"none" if array is None else f"{array.dtype}{array.shape}".encode()
        hashed.update(described + (b"" if array is None else np.ascontiguousarray(array).tobytes()))
    for material in mesh.materials:
        hashed.update(repr((material.name, material.color, material.opacity)).encode())
    return hashed.hexdigest()


def components(mesh):
    """The connected component of each face, [F]: the lowest vertex that is connected to it."""
    label = np.arange(len(mesh.vertices))
    while True:
        lowest = label.copy()
        np.minimum.at(lowest, mesh.faces.ravel(), label[mesh.faces].min(axis=1).repeat(3))
        lowest = lowest[lowest]
        if (lowest == label).all():
            return label[mesh.faces[:, 0]]
        label = lowest


def cross_products(mesh):
    """Normals [F,3], each twice as long as its face's area."""
    a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    return np.cross(b - a, c - a)


def overlapping_faces(mesh):
    """Pairs of coplanar faces of different components that overlap."""
    normal = cross_products(mesh)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    first = np.argmax(np.abs(normal) > 1e-4, axis=1)
    normal *= np.sign(normal[np.arange(len(normal)), first])[:, None]
    corners, component = mesh.vertices[mesh.faces], components(mesh)
    offset = (normal * corners.mean(axis=1)).sum(axis=1)
    key = np.round(np.concatenate([normal * 500, offset[:, None] * 1000], axis=1)).astype(int)
    _, plane = np.unique(key, axis=0, return_inverse=True)
    order = np.argsort(plane.ravel(), kind="stable")
    pairs = []
    for faces in np.split(order, np.flatnonzero(np.diff(plane.ravel()[order])) + 1):
        if len(np.unique(component[faces])) == 1:
            continue
        drop = np.argmax(np.abs(normal[faces[0]]))
        flat = np.delete(corners[faces], drop, axis=2)  # [k,3,2]
        points = np.einsum("pc,kcd->kpd", INSIDE, flat)  # [k,7,2]
        edge = np.roll(flat, -1, axis=1) - flat
        spoke = points[:, None, :, None] - flat[None, :, None]  # [points of, faces, 7, 3, 2]
        side = edge[None, :, None, :, 0] * spoke[..., 1] - edge[None, :, None, :, 1] * spoke[..., 0]
        covered = ((side > 1e-9).all(axis=-1) | (side < -1e-9).all(axis=-1)).any(axis=-1)
        covered &= component[faces][:, None] != component[faces][None]
        covered &= np.abs(offset[faces][:, None] - offset[faces][None]) < OVERLAP
        pairs += [(int(faces[i]), int(faces[j])) for i, j in np.argwhere(covered)]
    return pairs


def test_every_shape_is_listed_once():
    shapes = toy.list_toy()
    assert len({shape.id for shape in shapes}) == len(shapes) == 2500
    counts = Counter((shape.class_name, shape.split) for shape in shapes)
    expected = {(name, "train"): 200 for name in toy.CLASS_NAMES}
    assert counts == expected | {(name, "test"): 50 for name in toy.CLASS_NAMES}
    assert len(toy.CLASS_NAMES) == 10
    assert all(shape.id.startswith(f"{shape.class_name}/") for shape in shapes)
    assert all(shape.source == f"toy:{shape.id}" for shape in shapes)
    assert tuple(toy.PART_NAMES) == toy.CLASS_NAMES


@pytest.mark.parametrize(
    "shape_id",
    ["chair/0250", "chair/-001", "chair/7", "chair/00007", "chair/٠٠٠٧", "boat/0000", "chair", ""],
)
def test_unknown_shapes_are_refused(shape_id):
    with pytest.raises(ShapeRefused, match="chair/0000 to rocket/0249") as refused:
        toy.build(shape_id)
    assert refused.value.reason == Reason.MISSING_FILE


@pytest.mark.parametrize("shape_id", GOLDEN)
def test_shapes_have_their_recorded_digests(shape_id):
    assert digest(toy.build(shape_id)) == GOLDEN[shape_id]


def test_another_process_makes_the_same_bytes(sample):
    ids = [shape_id for shapes in sample.values() for shape_id in list(shapes)[:4]]
    here = [digest(mesh) for shapes in sample.values() for mesh in list(shapes.values())[:4]]
    script = (
        "import sys; from tests.datasets.sources.test_toy import digest, toy\n"
        "print(*[digest(toy.build(i)) for i in reversed(sys.argv[1:])])"
    )
    for seed in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", script, *ids],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(p for p in sys.path if p)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert there.stdout.split() == here[::-1]


@pytest.mark.parametrize("step", [10, pytest.param(1, marks=pytest.mark.slow)])
def test_no_two_shapes_are_equal(step):
    shapes = toy.list_toy()[::step]
    digests = {hashlib.sha256(toy.build(shape.id).vertices.tobytes()).digest() for shape in shapes}
    assert len(digests) == len(shapes) == 2500 // step


@pytest.mark.parametrize("name", toy.CLASS_NAMES)
def test_arrays_are_valid(sample, name):
    for shape_id, mesh in sample[name].items():
        count = len(mesh.faces)
        assert 200 <= count <= 6000, shape_id
        assert mesh.vertices.dtype == np.float64
        assert mesh.faces.dtype == mesh.face_material.dtype == np.int32
        assert mesh.faces.shape == (count, 3)
        assert np.isfinite(mesh.vertices).all(), shape_id
        assert (np.unique(mesh.faces) == np.arange(len(mesh.vertices))).all(), shape_id
        assert (np.unique(mesh.face_material) == np.arange(len(mesh.materials))).all(), shape_id
        assert mesh.face_part.dtype == np.uint8
        assert mesh.face_part.shape == mesh.face_material.shape == (count,)
        assert mesh.vertices[:, 2].min() == 0, f"{shape_id} does not stand on the floor"
        assert (np.linalg.norm(cross_products(mesh), axis=1) > 1e-8).all(), shape_id


@pytest.mark.parametrize("name", toy.CLASS_NAMES)
def test_textures_have_coordinates(sample, name):
    for shape_id, mesh in sample[name].items():
        textured = np.array([material.texture is not None for material in mesh.materials])
        for material in mesh.materials:
            assert all(0 <= channel <= 1 for channel in material.color), shape_id
            if material.texture is not None:
                assert material.texture.dtype == np.uint8
                assert material.texture.shape[2:] == (3,)
                assert material.texture.std(axis=(0, 1)).max() > 2, f"{shape_id}: one color"
        assert (mesh.uv is not None) == textured.any(), shape_id
        if mesh.uv is None:
            continue
        assert mesh.uv.dtype == np.float32
        assert mesh.uv.shape == (len(mesh.faces), 3, 2)
        assert np.isfinite(mesh.uv).all()
        drawn = textured[mesh.face_material]
        assert (mesh.uv[~drawn] == 0).all(), shape_id
        edges = mesh.uv[drawn][:, 1:] - mesh.uv[drawn][:, :1]
        spread = np.abs(edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0])
        area = np.linalg.norm(cross_products(mesh), axis=1)[drawn]
        # The caps of surfaces that are unwrapped by height.
        flat = area[spread < 1e-9].sum() / area.sum()
        assert flat < 0.3, f"{shape_id}: a texture is smeared over {flat:.0%}"


@pytest.mark.parametrize("name", toy.CLASS_NAMES)
def test_every_solid_is_closed_and_wound_outwards(sample, name):
    for shape_id, mesh in sample[name].items():
        edges = np.concatenate(
            [mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]]
        )
        forth, back = (edges @ (len(mesh.vertices), 1) for edges in (edges, edges[:, ::-1]))
        assert len(np.unique(forth)) == len(forth), f"{shape_id}: an edge is used twice one way"
        assert np.isin(back, forth).all(), f"{shape_id}: an edge is open"
        component = components(mesh)
        cone = (mesh.vertices[mesh.faces[:, 0]] * cross_products(mesh)).sum(axis=1) / 6
        volume = np.bincount(component, cone)[np.unique(component)]
        assert (volume > 0).all(), f"{shape_id}: a solid is inside out"


@pytest.mark.parametrize("name", toy.CLASS_NAMES)
def test_no_coplanar_faces_overlap(sample, name):
    for shape_id, mesh in list(sample[name].items())[::2]:
        parts = toy.PART_NAMES[name]
        fights = [
            (parts[mesh.face_part[i]], parts[mesh.face_part[j]]) for i, j in overlapping_faces(mesh)
        ]
        assert not fights, f"{shape_id}: {Counter(fights)}"


@pytest.mark.parametrize("name", toy.CLASS_NAMES)
def test_every_part_occurs_in_a_tenth_of_its_class(sample, name):
    used = Counter()
    for mesh in sample[name].values():
        used.update(np.unique(mesh.face_part).tolist())
    assert set(used) == set(range(len(toy.PART_NAMES[name])))
    assert min(used.values()) >= 0.1 * len(sample[name])


def test_about_half_of_the_shapes_are_textured(sample):
    textured = [
        any(material.texture is not None for material in mesh.materials)
        for shapes in sample.values()
        for mesh in shapes.values()
    ]
    assert 0.35 <= np.mean(textured) <= 0.65


def test_neither_proportions_nor_colors_reveal_the_class(sample):
    """A nearest-neighbor classifier is often wrong by proportions, and mostly wrong by color."""
    proportions, colors, labels = [], [], []
    for label, shapes in enumerate(sample.values()):
        for mesh in shapes.values():
            areas = np.linalg.norm(cross_products(mesh), axis=1)
            palette = np.array([material.color for material in mesh.materials])
            proportions.append(np.log(np.ptp(mesh.vertices, axis=0)))
            colors.append(np.average(palette[mesh.face_material], axis=0, weights=areas))
            labels.append(label)
    labels = np.array(labels)
    for feature, most in ((np.diff(proportions, axis=1), 0.8), (np.array(colors), 0.4)):
        apart = np.linalg.norm(feature[:, None] - feature[None], axis=-1)
        np.fill_diagonal(apart, np.inf)
        right = (labels[apart.argmin(axis=1)] == labels).mean()
        assert 0.1 < right < most
