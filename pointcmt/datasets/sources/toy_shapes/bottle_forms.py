"""Silhouettes of bottles, from the foot to the mouth; the radius of a body is 1."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Form:
    """A kind of bottle.

    points: the silhouette as (radius, z). shoulder: z where the neck begins. label: z from and to
    where a label fits. caps: what may close it (`bottle_caps.CAPS`). smooth: the points are joined
    by a curve. section: the body from above, as a superellipse's power and its depth to its width.
    """

    points: tuple[tuple[float, float], ...]
    shoulder: float
    label: tuple[float, float]
    caps: tuple[str, ...]
    smooth: bool = False
    section: tuple[float, float] = (2.0, 1.0)


ROUND, SQUARE, FLAT = (2.0, 1.0), (4.5, 0.97), (3.0, 0.62)

FORMS = {
    "bordeaux": Form(
        ((0.92, 0), (1, 0.08), (1, 3.7), (0.36, 4.6), (0.34, 6.2)),
        shoulder=4.0,
        label=(1.0, 3.0),
        caps=("foil", "cork", "none"),
    ),
    "burgundy": Form(
        ((0.92, 0), (1, 0.1), (1, 2.4), (0.8, 3.4), (0.36, 4.7), (0.32, 6.0)),
        shoulder=3.6,
        label=(0.7, 2.2),
        caps=("foil", "cork"),
        smooth=True,
    ),
    "beer": Form(
        ((0.94, 0), (1, 0.1), (1, 2.9), (0.42, 4.1), (0.36, 5.0)),
        shoulder=3.2,
        label=(0.7, 2.4),
        caps=("crown", "crown", "swing", "none"),
    ),
    "stubby": Form(
        ((0.94, 0), (1, 0.1), (1, 2.0), (0.42, 2.8), (0.4, 3.2)),
        shoulder=2.2,
        label=(0.4, 1.7),
        caps=("crown", "screw", "none"),
    ),
    "milk": Form(
        ((0.9, 0), (1, 0.12), (1, 2.3), (0.55, 3.2), (0.52, 3.7)),
        shoulder=2.6,
        label=(0.5, 1.9),
        caps=("foil", "screw", "none"),
    ),
    "soda": Form(
        ((0.9, 0), (1, 0.2), (0.84, 1.2), (1, 2.2), (0.86, 2.9), (0.42, 4.0), (0.38, 4.8)),
        shoulder=3.0,
        label=(1.4, 2.4),
        caps=("crown", "screw"),
        smooth=True,
    ),
    "gin": Form(
        ((0.96, 0), (1, 0.06), (1, 2.5), (0.4, 2.75), (0.36, 3.5)),
        shoulder=2.6,
        label=(0.5, 2.0),
        caps=("cork", "ball", "screw"),
        section=SQUARE,
    ),
    "hip flask": Form(
        ((0.94, 0), (1, 0.08), (1, 2.0), (0.7, 2.5), (0.32, 2.7), (0.3, 3.1)),
        shoulder=2.55,
        label=(0.4, 1.7),
        caps=("screw", "cork", "ball"),
        section=FLAT,
    ),
    "carafe": Form(
        ((0.5, 0), (0.9, 0.25), (1, 0.9), (0.8, 1.5), (0.34, 2.0), (0.3, 3.0)),
        shoulder=1.85,
        label=(0.5, 1.3),
        caps=("cork", "ball", "none"),
        smooth=True,
    ),
    "jug": Form(
        ((0.85, 0), (0.95, 0.1), (1, 0.9), (0.92, 1.5), (0.3, 2.15), (0.3, 2.5)),
        shoulder=1.95,
        label=(0.5, 1.3),
        caps=("cork", "none"),
        smooth=True,
    ),
    "cone": Form(
        ((1, 0), (1, 0.08), (0.8, 0.7), (0.32, 2.4), (0.3, 3.1)),
        shoulder=2.2,
        label=(0.3, 0.9),
        caps=("cork", "none", "ball"),
        smooth=True,
    ),
    "sauce": Form(
        ((0.9, 0), (1, 0.1), (0.96, 1.4), (1, 2.3), (0.8, 2.8), (0.55, 3.0)),
        shoulder=2.75,
        label=(0.5, 2.0),
        caps=("spout", "spout", "screw"),
    ),
    "soap": Form(
        ((0.94, 0), (1, 0.08), (1, 1.8), (0.86, 2.1), (0.4, 2.25), (0.4, 2.5)),
        shoulder=2.15,
        label=(0.4, 1.5),
        caps=("pump", "pump", "trigger"),
    ),
    "spray": Form(
        ((0.94, 0), (1, 0.1), (0.96, 1.6), (0.62, 2.5), (0.4, 2.9), (0.4, 3.2)),
        shoulder=2.6,
        label=(0.4, 1.4),
        caps=("trigger",),
        smooth=True,
        section=(2.6, 0.75),
    ),
    "perfume": Form(
        ((0.92, 0), (1, 0.08), (1, 1.3), (0.32, 1.45), (0.3, 1.75)),
        shoulder=1.38,
        label=(0.25, 1.05),
        caps=("ball", "block"),
        section=SQUARE,
    ),
    "water": Form(
        ((0.9, 0), (1, 0.1), (1, 2.9), (0.7, 3.5), (0.4, 3.9), (0.4, 4.3)),
        shoulder=3.3,
        label=(1.4, 2.5),
        caps=("screw", "sport"),
    ),
    "thermos": Form(
        ((0.94, 0), (1, 0.08), (1, 3.0), (0.8, 3.3), (0.8, 3.5)),
        shoulder=3.15,
        label=(1.0, 2.2),
        caps=("cup", "loop"),
    ),
}
