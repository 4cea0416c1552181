"""Silhouettes of cars: 2 long, y from -1 at the nose to 1, about 0.85 wide, wheels on z = 0."""

from dataclasses import dataclass

import numpy as np

from pointcmt.datasets.sources.toy_shapes.hulls import Station
from pointcmt.datasets.sources.toy_shapes.palettes import CHROME, GLASS, GLOW, INK, RUBBER, rgb
from pointcmt.shapes import Material

WINDOW, TYRE, METAL = (
    Material("glass", GLASS),
    Material("rubber", RUBBER),
    Material("chrome", CHROME),
)
HEADLIGHT, TAIL_LIGHT = Material("headlight", GLOW), Material("tail light", rgb("c8362b"))
LEATHER = Material("leather", INK)


@dataclass(frozen=True)
class Plan:
    """A kind of car.

    deck: stations (y, share of the half width, lowest z, highest z) of the body below the
    windows. cabin: y of the windscreen's foot and top, of the rear window's top and foot, or None
    for open cars. roof: its z. axles: y of the front and rear ones. wheel: radius. power: how
    boxy the body is (`outlines.superellipse`).
    """

    deck: tuple[Station, ...]
    cabin: tuple[float, float, float, float] | None
    roof: float
    axles: tuple[float, float] = (-0.6, 0.6)
    wheel: float = 0.19
    power: float = 5.0


@dataclass(frozen=True)
class Car:
    """A plan in proportions of its own.

    stretch: factor along y. half: half the width. tall: factor along z.
    """

    plan: Plan
    stretch: float
    half: float
    tall: float

    def width_at(self, y: float) -> float:
        """Half the body's width at this y of the plan."""
        stations = np.array(self.plan.deck)
        return self.half * float(np.interp(y, stations[:, 0], stations[:, 1]))

    def deck_at(self, y: float) -> float:
        """The height of the body's upper side at this y of the plan."""
        stations = np.array(self.plan.deck)
        return self.tall * float(np.interp(y, stations[:, 0], stations[:, 3]))

    @property
    def roof(self) -> float:
        """The height of the roof."""
        return self.plan.roof * self.tall

    @property
    def roof_span(self) -> tuple[float, float]:
        """y of the roof's front and rear edge; of the cockpit's, where there is no roof."""
        _, front, rear, _ = self.plan.cabin or (0.0, 0.0, 0.4, 0.0)
        return front * self.stretch, rear * self.stretch


