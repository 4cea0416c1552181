"""Objects in rooms: they stand on something, stay inside, and do not run into each other."""

from collections import Counter

import numpy as np
import open3d as o3d
import pytest

from pointcmt.datasets.sources.toy.rooms.piece import BOX_CLASSES, CLASSES
from pointcmt.datasets.sources.toy.rooms.shell import THICKNESS
from tests.datasets.sources.rooms.rooms import SEEDS, names, own_frame, ray_scene, room, vertices_of

STANDING = ("table", "chair", "sofa", "cabinet", "lamp", "clutter")
NEAR = 0.003  # meters: what touches within this does not collide


@pytest.mark.parametrize("seed", SEEDS)
def test_everything_stands_on_something(seed):
    """Below a lowest vertex of every object, within 1 cm, is a level face of something else."""
    made = room(seed)
    vertices = own_frame(made, made.mesh.vertices)
    corners = vertices[made.mesh.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    level = np.abs(normal[:, 2]) > 0.99 * np.linalg.norm(normal, axis=1)
    for instance, name in enumerate(names(made)):
        if name not in STANDING:
            continue
        points = own_frame(made, vertices_of(made, instance))
        lowest = points[points[:, 2] < points[:, 2].min() + 0.002]
        other = level & (made.face_instance != instance)
        other &= np.abs(corners[:, 0, 2] - lowest[:, 2].min()) < 0.01
        assert _over(lowest[:, :2], corners[other][..., :2]).any(), name


def _over(points, triangles):
    """Which points [n,2] are in any of the triangles [m,3,2]."""
    edges = np.roll(triangles, -1, axis=1) - triangles
    spokes = points[:, None, None] - triangles[None]
    side = edges[None, ..., 0] * spokes[..., 1] - edges[None, ..., 1] * spokes[..., 0]
    return ((side >= -1e-9).all(axis=2) | (side <= 1e-9).all(axis=2)).any(axis=1)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_outside_the_shell(seed):
    made = room(seed)
    for instance, name in enumerate(names(made)):
        points = own_frame(made, vertices_of(made, instance))
        sunk = {"column": 0.021, "window": 0.011}.get(name, 0.002)
        deep = THICKNESS if name in ("door", "window") else sunk
        assert points[:, 2].min() >= -sunk, name
        assert points[:, 2].max() <= made.height + sunk, name
        assert _beyond(made.outline, points[:, :2]).max() <= deep, name


def _beyond(outline, points):
    """How far points [n,2] are outside a polygon [S,2]; 0 inside."""
    start, side = outline, np.roll(outline, -1, axis=0) - outline
    offset = points[:, None] - start
    share = np.clip((offset * side).sum(axis=2) / (side**2).sum(axis=1), 0, 1)
    distance = np.linalg.norm(offset - share[..., None] * side, axis=2).min(axis=1)
    angles = np.arctan2(-offset[..., 1], -offset[..., 0])
    steps = (np.roll(angles, -1, axis=1) - angles + np.pi) % (2 * np.pi) - np.pi
    return np.where(np.abs(steps.sum(axis=1)) > np.pi, 0.0, distance)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_object_pierces_another(seed):
    """No edge of one instance passes through a face of another."""
    made = room(seed)
    faces, vertices = made.mesh.faces, made.mesh.vertices
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    owner = np.tile(made.face_instance, 3)
    kept = (edges[:, 0] < edges[:, 1]) & (owner >= 0)
    start, way = vertices[edges[kept, 0]], np.diff(vertices[edges[kept]], axis=1)[:, 0]
    length = np.linalg.norm(way, axis=1)
    rays = np.concatenate([start, way / length[:, None]], axis=1).astype(np.float32)
    found = ray_scene(made).list_intersections(o3d.core.Tensor(rays))
    ray, at = found["ray_ids"].numpy().astype(np.int64), found["t_hit"].numpy()
    face = found["primitive_ids"].numpy().astype(np.int64)
    point = rays[ray, :3] + at[:, None] * rays[ray, 3:]
    corners = vertices[faces[face]]
    on_face = (point > corners.min(axis=1) - NEAR) & (point < corners.max(axis=1) + NEAR)
    inner = (at > NEAR) & (at < length[ray] - NEAR) & on_face.all(axis=1)  # Open3D may err
    mine, hit = owner[kept][ray], made.face_instance[face]
    pierced = inner & (hit >= 0) & (hit != mine)
    classes = np.array(names(made))
    assert Counter(zip(classes[mine[pierced]], classes[hit[pierced]], strict=True)) == {}


@pytest.mark.parametrize("seed", SEEDS)
def test_footprints_overlap_only_at_tables(seed):
    """Only chairs share a footprint and heights with anything, and only with tables."""
    made = room(seed)
    boxes, labels = made.boxes.astype(np.float64), [BOX_CLASSES[i] for i in made.box_label]
    standing = [i for i, name in enumerate(labels) if name in STANDING]
    pairs = {
        tuple(sorted((labels[i], labels[j])))
        for i in standing
        for j in standing
        if i != j and _shared(boxes[i], boxes[j])
    }
    assert pairs <= {("chair", "table")}


def _shared(one, other):
    """Whether a point inside `one` is more than 1 cm inside `other`, by a grid of points."""
    steps = np.linspace(-0.5, 0.5, 41)
    grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2) * one[3:5]
    turn = [[[np.cos(b[6]), np.sin(b[6])], [-np.sin(b[6]), np.cos(b[6])]] for b in (one, other)]
    local = (grid @ turn[0] + one[:2] - other[:2]) @ np.transpose(turn[1])
    heights = abs(one[2] - other[2]) < (one[5] + other[5]) / 2 - 0.03
    return heights and (np.abs(local) < other[3:5] / 2 - 0.01).all(axis=1).any()


