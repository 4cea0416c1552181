"""The point operations of `ops` in ONNX's standard operators, of opset 18.

Each takes the arguments of `ops` and finds the same indices: squared distances are squared
differences, summed from the first axis on, in float32; ties go to the lowest index, as ONNX defines
for ArgMax, ArgMin and TopK. Only `k_nearest` of features works differently, see there.
The exporter calls these functions with symbolic values of the graph that it builds; the computation
happens when the graph runs. B clouds, N points, M queries, D axes.
"""

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import BOOL, FLOAT, INT64, graph, script
from onnxscript import opset18 as op

from pointcmt.training import ops  # noqa: F401, registers the operations in TRANSLATIONS

OPSET = 18
INT, SINGLE, DOUBLE = 7, 1, 11  # ONNX's type codes of int64, float32 and float64
LARGEST = 3.4028234663852886e38  # the largest float32, farther than any point

Value = Any  # a symbolic tensor of the graph


@script(default_opset=op)
def farthest_points(points: FLOAT[...], count: INT64, start: INT64[...]) -> INT64[...]:
    """points [B,N,3] → index [B,count]. One Loop, so the graph does not grow with the count."""
    axes = op.Transpose(points, perm=[0, 2, 1])  # [B, 3, N]
    first = op.Expand(start, op.Shape(points, end=1))  # [B]
    far = op.Expand(LARGEST, op.Shape(points, end=2))  # [B, N]

    @graph()  # onnxscript reads the annotations, and has none for several results
    def step(  # type: ignore[no-untyped-def]
        number: INT64, go_on: BOOL, chosen: INT64[...], distance: FLOAT[...]
    ):
        place = op.GatherND(points, op.Unsqueeze(chosen, [1]), batch_dims=1)  # [B, 3]
        offset = axes - op.Unsqueeze(place, [2])
        x, y, z = op.Split(offset * offset, axis=1, num_outputs=3)
        nearest = op.Min(distance, op.Squeeze(x + y + z, [1]))  # [B, N]
        farthest = op.ArgMax(nearest, axis=1, keepdims=0)  # the first of equals
        return op.Identity(go_on), farthest, nearest, op.Identity(chosen)

    _, _, index = op.Loop(count, None, first, far, body=step)
    return op.Transpose(index, perm=[1, 0])


def ball_query(points: FLOAT, centers: FLOAT, radius: FLOAT, count: INT64) -> Value:
    """points [B,N,3], centers [B,M,3] → index [B,M,count]."""
    distance = _squared_distances(points, centers)
    inside = op.Cast(op.LessOrEqual(distance, op.Mul(radius, radius)), to=SINGLE)  # 1 or 0
    wanted = op.Reshape(count, _integers(1))
    there = op.Min(wanted, op.Shape(points, start=1, end=2))
    # The largest of ones and zeros are the ones; of equals, the first by index.
    value, found = op.TopK(inside, there, axis=2, sorted=1)  # [B, M, min(count, N)]
    inside = op.Cast(value, to=9)
    zero, one, last = _integers(0), _integers(1), _integers(2)
    first = op.Where(
        op.Slice(inside, zero, one, last),
        op.Slice(found, zero, one, last),
        op.ArgMin(distance, axis=2, keepdims=1),
    )  # [B, M, 1]
    beyond = op.Expand(first, op.Concat(one, one, op.Sub(wanted, there), axis=0))
    return op.Concat(op.Where(inside, found, first), beyond, axis=2)


def k_nearest(points: FLOAT, queries: FLOAT, k: INT64) -> tuple[Value, Value]:
    """points [B,N,D], queries [B,M,D] → index [B,M,k], squared distance [B,M,k], ascending.

    Except for D = 3 the distances are computed in float64 by a matrix product, then rounded to
    float32. This is more accurate than sums in float32, so if two points' distances differ by no
    more than rounding, the other one may be found.
    """
    squared = _squared_distances if points.shape[2] == 3 else _rounded_distances
    count = op.Reshape(k, _integers(1))
    distance, index = op.TopK(squared(points, queries), count, axis=2, largest=0, sorted=1)
    return index, distance


def standard_deviation(rows: FLOAT, dim: INT64) -> Value:
    """Compute aten::std.dim of rows [..., L] over the axes `dim`, unbiased, in float64.

    ONNX Runtime sums a row of 800,000 numbers sequentially: in float32 the error is 1e-5, ten times
    torch's.
    """
    exact = op.Cast(rows, to=DOUBLE)
    mean = op.ReduceMean(exact, dim, keepdims=1)
    total = op.ReduceSumSquare(op.Sub(exact, mean), dim, keepdims=0)
    others = op.Sub(op.Div(op.Size(exact), op.Size(mean)), op.Constant(value_int=1))
    return op.Cast(op.Sqrt(op.Div(total, op.Cast(others, to=DOUBLE))), to=SINGLE)


def _squared_distances(points: Value, queries: Value) -> Value:
    """points [B,N,3], queries [B,M,3] → [B,M,N]."""
    p = op.Split(op.Transpose(points, perm=[0, 2, 1]), axis=1, num_outputs=3)  # 3 × [B, 1, N]
    q = op.Split(queries, axis=2, num_outputs=3)  # 3 × [B, M, 1]
    x, y, z = (op.Sub(here, there) for here, there in zip(p, q, strict=True))
    return op.Add(op.Add(op.Mul(x, x), op.Mul(y, y)), op.Mul(z, z))


def _rounded_distances(points: Value, queries: Value) -> Value:
    """points [B,N,D], queries [B,M,D] → [B,M,N]: |q|² - 2 q·p + |p|² in float64, rounded."""
    p, q = op.Cast(points, to=DOUBLE), op.Cast(queries, to=DOUBLE)
    last = _integers(2)
    pp = op.ReduceSumSquare(p, last, keepdims=1)  # [B, N, 1]
    qq = op.ReduceSumSquare(q, last, keepdims=1)  # [B, M, 1]
    qp = op.MatMul(q, op.Transpose(p, perm=[0, 2, 1]))  # [B, M, N]
    squared = op.Sub(op.Add(qq, op.Transpose(pp, perm=[0, 2, 1])), op.Add(qp, qp))
    return op.Relu(op.Cast(squared, to=SINGLE))  # a point's distance to itself must not be negative


def _integers(*values: int) -> Value:
    return op.Constant(value_ints=list(values))


# torch's operation → its ONNX translation, for `torch.onnx.export`.
TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.pointcmt.farthest_points.default: farthest_points,
    torch.ops.pointcmt.ball_query.default: ball_query,
    torch.ops.pointcmt.k_nearest.default: k_nearest,
    torch.ops.aten.std.dim: standard_deviation,
}
