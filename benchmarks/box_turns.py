"""What a wrong heading costs in toy rooms, and which objects have a front at all.

Usage: python benchmarks/box_turns.py [--rooms 40]

Prints, for each class of boxes,
    symmetric  objects that look the same from behind: turned by 180° about its middle, 95 % of the
               surface is within 5 cm of the surface. Their points do not tell their heading from
               its opposite. Not counted for what is in or on a wall, whose side the wall tells
    IoU        of boxes with themselves, turned by a random angle or by so many degrees: the median,
               and the shares over 0.25 / 0.5. What is left of a detection with nothing else wrong
"""

import argparse
import math
from collections import defaultdict

import numpy as np
import torch
from scipy.spatial import cKDTree

from pointcmt.datasets.sources.toy.rooms.piece import BOX_CLASSES, turn
from pointcmt.datasets.sources.toy.rooms.room import make_room
from pointcmt.geometry import sample_surface
from pointcmt.shapes import Mesh
from pointcmt.training.ops.detection.boxes import box_iou

SAMPLES, NEAR, ENOUGH = 4000, 0.05, 0.95
ON_WALLS = ("door", "window", "picture")
TURNS = (15.0, 7.5, 5.0)  # degrees; 15 is half a bin of 12


def main():
    """Print a line for each class."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--rooms", type=int, default=40)
    given = options.parse_args()
    rng = np.random.default_rng(0)
    found = defaultdict(list)
    for seed in range(given.rooms):
        room = make_room(seed)
        for box, label, instance in zip(room.boxes, room.box_label, room.box_instance, strict=True):
            surface = own_surface(room, instance, box, rng)
            turned = [shared(box, rng.uniform(0, 360)), *(shared(box, by) for by in TURNS)]
            found[BOX_CLASSES[label]].append([is_symmetric(surface), *turned])
    print("class, boxes: symmetric; IoU after a random turn, " + angles())
    for name in BOX_CLASSES:
        rows = np.array(found[name], float)
        ious = map(describe, rows[:, 1:].T)
        symmetric = "-" if name in ON_WALLS else f"{rows[:, 0].mean():.0%}"
        print(f"{name}, {len(rows)}: {symmetric}; " + ", ".join(ious))


def describe(ious):
    """Return the median of IoUs [n] and the shares over 0.25 / 0.5, as text."""
    return f"{np.median(ious):.2f} {(ious > 0.25).mean():.0%} / {(ious > 0.5).mean():.0%}"


def angles():
    """Return the turns as text."""
    return ", ".join(f"{by:g}°" for by in TURNS)


def own_surface(room, instance, box, rng):
    """Return points [n,3] of an object's surface, in the frame of its box, about its middle."""
    faces = room.mesh.faces[room.face_instance == instance]
    points, _ = sample_surface(Mesh(room.mesh.vertices, faces), SAMPLES, rng)
    return (points - box[:3]) @ turn(math.degrees(box[6]))


def is_symmetric(surface):
    """Tell whether a surface [n,3] about its middle looks the same after a turn by 180°."""
    away, _ = cKDTree(surface).query(surface * (-1, -1, 1))
    return (away < NEAR).mean() >= ENOUGH


def shared(box, degrees):
    """Return the IoU of a box [7] with itself, turned."""
    boxes = torch.from_numpy(np.stack([box, box + np.radians(degrees) * np.eye(7)[6]]))
    return float(box_iou(boxes[:1], boxes[1:]))


if __name__ == "__main__":
    main()