def test_relations_occur():
    """Chairs are pushed under tables, and things stand on furniture, in shelves and on boxes."""
    tucked = raised = on_floor = 0
    for seed in SEEDS:
        made = room(seed)
        boxes, labels = made.boxes.astype(np.float64), [BOX_CLASSES[i] for i in made.box_label]
        for i, name in enumerate(labels):
            if name == "chair":
                tables = [b for b, other in zip(boxes, labels, strict=True) if other == "table"]
                tucked += any(_shared(boxes[i], table) for table in tables)
        for instance, name in enumerate(names(made)):
            if name == "clutter":
                low = own_frame(made, vertices_of(made, instance))[:, 2].min()
                raised, on_floor = raised + (low > 0.25), on_floor + (low < 0.01)
    assert tucked >= 7
    assert raised >= 60
    assert 0.15 < on_floor / (raised + on_floor) < 0.5


def test_pictures_and_panels_of_the_wall_have_the_same_thickness():
    """Pictures are 1 to 4 cm thick; panels of the same form belong to the wall."""
    thick = []
    for seed in SEEDS:
        made = room(seed)
        chosen = made.box_label == BOX_CLASSES.index("picture")
        thick += made.boxes[chosen, 3].tolist()
    assert len(thick) > 20
    assert 0.0099 < min(thick) < max(thick) < 0.0401


def test_classes_share_their_colors():
    """A nearest-neighbor classifier by the mean color of an object is mostly wrong."""
    colors, labels = [], []
    for seed in SEEDS:
        made = room(seed)
        palette = np.array([material.color for material in made.mesh.materials])
        for instance, label in enumerate(made.instance_semantic):
            chosen = made.face_instance == instance
            a, b, c = np.moveaxis(made.mesh.vertices[made.mesh.faces[chosen]], 1, 0)
            area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
            colors.append(
                np.average(palette[made.mesh.face_material[chosen]], axis=0, weights=area)
            )
            labels.append(CLASSES[label])
    colors, labels = np.array(colors), np.array(labels)
    apart = np.linalg.norm(colors[:, None] - colors[None], axis=-1)
    apart[np.arange(len(labels)), np.arange(len(labels))] = np.inf
    right = labels[apart.argmin(axis=1)] == labels
    assert np.mean([right[labels == name].mean() for name in set(labels)]) < 0.5
