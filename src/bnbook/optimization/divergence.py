"""When a training has diverged, and the networks that the chapter compares."""

from dataclasses import dataclass

import torch
from torch import nn

from bnbook.experiments import Diverged
from bnbook.optimization.dense import DenseNetwork
from bnbook.optimization.descent import descend
from bnbook.optimization.learning_rate import equivalent_network
from bnbook.propagation.weights import require_count

KINDS = ("equivalent", "plain", "normalized")
BOUND = 10.0


@dataclass(frozen=True)
class Run:
    """A training, up to its end or to its divergence.

    Attributes:
        losses: before each step, the one that broke the bound included if it is finite.
        step: number of steps after which the run had diverged; None if it did not.
    """

    losses: list[float]
    step: int | None


class Stop(Exception):
    """Raised by a `watch` to end a training."""


def train_until(
    network: DenseNetwork,
    x: torch.Tensor,
    t: torch.Tensor,
    *,
    bound: float = BOUND,
    watch=None,
    **options,
) -> Run:
    """`descend` until the loss is not finite or above `bound` times its start.

    A network of ReLUs can come back from an explosion with a finite loss: all its neurons
    are dead then. So a run has diverged as soon as its loss has once been so high.

    Args:
        network: trained in place.
        x: inputs, (N, D).
        t: class numbers, (N,).
        bound: above 1; infinite to stop only at a loss that is not finite.
        watch: as in `descend`, called before the bound is looked at; it may raise `Stop`.
        **options: of `descend`.

    Raises:
        ValueError: the bound is not above 1, or an option is out of its range.
    """
    if not bound > 1:
        raise ValueError(
            f"bound must be above 1, got {bound}; a start is no divergence"
        )
    losses: list[float] = []

    def look(step: int, loss: float) -> None:
        losses.append(loss)
        if watch is not None:
            watch(step, loss)
        if loss > bound * losses[0]:
            raise Stop

    try:
        descend(network, x, t, watch=look, **options)
    except Stop:
        return Run(losses, len(losses) - 1)
    except Diverged as error:
        return Run(losses, error.step)
    return Run(losses, None)


def start(
    kind: str,
    depth: int,
    width: int,
    x: torch.Tensor,
    *,
    classes: int = 10,
    seed: int = 0,
) -> DenseNetwork:
    """A network of `depth` linear layers before its first step.

    Args:
        kind: "normalized"; "equivalent", without normalization and with the scores of
            the normalized one on x; "plain", without, from He's initialization;
            "linear", without and with no activation, variance 1/fan-in.
        depth: number of linear layers, at least 2.
        width: neurons in each hidden layer.
        x: the batch of the equivalence, (M, D).
        classes: number of scores.
        seed: of the weights.

    Raises:
        ValueError: the kind is unknown, or depth or width too small.
    """
    if kind not in (*KINDS, "linear"):
        raise ValueError(
            f"kind must be one of {', '.join(KINDS)} and linear, got {kind!r}"
        )
    require_count("depth", depth, 2)
    widths = (x.shape[1], *[width] * (depth - 1), classes)
    if kind == "linear":
        none = nn.Identity()
        return DenseNetwork(
            widths, normalization=None, activation=none, gain=1.0, seed=seed
        )
    if kind == "plain":
        return DenseNetwork(widths, normalization=None, seed=seed)
    normalized = DenseNetwork(widths, seed=seed)
    return normalized if kind == "normalized" else equivalent_network(normalized, x)
