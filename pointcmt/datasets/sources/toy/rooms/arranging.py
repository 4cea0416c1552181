"""Groups of furniture, and which of them the types of rooms have."""

from collections.abc import Callable

from pointcmt.datasets.sources.toy.rooms import furniture
from pointcmt.datasets.sources.toy.rooms.cabinet import cabinet
from pointcmt.datasets.sources.toy.rooms.layout import Layout
from pointcmt.datasets.sources.toy.rooms.piece import Piece

PER_AREA, MOST_PIECES, TRIES = 0.55, 16, 9  # pieces of furniture per m², at most, and tries
CABINETS = ("wardrobe", "sideboard", "chest", "bookcase", "locker", "cube")


def furnish(layout: Layout, kind: str, area: float) -> None:
    """Place the groups of a room of this type, then single pieces as the area (m²) allows."""
    for group, chance in ROOM_TYPES[kind]:
        if layout.dice.chance(chance):
            group(layout)
    wanted = min(MOST_PIECES, round(PER_AREA * area))
    for _ in range(TRIES):
        if sum(item.piece.semantic in FURNITURE for item in layout.items) >= wanted:
            break
        layout.dice.pick(SINGLES, (2, 2, 2.5, 3, 2, 1))(layout)
    for _ in range(layout.dice.pick((0, 1, 2), (1, 3, 2))):
        _table_lamp(layout)


def dining(layout: Layout) -> None:
    """Place a table with chairs pushed under it, all of one kind or of several."""
    dice = layout.dice
    piece = furniture.table(dice, 0.65, 1.1)
    for gap in (0.45, 0.3):  # room for chairs
        table = layout.anywhere(piece, gap, 0.85)
        if table is not None:
            _seats_around(layout, table)
            return


def meeting(layout: Layout) -> None:
    """Place two tables end to end, with chairs around both."""
    piece = furniture.table(layout.dice, 0.65, 0.8)
    first = layout.anywhere(piece, 0.45, 1.0)
    if first is None:
        return
    second = layout.next_to(first, piece, 0.015, layout.dice.pick((-1, 1)))
    for table in (first, second):
        if table is not None:
            _seats_around(layout, table)


def _seats_around(layout: Layout, table: int) -> None:
    dice, (width, depth, height) = layout.dice, layout.items[table].piece.size.tolist()
    first = furniture.stool(dice) if height > 0.9 or dice.chance(0.15) else furniture.chair(dice)
    second = furniture.chair(dice) if dice.chance(0.25) else first
    round_top = max(width, depth) < 1.2
    places = [(90.0, 0.0), (-90.0, 0.0), (0.0, 0.0), (180.0, 0.0)]
    if not round_top:
        shift = 0.24 * width
        places = [(side, way * shift) for side in (90.0, -90.0) for way in (-1, 1)]
        places += [(0.0, 0.0), (180.0, 0.0)]
    for degrees, shift in places:
        if dice.chance(0.9):
            push = dice.pick((dice.between(0.7, 1.0), dice.between(0.2, 0.7), -0.1), (5, 2, 1))
            layout.tuck(table, dice.pick((first, second)), degrees, shift, push)


def lounge(layout: Layout) -> None:
    """Place a sofa at a wall or free, a coffee table before it, armchairs and a floor lamp."""
    dice, piece = layout.dice, furniture.sofa(layout.dice)
    sofa = layout.against_wall(piece, dice.between(0.0, 0.02)) if dice.chance(0.8) else None
    if sofa is None:
        sofa = layout.anywhere(piece, 0.4, 0.8)
    if sofa is None:
        return
    if dice.chance(0.8):
        table = furniture.table(dice, 0.3, 0.62)
        layout.before(sofa, table, dice.between(0.25, 0.5), dice.pick((0.0, 90.0)))
    if dice.chance(0.6):
        side = dice.pick((-1, 1))
        beside = furniture.floor_lamp(dice) if dice.chance(0.6) else small(layout)
        layout.next_to(sofa, beside, dice.between(0.03, 0.12), side)
    for _ in range(dice.pick((0, 1, 2), (2, 3, 1))):
        chair = dice.pick((furniture.armchair, furniture.club_chair))(dice)
        layout.before(sofa, chair, dice.between(1.0, 1.6), 180.0, dice.between(-0.8, 0.8))


def small(layout: Layout) -> Piece:
    """Return a small thing of about the same form: table, stool, cube or cabinet."""
    dice = layout.dice
    return dice.pick(
        (
            lambda: furniture.table(dice, 0.4, 0.6),
            lambda: furniture.stool(dice),
            lambda: cabinet(dice, "cube", 0.6),
        )
    )()


