"""Colors and color schemes, sRGB in 0..1.

All classes share the schemes, so that color alone never identifies a class.
"""

from dataclasses import dataclass

Color = tuple[float, float, float]


def rgb(code: str) -> Color:
    """Return the color of a hexadecimal code."""
    red, green, blue = (round(int(code[i : i + 2], 16) / 255, 4) for i in (0, 2, 4))
    return red, green, blue


def mix(a: Color, b: Color, share: float) -> Color:
    """Return a blend of two colors; share: the fraction of b."""
    red, green, blue = (round(p + (q - p) * share, 4) for p, q in zip(a, b, strict=True))
    return red, green, blue


IVORY, CREAM, INK, RUBBER = rgb("f1e9d8"), rgb("f4e8cf"), rgb("262a33"), rgb("2c2d31")
GLASS, GLOW, BRASS, CHROME = rgb("3f5866"), rgb("ffe9ac"), rgb("c9a14a"), rgb("c6cbcf")
METALS = {"brass": BRASS, "copper": rgb("bd7a4d"), "chrome": CHROME, "black steel": INK}
WOODS = {  # light and dark color of the grain
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
    """Four colors that go together."""

    main: Color
    accent: Color
    light: Color
    dark: Color


SCHEMES = tuple(
    Scheme(*(rgb(code) for code in codes.split()))
    for codes in (
        "d8452e f2b632 f6ead2 20344f",  # tomato, sunflower, cream, navy
        "2b5fb0 ef6f51 f3ecdc 1d2c4d",  # cobalt, coral
        "e2a32b 1f6f78 f7ecd0 3a3a40",  # mustard, teal
        "2c7a78 f0a48a f5eadb 173b45",  # teal, peach
        "8fb8a0 d9694a f5efe0 33524a",  # sage, terracotta
        "ef8f7a 3b6a8f fbeadd 5a3146",  # coral, denim
        "7fb9d6 f2c14b f4f1e6 2a4a6b",  # sky, butter
        "376149 e3b04f efe7d2 22382f",  # forest, honey
        "c9613d 86a8a0 f2e4cc 4a2f2a",  # terracotta, eucalyptus
        "b59cd0 f4cd5d f4ecf2 4b3b6a",  # lilac, lemon
        "d7738c 5c9c93 f9e6df 5b2c43",  # rose, jade
        "f0bf3a e1563d faf0d4 2b3a55",  # sunflower, vermilion
        "5a6f8f e8b9a0 eee9df 2d3646",  # slate, blush
        "96c7a8 e98ba0 f7f3e4 36655c",  # mint, pink
        "4b5058 e0693f e9e4d8 24272d",  # graphite, orange
        "cdb891 c65f46 f8f2e2 575047",  # sand, brick
    )
)
