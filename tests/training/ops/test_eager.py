"""Functions that torch.compile leaves out, and a start without its compiler."""

import subprocess
import sys

import torch
from torch import nn

from pointcmt.training.ops.eager import eager


class Kept(nn.Module):
    """Doubles rows, keeps those above 0 outside of any graph, and maps them."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)

    @eager
    def keep(self, rows):
        """Only rows above 0."""
        assert not torch.compiler.is_compiling()
        return rows[rows[:, 0] > 0]

    def forward(self, rows):
        return self.linear(self.keep(rows * 2)).relu()


def test_an_eager_function_splits_the_graph_and_is_not_in_it():
    plain, compiled, graphs = Kept(), Kept(), []
    compiled.load_state_dict(plain.state_dict())

    def collect(graph, inputs):
        graphs.append([str(node.target) for node in graph.graph.nodes])
        return graph.forward

    compiled.compile(backend=collect, dynamic=True)
    for count in (5, 9, 30):
        rows = torch.randn(count, 3, generator=torch.Generator().manual_seed(count))
        assert torch.equal(compiled(rows), plain(rows))
    assert len(graphs) > 1
    assert all("mul" not in name for name in graphs[-1])
    assert plain.keep.__doc__ == "Only rows above 0."


def test_training_starts_without_torchs_compiler():
    code = "import pointcmt.training.commands, pointcmt.training.loop, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch._dynamo" not in done.stdout.split()
