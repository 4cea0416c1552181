"""Clutter: mugs, bottles, guitars, toys, cardboard boxes and books, on surfaces and the floor."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pointcmt.datasets.sources.toy.objects import aircraft, cars, guitars, vessels
from pointcmt.datasets.sources.toy.objects.builder import Builder
from pointcmt.datasets.sources.toy.objects.colors import mix, rgb
from pointcmt.datasets.sources.toy.objects.solids import box, boxes
from pointcmt.datasets.sources.toy.rooms.layout import Layout
from pointcmt.datasets.sources.toy.rooms.piece import Piece, RoomDice, Support
from pointcmt.shapes import Material, Mesh

CARDBOARD = tuple(rgb(code) for code in ("b98d5d", "c9a274", "a67c4f"))
ON_FLOOR, STACKS = 0.3, 0.04  # chances that a piece goes to the floor, and of a stack of boxes
LEAST, MOST, MOST_STACKED = 8, 25, 3
COVER = 0.003  # thickness of the covers of books


def scatter(layout: Layout) -> None:
    """Place 8 to 25 pieces of clutter, about 30 % of them on the floor, as far as they fit."""
    dice = layout.dice
    wanted = left = dice.whole(LEAST, MOST)
    for _ in range(2 * wanted):
        if left == 0:
            return
        if dice.chance(STACKS):
            left -= _stack_boxes(layout, min(left, MOST_STACKED))
        elif dice.chance(ON_FLOOR):
            left -= _on_floor(layout, _draw(dice, LARGE)) is not None
        else:
            piece = _draw(dice, SMALL)
            for _ in range(min(left, dice.pick((1, 2, 3), (2, 1, 1)))):
                left -= _on_surface(layout, piece) is not None
    for _ in range(2 * LEAST):  # where too little furniture can carry anything
        if wanted - left < LEAST:
            left -= _on_floor(layout, _draw(dice, LARGE)) is not None


def _draw(dice: RoomDice, kinds: dict[Callable[[RoomDice], Piece], float]) -> Piece:
    return dice.pick(tuple(kinds), tuple(kinds.values()))(dice)


def _on_floor(layout: Layout, piece: Piece) -> int | None:
    if layout.dice.chance(0.5):
        return layout.against_wall(piece, layout.dice.between(0.0, 0.05))
    return layout.anywhere(piece, 0.03, 0.3)


def _on_surface(layout: Layout, piece: Piece) -> int | None:
    """Stand a piece on a table, a cabinet or a shelf that is low enough to look at."""
    carriers = [
        index
        for index, item in enumerate(layout.items)
        if item.piece.supports and item.piece.semantic != "clutter" and item.piece.size[2] < 2.2
    ]
    for _ in range(2 if carriers else 0):
        found = layout.upon(layout.dice.pick(carriers), piece)
        if found is not None:
            return found
    return None


def _stack_boxes(layout: Layout, most: int) -> int:
    """Stand boxes on each other on the floor, at most so many; return their number."""
    index, count = _on_floor(layout, _box(layout.dice)), 0
    while index is not None:
        count += 1
        if count == most or layout.dice.chance(0.5):
            break
        index = layout.upon(index, _box(layout.dice), spread=0.7)
    return count


def _box(dice: RoomDice) -> Piece:
    """Build a closed box of cardboard, or painted, with tape or a lid."""
    b = dice.builder("box")
    width = b.between(0.2, 0.6)
    depth, height = width * b.between(0.6, 1.0), b.between(0.15, 0.55)
    board = Material("cardboard", b.pick(CARDBOARD))
    if b.chance(0.35):
        board = b.pick((b.paint("main", "accent", "light"), b.wood()))
    b.add("box", board, box(width, depth, height - 0.002, 0.004).project(0.5))
    if b.chance(0.5):
        tape = Material("tape", mix(board.color, rgb("efe6d0"), 0.5))
        b.add("box", tape, box(width + 0.002, 0.05, 0.08).move(z=height - 0.08))
    else:
        lid = box(width + 0.012, depth + 0.012, 0.05, 0.004).project(0.5)
        b.add("box", b.pick((board, b.paint("dark"))), lid.move(z=height - 0.05))
    mesh = b.mesh()
    return Piece("clutter", mesh, (Support(float(mesh.vertices[:, 2].max()), width, depth),))


def _books(dice: RoomDice) -> Piece:
    """Build a pile of books, or a row of upright ones."""
    b = dice.builder("book")
    count, at = b.whole(1, 6), 0.0
    upright = count > 2 and b.chance(0.4)
    paper = Material("paper", rgb("efe7d3"))
    for _ in range(count):
        width, depth, thick = b.between(0.12, 0.19), b.between(0.18, 0.26), b.between(0.015, 0.05)
        board, pages = (width, depth, COVER), (width - 0.006, depth - 0.008, thick - 2 * COVER)
        sizes = np.array([board, board, (COVER, depth, thick), pages])
        places = np.zeros((4, 3))
        places[1:, 2] = thick - COVER, 0.0, COVER
        places[2:, 0] = (COVER - width) / 2, 0.002
        color = b.paint("main", "accent", "light", "dark")
        for material, chosen in ((color, [0, 1, 2]), (paper, [3])):
            book = boxes(sizes[chosen], places[chosen])
            standing = book.turn("y", 90).move(x=at, z=width / 2)
            b.add("book", material, standing if upright else book.move(z=at))
        at += thick + 0.001
    return Piece("clutter", b.mesh())


def _mug(dice: RoomDice) -> Piece:
    b = dice.builder("body", "handle", "drink", "saucer")
    return _scaled(vessels.mug(b), dice.between(0.075, 0.11))


def _bottle(dice: RoomDice) -> Piece:
    return _scaled(
        vessels.bottle(dice.builder("body", "neck", "cap", "label")), dice.between(0.15, 0.24)
    )


def _toy(dice: RoomDice) -> Piece:
    """Build a toy car, airplane or rocket, 15 to 40 cm long."""
    makers: dict[Callable[[Builder], Mesh], tuple[str, ...]] = {
        cars.car: ("body", "cabin", "wheel", "light", "load"),
        aircraft.airplane: ("fuselage", "wing", "tail", "engine", "gear"),
        aircraft.rocket: ("body", "nose", "fin", "engine", "window"),
    }
    make = dice.pick(tuple(makers))
    return _scaled(make(dice.builder(*makers[make])), dice.between(0.1, 0.2))


def _guitar(dice: RoomDice) -> Piece:
    """Build a guitar, upright if it has a stand, else lying on its back."""
    parts = ("body", "neck", "head", "hardware", "stand")
    piece = _scaled(guitars.guitar(dice.builder(*parts)), dice.between(0.4, 0.48))
    mesh = piece.mesh
    if mesh.face_part is not None and (mesh.face_part == parts.index("stand")).any():
        return piece
    flat = mesh.vertices[:, [0, 2, 1]] * (1.0, 1.0, -1.0)
    flat[:, 2] -= flat[:, 2].min()
    return Piece("clutter", replace(mesh, vertices=flat))


def _scaled(mesh: Mesh, factor: float) -> Piece:
    return Piece("clutter", replace(mesh, vertices=mesh.vertices * factor))


LARGE: dict[Callable[[RoomDice], Piece], float] = {  # on the floor; with weights
    _toy: 2.0,
    _box: 2.0,
    _books: 1.0,
    _bottle: 1.0,
    _guitar: 0.5,
}
SMALL: dict[Callable[[RoomDice], Piece], float] = {  # on surfaces
    _books: 3.0,
    _mug: 1.5,
    _bottle: 1.5,
    _box: 1.0,
    _toy: 1.0,
}
