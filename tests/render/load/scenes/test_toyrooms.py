"""A rendered toy room against rays cast in float64: depth, labels, light, points and boxes."""

from dataclasses import replace

import numpy as np
import open3d as o3d
import pytest
from scipy.spatial.transform import Rotation

from pointcmt.datasets.sources.toy.rooms.room import make_room
from pointcmt.datasets.sources.toyrooms import list_toyrooms
from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.render.jobs.job import create_store, job_of_listing, tasks
from pointcmt.render.jobs.shards import ShardRunner
from pointcmt.render.scenes.config import SceneConfig
from pointcmt.srgb import to_linear, to_srgb
from tests.render.load.scenes.plain_rays import Pinhole

ROOM, SEED, VIEWS = 0, 3, 8
HEIGHT, WIDTH = 240, 320
PIXELS, POINTS = 150, 1000  # samples per view, and of the points
ALL_FRAMES = [int(i) for i in np.linspace(0, 48, 32, endpoint=False)]  # of the path


@pytest.fixture(scope="module")
def room():
    return make_room(ROOM)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    out = tmp_path_factory.mktemp("rooms") / "S"
    listing = list_toyrooms("toyrooms", None)
    listing = replace(listing, shapes=listing.shapes[ROOM : ROOM + 1])
    job = job_of_listing(listing, str(out), SceneConfig(frames=VIEWS, seed=SEED))
    for task in tasks(create_store(listing, job), render=True, correspondences=True):
        ShardRunner(job)(task, {}, lambda shape: None)
    return ViewStore.open(out)


@pytest.fixture(scope="module")
def pinholes(store, room):
    K, poses = store.read("K", 0), store.read("world_to_camera", 0)
    return [Pinhole(room.mesh, *pair) for pair in zip(K, poses, strict=True)]


@pytest.fixture(scope="module")
def looks(pinholes):
    """Of random pixels of each view: row, column, the nearest depths and the faces hit there."""
    rng = np.random.default_rng(0)
    found = []
    for pinhole in pinholes:
        rows, columns = rng.integers(0, HEIGHT, PIXELS), rng.integers(0, WIDTH, PIXELS)
        places = zip(rows.tolist(), columns.tolist(), strict=True)
        found.append([(r, c, *pinhole.look(c + 0.5, r + 0.5)) for r, c in places])
    return found


def test_the_store_is_sound(store):
    assert store.counts(0)["view_count"] == VIEWS
    assert verify(store.path).ok


def test_depth_is_that_of_rays_and_the_noise_of_the_sensor(store, looks):
    """Stored depth = exact depth + σ(z) · normal noise of seed, room and frame, within a step."""
    known = certain = 0
    for view, frame in enumerate(store.read("frame", 0).tolist()):
        generator = np.random.PCG64((SEED, ROOM, ALL_FRAMES.index(frame)))
        draws = np.random.Generator(generator).random((3, HEIGHT, WIDTH))
        normal = np.sqrt(-2 * np.log1p(-draws[0])) * np.cos(2 * np.pi * draws[1])
        stored = store.depth(0, view)
        for row, column, depths, _ in looks[view]:
            assert np.isfinite(depths).all()  # rooms are closed
            if stored[row, column] > 0 and np.ptp(depths) < 1e-4:
                noise = (0.0012 + 0.0019 * (depths[0] - 0.4) ** 2) * normal[row, column]
                assert abs(stored[row, column] - depths[0] - noise) < 0.0005 + 1e-5
                certain += 1
            known += stored[row, column] > 0
    assert known > 0.8 * VIEWS * PIXELS
    assert certain > 0.99 * known


def test_labels_of_pixels_are_those_of_the_faces_that_rays_hit(store, room, looks):
    alone = 0
    for view in range(VIEWS):
        semantic = store.read("semantic_image", 0, view)
        instance = store.read("instance_image", 0, view)
        for row, column, _, faces in looks[view]:
            pairs = set(zip(room.face_semantic[faces], room.face_instance[faces], strict=True))
            assert (semantic[row, column], instance[row, column]) in pairs
            alone += len(pairs) == 1
    assert alone > 0.99 * VIEWS * PIXELS


