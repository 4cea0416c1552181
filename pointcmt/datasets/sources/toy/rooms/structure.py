"""Columns, beams, a raised part of the floor, rugs: what stands in the shell before furniture."""

from pointcmt.datasets.sources.toy.objects.outlines import superellipse
from pointcmt.datasets.sources.toy.objects.solids import box, cylinder, extrude
from pointcmt.datasets.sources.toy.rooms import materials
from pointcmt.datasets.sources.toy.rooms.blocks import Block, Plan, inside
from pointcmt.datasets.sources.toy.rooms.piece import Piece, Placed, RoomDice, centered
from pointcmt.datasets.sources.toy.rooms.shell import Wall

UNDER_BEAMS = 2.1  # the least height below beams
SUNK = 0.02  # how far columns and beams reach into floor, ceiling and walls


def add_columns(dice: RoomDice, plan: Plan, walls: list[Wall]) -> list[Placed]:
    """Add up to three columns, at walls or in the room; as thick as a locker or a wardrobe."""
    count = dice.pick((0, 1, 2, 3), (0.25, 0.35, 0.3, 0.1))
    if not count:
        return []
    b = dice.builder("column")
    width = dice.between(0.22, 0.5)
    depth = width * dice.pick((1.0, dice.between(0.6, 1.0)))
    tall, finish = plan.height + 2 * SUNK, materials.wall(b)
    solid = box(width, depth, tall).project(finish.size)
    if dice.chance(0.3):
        depth, solid = width, cylinder(width / 2, tall, 24).tile(2, 3)
    b.add("column", finish.material, solid)
    piece = Piece("column", b.mesh())
    found: list[Placed] = []
    for _ in range(8 * count):
        if dice.chance(0.75):
            wall = dice.pick(walls)
            along = dice.between(width / 2, max(width, wall.length - width / 2))
            x, y = wall.point(along, depth / 2)
            placed = Placed(piece, wall.facing, x, y, -SUNK)
        else:
            x, y = (dice.between(-0.3, 0.3) * side for side in _extent(plan))
            placed = Placed(piece, 90.0 * dice.whole(0, 3), x, y, -SUNK)
        block = placed.block
        room = Block(block.x, block.y, width, depth, placed.degrees, 0.0, plan.height)
        if len(found) < count and plan.fits(room):
            plan.add(block)
            found.append(placed)
    return found


def add_beams(dice: RoomDice, plan: Plan) -> list[Placed]:
    """Add up to three parallel beams under the ceiling, from wall to wall; columns by class."""
    count = dice.pick((0, 1, 2, 3), (0.4, 0.3, 0.2, 0.1))
    width, along = dice.between(0.12, 0.35), dice.whole(0, 1)
    drop = min(dice.between(0.1, 0.3), plan.height - UNDER_BEAMS)
    b = dice.builder("column")
    finish = materials.Finish(b.wood(), 0.8) if b.chance(0.5) else materials.wall(b)
    room = _extent(plan)[1 - along] - 2 * width
    found: list[Placed] = []
    for number in range(count):
        at = ((number + dice.between(0.35, 0.65)) / count - 0.5) * room
        span = _span(plan, at, width, along)
        if span is None:
            continue
        beam = box(span[1] - span[0] + 2 * SUNK, width, drop + SUNK).project(finish.size, "x")
        b = dice.builder("column")
        b.add("column", finish.material, beam)
        middle = (span[0] + span[1]) / 2
        x, y = (middle, at) if along == 0 else (at, middle)
        placed = Placed(Piece("column", b.mesh()), 90.0 * along, x, y, plan.height - drop)
        plan.add(placed.block)
        found.append(placed)
    return found


def _span(plan: Plan, at: float, width: float, along: int) -> tuple[float, float] | None:
    """Return from where to where a strip along x (0) or y (1) runs through the room.

    None if its two edges do not meet the same walls.
    """
    ends = []
    for line in (at - width / 2, at + width / 2):
        crossings = []
        for start, stop in zip(plan.outline, [*plan.outline[1:], plan.outline[0]], strict=True):
            a, c = float(start[1 - along]), float(stop[1 - along])
            if (a > line) != (c > line):
                share = (line - a) / (c - a)
                crossings.append(float(start[along] + share * (stop[along] - start[along])))
        ends.append(sorted(crossings))
    if len(ends[0]) != 2 or len(ends[1]) != 2:
        return None
    if max(abs(ends[0][i] - ends[1][i]) for i in (0, 1)) > 1e-6:
        return None
    return ends[0][0], ends[0][1]


def add_platform(dice: RoomDice, plan: Plan, walls: list[Wall]) -> list[Placed]:
    """Raise the floor along one wall by a step, in one room of ten."""
    if not dice.chance(0.1):
        return []
    for _ in range(6):
        wall, depth, height = dice.pick(walls), dice.between(1.0, 1.5), dice.between(0.1, 0.2)
        block = wall.block(wall.length / 2, wall.length, depth, 0.0, height)
        if wall.length > 2.5 and plan.fits(block):
            b = dice.builder("floor")
            finish = materials.floor(b)
            step = box(wall.length + 2 * SUNK, depth + SUNK, height + SUNK).project(finish.size)
            b.add("floor", finish.material, step)
            x, y = wall.point(wall.length / 2, (depth - SUNK) / 2)
            return [Placed(Piece("floor", b.mesh()), wall.facing, x, y, -SUNK)]
    return []


def add_rug(dice: RoomDice, plan: Plan) -> list[Placed]:
    """Lay a rug of 6 mm in one room of ten; furniture stands on it as on the floor."""
    if not dice.chance(0.1):
        return []
    b = dice.builder("floor")
    width, depth = dice.between(1.2, 2.2), dice.between(0.9, 1.6)
    outline = superellipse(width / 2, depth / 2, dice.pick((2.0, 20.0)), 40)
    b.patterned = True
    b.add("floor", b.fabric(), extrude(outline, 0.016).project(0.6))
    for _ in range(10):
        x, y = (dice.between(-0.3, 0.3) * side for side in _extent(plan))
        placed = centered(Piece("floor", b.mesh()), dice.pick((0.0, 90.0)), x, y, -0.01)
        if inside(plan.outline, placed.block.corners).all() and not plan.collisions(placed.block):
            return [placed]
    return []


def _extent(plan: Plan) -> tuple[float, float]:
    width, depth = (plan.outline.max(axis=0) - plan.outline.min(axis=0)).tolist()
    return width, depth
