"""Finishes of floors, ceilings and walls, and of what is set into them.

Their colors and textures are those of the objects, so that color alone does not tell a class.
"""

from dataclasses import dataclass

from pointcmt.datasets.sources.toy.objects import textures
from pointcmt.datasets.sources.toy.objects.builder import Builder, printed
from pointcmt.datasets.sources.toy.objects.colors import CREAM, GLASS, IVORY, Color, mix, rgb
from pointcmt.shapes import Material

PLASTERS = tuple(rgb(code) for code in ("f4f1ea", "ece5d8", "dfe3e2", "e3dccb", "d9d4cf", "cfd8dc"))
SKIES = tuple((rgb(low), rgb(high)) for low, high in (("cfe3ee", "7fb2dd"), ("f3d9b8", "8fa9d0")))
NIGHT = (rgb("39435a"), rgb("141a2a"))


@dataclass(frozen=True)
class Finish:
    """A material and the size of one repeat of its texture, in meters."""

    material: Material
    size: float = 1.0


def floor(b: Builder) -> Finish:
    """Return boards, tiles, stone, carpet or a plain floor."""
    kind = b.pick(("boards", "tiles", "stone", "carpet", "plain"), (3, 1.5, 1, 1.5, 1))
    wood = b.wood(plain=True)
    if kind == "boards":
        grain = textures.wood(b, wood.color, mix(wood.color, b.scheme.dark, 0.3))
        return Finish(printed(grain, "boards"), b.between(0.6, 1.2))
    if kind == "tiles":
        near = mix(b.scheme.light, b.scheme.main, b.between(0.15, 0.7))
        return Finish(printed(textures.checker(b.scheme.light, near), "tiles"), b.between(0.8, 1.6))
    if kind == "stone":
        return Finish(b.stone(), b.between(0.9, 1.6))
    if kind == "carpet":
        return Finish(noise(b, _tone(b)), 0.5)
    return Finish(Material("floor", mix(_tone(b), IVORY, 0.3)))


def ceiling(b: Builder) -> Finish:
    """Return a light ceiling: plain, rough, of panels, or of wood."""
    light = b.pick(PLASTERS)
    kind = b.pick(("plain", "rough", "panels", "wood"), (4, 2, 1.5, 1))
    if kind == "rough":
        return Finish(noise(b, light), 0.8)
    if kind == "panels":
        return Finish(
            printed(textures.checker(light, mix(light, b.scheme.dark, 0.12)), "panels"), 2.4
        )
    return Finish(b.wood() if kind == "wood" else Material("ceiling", light))


def wall(b: Builder) -> Finish:
    """Return paint, plaster, wallpaper or boards."""
    light, kind = b.pick(PLASTERS), b.pick(("paint", "plaster", "paper", "boards"), (3, 2, 3, 1))
    color = b.pick((light, mix(light, _tone(b), b.between(0.3, 1.0))))
    if kind == "paint":
        return Finish(Material("paint", color))
    if kind == "plaster":
        return Finish(noise(b, color), 0.9)
    if kind == "boards":
        return Finish(b.wood(), 0.8)
    ink = mix(color, b.pick((b.scheme.light, b.scheme.dark, b.scheme.accent)), b.between(0.2, 0.7))
    paper = b.pick(
        (
            textures.stripes(color, ink, count=b.pick((2, 4))),
            textures.motif(color, ink, shape=b.pick(tuple(textures.MOTIFS))),
            textures.scales(color, ink),
            textures.checker(color, mix(color, ink, 0.5)),
        ),
        (3, 1, 1, 1),
    )
    return Finish(printed(paper, "wallpaper"), b.between(0.6, 1.2))


def noise(b: Builder, color: Color) -> Material:
    """Return a rough surface: a color with fine and coarse noise."""
    grains = textures.cloud(b, 40, 40), textures.cloud(b, 5, 5)
    dark = mix(color, b.scheme.dark, 0.35)
    return printed(
        textures.layers(color, (dark, 0.6 * grains[0]), (dark, 0.4 * grains[1])), "rough"
    )


def pane(b: Builder) -> Material:
    """Return what a window shows: sky by day or night, frosted glass, or dark glass."""
    kind = b.pick(("day", "night", "frosted", "dark"), (3, 1, 1, 1))
    if kind in ("day", "night"):
        low, high = NIGHT if kind == "night" else b.pick(SKIES)
        ground = mix(b.scheme.main, rgb("6f8a5c"), 0.6)
        image = textures.layers(
            low,
            (high, textures.grid()[1]),
            (IVORY, 0.5 * textures.edge(textures.cloud(b, 3, 4) - 0.65, 0.3)),
            (ground, textures.edge(b.between(0.1, 0.35) - textures.grid()[1], 0.1)),
        )
        return printed(image, "view")
    return Material("glass", mix(CREAM, GLASS, 0.2 if kind == "frosted" else 0.9))


def artwork(b: Builder) -> Material:
    """Return the image of a picture."""
    s = b.scheme
    images = (
        lambda: textures.marble(b, s.light, s.accent),
        lambda: textures.spots(b, s.light, s.main, s.accent, s.dark),
        lambda: textures.cloth(b, s),
        lambda: textures.glaze(b, s),
        lambda: textures.ombre(s.main, s.light),
    )
    if b.chance(0.25):
        return pane(b)  # a landscape, which looks like a window
    return printed(b.pick(images)(), "art")


def _tone(b: Builder) -> Color:
    return b.pick((b.scheme.main, b.scheme.accent, b.scheme.light, b.wood(plain=True).color))
