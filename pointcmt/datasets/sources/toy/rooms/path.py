"""The camera's path: a closed loop through the free space of a room, looking at its objects."""

import math

import numpy as np
from numpy.typing import NDArray

from pointcmt.cameras import Camera, look_at
from pointcmt.datasets.sources.toy.rooms.blocks import Plan, inside
from pointcmt.datasets.sources.toy.rooms.piece import Floats, Placed, RoomDice

FRAMES = 48
WIDTH, HEIGHT, FOCAL = 320, 240, 275.0  # pixels: a field of view of 60°
LOW, HIGH = 1.2, 1.7  # heights of the camera
CLEARANCE = 0.3  # to every surface
CELL = 0.1  # of the grid on which paths are found
SLACK = 0.08  # between a cell's middle and what the path may touch next to it
LEAST_FREE = 12  # cells; rooms with less free space are furnished again
ROLL = math.radians(3.0)
UP, DOWN = 0.2, 1.1  # steepest gaze: rise and fall per meter ahead
LOOK_UP = 0.9  # added once, at the ceiling

Flags = NDArray[np.bool_]
Cells = NDArray[np.int64]


def resize_cameras(cameras: Camera, width: int, height: int) -> Camera:
    """Return the same cameras for images of another size, which show the same part of the room."""
    scale = np.array([width / cameras.width, height / cameras.height, 1.0])
    return Camera(cameras.K * scale[:, None], cameras.world_to_camera, width, height)


def walk(dice: RoomDice, plan: Plan, targets: list[Placed]) -> Camera | None:
    """Return 48 cameras along a loop of 6 to 10 waypoints, in the room's frame.

    None if the room has too little free space.
    """
    cells, free = _free_cells(plan)
    component = _largest(free)
    if component.sum() < LEAST_FREE:
        return None
    stops = _waypoints(dice, cells, component)
    loop, marks = _loop(cells, component, stops)
    positions, at = _along(plan, loop, marks)
    phases = 2 * math.pi * dice.field(3)
    turns = 2 * math.pi * np.arange(FRAMES) / FRAMES
    z = (LOW + HIGH) / 2 + (HIGH - LOW) / 2 * np.sin(dice.whole(1, 3) * turns + phases[0])
    eyes = np.round(np.concatenate([positions, z[:, None]], axis=1), 6)
    gaze = _gaze(dice, eyes, at, [cells[stop] for stop in stops], targets)
    roll = ROLL * np.sin(dice.whole(2, 5) * turns + phases[1])
    poses = np.stack(
        [_rolled(look_at(e, e + g, (0, 0, 1)), r) for e, g, r in zip(eyes, gaze, roll, strict=True)]
    )
    K = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
    return Camera(np.repeat(K[None], FRAMES, axis=0), poses, WIDTH, HEIGHT)


def _rolled(pose: Floats, angle: float) -> Floats:
    """Turn a camera about its own axis."""
    cos, sin = math.cos(angle), math.sin(angle)
    turned: Floats = np.eye(4)
    turned[:2, :2] = [[cos, -sin], [sin, cos]]
    return turned @ pose


def _free_cells(plan: Plan) -> tuple[Floats, Flags]:
    """Return the middles of all cells [R,C,2], and which are far enough from everything."""
    low, high = plan.outline.min(axis=0), plan.outline.max(axis=0)
    x, y = (np.arange(a + CELL / 2, b, CELL) for a, b in zip(low, high, strict=True))
    cells = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)
    flat = cells.reshape(-1, 2)
    free = inside(plan.outline, flat)
    near = plan.distance(flat[free], LOW - CLEARANCE, HIGH + CLEARANCE)
    free[free] = near >= CLEARANCE + SLACK
    return cells, free.reshape(cells.shape[:2])


def _largest(free: Flags) -> Flags:
    """Return the largest connected area of free cells; none of them is at the border."""
    label = np.where(free, np.arange(1, free.size + 1).reshape(free.shape), 0)
    label = _spread(label, free, np.maximum, 0)
    counts = np.bincount(label.ravel())
    counts[0] = 0
    found: Flags = free & (label == counts.argmax())
    return found


def _spread(values: Cells, allowed: Flags, choose: np.ufunc, step: int) -> Cells:
    """Choose between every allowed cell's value and those of its four neighbors plus `step`.

    Repeat until nothing changes. Cells at the border are not allowed.
    """
    inner = allowed[1:-1, 1:-1]
    while True:
        best = choose(choose(values[:-2, 1:-1], values[2:, 1:-1]), values[1:-1, :-2])
        best = choose(choose(best, values[1:-1, 2:]) + step, values[1:-1, 1:-1])
        best = np.where(inner, best, values[1:-1, 1:-1])
        if (best == values[1:-1, 1:-1]).all():
            return values
        values = values.copy()
        values[1:-1, 1:-1] = best


