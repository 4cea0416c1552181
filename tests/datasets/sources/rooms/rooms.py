"""Rooms that several tests examine, each built once, and ways to look at them."""

from functools import cache

import numpy as np
import open3d as o3d

from pointcmt.datasets.sources.toy.rooms.piece import CLASSES
from pointcmt.datasets.sources.toy.rooms.room import make_room

SEEDS = range(12)
room = cache(make_room)


def rooms():
    """The rooms of SEEDS, by seed."""
    return {seed: room(seed) for seed in SEEDS}


def own_frame(room, points):
    """World points [n,3] in the room's own frame."""
    return (points - room.room_to_world[:3, 3]) @ room.room_to_world[:3, :3]


def vertices_of(room, instance):
    """The vertices [n,3] of an instance, in the world."""
    return room.mesh.vertices[np.unique(room.mesh.faces[room.face_instance == instance])]


def names(room):
    """The class of every instance."""
    return [CLASSES[index] for index in room.instance_semantic]


def ray_scene(room):
    """The room's triangles, to cast rays at."""
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(room.mesh.vertices.astype(np.float32), room.mesh.faces.astype(np.uint32))
    return scene


def cast(scene, origins, directions):
    """The distance [...] along each ray in units of its direction, and the face [...] it hits."""
    origins, directions = np.broadcast_arrays(origins, directions)
    rays = np.concatenate([origins, directions], axis=-1).astype(np.float32)
    found = scene.cast_rays(o3d.core.Tensor(rays))
    return found["t_hit"].numpy(), found["primitive_ids"].numpy().astype(np.int64)
