"""Sparse convolution along a kernel map: gather, multiply, add, one offset at a time.

Within an offset every target occurs once, so a plain indexed add has no collisions, and the sum
over offsets has a fixed order: results are the same on every run, on CUDA devices too. Nothing that
was gathered is kept for the gradient, which gathers again.

The operators are opaque to torch.compile, without a graph break. They are the only part to replace
for another implementation. They are defined by `torch.library.define`, not `custom_op`, whose first
call imports torch's compiler: a second and 100 MB that a prediction does not need.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from pointcmt.errors import UsageError
from pointcmt.training.ops.sparse.kernel_map import KernelMap

MAP = "Tensor source, Tensor target, Tensor starts"
FORWARD, WEIGHT_GRADIENT = "pointcmt::sparse_convolution", "pointcmt::sparse_weight_gradient"
torch.library.define(
    FORWARD, f"(Tensor features, Tensor weight, {MAP}, SymInt targets, bool mirrored) -> Tensor"
)
torch.library.define(
    WEIGHT_GRADIENT, f"(Tensor features, Tensor grad, {MAP}, bool mirrored) -> Tensor"
)
convolve = torch.ops.pointcmt.sparse_convolution.default
weight_gradient = torch.ops.pointcmt.sparse_weight_gradient.default
BLOCK = 4096  # pairs at a time on a CPU, so that gathered rows and products stay in its cache


def sparse_convolution(features: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    """Convolve along a map: features [sources, C], weight [K, C, C'] → [targets, C'].

    out[t] = Σ_k Σ_(s, t) features[s] · weight[k] over the pairs (s, t) of offset k; a target
    without pairs is 0. It is a submanifold convolution (Graham & van der Maaten 2017, arXiv
    1706.01307) along `VoxelGrid.neighbors`, one of stride 2 along the map of `VoxelGrid.coarser`,
    and its transpose along that map `swapped()`. Differentiable once in features and weight.
    Sums of half-precision products are in float32; under autocast, inputs are converted first.
    Raises UsageError for shapes that do not fit the map.
    """
    device = features.device.type
    if torch.is_autocast_enabled(device) and features.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
        features, weight = features.to(dtype), weight.to(dtype)
    source, target, starts, sources, targets, mirrored = kernel_map
    rows, offsets = sources, kernel_map.offsets
    if weight.dim() != 3 or len(weight) != offsets or features.shape != (rows, weight.shape[1]):
        raise UsageError(
            f"features {list(features.shape)} and weight {list(weight.shape)} do not fit a map of "
            f"{rows} rows and {offsets} offsets",
            where="sparse_convolution",
            fix="pass features [sources, C] and weight [K, C, C'] of this map",
        )
    return convolve(features, weight, source, target, starts, targets, mirrored)


def convolution_flops(
    features: torch.Size,
    weight: torch.Size,
    source: torch.Size,
    target: torch.Size,
    starts: torch.Size,
    targets: int,
    mirrored: bool,
    **_: Any,
) -> int:
    """Return the FLOPs of the operator, from the shapes of its tensors; a multiply-add is two."""
    pairs = 2 * source[0] + targets if mirrored else source[0]
    return 2 * pairs * weight[1] * weight[2]


@torch.library.impl(FORWARD, "CompositeExplicitAutograd")
def _convolve(
    features: Tensor,
    weight: Tensor,
    source: Tensor,
    target: Tensor,
    starts: Tensor,
    targets: int,
    mirrored: bool,
) -> Tensor:
    wide = torch.promote_types(features.dtype, torch.float32)
    if mirrored:
        out = (features @ weight[len(weight) // 2]).to(wide)
    else:
        out = features.new_zeros(targets, weight.shape[2], dtype=wide)
    for k, here, there in _blocks(source, target, starts, mirrored):
        out.index_add_(0, there, (features.index_select(0, here) @ weight[k]).to(wide))
    return out.to(features.dtype)


@torch.library.impl(WEIGHT_GRADIENT, "CompositeExplicitAutograd")
def _weight_gradient(
    features: Tensor, grad: Tensor, source: Tensor, target: Tensor, starts: Tensor, mirrored: bool
) -> Tensor:
    """Σ over the pairs (s, t) of each offset of features[s]ᵀ · grad[t], [K, C, C']."""
    offsets = 2 * len(starts) - 1 if mirrored else len(starts) - 1
    wide = torch.promote_types(features.dtype, torch.float32)
    out = features.new_zeros(offsets, features.shape[1], grad.shape[1], dtype=wide)
    if mirrored:
        out[offsets // 2] = features.T @ grad
    for k, here, there in _blocks(source, target, starts, mirrored):
        out[k] += features.index_select(0, here).T @ grad.index_select(0, there)
    return out.to(features.dtype)


def _blocks(
    source: Tensor, target: Tensor, starts: Tensor, mirrored: bool
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield offset, source and target rows of one block after another; not the identity."""
    last = 2 * (len(starts) - 1)
    for k, (start, end) in enumerate(pairwise(starts.tolist())):
        step = BLOCK if source.device.type == "cpu" else max(end - start, 1)
        for first in range(start, end, step):
            here, there = (rows[first : min(first + step, end)] for rows in (source, target))
            yield k, here, there
            if mirrored:
                yield last - k, there, here


def _convolve_empty(
    features: Tensor,
    weight: Tensor,
    source: Tensor,
    target: Tensor,
    starts: Tensor,
    targets: int,
    mirrored: bool,
) -> Tensor:
    """The shape alone, for torch.compile."""
    return features.new_empty(targets, weight.shape[2])


def _weight_gradient_empty(
    features: Tensor, grad: Tensor, source: Tensor, target: Tensor, starts: Tensor, mirrored: bool
) -> Tensor:
    offsets = 2 * len(starts) - 1 if mirrored else len(starts) - 1
    return features.new_empty(offsets, features.shape[1], grad.shape[1])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, weight, source, target, starts, _, ctx.mirrored = inputs
    ctx.save_for_backward(features, weight, source, target, starts)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    features, weight, source, target, starts = ctx.saved_tensors
    grad = grad.contiguous()
    of_features = of_weight = None
    if ctx.needs_input_grad[0]:
        transposed, back = weight.transpose(1, 2), (target, source, starts)
        of_features = convolve(grad, transposed, *back, features.shape[0], ctx.mirrored)
    if ctx.needs_input_grad[1]:
        of_weight = weight_gradient(features, grad, source, target, starts, ctx.mirrored)
    return of_features, of_weight, None, None, None, None, None


torch.library.register_fake(FORWARD, _convolve_empty)
torch.library.register_fake(WEIGHT_GRADIENT, _weight_gradient_empty)
torch.library.register_autograd(FORWARD, _gradients, setup_context=_keep)
