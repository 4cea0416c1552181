"""Furniture: the toy chairs, tables, sofas and lamps as pieces, and variants of them."""

from dataclasses import replace

from pointcmt.datasets.sources.toy.objects import lamps, seating, tables
from pointcmt.datasets.sources.toy.objects.builder import Builder
from pointcmt.datasets.sources.toy.objects.parts import leg
from pointcmt.datasets.sources.toy.objects.solids import ball, box
from pointcmt.datasets.sources.toy.rooms.cabinet import FRONT
from pointcmt.datasets.sources.toy.rooms.piece import Piece, RoomDice, Support
from pointcmt.shapes import Mesh

CHAIR = ("seat", "back", "leg", "arm")
TABLE = ("top", "leg", "apron", "storage")
LAMP = ("base", "pole", "shade", "bulb")
SOFA = ("seat", "back", "arm", "leg", "cushion")


def chair(dice: RoomDice) -> Piece:
    """Build a chair of any kind."""
    return Piece("chair", seating.chair(dice.builder(*CHAIR)))


def stool(dice: RoomDice) -> Piece:
    """Build a stool, which has the form of a small table."""
    b = dice.builder(*CHAIR)
    seating.stool(b)
    return Piece("chair", b.mesh())


def club_chair(dice: RoomDice) -> Piece:
    """Build a club chair, which has the form of an armchair."""
    b = dice.builder(*CHAIR)
    seating.club_chair(b)
    return Piece("chair", b.mesh())


def table(dice: RoomDice, low: float, high: float) -> Piece:
    """Build a table at most between low and high; the last of four tries may be of any height."""
    for _ in range(4):
        mesh = tables.table(dice.builder(*TABLE))
        if low <= mesh.vertices[:, 2].max() <= high:
            break
    return Piece("table", mesh, (_top(mesh, oval=True),))


def desk(dice: RoomDice) -> Piece:
    """Build a desk: a table with drawers on one side or both, open toward its front."""
    b = dice.builder(*TABLE)
    width, depth, height = b.between(1.0, 1.6), b.between(0.55, 0.75), b.between(0.71, 0.76)
    board, frame = b.pick((b.wood(), b.paint("light", "main"))), b.pick((b.wood(), b.metal()))
    b.add("top", board, box(width, depth, 0.03, 0.004).project(0.6, "x").move(z=height - 0.03))
    sides = b.pick(((1,), (-1,), (-1, 1)), (2, 2, 1))
    chest, deep, tall = b.between(0.32, 0.4), depth - 0.06, height - 0.03
    for side in (-1, 1):
        if side in sides:
            _drawers(b, side * (width / 2 - chest / 2 - 0.02), (chest, deep, tall + 0.004))
        else:
            post = leg("block", tall + 0.004, 0.05).move(side * (width / 2 - 0.05), deep / 2 - 0.03)
            b.add("leg", frame, post, post.mirror("y"))
    if b.chance(0.5):
        screen = box(width - 0.1, 0.018, 0.35).project(0.6).move(0, deep / 2 - 0.03, tall - 0.345)
        b.add("apron", board, screen)
    mesh = b.mesh()
    return Piece("table", mesh, (_top(mesh, oval=False),))


def _drawers(b: Builder, x: float, size: tuple[float, float, float]) -> None:
    """Add a chest of drawers under a desk's top, around x."""
    width, depth, height = size
    count, front = b.whole(2, 4), b.pick((b.wood(), b.paint("accent", "light", "main")))
    body = box(width, depth - FRONT, height - 0.04).project(0.6)
    b.add("storage", front, body.move(x, FRONT / 2, 0.04))
    b.add("storage", b.metal(), box(0.8 * width, 0.8 * depth, 0.05).move(x, 0, 0))
    each = (height - 0.06) / count
    panel = box(width - 0.01, FRONT + 0.004, each - 0.01, 0.002).project(0.6)
    for row in range(count):
        z = 0.045 + row * each
        b.add("storage", front, panel.move(x, -depth / 2 + FRONT / 2 + 0.002, z))
        b.add("storage", b.metal("chrome"), ball(0.014, 8, 6).move(x, -depth / 2, z + 0.6 * each))


def sofa(dice: RoomDice) -> Piece:
    """Build a sofa of any kind."""
    return Piece("sofa", seating.sofa(dice.builder(*SOFA)))


def armchair(dice: RoomDice) -> Piece:
    """Build an armchair: a sofa of more than one seat, 0.55 times as wide."""
    for _ in range(4):
        mesh = seating.sofa(dice.builder(*SOFA))
        if 0.6 < mesh.vertices[:, 0].max() < 0.9:
            break
    squeezed = mesh.vertices * (0.55 if mesh.vertices[:, 0].max() > 0.6 else 1.0, 1.0, 1.0)
    return Piece("sofa", replace(mesh, vertices=squeezed))


def floor_lamp(dice: RoomDice) -> Piece:
    """Build a lamp on a tall pole or a tripod."""
    b = dice.builder(*LAMP)
    lamps.floor_lamp(b)
    return Piece("lamp", b.mesh())


def table_lamp(dice: RoomDice) -> Piece:
    """Build a lamp for a table; the last of four tries may be a floor lamp."""
    for _ in range(4):
        mesh = lamps.lamp(dice.builder(*LAMP))
        if mesh.vertices[:, 2].max() < 1.0:
            break
    return Piece("lamp", mesh)


def _top(mesh: Mesh, oval: bool) -> Support:
    """Return the top of a table, whose outline contains an ellipse or is a rectangle."""
    low, high = mesh.vertices.min(axis=0).tolist(), mesh.vertices.max(axis=0).tolist()
    middle = (low[0] + high[0]) / 2, (low[1] + high[1]) / 2
    return Support(high[2], high[0] - low[0], high[1] - low[1], *middle, oval=oval)
