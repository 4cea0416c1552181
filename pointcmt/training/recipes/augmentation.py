"""What point networks read of shapes, and the random changes that a configuration asks for.

With normals, the rows of a cloud are [position, normal]; rotation turns both, and scale keeps a
normal orthogonal to its surface. Without, rows are positions.
"""

import torch
from torch import Generator, Tensor

from pointcmt.datasets.store.epochs import Batch
from pointcmt.input_frame import InputFrame
from pointcmt.training.config.sections import Augmentation, StudentData
from pointcmt.training.ops import augment as change


def point_arrays(data: StudentData) -> tuple[str, ...]:
    """Return the names of a store's arrays that a network reads."""
    return ("points", "normals") if data.normals else ("points",)


def point_rows(batch: Batch) -> Tensor:
    """Return the clouds of a batch, [B, N, 3], or [B, N, 6] with normals."""
    if "normals" not in batch:
        return batch["points"]
    return torch.cat([batch["points"], batch["normals"]], dim=2)


def as_arrays(rows: Tensor) -> Batch:
    """Return rows [B, N, 3 or 6] as the arrays of a batch, the opposite of `point_rows`."""
    arrays = {"points": rows[..., :3]}
    return arrays if rows.shape[2] == 3 else {**arrays, "normals": rows[..., 3:]}


def augment(
    points: Tensor, settings: Augmentation, frame: InputFrame, generator: Generator
) -> Tensor:
    """Change every cloud [B, N, 3], or [B, N, 6] with normals, at random, in the settings' order.

    frame: the points', whose axis that points up they are turned about. generator: on the CPU; what
    is off draws nothing from it, except scale and shift. Normals follow scale and rotation.
    """
    a = settings
    if a.point_dropout:
        points = change.drop_points(points, a.point_dropout, generator)
    points = change.rescale(points, a.scale, a.isotropic, generator)
    if a.normalize:
        points = change.normalize(points)
    if a.rotation:
        points = change.turn(points, "xyz".index(frame.up), a.rotation, generator)
    points = change.move(points, a.shift, generator)
    if a.jitter:
        points = change.jitter(points, a.jitter, a.jitter_clip, generator)
    return points
