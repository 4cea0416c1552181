"""Errors within a training step are reported with the options that help."""

import pytest
import torch

from pointcmt.errors import PointcmtError
from pointcmt.training.config.files import load_config
from pointcmt.training.loop import memory_errors, train
from pointcmt.training.networks.backbones import BACKBONES
from pointcmt.training.runs.metrics import require_finite
from tests.training.plain_student import PlainStudent
from tests.training.stores import small_config


class Glutton(PlainStudent):
    """A network that asks for more memory than any machine can address."""

    def forward(self, points):
        torch.empty(2**46, 1)
        return super().forward(points)


def test_running_out_of_memory_is_reported_with_options(store, tmp_path, monkeypatch):
    """The allocator fails in the middle of a step."""
    monkeypatch.setitem(BACKBONES, "pointnet", Glutton)
    with pytest.raises(PointcmtError, match="out of memory while training student") as caught:
        train(store, small_config("student", epochs=1), tmp_path, device="cpu")
    for override in ("data.batch_size below 8", "optimizer.accumulate", "bf16", "data.points"):
        assert override in caught.value.fix


def test_running_out_of_memory_in_a_teacher_is_reported_with_its_options():
    with pytest.raises(PointcmtError) as caught, memory_errors(load_config("teacher")):
        raise MemoryError("Unable to allocate 5 GiB")
    assert "data.views" in caught.value.fix
    assert "data.points" not in caught.value.fix


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "Triton Error [CUDA]: out of memory",
        "[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: can't allocate memory",
        "std::bad_alloc",
    ],
)
def test_out_of_memory_errors_of_libraries_are_recognized(said):
    with pytest.raises(PointcmtError) as caught, memory_errors(load_config("student")):
        raise RuntimeError(said)
    assert said in caught.value.what


def test_other_errors_are_not_changed():
    with pytest.raises(RuntimeError, match="shapes"), memory_errors(load_config("student")):
        raise RuntimeError("shapes cannot be multiplied")


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf")])
def test_the_first_loss_that_is_not_finite_is_reported(loss, tmp_path):
    require_finite([(1, 0.5), (2, 1e30)], "(epoch 1)", tmp_path)
    with pytest.raises(PointcmtError, match=r"at step 7 \(epoch 2\)") as caught:
        require_finite([(6, 0.5), (7, loss), (8, loss)], "(epoch 2)", tmp_path)
    assert "optimizer.clip_norm" in caught.value.fix
