"""A student as an ONNX model, which is held against torch before anyone gets it.

Input `points` [B, N, 3] float32, outputs `logits` [B, C] and `feature` [B, 512]; B and N are free
(N from the least that the network takes). Only operators of the standard, opset 18, so that any
runtime reads it; the weights are inside, so that it is one file of less than 2 GB.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from pointcmt.errors import StoreError
from pointcmt.training.export.onnx_ops import OPSET, TRANSLATIONS

TOLERANCE = 1e-4  # of the outputs' scale
OUTPUTS = ("logits", "feature")


def to_onnx(
    model: nn.Module, points: int, header: dict[str, str], where: str
) -> tuple[bytes, float]:
    """The model file's bytes, and how far its outputs are from torch's, as a share of their scale.

    model: a backbone, in evaluation mode on the CPU. points: N of the clouds it was trained with.
    header: what the model says of itself (metadata_props). where: names the model in errors.
    Raises StoreError where the difference is above 1e-4, or not a number.
    """
    data = build(model, points, header)
    difference = largest_difference(model, data, points)
    if not difference <= TOLERANCE:
        raise StoreError(
            f"ONNX Runtime {onnxruntime.__version__} computes other outputs than torch: they "
            f"differ by {difference:.1e} of their scale, more than {TOLERANCE:.0e}; nothing was "
            "written",
            where=where,
            fix="look whether the weights are finite; export --to safetensors has no such limit",
        )
    return data, difference


def build(model: nn.Module, points: int, header: dict[str, str]) -> bytes:
    """The model file's bytes, unchecked. Arguments as those of `to_onnx`."""
    example = _clouds(2, points)  # torch would take a batch of 1 for a constant
    with _quiet():
        exported = torch.onnx.export(
            _Outputs(model).eval(),
            (example,),
            input_names=["points"],
            output_names=list(OUTPUTS),
            dynamic_shapes={"points": {0: "B", 1: "N"}},
            opset_version=OPSET,
            custom_translation_table=TRANSLATIONS,
            dynamo=True,
            verbose=False,
        )
    program = cast(torch.onnx.ONNXProgram, exported)  # None were a TorchScript export's answer
    graph = program.model.graph
    graph.metadata_props.clear()
    # The exporter notes at each node which lines of which files it comes from.
    for node in graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*graph.inputs, *graph.initializers.values()):
        value.metadata_props.clear()
    program.model.metadata_props.update(header)
    return program.model_proto.SerializeToString(deterministic=True)


def largest_difference(model: nn.Module, data: bytes, points: int) -> float:
    """Between ONNX Runtime's outputs and torch's on random clouds, over the largest of torch's.

    The clouds come alone and in a batch, with `points` points and with half as many more.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    worst = []
    for clouds, count in ((1, points), (3, points), (2, points + points // 2 + 1)):
        batch = _clouds(clouds, count)
        found = session.run(list(OUTPUTS), {"points": batch.numpy()})
        with torch.no_grad():
            wanted = model(batch)
        for name, ours in zip(OUTPUTS, found, strict=True):
            theirs = getattr(wanted, name).numpy()
            scale = max(np.abs(theirs).max(), np.finfo(np.float32).tiny)
            with np.errstate(invalid="ignore"):  # between two infinities it is nan
                worst.append(np.abs(ours - theirs).max() / scale)
    return float(np.max(worst))  # nan, if one is


class _Outputs(nn.Module):
    """A backbone whose answer is a plain pair."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        found = self.model(points)
        return found.logits, found.feature


def _clouds(clouds: int, points: int) -> Tensor:
    """Random ellipsoids in the unit sphere, [clouds, points, 3]; the same each time."""
    generator = torch.Generator().manual_seed(points)
    directions = torch.randn(clouds, points, 3, generator=generator)
    axes = 0.2 + 0.8 * torch.rand(clouds, 1, 3, generator=generator)
    return directions / directions.norm(dim=2, keepdim=True) * axes


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says to its own authors."""
    loggers = [logging.getLogger(name) for name in CHATTY]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # torch's trees copy themselves by a class that torch has deprecated
            message = r"`isinstance\(treespec, LeafSpec\)` is deprecated"
            warnings.filterwarnings("ignore", message, FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


CHATTY = (
    "torch.onnx._internal.exporter._registration",  # that torchvision is not installed
    "onnxscript.optimizer._constant_folding",  # which nodes it left as they are
)
