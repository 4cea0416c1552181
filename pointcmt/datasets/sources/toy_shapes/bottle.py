"""Bottles: wine, beer, milk, soda, gin, flasks, jugs, sauces, soap and perfume."""

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.sources.toy_shapes.assembly import Assembly
from pointcmt.datasets.sources.toy_shapes.bottle_caps import CAPS
from pointcmt.datasets.sources.toy_shapes.bottle_forms import FORMS, ROUND
from pointcmt.datasets.sources.toy_shapes.canvas import Floats, Texture, edge, grid, layers
from pointcmt.datasets.sources.toy_shapes.dice import Dice
from pointcmt.datasets.sources.toy_shapes.finishes import ceramic, paint, printed
from pointcmt.datasets.sources.toy_shapes.outlines import Curve, rounded, spline
from pointcmt.datasets.sources.toy_shapes.palettes import Color, Scheme, mix, pick_scheme, rgb
from pointcmt.datasets.sources.toy_shapes.patterns import MOTIFS, stripes
from pointcmt.datasets.sources.toy_shapes.solid import Solid
from pointcmt.datasets.sources.toy_shapes.solids import lathe, sheet, tube
from pointcmt.shapes import Material, Mesh

PARTS = ("body", "neck", "cap", "label")
RADIUS = 0.35  # of every body: bottles differ in height
SMOOTH = 32  # segments around; fewer are facets
GLASSES = tuple(
    Material("glass", rgb(code), opacity=0.6)
    for code in ("3f6b45", "6b4423", "a9cfc6", "8a4b2a", "49698f", "2f4f4a", "c8dcd2", "b8506a")
)
EMBLEMS = (*MOTIFS, "sun", "hills", "band")


def build(dice: Dice) -> Mesh:
    """One bottle, its label to the front."""
    assembly = Assembly(PARTS)
    scheme, patterned = pick_scheme(dice), dice.chance(0.6)
    name = dice.pick(tuple(FORMS))
    form, stretch = FORMS[name], RADIUS * dice.between(0.85, 1.2)
    points = np.array(form.points) * (RADIUS, stretch)
    outside = spline(points, 4) if form.smooth else rounded(points, 0.12, 4, closed=False)
    plain_round = form.section == ROUND and not form.smooth
    facets = dice.pick((SMOOTH, SMOOTH, 8, 12)) if plain_round else SMOOTH
    shoulder = form.shoulder * stretch
    glass = _glass(dice, scheme, name, patterned)
    vessel = _squeeze(_vessel(outside, facets), form.section, shoulder)
    assembly.add_split("body", "neck", lambda c: c[:, 2] > shoulder, glass, vessel)
    mouth, top = outside[-1].tolist()
    cap = dice.pick(form.caps)
    if cap != "none":
        CAPS[cap](dice, assembly, scheme, mouth, top)
    if name == "jug":
        knots = [(0.22, 0.95), (0.95, 0.95), (1.0, 0.8), (0.72, 0.69)]
        ear = spline([(x * RADIUS, 0.0, z * top) for x, z in knots], per=5)
        assembly.add("neck", glass, tube(ear, 0.035, 8))
    if dice.chance(0.45 if glass.texture is not None else 0.7):
        low, high = (z * stretch for z in form.label)
        paper, aspect = _label(dice, outside, low, high, facets)
        colors = [c for c in (scheme.light, scheme.main, scheme.accent) if c != glass.color]
        art = paint(colors[0], "paper")
        if patterned:
            art = printed(label_art(dice, scheme, aspect), "label")
        assembly.add("label", art, _squeeze(paper, form.section, shoulder))
    return assembly.mesh()


def _glass(dice: Dice, scheme: Scheme, name: str, patterned: bool) -> Material:
    """Glass, ceramic, plastic or enamel, as the form asks for."""
    if name in ("jug", "carafe", "cone") and dice.chance(0.6):
        return ceramic(dice, scheme, patterned)
    if name in ("sauce", "soap", "spray", "thermos") or dice.chance(0.3):
        if patterned and dice.chance(0.4):
            return printed(stripes(scheme.main, (scheme.light,), 4, upright=False), "enamel")
        return paint(dice.pick((scheme.main, scheme.accent, scheme.light)), "plastic")
    return dice.pick(GLASSES)


def _vessel(outside: Curve, facets: int) -> Solid:
    """The bottle with a lip and a shallow opening; v runs up its outside."""
    mouth, top = outside[-1].tolist()
    foot = [(0.0, 0.03), (0.8 * float(outside[0, 0]), 0.0)]
    lip = [(1.14 * mouth, top), (1.14 * mouth, top + 0.05), (0.7 * mouth, top + 0.05)]
    opening = [(0.7 * mouth, top - 0.12), (0.0, top - 0.12)]
    profile = [*foot, *outside[:-1].tolist(), (mouth, top - 0.03), *lip, *opening]
    return lathe(profile, facets).tile(2, 1).upright_v(0.0, top)


