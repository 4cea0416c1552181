"""Materials: paint, metal, wood, cloth, ceramic; each plain, or textured where `patterned`."""

import numpy as np

from pointcmt.datasets.sources.toy_shapes import textures
from pointcmt.datasets.sources.toy_shapes.canvas import Texture
from pointcmt.datasets.sources.toy_shapes.dice import Dice
from pointcmt.datasets.sources.toy_shapes.palettes import METALS, WOODS, Color, Scheme, mix
from pointcmt.datasets.sources.toy_shapes.patterns import cloth, glaze
from pointcmt.shapes import Material


def paint(color: Color, name: str = "paint") -> Material:
    """One colour."""
    return Material(name, color)


def printed(texture: Texture, name: str = "print") -> Material:
    """A texture; its mean is the colour for whoever does not draw textures."""
    red, green, blue = np.round(texture.reshape(-1, 3).mean(axis=0) / 255, 4).tolist()
    return Material(name, (red, green, blue), texture=texture)


def metal(dice: Dice, *names: str) -> Material:
    """One of the metals named, or of all."""
    name = dice.pick(names or tuple(METALS))
    return Material(name, METALS[name])


def wood(dice: Dice, patterned: bool, *names: str) -> Material:
    """One of the woods named, or of all; patterned: with its grain, along v."""
    name = dice.pick(names or tuple(WOODS))
    light, dark = WOODS[name]
    if patterned:
        return printed(textures.wood(dice, light, dark), name)
    return Material(name, mix(light, dark, dice.between(0.2, 0.5)))


def boards(dice: Dice) -> Material:
    """A wooden surface of many pieces, v along the boards."""
    name = dice.pick(("ash", "beech", "oak", "teak", "cherry", "walnut"))
    drawing = dice.pick((textures.wood, textures.planks, textures.parquet))
    return printed(drawing(dice, *WOODS[name]), name)


def fabric(dice: Dice, scheme: Scheme, patterned: bool) -> Material:
    """A cover in the scheme's main colour, or a printed cloth."""
    return printed(cloth(dice, scheme), "cloth") if patterned else paint(scheme.main, "felt")


def upholstery(dice: Dice, scheme: Scheme, patterned: bool) -> Material:
    """The same for large pieces: prints are quieter there."""
    near, dark = mix(scheme.main, scheme.light, 0.3), mix(scheme.main, scheme.dark, 0.3)
    accent = mix(scheme.main, scheme.accent, 0.45)
    return fabric(dice, Scheme(scheme.main, accent, near, dark), patterned)


def ceramic(dice: Dice, scheme: Scheme, patterned: bool) -> Material:
    """A glaze in the scheme's main colour, or a decorated one."""
    return printed(glaze(dice, scheme), "glaze") if patterned else paint(scheme.main, "glaze")


def stone(dice: Dice, scheme: Scheme) -> Material:
    """Marble or terrazzo, always textured."""
    if dice.chance(0.5):
        dark = dice.chance(0.3)
        ground, vein = (scheme.dark, scheme.light) if dark else (scheme.light, scheme.dark)
        return printed(textures.marble(dice, ground, vein), "marble")
    chips = (scheme.main, scheme.accent, scheme.dark)
    return printed(textures.terrazzo(dice, scheme.light, chips), "terrazzo")
