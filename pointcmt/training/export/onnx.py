"""Export a network of points as an ONNX model, after comparing its outputs with torch's.

Input `points` [B, N, 3] float32, for part segmentation also `category` [B] int64; B and N are free
(N at least the network's minimum). Outputs: `logits` [B, C] and `feature` [B, 512] of classifiers,
`logits` [B, N, P] of segmenters, `features` [B, N, D] of pre-trained encoders. It uses only
standard operators, opset 18, so that any runtime can read it; the weights are inside, so that it is
one file of less than 2 GB.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from pointcmt.errors import StoreError
from pointcmt.training.export.onnx_ops import OPSET, TRANSLATIONS
from pointcmt.training.networks.backbones.blocks import Prediction

TOLERANCE = 1e-4  # relative to the outputs' scale


@dataclass(frozen=True)
class Ends:
    """What goes into a network besides the points, and what comes out.

    outputs: names. categories: number of values of the input `category`; 0 = no such input. more:
    values of each point besides its position, such as 3 of a normal.
    """

    outputs: tuple[str, ...] = ("logits", "feature")
    categories: int = 0
    more: int = 0

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs."""
        return ("points", "category") if self.categories else ("points",)

    def example(self, clouds: int, points: int) -> tuple[Tensor, ...]:
        """Return inputs of random clouds, the same on every call."""
        category = torch.arange(clouds) % max(self.categories, 1)
        rows = _clouds(clouds, points)
        normals = torch.nn.functional.normalize(rows, dim=2)[..., : self.more]
        return (torch.cat([rows, normals], dim=2), category)[: len(self.inputs)]


def to_onnx(
    model: nn.Module, points: int, header: dict[str, str], where: str, ends: Ends | None = None
) -> tuple[bytes, float]:
    """Return the model file's bytes and its outputs' relative difference from torch's.

    model: in evaluation mode on the CPU. points: N of the clouds it was trained with. header: the
    model's metadata_props. where: names the model in errors. ends: None = those of a classifier.
    Raises StoreError if the difference is above 1e-4, or nan.
    """
    ends = ends or Ends()
    data = build(model, points, header, ends)
    difference = largest_difference(model, data, points, ends)
    if not difference <= TOLERANCE:
        raise StoreError(
            f"the outputs of ONNX Runtime {onnxruntime.__version__} and torch differ by "
            f"{difference:.1e} of their scale, more than the tolerance of {TOLERANCE:.0e}; no "
            "file was written",
            where=where,
            fix="check that the weights are finite, or export --to safetensors, which has no "
            "such check",
        )
    return data, difference


def build(model: nn.Module, points: int, header: dict[str, str], ends: Ends) -> bytes:
    """Return the model file's bytes, unchecked. Arguments as in `to_onnx`."""
    free = ({0: "B", 1: "N"}, {0: "B"})[: len(ends.inputs)]
    with _quiet():
        exported = torch.onnx.export(
            _Outputs(model).eval(),
            ends.example(2, points),  # torch would specialize on a batch of 1
            input_names=list(ends.inputs),
            output_names=list(ends.outputs),
            dynamic_shapes=(free,),  # of the arguments *inputs
            opset_version=OPSET,
            custom_translation_table=TRANSLATIONS,
            dynamo=True,
            verbose=False,
        )
    program = cast(torch.onnx.ONNXProgram, exported)  # None only for TorchScript exports
    graph = program.model.graph
    graph.metadata_props.clear()
    # The exporter records the source lines and files of each node.
    for node in graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*graph.inputs, *graph.initializers.values()):
        value.metadata_props.clear()
    program.model.metadata_props.update(header)
    return program.model_proto.SerializeToString(deterministic=True)


def largest_difference(
    model: nn.Module, data: bytes, points: int, ends: Ends | None = None
) -> float:
    """Compare ONNX Runtime's outputs with torch's on random clouds, relative to torch's largest.

    The clouds are tried singly and in a batch, with `points` points and with half as many more.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    worst, ends = [], ends or Ends()
    for clouds, count in ((1, points), (3, points), (2, points + points // 2 + 1)):
        batch = ends.example(clouds, count)
        given = {name: each.numpy() for name, each in zip(ends.inputs, batch, strict=True)}
        found = session.run(list(ends.outputs), given)
        with torch.no_grad():
            wanted = _Outputs(model)(*batch)
        for ours, tensor in zip(found, wanted, strict=True):
            theirs = tensor.numpy()
            scale = max(np.abs(theirs).max(), np.finfo(np.float32).tiny)
            with np.errstate(invalid="ignore"):  # inf - inf is nan
                worst.append(np.abs(ours - theirs).max() / scale)
    return float(np.max(worst))  # nan if any is nan


class _Outputs(nn.Module):
    """A network that returns a plain tuple."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        found = self.model(*inputs)
        return (found.logits, found.feature) if isinstance(found, Prediction) else (found,)


def _clouds(clouds: int, points: int) -> Tensor:
    """Return random ellipsoids in the unit sphere, [clouds, points, 3]; the same on every call."""
    generator = torch.Generator().manual_seed(points)
    directions = torch.randn(clouds, points, 3, generator=generator)
    axes = 0.2 + 0.8 * torch.rand(clouds, 1, 3, generator=generator)
    return directions / directions.norm(dim=2, keepdim=True) * axes


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's messages for its own developers."""
    loggers = [logging.getLogger(name) for name in CHATTY]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # torch copies its pytrees with a class that it has deprecated
            message = r"`isinstance\(treespec, LeafSpec\)` is deprecated"
            warnings.filterwarnings("ignore", message, FutureWarning)
            # both inputs of a segmenter have B
            warnings.filterwarnings("ignore", r"# The axis name: B will not be used", UserWarning)
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


CHATTY = (
    "torch.onnx._internal.exporter._registration",  # warns that torchvision is not installed
    "onnxscript.optimizer._constant_folding",  # lists nodes that it did not fold
)
