"""Comparing two runs of the same training, bit for bit."""

import json

import torch
from safetensors.torch import load_file

TIMING = ("seconds", "samples_per_second", "data_wait")


def metrics(folder):
    """The lines of metrics.jsonl without timings."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMING} for line in lines]


def tensors(folder):
    """Every tensor of a run's checkpoints, by file and name."""
    return {
        f"{file.relative_to(folder)}:{name}": tensor
        for file in sorted(folder.glob("*/*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def assert_equal_runs(one, other):
    assert metrics(one) == metrics(other)
    left, right = tensors(one), tensors(other)
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []
