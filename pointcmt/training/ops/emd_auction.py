"""The auction algorithm for one pair of clouds, compiled.

Bertsekas, "A distributed asynchronous relaxation algorithm for the assignment problem" (1985), with
his epsilon scaling (1988): points of x bid for points of y; each takes the one of least distance
plus price, and raises its price by how much the second best is worse, plus epsilon. Once all are
matched, the total is at most N epsilon above the optimum. Each phase has a smaller epsilon and
starts from the prices of the last one. Two things make it quick:
- Prices never fall, so that a point that has kept the best candidates of a scan, and a bound below
  all others, need not scan again until its candidates' prices have passed that bound.
- Prices are a dual solution, whose value bounds the optimum from below: phases end as soon as the
  matching is proven good enough, long before N epsilon would prove it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointcmt.compiled import compiled

Reals = NDArray[np.float64]
Indices = NDArray[np.int64]

LANES = 64  # minima that a scan keeps side by side: y is padded to a multiple of it
GROUPS = 8  # a scan keeps at least so many candidates, about 21 in the mean
CAPACITY = 32  # candidates a point can hold
START, SCALING = 0.1, 5.0  # the first epsilon over the extent; each epsilon over the next one
FINEST = 1e-9  # the last epsilon over the extent: finer is lost in the rounding of prices


class Market(NamedTuple):
    """One auction. Of the points of y outside i's candidates, none is better than bounds[i]."""

    x: Reals  # [3, N]
    y: Reals  # [3, P], padded
    price: Reals  # [P]
    taken: Indices  # [N], the point of y that each of x has; -1 = none
    owner: Indices  # [N], the reverse
    candidates: NDArray[np.int32]  # [N, CAPACITY]
    distances: Reals  # [N, CAPACITY], to the candidates
    counts: Indices  # [N], how many there are
    bounds: Reals  # [N], distance plus price
    values: Reals  # [P], of one scan, like all below: distance plus price
    lanes: Reals  # [LANES], the least values[lane::LANES]
    groups: Reals  # [GROUPS]
    low: Indices  # [LANES + 1], the lanes to search
    found: Indices  # [P + 1], what was found there; one more, as writing comes before counting


@compiled
def auction(x: Reals, y: Reals, tolerance: float) -> tuple[Indices, float, float]:
    """Match every point of x to one of y, for a total distance near the least there is.

    x: [3, N], N >= 1. y: [3, P], N points and then padding to a multiple of LANES. Both centred and
    scaled, lest squares overflow. tolerance: how far above the optimum the total may be, relative.

    Returns [N] indices into y, their total distance, and a lower bound of every matching's total.
    The total is within the tolerance of that bound, or N * FINEST of the coordinates' range above.
    """
    n = x.shape[1]
    extent = max(x.max(), y[:, :n].max()) - min(x.min(), y[:, :n].min())
    market = _open(x, y)
    if extent == 0 or n == 1:
        market.taken[:] = np.arange(n)
        total = n * _distance(market, 0, 0)
        return market.taken, total, total
    epsilon = START * extent
    while True:
        _bid(market, epsilon)
        total, bound = _prove(market)
        if total <= (1 + tolerance) * bound or total == 0 or epsilon < FINEST * extent:
            return market.taken, total, bound
        epsilon /= SCALING


@compiled
def _open(x: Reals, y: Reals) -> Market:
    n, padded = x.shape[1], y.shape[1]
    price = np.zeros(padded)
    price[n:] = np.inf  # nobody bids for padding
    return Market(
        x,
        y,
        price,
        np.full(n, -1),
        np.full(n, -1),
        np.empty((n, CAPACITY), np.int32),
        np.empty((n, CAPACITY)),
        np.zeros(n, np.int64),  # no candidates yet: the first bid scans
        np.empty(n),
        np.empty(padded),
        np.empty(LANES),
        np.empty(GROUPS),
        np.empty(LANES + 1, np.int64),
        np.empty(padded + 1, np.int64),
    )


