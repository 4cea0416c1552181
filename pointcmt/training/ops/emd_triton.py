"""The auction algorithm for many pairs of clouds at once on a GPU, in Triton.

The algorithm is that of `emd_auction`: points of x bid for points of y, epsilon shrinks from phase
to phase, and prices prove how good the matching is. The differences:
- One program (a block of threads on one multiprocessor) auctions one pair of clouds, so that a
  whole phase is one launch. BIDDERS unmatched points bid at once; each point of y goes to the
  highest bid, ties to the lowest bidder. There are no atomics: every run gives the same result.
- A bidder scans all of y and recomputes the distances: nothing of size [N, N] is stored.
- Bids are in float32, whose rounding only makes an auction slower or worse. The proof is in
  float64, from the final prices: any prices bound the optimum from below.
- A phase ends after ROUNDS_PER_POINT · N rounds at the latest, and epsilon stays coarse enough for
  float32. Clouds without a proof by then are reported as such, and the caller matches them again.

The host only queues launches; it does not wait for the device between them.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
import torch
import triton
import triton.language as tl
from torch import Tensor

START, SCALING, PHASES = 0.1, 5.0, 8  # first epsilon over extent; ratio of successive ones
ROUNDS_PER_POINT = 32  # per phase; usually 1 to 4, more with many duplicate points
BIDDERS = 16  # points that bid at once
NOWHERE = tl.constexpr(2**31 - 1)  # above every index


def auction(x: Tensor, y: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Match every point of x to one of y so that the total distance is near the minimum.

    x, y: [B, N, 3], N >= 1, finite, on one device. tolerance: the largest relative
    excess of the total over the optimum. Returns the assignment [B, N] i64, and proven [B] bool:
    whether that cloud's total is proven to be within the tolerance, or is 0. An assignment without
    a proof may not be a bijection.
    """
    clouds, total, _ = x.shape
    exact, extent = _in_unit_cube(x, y)
    short = [cloud.float() for cloud in exact]
    # Clouds of zero extent or a single point need no auction, and would have no epsilon.
    taken = torch.arange(total, dtype=torch.int32, device=x.device).repeat(clouds, 1)
    proven = (extent == 0) | (total == 1)
    taken = torch.where(proven[:, None], taken, -1)
    owner, queue = torch.full_like(taken, -1), torch.empty_like(taken)
    price = torch.zeros(taken.shape, dtype=torch.float32, device=x.device)
    bounds, costs = (torch.zeros(taken.shape, dtype=torch.float64, device=x.device) for _ in "bc")
    lanes = min(256, triton.next_power_of_2(total))
    blocks = triton.cdiv(total, BIDDERS)
    for phase in range(PHASES) if clouds else ():
        epsilon = (extent * (START / SCALING**phase)).float()
        done = proven.to(torch.int32)
        with torch.cuda.device_of(x):
            _bid[(clouds,)](
                *short,
                price,
                taken,
                owner,
                queue,
                epsilon,
                done,
                total,
                ROUNDS_PER_POINT * total,
                ROWS=BIDDERS,
                LANES=lanes,
                num_warps=max(1, lanes // 16),
                num_stages=1,
                enable_fp_fusion=True,
            )
            _prove[(clouds * blocks,)](
                *exact,
                price,
                taken,
                bounds,
                costs,
                done,
                total,
                ROWS=BIDDERS,
                LANES=lanes,
                num_warps=8,
                enable_fp_fusion=True,
            )
        cost = costs.sum(dim=1)
        bound = bounds.sum(dim=1) - price.double().sum(dim=1)
        proven = proven | (cost <= (1 + tolerance) * bound) | (cost == 0)
    return taken.long(), proven


def _in_unit_cube(x: Tensor, y: Tensor) -> tuple[list[Tensor], Tensor]:
    """Center and scale both [B,N,3] alike → [B,3,N] float64, and their coordinate range [B].

    There squares neither overflow nor underflow, and the same epsilons fit all clouds.
    """
    x, y = x.double(), y.double()
    middle = (x.amax(dim=1, keepdim=True) + x.amin(dim=1, keepdim=True)) / 2  # [B,1,3]
    x, y = x - middle, y - middle
    scale = torch.maximum(x.abs().amax(dim=(1, 2)), y.abs().amax(dim=(1, 2)))  # [B]
    scale = torch.where(scale > 0, scale, 1.0)[:, None, None]
    both = torch.cat([x, y], dim=1) / scale
    extent = both.amax(dim=(1, 2)) - both.amin(dim=(1, 2))
    return [(cloud / scale).mT.contiguous() for cloud in (x, y)], extent


@triton.jit
def _bid(
    all_x,
    all_y,
    all_price,
    all_taken,
    all_owner,
    all_queue,
    epsilons,
    done,
    total,
    most_rounds,
    ROWS: tl.constexpr,
    LANES: tl.constexpr,
):
    """Run one phase: bid until each point's match is within epsilon of its best.

    x, y [B,3,N]; price, taken, owner, queue [B,N]; epsilons, done [B]. taken is the point of y
    matched to each of x, owner the reverse, -1 = none; queue is a stack of the unmatched of x.
    Barriers separate a thread's write from another thread's read, and a read from the next write.
    """
    cloud = tl.program_id(0).to(tl.int64)
    x, y = all_x + cloud * 3 * total, all_y + cloud * 3 * total
    price, taken = all_price + cloud * total, all_taken + cloud * total
    owner, queue = all_owner + cloud * total, all_queue + cloud * total
    epsilon = tl.load(epsilons + cloud)
    row = tl.arange(0, ROWS)
    if tl.load(done + cloud) == 0:
        waiting = 0  # how many points are in the queue
        for begin in range(0, total, ROWS):
            i = begin + row
            real = i < total
            x0, x1, x2 = _place(x, total, i, real)
            have = tl.load(taken + i, mask=real, other=-1)
            matched = have >= 0
            y0, y1, y2 = _place(y, total, have, matched)
            value = _distance(x0, x1, x2, y0, y1, y2)
            value += tl.load(price + have, mask=matched, other=0.0)
            best, least, second = _best_two(x0, x1, x2, y, price, total, ROWS, LANES)
            # A match from the last phase stays if it is still good enough.
            free = real & ((have < 0) | (value > least + epsilon))
            tl.debug_barrier()
            tl.store(owner + have, -1, mask=free & matched)
            tl.store(taken + i, -1, mask=free)
            tl.store(queue + waiting + tl.cumsum(free.to(tl.int32), axis=0) - 1, i, mask=free)
            waiting += tl.sum(free.to(tl.int32), axis=0)
        tl.debug_barrier()

        rounds = 0
        while (waiting > 0) & (rounds < most_rounds):
            rest = tl.maximum(waiting - ROWS, 0)
            asks = row < waiting - rest
            i = tl.load(queue + rest + row, mask=asks, other=0)
            x0, x1, x2 = _place(x, total, i, asks)
            best, least, second = _best_two(x0, x1, x2, y, price, total, ROWS, LANES)
            bid = tl.load(price + best, mask=asks, other=0.0) + (second - least) + epsilon
            better = (bid[None, :] > bid[:, None]) | (
                (bid[None, :] == bid[:, None]) & (i[None, :] < i[:, None])
            )
            rival = (best[None, :] == best[:, None]) & asks[None, :]
            wins = asks & (tl.max((better & rival).to(tl.int32), axis=1) == 0)
            outbid = tl.load(owner + best, mask=wins, other=-1)
            tl.debug_barrier()
            tl.store(price + best, bid, mask=wins)
            tl.store(owner + best, i, mask=wins)
            tl.store(taken + i, best, mask=wins)
            tl.store(taken + outbid, -1, mask=wins & (outbid >= 0))
            next_up = tl.where(wins, outbid, i)
            comes = asks & (next_up >= 0)
            tl.store(queue + rest + tl.cumsum(comes.to(tl.int32), axis=0) - 1, next_up, mask=comes)
            waiting = rest + tl.sum(comes.to(tl.int32), axis=0)
            rounds += 1
            tl.debug_barrier()


@triton.jit
def _prove(
    all_x,
    all_y,
    all_price,
    all_taken,
    bounds,
    costs,
    done,
    total,
    ROWS: tl.constexpr,
    LANES: tl.constexpr,
):
    """Compute each point's least value and its distance to its match, infinite without one.

    x, y [B,3,N] float64; price, taken [B,N] → bounds, costs [B,N] float64.
    """
    blocks = tl.cdiv(total, ROWS)
    cloud = (tl.program_id(0) // blocks).to(tl.int64)
    i = (tl.program_id(0) % blocks) * ROWS + tl.arange(0, ROWS)
    real = i < total
    x, y, price = all_x + cloud * 3 * total, all_y + cloud * 3 * total, all_price + cloud * total
    if tl.load(done + cloud) == 0:
        x0, x1, x2 = _place(x, total, i, real)
        have = tl.load(all_taken + cloud * total + i, mask=real, other=-1)
        y0, y1, y2 = _place(y, total, have, have >= 0)
        cost = _distance(x0, x1, x2, y0, y1, y2)
        cost = tl.where(have >= 0, cost, float("inf"))
        _, least, _ = _best_two(x0, x1, x2, y, price, total, ROWS, LANES)
        tl.store(bounds + cloud * total + i, least, mask=real)
        tl.store(costs + cloud * total + i, cost, mask=real)


@triton.jit
def _best_two(x0, x1, x2, y, price, total, ROWS: tl.constexpr, LANES: tl.constexpr):
    """x0, x1, x2 [ROWS], y [3,N], price [N] → each row's best point of y, its value, the second's.

    A value is distance plus price, in x's dtype. Ties go to the first. Without a second
    point, its value is infinite.
    """
    least = tl.full([ROWS, LANES], float("inf"), x0.dtype)  # of each lane
    second = tl.full([ROWS, LANES], float("inf"), x0.dtype)
    best = tl.full([ROWS, LANES], NOWHERE, tl.int32)
    for begin in range(0, total, LANES):
        at = begin + tl.arange(0, LANES)
        real = at < total
        y0, y1, y2 = _place(y, total, at, real)
        its_price = tl.load(price + at, mask=real, other=float("inf")).to(x0.dtype)
        value = _distance(
            x0[:, None], x1[:, None], x2[:, None], y0[None, :], y1[None, :], y2[None, :]
        )
        value += its_price[None, :]
        better = value < least
        second = tl.where(better, least, tl.minimum(second, value))
        best = tl.where(better, at[None, :], best)
        least = tl.where(better, value, least)
    row_least = tl.min(least, axis=1)
    row_best = tl.min(tl.where(least == row_least[:, None], best, NOWHERE), axis=1)
    row_second = tl.min(tl.where(best == row_best[:, None], second, least), axis=1)
    return row_best, row_least, row_second


@triton.jit
def _place(points, total, at, real):
    """Load the three coordinates of points [3,N] at the indices, 0 where not real."""
    return (
        tl.load(points + at, mask=real, other=0.0),
        tl.load(points + total + at, mask=real, other=0.0),
        tl.load(points + 2 * total + at, mask=real, other=0.0),
    )


@triton.jit
def _distance(x0, x1, x2, y0, y1, y2):
    d0, d1, d2 = x0 - y0, x1 - y1, x2 - y2
    return tl.sqrt(d0 * d0 + d1 * d1 + d2 * d2)