def test_light_comes_from_the_sun_of_the_room(store, room, looks):
    """Plain faces have the color that their material, the sun and a light along an axis give them,
    whoever looks: the renderer's lights, turned by the smallest turn that makes its key the sun."""
    mesh, count = room.mesh, 0
    key, axis = np.array([-0.36, -0.48, 0.80]), np.array([0.48, -0.64, 0.60])
    about = np.cross(key, room.sun)
    angle = np.arccos(key @ room.sun / np.linalg.norm(key))
    axis = Rotation.from_rotvec(angle * about / np.linalg.norm(about)).apply(axis)
    corners = mesh.vertices[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    for view, (K, pose) in enumerate(
        zip(store.read("K", 0), store.read("world_to_camera", 0), strict=True)
    ):
        rgb, labels = store.read("rgb", 0, view), store.read("instance_image", 0, view)
        for row, column, _, faces in looks[view]:
            material = mesh.materials[mesh.face_material[faces[0]]]
            around = labels[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            if len(faces) > 1 or material.texture is not None or np.ptp(around):
                continue
            ray = pose[:3, :3].T @ np.linalg.inv(K) @ (column + 0.5, row + 0.5, 1)
            normal = normals[faces[0]] / np.linalg.norm(normals[faces[0]])
            facing = normal @ ray / np.linalg.norm(ray)
            toward = -np.sign(facing) * (normal @ room.sun)
            light = 0.12 + 0.26 * abs(normal @ axis) + 0.52 * max(toward, 0)
            share = 0.02 + 0.98 * to_linear(np.array(material.color))
            off = np.abs(rgb[row, column] - 255 * to_srgb(share * light)).max()
            count += 1
            assert off < 1.5 or np.ptp(rgb[row - 1 : row + 2, column - 1 : column + 2]) > 24
    assert count > 100


def test_points_are_seen_where_nothing_lies_in_front_of_them(store, pinholes):
    """In front: nearer by more than max(2 cm, 2 %). Rays in float64 decide."""
    chosen = np.sort(np.random.default_rng(1).permutation(store.counts(0)["point_count"])[:POINTS])
    points, camera = store.read("points", 0)[chosen], store.camera(0)
    verdicts = []
    for view, visible in enumerate(store.visible(0)[:, chosen]):
        uv, depth = camera[view].project(points.astype(np.float64))
        inside = (depth > 0.1) & (uv > 0).all(axis=1) & (uv < (WIDTH, HEIGHT)).all(axis=1)
        assert not visible[~inside].any()
        for (u, v), z, seen in zip(uv[inside], depth[inside], visible[inside], strict=True):
            hidden_before = z - max(0.02, 0.02 * z)
            nearest, _ = pinholes[view].look(u, v)
            if (nearest > hidden_before + 1e-4).all():
                verdicts.append(seen)
            elif (nearest < hidden_before - 1e-4).all():
                verdicts.append(not seen)
            else:  # at an edge
                verdicts.append(None)
    assert verdicts.count(False) == 0
    assert verdicts.count(True) > 0.97 * len(verdicts) > 1000


def test_points_lie_on_what_their_labels_say(store, room):
    """Their distance from the faces of their own class and instance."""
    points = store.read("points", 0)
    pairs = np.column_stack([store.read("semantic", 0), store.read("instance", 0)])
    away = np.full(len(points), np.inf)
    for semantic, instance in np.unique(pairs, axis=0):
        own = (room.face_semantic == semantic) & (room.face_instance == instance)
        scene, mine = o3d.t.geometry.RaycastingScene(), (pairs == (semantic, instance)).all(axis=1)
        scene.add_triangles(
            room.mesh.vertices.astype(np.float32), room.mesh.faces[own].astype(np.uint32)
        )
        away[mine] = scene.compute_distance(o3d.core.Tensor(points[mine])).numpy()
    assert np.median(away) < 0.0015
    assert np.quantile(away, 0.95) < 0.012
    assert away.max() < 0.12


def test_boxes_hold_the_points_of_their_instances(store, room):
    """At least 95 % within 2 cm; only boxes of hardly seen instances are missing."""
    points, instance = store.read("points", 0), store.read("instance", 0)
    boxes = store.read("boxes", 0).astype(np.float64)
    for box, number in zip(boxes, store.read("box_instance", 0), strict=True):
        cos, sin = np.cos(box[6]), np.sin(box[6])
        local = (points[instance == number] - box[:3]) @ [[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]
        assert (np.abs(local) <= box[3:6] / 2 + 0.02).all(axis=1).mean() >= 0.95
    assert 0.6 * len(room.boxes) <= len(boxes) <= len(room.boxes)