@compiled
def _bid(market: Market, epsilon: float) -> None:
    """Let points bid until each has one within epsilon of its best; whoever is outbid is next."""
    price, taken, owner = market.price, market.taken, market.owner
    for i in range(taken.size):  # a match from the last phase stays if it is still good enough
        j = taken[i]
        if j >= 0 and _distance(market, i, j) + price[j] > _best_two(market, i)[1] + epsilon:
            owner[j], taken[i] = -1, -1
    for i in range(taken.size):
        bidder = i if taken[i] < 0 else -1
        while bidder >= 0:
            j, least, second = _best_two(market, bidder)
            price[j] += second - least + epsilon
            owner[j], taken[bidder], bidder = bidder, j, owner[j]


@compiled
def _prove(market: Market) -> tuple[float, float]:
    """The matching's total, and the dual value: the sum of least values less that of prices."""
    total, bound = 0.0, 0.0
    for i in range(market.taken.size):
        _, least, _ = _best_two(market, i)
        total += _distance(market, i, market.taken[i])
        bound += least - market.price[i]
    return total, bound


@compiled
def _best_two(market: Market, i: int) -> tuple[int, float, float]:
    """Point i's best point of y, its value, and at most the second least value.

    A second that is too small only makes a bid smaller than it could be: it stays a valid one.
    """
    for _ in range(2):  # not until it holds: rounding can leave the best of equals above the bound
        best, least, second = -1, np.inf, market.bounds[i]
        for slot in range(market.counts[i]):
            j = market.candidates[i, slot]
            value = market.distances[i, slot] + market.price[j]
            if value < least:
                best, least, second = j, value, min(second, least)
            elif value < second:
                second = value
        if best >= 0 and least <= market.bounds[i]:
            break
        _scan(market, i)
    return best, least, second


@compiled
def _scan(market: Market, i: int) -> None:
    """Renew point i's candidates: all points of y up to a limit that holds at least GROUPS."""
    values, lanes, groups = market.values, market.lanes, market.groups
    low, found = market.low, market.found
    _evaluate(market.x[:, i], market.y, market.price, values, lanes)
    groups[:] = np.inf
    for lane in range(LANES):
        groups[lane % GROUPS] = min(groups[lane % GROUPS], lanes[lane])
    limit = groups.max()
    lows = 0
    for lane in range(LANES):  # without a branch, here and below: it would be mispredicted
        low[lows] = lane
        lows += lanes[lane] <= limit
    count = 0
    for k in range(lows):
        for j in range(low[k], market.taken.size, LANES):
            found[count] = j
            count += values[j] <= limit
    if count > CAPACITY:  # rare but for duplicates: keep the best and any others
        best = values[found[:count]].argmin()
        found[0], found[best] = found[best], found[0]
        limit = values[found[CAPACITY:count]].min()
        count = CAPACITY
    for slot in range(count):
        j = found[slot]
        market.candidates[i, slot] = j
        market.distances[i, slot] = values[j] - market.price[j]
    market.counts[i] = count
    market.bounds[i] = limit


@compiled
def _evaluate(point: Reals, y: Reals, price: Reals, values: Reals, lanes: Reals) -> None:
    """Distance plus price of every point of y, and of each lane the least."""
    x0, x1, x2 = point[0], point[1], point[2]
    lanes[:] = np.inf
    width = lanes.size  # a constant would be unrolled, not turned into vectors: 4 times slower
    for start in range(0, values.size, width):
        stop = start + width
        y0, y1, y2 = y[0, start:stop], y[1, start:stop], y[2, start:stop]
        prices, out = price[start:stop], values[start:stop]
        for k in range(width):
            d0, d1, d2 = x0 - y0[k], x1 - y1[k], x2 - y2[k]
            value = np.sqrt(d0 * d0 + d1 * d1 + d2 * d2) + prices[k]
            out[k] = value
            lanes[k] = value if value < lanes[k] else lanes[k]


@compiled
def _distance(market: Market, i: int, j: int) -> float:
    x, y = market.x, market.y
    d0, d1, d2 = x[0, i] - y[0, j], x[1, i] - y[1, j], x[2, i] - y[2, j]
    return np.sqrt(d0 * d0 + d1 * d1 + d2 * d2)
