"""Operations on rows [M, D]: maxima of groups, and batch norm together with what follows it.

On a CPU a training step of a point network spends as long on these as on its matrix products, since
each is a pass over its largest tensors, which no cache holds. The compiled kernels
(`norms_compiled`) pass over the rows twice forward, for statistics and the result, and twice
backward. Everywhere else (fewer rows, CUDA, evaluation, half precision, torch.compile, which fuses
by itself, and torch's other batch norms) these functions call torch.

Statistics are those of `nn.BatchNorm1d`: the mean and the biased variance of the batch normalize,
and the unbiased one goes into `running_var`. Sums are taken over blocks of 64 rows in the rows'
dtype, then over blocks in float64, so results do not depend on the number of threads.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pointcmt.training.ops.rows import norms_compiled
from pointcmt.training.ops.rows.norms_compiled import BLOCK

FUSED = 1 << 20  # numbers from which on the kernels run; fewer stay in the cache between passes


def norm_relu(rows: Tensor, norm: nn.Module, slope: float = 0.0) -> Tensor:
    """Normalize rows [M, D], then apply a ReLU → [M, D].

    norm: a batch norm, whose running statistics are updated as by calling it. slope: of a LeakyReLU
    instead. Raises ValueError in training for a single row, as torch does.
    """
    if not _is_fused(rows, norm):
        normalized = norm(rows)
        return F.leaky_relu(normalized, slope, inplace=True) if slope else normalized.relu_()
    mean, scale = _statistics(rows, norm)
    return _NormReLU.apply(rows.contiguous(), norm.weight, norm.bias, mean, scale, slope)


def norm_maximum(rows: Tensor, norm: nn.Module, groups: int) -> Tensor:
    """Normalize rows [G·K, D], then take the `maximum` over each group's K rows → [G, D].

    norm: see `norm_relu`.
    """
    if not _is_fused(rows, norm):
        return maximum(norm(rows), groups)
    mean, scale = _statistics(rows, norm)
    return _NormMaximum.apply(rows.contiguous(), norm.weight, norm.bias, mean, scale, groups)


def maximum(rows: Tensor, groups: int) -> Tensor:
    """[G·K, D] → the maximum over each group's K rows, [G, D]; its gradient goes to one of them."""
    members = rows.view(groups, -1, rows.shape[1])  # [G, K, D]
    if rows.device.type != "cpu" or torch.compiler.is_exporting():
        return members.max(dim=1).values
    # On a CPU, pooling channels-last images is much faster than max().
    images = members.detach()[:, None].permute(0, 3, 1, 2)  # [G, D, 1, K]
    _, index = F.max_pool2d(images, (1, members.shape[1]), return_indices=True)
    return members.gather(1, index.view(groups, 1, -1))[:, 0]