PLANS = {
    "saloon": Plan(
        (
            (-1, 0.86, 0.2, 0.46),
            (-0.9, 0.97, 0.15, 0.53),
            (-0.4, 1, 0.14, 0.57),
            (0.6, 1, 0.14, 0.57),
            (0.92, 0.96, 0.17, 0.55),
            (1, 0.86, 0.22, 0.48),
        ),
        cabin=(-0.42, -0.18, 0.34, 0.62),
        roof=0.86,
    ),
    "hatch": Plan(
        (
            (-1, 0.86, 0.2, 0.46),
            (-0.88, 0.98, 0.15, 0.55),
            (-0.4, 1, 0.14, 0.62),
            (0.6, 1, 0.14, 0.64),
            (0.94, 0.98, 0.17, 0.62),
            (1, 0.9, 0.22, 0.54),
        ),
        cabin=(-0.48, -0.22, 0.66, 0.93),
        roof=0.98,
        axles=(-0.62, 0.62),
        wheel=0.2,
        power=4.5,
    ),
    "estate": Plan(
        (
            (-1, 0.88, 0.22, 0.5),
            (-0.92, 0.98, 0.16, 0.57),
            (-0.4, 1, 0.15, 0.6),
            (0.7, 1, 0.15, 0.6),
            (0.95, 0.97, 0.18, 0.58),
            (1, 0.9, 0.22, 0.52),
        ),
        cabin=(-0.4, -0.2, 0.82, 0.95),
        roof=0.9,
        power=6.0,
    ),
    "beetle": Plan(
        (
            (-1, 0.35, 0.24, 0.36),
            (-0.9, 0.62, 0.18, 0.5),
            (-0.5, 0.8, 0.15, 0.62),
            (0.1, 0.88, 0.15, 0.66),
            (0.6, 0.84, 0.15, 0.62),
            (0.92, 0.6, 0.2, 0.45),
            (1, 0.3, 0.24, 0.34),
        ),
        cabin=(-0.4, -0.16, 0.26, 0.7),
        roof=0.98,
        axles=(-0.62, 0.6),
        wheel=0.2,
        power=2.8,
    ),
    "van": Plan(
        (
            (-1, 0.84, 0.22, 0.6),
            (-0.96, 0.96, 0.17, 0.66),
            (-0.8, 1, 0.15, 0.68),
            (0.8, 1, 0.15, 0.68),
            (0.96, 0.97, 0.17, 0.68),
            (1, 0.9, 0.22, 0.64),
        ),
        cabin=(-0.95, -0.82, 0.86, 0.95),
        roof=1.14,
        axles=(-0.6, 0.58),
        wheel=0.2,
    ),
    "jeep": Plan(
        (
            (-1, 0.86, 0.3, 0.58),
            (-0.94, 0.92, 0.26, 0.64),
            (-0.4, 1, 0.25, 0.68),
            (0.8, 1, 0.25, 0.7),
            (0.96, 0.98, 0.26, 0.7),
            (1, 0.94, 0.3, 0.66),
        ),
        cabin=(-0.4, -0.3, 0.88, 0.95),
        roof=1.1,
        axles=(-0.6, 0.58),
        wheel=0.25,
        power=8.0,
    ),
    "pickup": Plan(
        (
            (-1, 0.88, 0.25, 0.54),
            (-0.92, 0.98, 0.2, 0.6),
            (-0.4, 1, 0.19, 0.64),
            (0.2, 1, 0.19, 0.64),
            (0.26, 1, 0.19, 0.44),
            (0.95, 1, 0.19, 0.44),
            (1, 0.96, 0.22, 0.42),
        ),
        cabin=(-0.42, -0.24, 0.12, 0.2),
        roof=0.98,
        wheel=0.22,
        power=6.0,
    ),
    "lorry": Plan(
        (
            (-1, 0.88, 0.25, 0.58),
            (-0.94, 0.96, 0.2, 0.64),
            (-0.8, 1, 0.2, 0.66),
            (-0.42, 1, 0.2, 0.66),
            (-0.36, 0.9, 0.2, 0.32),
            (0.98, 0.9, 0.2, 0.32),
            (1, 0.88, 0.22, 0.3),
        ),
        cabin=(-0.9, -0.8, -0.46, -0.42),
        roof=1.0,
        axles=(-0.66, 0.6),
        wheel=0.2,
        power=6.0,
    ),
    "coupe": Plan(
        (
            (-1, 0.78, 0.18, 0.36),
            (-0.9, 0.93, 0.13, 0.43),
            (-0.5, 1, 0.12, 0.5),
            (0.5, 1, 0.12, 0.55),
            (0.9, 0.96, 0.15, 0.54),
            (1, 0.84, 0.2, 0.46),
        ),
        cabin=(-0.34, 0.02, 0.34, 0.86),
        roof=0.76,
        power=4.0,
    ),
    "roadster": Plan(
        (
            (-1, 0.6, 0.2, 0.38),
            (-0.88, 0.82, 0.15, 0.47),
            (-0.4, 0.96, 0.13, 0.53),
            (0.3, 1, 0.13, 0.54),
            (0.8, 0.9, 0.16, 0.5),
            (1, 0.6, 0.22, 0.4),
        ),
        cabin=None,
        roof=0.8,
        axles=(-0.58, 0.58),
        wheel=0.2,
        power=3.4,
    ),
    "racer": Plan(
        (
            (-1, 0.26, 0.22, 0.36),
            (-0.9, 0.42, 0.17, 0.46),
            (-0.3, 0.56, 0.14, 0.54),
            (0.3, 0.56, 0.14, 0.52),
            (0.8, 0.3, 0.2, 0.44),
            (1, 0.0, 0.32, 0.32),
        ),
        cabin=None,
        roof=0.7,
        axles=(-0.62, 0.5),
        wheel=0.25,
        power=2.6,
    ),
}
WEIGHTS = (1.4, 1.4, 1.1, 1.1, 1.3, 0.9, 1.1, 0.9, 1.1, 0.9, 1.0)  # how often, in this order