def workplace(layout: Layout) -> None:
    """Place a desk at a wall, turned from it, with a chair under it and perhaps a lamp on it."""
    dice, piece = layout.dice, furniture.desk(layout.dice)
    desk = layout.against_wall(piece, dice.between(0.0, 0.02))
    if desk is None:
        desk = layout.anywhere(piece, 0.3, 0.9)
    if desk is not None:
        push = dice.pick((dice.between(0.5, 1.0), -0.15), (3, 1))
        layout.tuck(desk, furniture.chair(dice), -90.0, dice.between(-0.1, 0.1), push)


def cabinets(layout: Layout) -> None:
    """Place a row of cabinets along a wall: copies of one, or different ones."""
    dice, kind = layout.dice, layout.dice.pick(CABINETS)
    piece, gap = cabinet(dice, kind, layout.plan.height - 0.02), dice.between(0.0, 0.02)
    index, side = layout.against_wall(piece, gap), dice.pick((-1, 1))
    for _ in range(dice.pick((0, 1, 2), (3, 2, 1))):
        if index is None:
            return
        if dice.chance(0.4):
            piece = cabinet(dice, dice.pick(CABINETS), layout.plan.height - 0.02)
        index = layout.next_to(index, piece, 0.012, side)


def seats(layout: Layout) -> None:
    """Place a row of equal chairs or stools along a wall, as in a waiting room."""
    dice = layout.dice
    piece = dice.pick((furniture.chair, furniture.chair, furniture.stool))(dice)
    index, side = layout.against_wall(piece, dice.between(0.0, 0.02)), dice.pick((-1, 1))
    for _ in range(dice.whole(1, 3)):
        if index is not None:
            index = layout.next_to(index, piece, dice.between(0.03, 0.08), side)


def corner(layout: Layout) -> None:
    """Place an armchair or a club chair, with a small table or a lamp beside it."""
    dice = layout.dice
    chair = dice.pick((furniture.armchair, furniture.club_chair), (2, 1))(dice)
    index = layout.against_wall(chair, dice.between(0.0, 0.02))
    if index is not None:
        beside = furniture.floor_lamp(dice) if dice.chance(0.5) else small(layout)
        layout.next_to(index, beside, dice.between(0.03, 0.1), dice.pick((-1, 1)))


def floor_lamp(layout: Layout) -> None:
    """Place a floor lamp at a wall."""
    layout.against_wall(furniture.floor_lamp(layout.dice), layout.dice.between(0.0, 0.1))


def _table_lamp(layout: Layout) -> None:
    """Stand a lamp on a table or a low cabinet."""
    dice = layout.dice
    carriers = [i for i, item in enumerate(layout.items) if item.piece.supports]
    low = [i for i in carriers if layout.items[i].piece.size[2] < 1.2]
    if low:
        layout.upon(dice.pick(low), furniture.table_lamp(dice))


def single(layout: Layout) -> None:
    """Place a chair, stool or small table anywhere, turned as it may be."""
    dice = layout.dice
    piece = furniture.chair(dice) if dice.chance(0.5) else small(layout)
    layout.anywhere(piece, 0.08, 0.4)


def console(layout: Layout) -> None:
    """Place a table or a small piece at a wall."""
    dice = layout.dice
    piece = furniture.table(dice, 0.3, 1.1) if dice.chance(0.6) else small(layout)
    layout.against_wall(piece, dice.between(0.0, 0.02))


FURNITURE = ("table", "chair", "sofa", "cabinet", "lamp")
SINGLES = (single, console, corner, cabinets, floor_lamp, seats)
Group = tuple[Callable[[Layout], None], float]  # and the chance of it
ROOM_TYPES: dict[str, tuple[Group, ...]] = {
    "living room": ((dining, 0.5), (lounge, 1.0), (cabinets, 0.9), (floor_lamp, 0.5)),
    "dining room": ((dining, 1.0), (cabinets, 0.9), (corner, 0.8), (floor_lamp, 0.4)),
    "office": ((workplace, 1.0), (workplace, 0.6), (cabinets, 1.0), (lounge, 0.7)),
    "meeting room": ((meeting, 1.0), (cabinets, 0.8), (corner, 0.8), (seats, 0.4)),
    "waiting room": ((seats, 1.0), (lounge, 1.0), (cabinets, 0.7), (seats, 0.5)),
    "study": ((workplace, 1.0), (cabinets, 1.0), (cabinets, 0.7), (corner, 0.8)),
}
