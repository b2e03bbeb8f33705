"""Estimates of a gradient from per-example Jacobians of an S-graph, and their exact
expectations over minibatches.

The forward pass uses the shared values of the whole batch throughout; what is estimated
is the gradient. Four ways to estimate a product of Jacobians:

    single example        E_n[J_n J_n … J_n]
    two factors, Eq. (1)  (mean of the last J) · (mean of the products of the others)
    one minibatch         (mean J) (mean J) … (mean J), all over the same examples
    independent           the same, over one minibatch for each factor: without bias
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional

from bnbook.estimation.s_graph import INPUT, LOSS, Edge, SGraph


@dataclass(frozen=True)
class PathEstimates:
    """Estimates of the gradient of one parameter.

    Attributes:
        graph: the S-graph.
        source: name of the parameter.
        examples: its per-example Jacobians, `graph.all_jacobians(per_example=True)`.
    """

    graph: SGraph
    source: str
    examples: Mapping[Edge, torch.Tensor]

    def __post_init__(self):
        """Refuse what is no parameter of the graph, or Jacobians that lack the examples."""
        if self.source not in self.graph.parameters:
            raise ValueError(
                f"source must be one of {self.graph.parameters}, got {self.source!r}"
            )
        edges = {edge for edge in self.graph.edges if edge[0] != INPUT}
        if set(self.examples) != edges or any(
            j.ndim != 3 for j in self.examples.values()
        ):
            raise ValueError(
                "examples must hold (N, |T|, |S|) for every edge; use "
                "graph.all_jacobians(per_example=True)"
            )

    def true(self) -> torch.Tensor:
        """The gradient on the whole batch, (|W|,)."""
        return self.averaged({e: j.mean(0) for e, j in self.examples.items()})

    def averaged(self, jacobians: Mapping[Edge, torch.Tensor]) -> torch.Tensor:
        """The path sum of any Jacobians, found node by node: (|W|,), or (N, |W|)."""
        return self._to_each(jacobians)[LOSS][..., 0, :]

    def _to_each(self, jacobians) -> dict[str, torch.Tensor]:
        """Σ over the paths from the parameter to each node it reaches, (…, |T|, |W|)."""
        found: dict[str, torch.Tensor] = {}
        for start, end in self.graph.edges:  # sorted by end, inputs before outputs
            if start == self.source:
                step = jacobians[start, end]
            elif start in found:
                step = jacobians[start, end] @ found[start]
            else:
                continue
            found[end] = found[end] + step if end in found else step
        return found

    def single_example(self) -> torch.Tensor:
        """Expectation of the estimate from one example at a time, (|W|,)."""
        return self.averaged(self.examples).mean(0)

    def two_factor(self, size: int | None) -> torch.Tensor:
        """Expectation of Eq. (1), summed over the paths, for minibatches of `size`
        independent examples; None for B → ∞. (|W|,).

        Raises:
            ValueError: size is below 1.
        """
        if size is not None and size < 1:
            raise ValueError(f"size must be at least 1 or None, got {size}")
        total = torch.zeros(self.examples[self.source_edge].shape[-1])
        total = total.to(self.examples[self.source_edge])
        for name, product in self._to_each(self.examples).items():
            if name == LOSS or (name, LOSS) not in self.examples:
                continue
            last = self.examples[name, LOSS]
            apart = (last.mean(0) @ product.mean(0))[0]
            total = total + apart
            if size is not None:
                total = total + ((last @ product).mean(0)[0] - apart) / size
        if (self.source, LOSS) in self.examples:
            total = total + self.examples[self.source, LOSS].mean(0)[0]
        return total

    @property
    def source_edge(self) -> Edge:
        """One edge that leaves the parameter."""
        return next(edge for edge in self.examples if edge[0] == self.source)

    def one_minibatch(self, chosen: torch.Tensor) -> torch.Tensor:
        """The estimate that averages every Jacobian over the same examples.

        Args:
            chosen: numbers of the examples, (B,), or (R, B) for R minibatches.

        Returns:
            (|W|,), or (R, |W|).
        """
        count = len(self.examples[self.source_edge])
        share = functional.one_hot(chosen, count).to(self.examples[self.source_edge])
        share = share.sum(-2) / chosen.shape[-1]  # of each example in each minibatch
        means = {e: torch.tensordot(share, j, 1) for e, j in self.examples.items()}
        return self.averaged(means)


def kept_share(estimate: torch.Tensor, true: torch.Tensor) -> float:
    """⟨estimate, true⟩/‖true‖²: 1 if the component along the true gradient is right."""
    return float(estimate @ true / (true @ true))


def relative_bias(estimate: torch.Tensor, true: torch.Tensor) -> float:
    """‖estimate − true‖/‖true‖."""
    return float((estimate - true).norm() / true.norm())


def squared_bias(draws: torch.Tensor, true: torch.Tensor) -> float:
    """‖E estimate − true‖²/‖true‖², estimated without bias from independent draws.

    Args:
        draws: of the estimate, (R, |W|), R ≥ 2.
        true: the gradient, (|W|,).

    Raises:
        ValueError: fewer than two draws.
    """
    if draws.ndim != 2 or len(draws) < 2:
        raise ValueError(f"draws must be (R, |W|) with R at least 2, got {draws.shape}")
    off, count = draws - true, len(draws)
    pairs = off.sum(0) @ off.sum(0) - (off * off).sum()  # of different draws
    return float(pairs / (count * (count - 1)) / (true @ true))
