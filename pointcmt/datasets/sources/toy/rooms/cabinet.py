"""Cabinets: wardrobes, sideboards, chests of drawers, bookcases, lockers and cubes."""

from dataclasses import dataclass

import numpy as np

from pointcmt.datasets.sources.toy.objects.builder import Builder
from pointcmt.datasets.sources.toy.objects.colors import mix
from pointcmt.datasets.sources.toy.objects.solids import ball, box, boxes, four, rod
from pointcmt.datasets.sources.toy.rooms import materials
from pointcmt.datasets.sources.toy.rooms.piece import Piece, RoomDice, Support
from pointcmt.shapes import Material

BOARD = 0.022  # thickness of boards
FRONT = 0.018  # of doors and drawers


@dataclass(frozen=True)
class Form:
    """A kind of cabinet: ranges of width, depth and height, and what its front may be."""

    width: tuple[float, float]
    depth: tuple[float, float]
    height: tuple[float, float]
    fronts: str


FORMS = {
    "wardrobe": Form((0.8, 1.6), (0.5, 0.62), (1.9, 2.25), "doors"),
    "sideboard": Form((1.0, 1.8), (0.38, 0.5), (0.55, 0.9), "doors drawers doors shelves"),
    "chest": Form((0.5, 1.0), (0.4, 0.5), (0.7, 1.15), "drawers"),
    "bookcase": Form((0.5, 1.2), (0.26, 0.36), (0.9, 2.1), "shelves"),
    "locker": Form((0.3, 0.5), (0.3, 0.5), (1.7, 3.1), "doors plain"),
    "cube": Form((0.38, 0.55), (0.36, 0.5), (0.4, 0.6), "doors drawers plain shelves"),
}


def cabinet(dice: RoomDice, kind: str, most: float) -> Piece:
    """Build a cabinet of a kind in FORMS, at most `most` high."""
    form = FORMS[kind]
    width, depth = dice.between(*form.width), dice.between(*form.depth)
    height = min(dice.between(*form.height), most)
    b = dice.builder("body", "front", "handle", "book")
    body = b.pick((b.wood(), b.paint("light", "main"), materials.wall(b).material), (3, 2, 1))
    front = b.pick((body, b.paint("light", "accent"), b.wood()), (3, 1, 1))
    lift = b.pick((0.0, 0.0, b.between(0.06, 0.16)))
    if lift:
        post = box(0.04, 0.04, lift + 0.005).move(width / 2 - 0.05, depth / 2 - 0.05)
        b.add("body", b.pick((body, b.metal())), four(post))
    tops = [Support(height, width, depth)]
    style, inner = b.pick(form.fronts.split()), (width, depth, height - lift)
    if style == "shelves":
        tops += _open(b, body, inner, lift)
    else:
        b.add(
            "body",
            body,
            box(width, depth - FRONT, height - lift).project(0.7).move(0, FRONT / 2, lift),
        )
        if style != "plain":
            _close(b, front, inner, lift, style)
    return Piece("cabinet", b.mesh(), tuple(tops))


def _close(
    b: Builder, front: Material, inner: tuple[float, float, float], lift: float, style: str
) -> None:
    """Put doors or drawers before the body, with knobs or bars."""
    width, depth, height = inner
    if style == "doors":
        columns, rows = max(1, round(width / 0.5)), 1
    else:
        columns, rows = (1 if width < 0.9 else 2), max(1, round(height / 0.24))
    w, h, y = width / columns, height / rows, -depth / 2 + FRONT / 2
    metal, bar = b.metal(), b.chance(0.5)
    for row in range(rows):
        for column in range(columns):
            x, z = (column - (columns - 1) / 2) * w, lift + row * h
            panel = box(w - 0.008, FRONT + 0.004, h - 0.008, 0.002).project(0.6)
            b.add("front", front, panel.move(x, y + 0.002, z + 0.004))
            if style == "doors":
                side = 1 if column % 2 == 0 and columns > 1 else -1
                start = x + side * (w / 2 - 0.05), z + min(0.55 * h, 1.0)
                end = start[0], start[1] + 0.12
            else:
                start, end = (x - 0.05, z + 0.6 * h), (x + 0.05, z + 0.6 * h)
            out = y - FRONT / 2 - 0.008
            if bar:
                b.add("handle", metal, rod((start[0], out, start[1]), (end[0], out, end[1]), 0.008))
            else:
                middle = (start[0] + end[0]) / 2, out, (start[1] + end[1]) / 2
                b.add("handle", metal, ball(0.014, 8, 6).move(*middle))


def _open(
    b: Builder, body: Material, inner: tuple[float, float, float], lift: float
) -> list[Support]:
    """Build open shelves, most of them with books; return the empty ones."""
    width, depth, height = inner
    rows = max(1, round(height / b.between(0.28, 0.4)))
    pitch = (height - BOARD) / rows
    side = box(BOARD, depth, height).project(0.7).move((width - BOARD) / 2, 0, lift)
    back = box(width - 2 * BOARD + 0.002, 0.012, height - 0.002).project(0.7)
    b.add("body", body, side, side.mirror("x"), back.move(0, depth / 2 - 0.006, lift + 0.001))
    free, colors = [], _spines(b)
    span = width - 2 * BOARD
    for row in range(rows + 1):
        z = lift + row * pitch
        shelf = box(span + 0.002, depth - 0.014, BOARD).project(0.7, "x").move(0, -0.006, z)
        b.add("body", body, shelf)
        if row == rows:
            break
        room = pitch - BOARD
        if b.chance(0.75):
            _add_books(b, colors, (span, 0.75 * depth, room), z + BOARD)
        else:
            free.append(Support(z + BOARD, span - 0.02, depth - 0.04, 0, -0.01, room - 0.01))
    return free


def _spines(b: Builder) -> list[Material]:
    s = b.scheme
    tones = (s.main, s.accent, s.dark, s.light, mix(s.main, s.dark, 0.5))
    return [Material("book", tone) for tone in tones]


def _add_books(
    b: Builder, colors: list[Material], room: tuple[float, float, float], z: float
) -> None:
    """Fill a shelf from the left with upright books, as far as a random part of its width."""
    width, depth, height = room
    draws = b.field(int(width / 0.03), 4)
    thick = 0.018 + 0.035 * draws[:, 0]
    right = np.cumsum(thick)
    count = int((right < b.between(0.5, 1.0) * width).sum())
    tall, deep = (0.6 + 0.36 * draws[:, 1]) * height, (0.7 + 0.3 * draws[:, 2]) * depth
    front = 0.03 - depth / 2
    places = np.stack([right - (thick + width) / 2, front + deep / 2, np.full(len(deep), z)], 1)
    sizes = np.stack([thick - 0.002, deep, tall], axis=1)
    color = (draws[:, 3] * len(colors)).astype(int)
    for index, material in enumerate(colors):
        chosen = np.flatnonzero(color[:count] == index)
        if len(chosen):
            b.add("book", material, boxes(sizes[chosen], places[chosen]))