def _squeeze(solid: Solid, section: tuple[float, float], shoulder: float) -> Solid:
    """Turns circles below the shoulder into a superellipse (power, depth to width)."""
    if section == ROUND:
        return solid
    power, depth = section

    def bend(v: NDArray[np.float64]) -> NDArray[np.float64]:
        angle = np.arctan2(v[:, 1], v[:, 0])
        norm = np.abs(np.cos(angle)) ** power + np.abs(np.sin(angle)) ** power
        share = np.clip((1.04 * shoulder - v[:, 2]) / (0.3 * shoulder), 0, 1)
        wide = 1 + share * (0.93 * norm ** (-1 / power) - 1)
        deep = wide * (1 + share * (depth - 1))
        return v * np.stack([wide, deep, np.ones_like(wide)], axis=1)

    return solid.warp(bend)


def _label(dice: Dice, outside: Curve, low: float, high: float, facets: int) -> tuple[Solid, float]:
    """A sheet of paper around the front or nearly all around, and its width to its height."""
    if facets == SMOOTH:
        reach = dice.pick((55.0, 65.0, 150.0))
        turn = np.radians(np.linspace(-reach, reach, 25))
    else:  # the paper has its folds where the bottle has its edges
        turn = np.radians(360 / facets * (np.arange(4) - 1.5))
    z = np.linspace(low, high, 8)
    radius = np.interp(z, outside[:, 1], outside[:, 0]) + 0.003
    across, up = np.meshgrid(turn, z)
    around = radius[:, None] * np.stack([np.sin(across), -np.cos(across)])
    paper = sheet(np.stack([*around, up], axis=-1), 0.012)
    corners = paper.vertices[paper.faces]
    u = 0.5 + 0.5 * np.arctan2(corners[..., 0], -corners[..., 1]) / float(turn[-1])
    v = (corners[..., 2] - low) / (high - low)
    width = 2 * float(turn[-1]) * float(radius.mean())
    return Solid(paper.vertices, paper.faces, np.stack([u, v], axis=-1)), width / (high - low)


def label_art(dice: Dice, scheme: Scheme, aspect: float) -> Texture:
    """A border, an emblem on a disc, a sun or hills, and lines that could be words.

    aspect: width to height of the label, so that discs are round on it.
    """
    u, v = grid()
    x, y = (2 * u - 1) * aspect, 2 * v - 1
    inverted = dice.chance(0.4)
    ground, ink = (scheme.main, scheme.light) if inverted else (scheme.light, scheme.main)
    frame = np.minimum(np.abs(np.abs(x) - aspect + 0.12), np.abs(np.abs(y) - 0.88))
    inside = (np.abs(x) < aspect - 0.07) & (np.abs(y) < 0.93)
    coats: list[tuple[Color, Floats]] = [(scheme.accent, edge(0.035 - frame, 0.03) * inside)]
    size = min(1.0, 1.3 * aspect)
    px, py = x / size, (y - 0.22) / size
    far = np.sqrt(px**2 + py**2)
    emblem = dice.pick(EMBLEMS)
    if emblem == "sun":
        rays = edge(0.5 - far, 0.04) * edge(np.cos(12 * np.arctan2(py, px)), 0.4)
        coats += [(scheme.accent, rays), (ink, edge(0.26 - far, 0.04))]
    elif emblem == "hills":
        sky = edge(0.52 - far, 0.03)
        behind = sky * edge(0.12 - py - 0.32 * np.cos(2.4 * px + 2), 0.04)
        before = sky * edge(-0.1 - py - 0.3 * np.cos(3 * px), 0.04)
        coats += [(scheme.accent, sky), (mix(ink, scheme.light, 0.4), behind), (ink, before)]
    elif emblem == "band":
        coats += [
            (ink, edge(0.3 - np.abs(py), 0.03) + 0 * x),
            (scheme.accent, edge(0.14 - far, 0.03)),
        ]
    else:
        figure = edge(MOTIFS[emblem](px / 1.5, py / 1.5), 0.02)
        coats += [(ink, edge(0.5 - far, 0.03)), (ground, figure)]
    for line, half in ((-0.48, 0.5), (-0.64, 0.3)):
        words = edge(0.045 - np.abs(y - line), 0.03) * edge(half * size - np.abs(x), 0.03)
        coats.append((ink, words))
    return layers(ground, *coats)