def _is_fused(rows: Tensor, norm: nn.Module) -> bool:
    """Return whether there are kernels for these rows and this norm."""
    return (
        type(norm) is nn.BatchNorm1d
        and norm.training
        and norm.affine
        and norm.running_mean is not None
        and rows.device.type == "cpu"
        and rows.dtype == norm.weight.dtype
        and rows.dtype in (torch.float32, torch.float64)
        and rows.dim() == 2
        and len(rows) > 1
        and rows.numel() >= FUSED
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


@torch.no_grad()
def _statistics(rows: Tensor, norm: Any) -> tuple[Tensor, Tensor]:
    """Return mean and 1 / standard deviation of each column; update the running statistics."""
    count, width = rows.shape
    blocks = -(-count // BLOCK)
    partial = torch.empty(2, blocks, width, dtype=rows.dtype)
    arrays = rows.detach().contiguous().numpy(), partial.numpy()
    _over_blocks(norms_compiled.block_statistics, blocks, *arrays)
    found = torch.from_numpy(norms_compiled.join_statistics(partial.numpy(), count))
    mean, variance = found[0], found[1] / count
    norm.num_batches_tracked.add_(1)
    momentum = norm.momentum if norm.momentum is not None else 1 / int(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean.to(rows.dtype), momentum)
    norm.running_var.lerp_((found[1] / (count - 1)).to(rows.dtype), momentum)
    return mean.to(rows.dtype), (variance + norm.eps).rsqrt().to(rows.dtype)


class _NormReLU(torch.autograd.Function):
    """ReLU of the normalized rows; the rows, not the normalized ones, are kept for the gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        scale: Tensor,
        slope: float,
    ) -> Tensor:
        ctx.save_for_backward(rows, weight, bias, mean, scale)
        ctx.slope = slope
        out = torch.empty_like(rows)
        arrays = _arrays(rows, weight * scale, bias, mean, out)
        _over_blocks(norms_compiled.relu, _blocks(rows), *arrays, _like(rows, slope))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, bias, mean, scale = ctx.saved_tensors
        blocks, grad, slope = _blocks(rows), grad.contiguous(), _like(rows, ctx.slope)
        partial = torch.empty(2, blocks, rows.shape[1], dtype=rows.dtype)
        arrays = _arrays(rows, weight * scale, bias, mean, grad)
        kernel = norms_compiled.relu_sums
        _over_blocks(kernel, blocks, *arrays, slope, partial.numpy())
        to_bias, to_weight, constant, linear = _column_gradients(partial, rows, weight, scale)
        out = torch.empty_like(rows)
        arrays += _arrays(constant, linear, out)
        _over_blocks(norms_compiled.relu_gradient, blocks, *arrays, slope)
        return out, to_weight, to_bias, None, None, None


class _NormMaximum(torch.autograd.Function):
    """The maximum of the normalized rows of each group."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        scale: Tensor,
        groups: int,
    ) -> Tensor:
        out = rows.new_empty(groups, rows.shape[1])
        index = torch.empty(out.shape, dtype=torch.int32)
        arrays = _arrays(rows, weight * scale, bias, mean, out, index)
        _over_blocks(norms_compiled.maximum, groups, *arrays)
        ctx.save_for_backward(rows, weight, mean, scale, index)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, mean, scale, index = ctx.saved_tensors
        groups, grad = len(grad), grad.contiguous()
        partial = torch.empty(2, groups, rows.shape[1], dtype=rows.dtype)
        kept = _arrays(rows, mean, grad, index)
        _over_blocks(norms_compiled.maximum_sums, groups, *kept, partial.numpy())
        to_bias, to_weight, constant, linear = _column_gradients(partial, rows, weight, scale)
        out = torch.empty_like(rows)
        arrays = (*kept, *_arrays(weight * scale, constant, linear, out))
        _over_blocks(norms_compiled.maximum_gradient, groups, *arrays)
        return out, to_weight, to_bias, None, None, None


def _column_gradients(
    partial: Tensor, rows: Tensor, weight: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of bias and weight, and what each row's gradient has beside its own.

    partial [2, blocks, D]: sums of g and of g · (x - mean), g being the gradient of the norm's
    output. The gradient of x is weight · scale · g + constant + linear · (x - mean).
    """
    plain, moment = partial.double().sum(dim=1)
    to_weight = moment * scale
    factor = weight * scale / len(rows)
    constant, linear = -factor * plain, -factor * scale * to_weight
    dtype = rows.dtype
    return plain.to(dtype), to_weight.to(dtype), constant.to(dtype), linear.to(dtype)


def _blocks(rows: Tensor) -> int:
    return -(-len(rows) // BLOCK)


def _arrays(*tensors: Tensor) -> tuple[Any, ...]:
    return tuple(tensor.detach().numpy() for tensor in tensors)


def _like(rows: Tensor, value: float) -> Any:
    """Return a number as a scalar of the rows' dtype, so that kernels do not compute in float64."""
    return torch.tensor(value, dtype=rows.dtype).numpy()[()]


def _over_blocks(kernel: Callable[..., None], blocks: int, *arguments: Any) -> None:
    """Run a kernel on blocks first ... last - 1 of its arrays, shared by the threads.

    As in `points.over_clouds`, the threads live only during the call.
    """
    threads = min(torch.get_num_threads(), blocks)
    if threads < 2:
        return kernel(0, blocks, *arguments)
    bounds = np.linspace(0, blocks, threads + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads - 1) as pool:
        parts = list(pairwise(bounds))
        running = [pool.submit(kernel, *part, *arguments) for part in parts[1:]]
        kernel(*parts[0], *arguments)
    for part in running:
        part.result()
