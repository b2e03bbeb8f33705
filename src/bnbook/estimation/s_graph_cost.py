"""What the nodes of an S-graph and their gradients cost, counted operation by operation."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from bnbook.estimation.s_graph import LOSS, SGraph


@dataclass(frozen=True)
class Cost:
    """Operations that were executed.

    Attributes:
        flops: multiplications and additions of matrix products and convolutions.
        calls: of each operation that computes something, by name; views do not count.
    """

    flops: int
    calls: Mapping[str, int]

    @property
    def operations(self) -> int:
        """All calls together."""
        return sum(self.calls.values())


class _Calls(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.counter = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not func.is_view and func.overloadpacket is not torch.ops.aten.detach:
            self.counter[func.overloadpacket.__name__] += 1
        return out


def counted(work) -> Cost:
    """Run `work()` and count what it executes."""
    flops = FlopCounterMode(display=False)
    with flops, _Calls() as calls:
        work()
    return Cost(flops.get_total_flops(), dict(calls.counter))


def node_counts(graph: SGraph) -> dict[str, int]:
    """Operations of the traced graph: in one forward pass of the base graph ("forward"),
    in all nodes of the S-graph if each intermediate value is computed once ("together"),
    and if each node is computed on its own from the shared nodes before it ("apart")."""
    parts = [graph.subgraph(name) for name in graph.reductions]
    return {
        "forward": sum(n.op.startswith("call") for n in graph.base.graph.nodes),
        "together": len(set().union(*parts)),
        "apart": sum(map(len, parts)),
    }


def shared_values(
    graph: SGraph, parameters: Mapping[str, torch.Tensor], *, apart: bool = False
) -> dict[str, torch.Tensor]:
    """Values of all reductions at these parameters.

    Args:
        graph: the S-graph; its batch is used.
        parameters: of every parameter, by name.
        apart: compute each from the shared nodes before it, forgetting all else.
    """
    values = dict(parameters)
    if apart:
        for name in graph.reductions:
            values[name] = graph.function(name)(graph.inputs, values)
        return values
    return values | graph.forward(parameters)


def backward_costs(graph: SGraph, seeds: Mapping[str, torch.Tensor]) -> dict[str, Cost]:
    """Cost of backpropagation to all parameters: from the loss alone, and from the linear
    combination Σ ⟨seed, T⟩ of reductions, the loss among them.

    Raises:
        ValueError: a seed is for no reduction, has another shape, or the loss has none.
    """
    if LOSS not in seeds or not set(seeds) <= set(graph.reductions):
        raise ValueError(
            f"seeds must be for {LOSS} and others of {graph.reductions}, got {list(seeds)}"
        )
    found = {}
    for name, chosen in (("loss", [LOSS]), ("combination", list(seeds))):
        leaves = {
            p: graph.values[p].detach().clone().requires_grad_()
            for p in graph.parameters
        }
        values = graph.forward(leaves)
        outputs = [values[t] for t in chosen]
        weights = [seeds[t].reshape(values[t].shape) for t in chosen]

        def work(outputs=outputs, weights=weights, leaves=leaves):
            torch.autograd.grad(outputs, list(leaves.values()), weights)

        found[name] = counted(work)
    return found
