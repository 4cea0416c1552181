"""The auction algorithm for one pair of clouds, compiled.

Bertsekas, "A distributed asynchronous relaxation algorithm for the assignment problem" (1985), with
his epsilon scaling (1988): points of x bid for points of y. Each bids for the point of least
distance plus price, and raises its price by the gap to the second best plus epsilon. Once all are
matched, the total is at most N epsilon above the optimum. Each phase uses a smaller epsilon and
starts from the prices of the previous one. Two things make it fast:
- Prices never fall. A point keeps the best candidates of a scan and a lower bound on all others,
  and need not scan again until its candidates' prices have passed that bound.
- Prices are a dual solution, whose value bounds the optimum from below: the auction ends as soon as
  the matching is proven good enough, long before N epsilon would prove it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointcmt.compiled import compiled

Reals = NDArray[np.float64]
Indices = NDArray[np.int64]

LANES = 64  # minima that a scan keeps side by side; y is padded to a multiple of it
GROUPS = 8  # a scan keeps at least this many candidates, about 21 on average
CAPACITY = 32  # maximum candidates per point
START, SCALING = 0.1, 5.0  # first epsilon over extent; ratio of successive epsilons
FINEST = 1e-9  # last epsilon over extent: a finer one is lost in the rounding of prices


class Market(NamedTuple):
    """State of one auction. No point of y outside i's candidates has a value below bounds[i]."""

    x: Reals  # [3, N]
    y: Reals  # [3, P], padded
    price: Reals  # [P]
    taken: Indices  # [N], the point of y matched to each of x; -1 = none
    owner: Indices  # [N], the point of x matched to each of y; -1 = none
    candidates: NDArray[np.int32]  # [N, CAPACITY]
    distances: Reals  # [N, CAPACITY], to the candidates
    counts: Indices  # [N], number of candidates
    bounds: Reals  # [N], distance plus price
    values: Reals  # [P], distance plus price; this and all below hold for one scan
    lanes: Reals  # [LANES], the minima of values[lane::LANES]
    groups: Reals  # [GROUPS]
    low: Indices  # [LANES + 1], the lanes to search
    found: Indices  # [P + 1], points found there; one spare, as writing precedes counting


@compiled
def auction(x: Reals, y: Reals, tolerance: float, most: int) -> tuple[Indices, float, float, int]:
    """Match every point of x to one of y so that the total distance is near the minimum.

    x: [3, N], N >= 1. y: [3, P], N points, then padding to a multiple of LANES. Both are centered
    and scaled so that squares do not overflow. tolerance: the largest relative excess of the total
    over the optimum. most: bids after which the auction is given up.

    Returns [N] indices into y, their total distance, a lower bound on every matching's total, and
    the number of bids. The total exceeds that bound by at most the tolerance, or N * FINEST of the
    coordinates' range; it is infinite, and the indices are undefined, if the auction was given up.
    """
    n = x.shape[1]
    extent = max(x.max(), y[:, :n].max()) - min(x.min(), y[:, :n].min())
    market = _open(x, y)
    if extent == 0 or n == 1:
        market.taken[:] = np.arange(n)
        total = n * _distance(market, 0, 0)
        return market.taken, total, total, 0
    epsilon, bids = START * extent, 0
    while True:
        bids += _bid(market, epsilon, most - bids)
        if bids > most:
            return market.taken, np.inf, 0.0, bids
        total, bound = _prove(market)
        if total <= (1 + tolerance) * bound or total == 0 or epsilon < FINEST * extent:
            return market.taken, total, bound, bids
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
def _bid(market: Market, epsilon: float, most: int) -> int:
    """Run one phase: bid until each point's match is within epsilon of its best, or there are more
    than `most` bids; return their number."""
    price, taken, owner = market.price, market.taken, market.owner
    for i in range(taken.size):  # a match from the last phase stays if it is still good enough
        j = taken[i]
        if j >= 0 and _distance(market, i, j) + price[j] > _best_two(market, i)[1] + epsilon:
            owner[j], taken[i] = -1, -1
    bids = 0
    for i in range(taken.size):
        bidder = i if taken[i] < 0 else -1
        while bidder >= 0:
            j, least, second = _best_two(market, bidder)
            price[j] += second - least + epsilon
            owner[j], taken[bidder], bidder = bidder, j, owner[j]
            bids += 1
            if bids > most:
                return bids
    return bids


@compiled
def _prove(market: Market) -> tuple[float, float]:
    """Return the matching's total and the dual value: the sum of least values minus prices."""
    total, bound = 0.0, 0.0
    for i in range(market.taken.size):
        _, least, _ = _best_two(market, i)
        total += _distance(market, i, market.taken[i])
        bound += least - market.price[i]
    return total, bound


@compiled
def _best_two(market: Market, i: int) -> tuple[int, float, float]:
    """Return point i's best point of y, its value, and a lower bound on the second least value.

    A bound below the second value only makes the bid smaller; it stays valid.
    """
    for _ in range(2):  # at most twice: rounding can leave the best of equals above the bound
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
    """Update point i's candidates: all points of y up to a limit that admits at least GROUPS."""
    values, lanes, groups = market.values, market.lanes, market.groups
    low, found = market.low, market.found
    _evaluate(market.x[:, i], market.y, market.price, values, lanes)
    groups[:] = np.inf
    for lane in range(LANES):
        groups[lane % GROUPS] = min(groups[lane % GROUPS], lanes[lane])
    limit = groups.max()
    lows = 0
    for lane in range(LANES):  # here and below without a branch, which would be mispredicted
        low[lows] = lane
        lows += lanes[lane] <= limit
    count = 0
    for k in range(lows):
        for j in range(low[k], market.taken.size, LANES):
            found[count] = j
            count += values[j] <= limit
    if count > CAPACITY:  # rare without duplicates: keep the best and any others
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
    """Compute distance plus price for every point of y, and the minimum of each lane."""
    x0, x1, x2 = point[0], point[1], point[2]
    lanes[:] = np.inf
    width = lanes.size  # a constant would be unrolled instead of vectorized: 4 times slower
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
