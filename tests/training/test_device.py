"""Devices by name."""

import pytest
import torch

from pointcmt.errors import UsageError
from pointcmt.training.ops.device import find_device


def test_auto_takes_what_there_is():
    assert find_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert find_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:1", "cuda1"])
def test_an_unknown_device_is_said(name):
    with pytest.raises(UsageError, match="unknown device"):
        find_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7"])
def test_no_gpu_is_said(name):
    with pytest.raises(UsageError, match="CUDA") as caught:
        find_device(name)
    assert caught.value.where == f"--device {name}"
    assert caught.value.fix