def _waypoints(dice: RoomDice, cells: Floats, component: Flags) -> list[tuple[int, int]]:
    """Choose 6 to 10 cells that are far apart, in the order of their angle about their middle."""
    rows, columns = np.nonzero(component)
    points = cells[rows, columns]
    chosen = [dice.whole(0, len(points) - 1)]
    for _ in range(dice.whole(5, 9)):
        apart = ((points[:, None] - points[chosen]) ** 2).sum(axis=2).min(axis=1)
        chosen.append(int(np.argmax(np.round(apart * (0.3 + dice.field(len(points))), 9))))
    offset = points[chosen] - points[chosen].mean(axis=0)
    order = np.argsort(np.round(np.arctan2(offset[:, 1], offset[:, 0]), 9), kind="stable")
    return [(int(rows[chosen[i]]), int(columns[chosen[i]])) for i in order]


def _loop(
    cells: Floats, component: Flags, stops: list[tuple[int, int]]
) -> tuple[Floats, list[int]]:
    """Return the cells [n,2] of shortest paths from stop to stop, and where each stop is in it."""
    line: list[tuple[int, int]] = []
    marks = []
    for start, end in zip(stops, stops[1:] + stops[:1], strict=True):
        marks.append(len(line))
        steps = _steps_to(end, component)
        row, column = start
        while (row, column) != end:
            line.append((row, column))
            options = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
            row, column = min(options, key=lambda option: int(steps[option]))
    return cells[tuple(np.array(line).T)], marks


def _steps_to(end: tuple[int, int], component: Flags) -> Cells:
    """Return the number of steps from every cell of the component to one of its cells."""
    steps = np.full(component.shape, component.size + 1, np.int64)
    steps[end] = 0
    return _spread(steps, component, np.minimum, 1)


def _along(plan: Plan, loop: Floats, marks: list[int]) -> tuple[Floats, Floats]:
    """Return evenly spaced positions [FRAMES,2], and between which stops each one is.

    The path is smoothed where that keeps the clearance.
    """
    fine = np.concatenate([loop, (loop + np.roll(loop, -1, axis=0)) / 2], axis=1).reshape(-1, 2)
    window = 9
    smooth = np.mean(
        [np.roll(fine, shift - window // 2, axis=0) for shift in range(window)], axis=0
    )
    steps = np.sqrt(((np.roll(smooth, -1, axis=0) - smooth) ** 2).sum(axis=1))
    length = np.concatenate([[0.0], np.cumsum(steps)])
    place = np.interp(np.arange(FRAMES) * length[-1] / FRAMES, length, np.arange(len(length)))
    index, share = place.astype(np.intp), (place % 1)[:, None]
    follow = (index + 1) % len(fine)
    rough, even = (line[index] * (1 - share) + line[follow] * share for line in (fine, smooth))
    near = plan.distance(even, LOW - CLEARANCE, HIGH + CLEARANCE) < CLEARANCE + 0.01
    positions = np.where((near | ~inside(plan.outline, even))[:, None], rough, even)
    stops = np.interp(
        place, [*(2.0 * mark for mark in marks), len(fine)], np.arange(len(marks) + 1)
    )
    return positions, stops


def _gaze(
    dice: RoomDice, eyes: Floats, at: Floats, stops: list[Floats], targets: list[Placed]
) -> Floats:
    """Return where the camera looks [FRAMES,3], relative to it: at an object from every stop.

    Between stops the gaze moves from one object to the next. Once it goes up to the ceiling.
    """
    seen = []
    for stop in stops:
        for _ in range(5):
            block = dice.pick(targets).block
            if math.hypot(block.x - stop[0], block.y - stop[1]) > 1.1:
                break
        seen.append((block.x, block.y, dice.between(block.low, block.high)))
    points = np.array([*seen, seen[0]])
    first = at.astype(np.intp)
    share = (at - first)[:, None]
    share = share * share * (3 - 2 * share)
    gaze = points[first] * (1 - share) + points[first + 1] * share - eyes
    ahead = np.sqrt((gaze[:, :2] ** 2).sum(axis=1))
    gaze[ahead < 0.05, 0] += 0.1
    ahead = np.maximum(ahead, 0.1)
    apart = np.abs(
        (np.arange(FRAMES) - dice.whole(0, FRAMES - 1) + FRAMES // 2) % FRAMES - FRAMES // 2
    )
    lift = LOOK_UP * np.clip(1 - apart / 4, 0, 1) * ahead
    gaze[:, 2] = np.clip(gaze[:, 2], -DOWN * ahead, UP * ahead) * (lift == 0) + lift
    return np.round(gaze, 6)
