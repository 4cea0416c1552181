"""Colours that go together. Everything is sRGB, 0..1; schemes are shared by all classes, so that
a colour alone never gives a class away."""

from dataclasses import dataclass

from pointcmt.datasets.sources.toy_shapes.dice import Dice

Color = tuple[float, float, float]


def rgb(code: str) -> Color:
    """A colour from its hexadecimal code."""
    red, green, blue = (round(int(code[i : i + 2], 16) / 255, 4) for i in (0, 2, 4))
    return red, green, blue


def mix(a: Color, b: Color, share: float) -> Color:
    """`share` of b in a."""
    red, green, blue = (round(p + (q - p) * share, 4) for p, q in zip(a, b, strict=True))
    return red, green, blue


WHITE, IVORY, CREAM = rgb("f7f4ec"), rgb("f1e9d8"), rgb("f4e8cf")
INK, GRAPHITE, RUBBER = rgb("262a33"), rgb("41464d"), rgb("2c2d31")
GLASS, GLOW = rgb("3f5866"), rgb("ffe9ac")
BRASS, COPPER, CHROME, STEEL = rgb("c9a14a"), rgb("bd7a4d"), rgb("c6cbcf"), rgb("8f969c")
CORK, SKIN_OF_TEA = rgb("c99b6a"), rgb("a9622f")

METALS = {"brass": BRASS, "copper": COPPER, "chrome": CHROME, "steel": STEEL, "black steel": INK}

# Each wood by the light and the dark of its grain.
WOODS = {
    "ash": (rgb("ecdcc0"), rgb("d0b78e")),
    "beech": (rgb("e5c497"), rgb("c99f6c")),
    "oak": (rgb("d3a970"), rgb("ad7f48")),
    "teak": (rgb("b97f4a"), rgb("8f5c2d")),
    "cherry": (rgb("ad6440"), rgb("843f26")),
    "walnut": (rgb("85593b"), rgb("573823")),
    "ebony": (rgb("5b4a3f"), rgb("2c2420")),
}


@dataclass(frozen=True)
class Scheme:
    """Four colours that go together: the main one, its counterpoint, a light and a dark one."""

    main: Color
    accent: Color
    light: Color
    dark: Color


def _scheme(main: str, accent: str, light: str, dark: str) -> Scheme:
    return Scheme(rgb(main), rgb(accent), rgb(light), rgb(dark))


SCHEMES = (
    _scheme("d8452e", "f2b632", "f6ead2", "20344f"),  # tomato, sunflower, cream, navy
    _scheme("2b5fb0", "ef6f51", "f3ecdc", "1d2c4d"),  # cobalt, coral
    _scheme("e2a32b", "1f6f78", "f7ecd0", "3a3a40"),  # mustard, teal
    _scheme("2c7a78", "f0a48a", "f5eadb", "173b45"),  # teal, peach
    _scheme("8fb8a0", "d9694a", "f5efe0", "33524a"),  # sage, terracotta
    _scheme("ef8f7a", "3b6a8f", "fbeadd", "5a3146"),  # coral, denim
    _scheme("7fb9d6", "f2c14b", "f4f1e6", "2a4a6b"),  # sky, butter
    _scheme("376149", "e3b04f", "efe7d2", "22382f"),  # forest, honey
    _scheme("c9613d", "86a8a0", "f2e4cc", "4a2f2a"),  # terracotta, eucalyptus
    _scheme("b59cd0", "f4cd5d", "f4ecf2", "4b3b6a"),  # lilac, lemon
    _scheme("d7738c", "5c9c93", "f9e6df", "5b2c43"),  # rose, jade
    _scheme("f0bf3a", "e1563d", "faf0d4", "2b3a55"),  # sunflower, vermilion
    _scheme("5a6f8f", "e8b9a0", "eee9df", "2d3646"),  # slate, blush
    _scheme("96c7a8", "e98ba0", "f7f3e4", "36655c"),  # mint, pink
    _scheme("4b5058", "e0693f", "e9e4d8", "24272d"),  # graphite, orange
    _scheme("cdb891", "c65f46", "f8f2e2", "575047"),  # sand, brick
)


def pick_scheme(dice: Dice) -> Scheme:
    """A scheme; one in three has main colour and counterpoint swapped."""
    scheme = dice.pick(SCHEMES)
    if dice.chance(1 / 3):
        return Scheme(scheme.accent, scheme.main, scheme.light, scheme.dark)
    return scheme
