"""Kernels of `norms` for CPUs, on blocks first ... last - 1 of their arrays.

A block has `BLOCK` rows, or is a group of rows with one maximum. The inner loops are over columns:
the compiler turns them into SIMD without reordering sums.
"""

import numpy as np

from pointcmt.compiled import compiled

BLOCK = 64  # rows that are summed in their own dtype, while they are in the cache


@compiled
def block_statistics(first, last, rows, partial):  # type: ignore[no-untyped-def]
    """rows [M,D] → partial [2,blocks,D]: mean, and sum of squared distances from it."""
    for block in range(first, last):
        begin, end = block * BLOCK, min((block + 1) * BLOCK, len(rows))
        mean, square = partial[0, block], partial[1, block]
        mean[:] = 0
        square[:] = 0
        for i in range(begin, end):
            row = rows[i]
            for d in range(row.shape[0]):
                mean[d] += row[d]
        mean /= end - begin
        for i in range(begin, end):
            row = rows[i]
            for d in range(row.shape[0]):
                difference = row[d] - mean[d]
                square[d] += difference * difference


@compiled
def join_statistics(partial, count):  # type: ignore[no-untyped-def]
    """partial [2,blocks,D] of `count` rows → [2,D] f64 of all of them (Chan et al. 1983)."""
    _, blocks, width = partial.shape
    found = np.zeros((2, width))
    mean, square = found[0], found[1]
    before = 0
    for block in range(blocks):
        size = min(BLOCK, count - before)
        share = size / (before + size)
        for d in range(width):
            difference = partial[0, block, d] - mean[d]
            mean[d] += share * difference
            square[d] += partial[1, block, d] + before * share * difference * difference
        before += size
    return found


@compiled
def relu(first, last, rows, factor, bias, mean, out, slope):  # type: ignore[no-untyped-def]
    """out [M,D] = LeakyReLU(factor · (rows - mean) + bias)."""
    for i in range(first * BLOCK, min(last * BLOCK, len(rows))):
        row, result = rows[i], out[i]
        for d in range(row.shape[0]):
            value = factor[d] * (row[d] - mean[d]) + bias[d]
            result[d] = value if value > 0 else slope * value


@compiled
def relu_sums(first, last, rows, factor, bias, mean, grad, slope, partial):  # type: ignore[no-untyped-def]
    """grad [M,D] of `relu` → partial [2,blocks,D]: sums of g and g · (x - mean).

    g is the gradient of the normalized rows.
    """
    for block in range(first, last):
        plain, moment = partial[0, block], partial[1, block]
        plain[:] = 0
        moment[:] = 0
        for i in range(block * BLOCK, min((block + 1) * BLOCK, len(rows))):
            row, given = rows[i], grad[i]
            for d in range(row.shape[0]):
                centered = row[d] - mean[d]
                value = factor[d] * centered + bias[d]
                g = given[d] if value > 0 else slope * given[d]
                plain[d] += g
                moment[d] += g * centered


@compiled
def relu_gradient(first, last, rows, factor, bias, mean, grad, constant, linear, out, slope):  # type: ignore[no-untyped-def]
    """out [M,D] = factor · g + constant + linear · (x - mean), with g as in `relu_sums`."""
    for i in range(first * BLOCK, min(last * BLOCK, len(rows))):
        row, given, result = rows[i], grad[i], out[i]
        for d in range(row.shape[0]):
            centered = row[d] - mean[d]
            value = factor[d] * centered + bias[d]
            g = given[d] if value > 0 else slope * given[d]
            result[d] = factor[d] * g + constant[d] + linear[d] * centered


@compiled
def maximum(first, last, rows, factor, bias, mean, out, index):  # type: ignore[no-untyped-def]
    """out [G,D]: maxima of factor · (rows - mean) + bias over each group of rows [G·K,D].

    index [G,D] i32: the first row within the group that has it. A column with a nan in it has nan
    as its mean, so it is nan throughout.
    """
    members = len(rows) // len(out)
    for group in range(first, last):
        best, place = out[group], index[group]
        begin = group * members
        row = rows[begin]
        for d in range(row.shape[0]):
            best[d] = factor[d] * (row[d] - mean[d]) + bias[d]
        place[:] = 0
        for k in range(1, members):
            row = rows[begin + k]
            for d in range(row.shape[0]):
                value = factor[d] * (row[d] - mean[d]) + bias[d]
                larger = value > best[d]
                best[d] = value if larger else best[d]
                place[d] = np.int32(k) if larger else place[d]


@compiled
def maximum_sums(first, last, rows, mean, grad, index, partial):  # type: ignore[no-untyped-def]
    """grad [G,D] of `maximum` → partial [2,G,D]: g and g · (x - mean) of the largest rows."""
    members = len(rows) // len(grad)
    for group in range(first, last):
        for d in range(grad.shape[1]):
            g = grad[group, d]
            partial[0, group, d] = g
            partial[1, group, d] = g * (rows[group * members + index[group, d], d] - mean[d])


@compiled
def maximum_gradient(first, last, rows, mean, grad, index, factor, constant, linear, out):  # type: ignore[no-untyped-def]
    """out [G·K,D] = factor · g of the largest rows + constant + linear · (x - mean)."""
    members = len(rows) // len(grad)
    for group in range(first, last):
        begin = group * members
        for i in range(begin, begin + members):
            row, result = rows[i], out[i]
            for d in range(row.shape[0]):
                result[d] = constant[d] + linear[d] * (row[d] - mean[d])
        for d in range(grad.shape[1]):
            out[begin + index[group, d], d] += factor[d] * grad[group, d]
