"""Export a student as an ONNX model, after comparing its outputs with torch's.

Input `points` [B, N, 3] float32, outputs `logits` [B, C] and `feature` [B, 512]; B and N are free
(N at least the network's minimum). It uses only standard operators, opset 18, so that any runtime
can read it; the weights are inside, so that it is one file of less than 2 GB.
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

TOLERANCE = 1e-4  # relative to the outputs' scale
OUTPUTS = ("logits", "feature")


def to_onnx(
    model: nn.Module, points: int, header: dict[str, str], where: str
) -> tuple[bytes, float]:
    """Return the model file's bytes and its outputs' relative difference from torch's.

    model: a backbone, in evaluation mode on the CPU. points: N of the clouds it was trained with.
    header: the model's metadata_props. where: names the model in errors.
    Raises StoreError if the difference is above 1e-4, or nan.
    """
    data = build(model, points, header)
    difference = largest_difference(model, data, points)
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


def build(model: nn.Module, points: int, header: dict[str, str]) -> bytes:
    """Return the model file's bytes, unchecked. Arguments as in `to_onnx`."""
    example = _clouds(2, points)  # torch would specialize on a batch of 1
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


def largest_difference(model: nn.Module, data: bytes, points: int) -> float:
    """Compare ONNX Runtime's outputs with torch's on random clouds, relative to torch's largest.

    The clouds are tried singly and in a batch, with `points` points and with half as many more.
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
            with np.errstate(invalid="ignore"):  # inf - inf is nan
                worst.append(np.abs(ours - theirs).max() / scale)
    return float(np.max(worst))  # nan if any is nan


class _Outputs(nn.Module):
    """A backbone that returns a plain pair."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        found = self.model(points)
        return found.logits, found.feature


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
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


CHATTY = (
    "torch.onnx._internal.exporter._registration",  # warns that torchvision is not installed
    "onnxscript.optimizer._constant_folding",  # lists nodes that it did not fold
)
