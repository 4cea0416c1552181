"""The random changes of clouds that a configuration asks for, in training and for votes."""

from torch import Generator, Tensor

from pointcmt.input_frame import InputFrame
from pointcmt.training.config.sections import Augmentation
from pointcmt.training.ops import augment as change


def augment(
    points: Tensor, settings: Augmentation, frame: InputFrame, generator: Generator
) -> Tensor:
    """Change every cloud [B, N, 3] at random, in the order of the settings.

    frame: the points', whose axis that points up they are turned about. generator: on the CPU; what
    is off draws nothing from it, except scale and shift.
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
