"""Outlines of guitars, 1 high, from y = 0 at the strap pin to where the neck joins the body."""

from dataclasses import dataclass

import numpy as np

from pointcmt.datasets.sources.toy_shapes.outlines import (
    Curve,
    circle,
    rounded,
    spline,
    symmetric,
)

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Body:
    """A kind of body.

    points: (x, y); the right half from bottom to top, or all the way around counter-clockwise
    where `whole`; none for a circle. hollow: deep, with a sound hole. neck: y where the neck
    leaves the body. bridge: its y. strings: how many there may be. reach: from and to, the neck's
    length beyond the body without the head. sharp: the radius of corners; 0 for curves.
    """

    points: Points
    hollow: bool
    neck: float = 1.0
    bridge: float = 0.26
    strings: tuple[int, ...] = (6,)
    reach: tuple[float, float] = (0.85, 1.05)
    whole: bool = False
    sharp: float = 0.0

    def outline(self, width: float) -> Curve:
        """The outline [S,2], its width scaled, its lowest point on y = 0."""
        if not self.points:
            outline = circle(0.42, 40)
        else:
            points = np.array(self.points) * (width, 1.0)
            corners = points if self.whole else symmetric(points)
            if self.sharp:
                outline = rounded(corners, self.sharp, 4)
            else:
                outline = spline(corners, per=4 if self.whole else 3, closed=True)
        return outline - np.array([0.0, outline[:, 1].min()])


BODIES = {
    "dreadnought": Body(
        (
            *((0, 0), (0.26, 0.012), (0.385, 0.13), (0.395, 0.3), (0.315, 0.5), (0.29, 0.6)),
            *((0.305, 0.76), (0.27, 0.92), (0.13, 0.99), (0, 1.0)),
        ),
        hollow=True,
    ),
    "parlour": Body(
        (
            *((0, 0), (0.2, 0.01), (0.34, 0.12), (0.36, 0.28), (0.26, 0.47), (0.21, 0.58)),
            *((0.25, 0.76), (0.22, 0.92), (0.1, 0.99), (0, 1.0)),
        ),
        hollow=True,
        strings=(6, 6, 4),
        reach=(0.75, 1.0),
    ),
    "jumbo": Body(
        (
            *((0, 0), (0.24, 0.01), (0.42, 0.15), (0.43, 0.31), (0.27, 0.5), (0.24, 0.58)),
            *((0.31, 0.74), (0.3, 0.87), (0.16, 0.98), (0, 1.0)),
        ),
        hollow=True,
    ),
    "lute": Body(
        ((0, 0), (0.2, 0.02), (0.36, 0.16), (0.4, 0.36), (0.29, 0.64), (0.13, 0.9), (0, 1.0)),
        hollow=True,
        strings=(4, 6),
        reach=(0.55, 0.8),
    ),
    "banjo": Body(
        (),
        hollow=True,
        neck=0.84,
        bridge=0.24,
        strings=(4, 5),
        reach=(1.0, 1.25),
    ),
    "double cut": Body(
        (
            *((0, 0), (0.22, 0.03), (0.36, 0.16), (0.36, 0.32), (0.27, 0.5), (0.29, 0.64)),
            *((0.34, 0.78), (0.29, 0.86), (0.2, 0.79), (0.12, 0.7), (-0.11, 0.7), (-0.19, 0.84)),
            *((-0.29, 0.98), (-0.37, 0.95), (-0.33, 0.76), (-0.27, 0.6), (-0.29, 0.48)),
            *((-0.39, 0.34), (-0.38, 0.16), (-0.22, 0.03)),
        ),
        hollow=False,
        neck=0.72,
        strings=(6, 6, 4),
        reach=(0.95, 1.3),
        whole=True,
    ),
    "single cut": Body(
        (
            *((0, 0), (0.24, 0.03), (0.38, 0.18), (0.37, 0.34), (0.27, 0.53), (0.3, 0.68)),
            *((0.31, 0.8), (0.22, 0.81), (0.14, 0.72), (0.09, 0.86), (-0.1, 0.92), (-0.24, 0.91)),
            *((-0.31, 0.8), (-0.3, 0.66), (-0.26, 0.54), (-0.36, 0.36), (-0.38, 0.18)),
            (-0.24, 0.03),
        ),
        hollow=False,
        neck=0.84,
        whole=True,
    ),
    "horned": Body(
        (
            *((0, 0), (0.2, 0.02), (0.34, 0.14), (0.34, 0.32), (0.27, 0.5), (0.29, 0.66)),
            *((0.31, 0.9), (0.22, 0.84), (0.13, 0.7), (0, 0.68)),
        ),
        hollow=False,
        neck=0.72,
    ),
    "arrow": Body(
        ((0, 0.36), (0.3, 0.0), (0.48, 0.06), (0.14, 0.92), (0.07, 1.0)),
        hollow=False,
        neck=0.96,
        bridge=0.52,
        sharp=0.05,
    ),
    "bolt": Body(
        (
            *((-0.05, 0.14), (0.4, 0.0), (0.33, 0.42), (0.26, 0.52), (0.4, 0.84), (0.1, 0.78)),
            *((-0.12, 0.8), (-0.42, 0.98), (-0.3, 0.46), (-0.44, 0.14)),
        ),
        hollow=False,
        neck=0.78,
        bridge=0.3,
        whole=True,
        sharp=0.06,
    ),
    "box": Body(
        ((0, 0), (0.27, 0.0), (0.27, 0.72), (0, 0.72)),
        hollow=True,
        neck=0.72,
        bridge=0.14,
        strings=(3, 4),
        sharp=0.03,
    ),
}
WEIGHTS = (1.6, 1.4, 1.0, 0.7, 0.7, 1.6, 1.3, 0.8, 0.9, 0.6, 0.5)  # how often, in this order

# Heads: right halves from the nut upwards; the last one has all pegs on its left.
HEADS: dict[str, Points] = {
    "slotted": ((0, 0), (0.055, 0), (0.085, 0.05), (0.09, 0.3), (0.03, 0.33), (0, 0.32)),
    "crown": ((0, 0), (0.05, 0), (0.09, 0.08), (0.1, 0.25), (0.085, 0.3), (0.03, 0.28), (0, 0.31)),
    "paddle": ((0, 0), (0.05, 0), (0.11, 0.12), (0.1, 0.26), (0.0, 0.29)),
    "spear": ((0, 0), (0.05, 0), (0.12, 0.1), (0.0, 0.36)),
}
LEFT_HEAD: Points = (
    *((0.045, 0), (0.06, 0.08), (0.07, 0.33), (0.0, 0.38)),
    *((-0.09, 0.32), (-0.1, 0.1), (-0.045, 0.0)),
)


def head_outline(shape: str) -> Curve:
    """The outline [S,2] of a head by its key in HEADS, or `left`."""
    if shape == "left":
        return rounded(LEFT_HEAD, 0.04, 3)
    if shape == "paddle":
        return spline(symmetric(HEADS[shape]), per=3, closed=True)
    return rounded(symmetric(HEADS[shape]), 0.025, 3)
