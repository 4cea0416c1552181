"""Decorated car bodies, by box projection: u across on top and up on the sides, v along."""

import numpy as np

from pointcmt.datasets.sources.toy_shapes.canvas import Texture, edge, grid, layers, wave
from pointcmt.datasets.sources.toy_shapes.dice import Dice
from pointcmt.datasets.sources.toy_shapes.finishes import printed
from pointcmt.datasets.sources.toy_shapes.palettes import Scheme
from pointcmt.datasets.sources.toy_shapes.patterns import checker, motif, stripes
from pointcmt.datasets.sources.toy_shapes.solid import Solid
from pointcmt.shapes import Material

KINDS = ("racing stripes", "flames", "chequered band", "sprinkled", "pinstripes")


def decorated(dice: Dice, scheme: Scheme, body: Solid, kind: str) -> tuple[Material, Solid]:
    """A lacquer of one of KINDS, and the body with the texture coordinates it needs."""
    unit = body.project(1.0, "y")
    if kind == "racing stripes":
        return printed(racing_stripes(scheme), kind), unit
    if kind == "flames":  # the texture covers the car once, from the nose to the tail
        nose, tail = float(body.vertices[:, 1].min()), float(body.vertices[:, 1].max())
        return printed(flames(scheme), kind), unit.tile(
            1, 1 / (tail - nose), 0, -nose / (tail - nose)
        )
    if kind == "chequered band":
        return printed(chequered_band(scheme), kind), unit
    if kind == "sprinkled":
        shape, inks = dice.pick(("stars", "hearts", "dots", "plus")), (scheme.light, scheme.accent)
        return printed(motif(scheme.main, inks, shape, 4), kind), unit
    return printed(stripes(scheme.main, (scheme.light,), 8), kind), unit


def racing_stripes(scheme: Scheme) -> Texture:
    """Two stripes, one on either side of u = 0."""
    u, v = grid()
    across = np.minimum(u, 1 - u)
    return layers(scheme.main, (scheme.light, edge(0.05 - np.abs(across - 0.075), 0.012) + 0 * v))


def flames(scheme: Scheme) -> Texture:
    """Tongues that lick backwards from the nose, v = 0."""
    u, v = grid()
    tongue = 0.17 * wave(5 * u) ** 1.5 + 0.07 * wave(10 * u + 0.5)
    outer, inner = edge(0.14 + tongue - v, 0.02), edge(0.07 + 0.8 * tongue - v, 0.02)
    return layers(scheme.main, (scheme.accent, outer), (scheme.light, inner))


def chequered_band(scheme: Scheme) -> Texture:
    """A chess board between u = 0.34 and 0.46, which is a band along the sides."""
    u, _ = grid()
    inside = ((u > 0.34) & (u < 0.46))[..., None]
    ground = np.rint(np.array(scheme.main) * 255).astype(np.uint8)
    return np.where(inside, checker(scheme.light, scheme.dark, 16), ground)
