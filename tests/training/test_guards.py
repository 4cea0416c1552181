"""What goes wrong within a step is said with the overrides that help, by the process itself."""

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
    """Asks for more memory than any machine can address."""

    def forward(self, points):
        torch.empty(2**46, 1)
        return super().forward(points)


def test_memory_that_runs_out_names_the_knobs(store, tmp_path, monkeypatch):
    """The allocator's own failure, in the middle of a step."""
    monkeypatch.setitem(BACKBONES, "pointnet", Glutton)
    with pytest.raises(PointcmtError, match="out of memory while training student") as caught:
        train(store, small_config("student", epochs=1), tmp_path, device="cpu")
    for override in ("data.batch_size below 8", "optimizer.accumulate", "bf16", "data.points"):
        assert override in caught.value.fix


def test_a_teachers_knobs_are_other_ones():
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
def test_libraries_that_say_so_in_their_own_words_ran_out_of_memory_too(said):
    with pytest.raises(PointcmtError) as caught, memory_errors(load_config("student")):
        raise RuntimeError(said)
    assert said in caught.value.what


def test_other_errors_pass_through():
    with pytest.raises(RuntimeError, match="shapes"), memory_errors(load_config("student")):
        raise RuntimeError("shapes cannot be multiplied")


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf")])
def test_the_first_loss_that_is_not_finite_is_named(loss, tmp_path):
    require_finite([(1, 0.5), (2, 1e30)], "(epoch 1)", tmp_path)
    with pytest.raises(PointcmtError, match=r"at step 7 \(epoch 2\)") as caught:
        require_finite([(6, 0.5), (7, loss), (8, loss)], "(epoch 2)", tmp_path)
    assert "optimizer.clip_norm" in caught.value.fix
