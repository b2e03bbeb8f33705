"""Gradient descent on the cross-entropy of a classifier, on all examples or on batches."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bnbook.data.splits import Split
from bnbook.experiments import Diverged


def tensors(
    part: Split, dtype: torch.dtype = torch.float64
) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (N, D) in this dtype and class numbers (N,) of a split."""
    return torch.from_numpy(part.x).to(dtype), torch.from_numpy(part.t)


def descend(
    network: nn.Module,
    x: torch.Tensor,
    t: torch.Tensor,
    *,
    rate: float,
    steps: int,
    batch: int | None = None,
    shuffle: bool = True,
    seed: int = 0,
    momentum: float = 0.0,
    decay: float = 0.0,
    parameters: list[dict] | None = None,
    schedule: Callable[[int], float] | None = None,
    watch: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train a classifier in place, in training mode.

    Args:
        network: scores (M, classes) of a batch (M, D).
        x: inputs, (N, D).
        t: class numbers, (N,).
        rate: learning rate > 0.
        steps: number of updates.
        batch: examples in a batch, from a new order in each epoch, the last one left out
            where it is smaller; None for all examples in every step.
        shuffle: whether each epoch has a new order; if not, all have that of the first,
            and the batches are always the same.
        seed: of the order.
        momentum: of `torch.optim.SGD`.
        decay: weight decay λ, which adds λ w to the gradient.
        parameters: groups for `torch.optim.SGD` in place of all parameters, where they
            differ in rate or decay.
        schedule: factor of the rate of every group, as a function of the step.
        watch: called as watch(step, loss) after the gradients of a step are taken and
            before it is made; step counts from 0.

    Returns:
        The loss before each step.

    Raises:
        ValueError: an argument is out of its range.
        Diverged: a loss is not finite; the number of steps made until then is named.
    """
    if not 0 < rate < math.inf or steps < 1:
        raise ValueError(
            f"rate must be positive and finite and steps at least 1, got {rate} and {steps}"
        )
    if batch is not None and not 1 <= batch <= len(x):
        raise ValueError(
            f"batch must lie between 1 and {len(x)}, the number of examples, got {batch}"
        )
    network.train()
    optimizer = torch.optim.SGD(
        parameters or network.parameters(),
        lr=rate,
        momentum=momentum,
        weight_decay=decay,
    )
    rates = [group["lr"] for group in optimizer.param_groups]
    rows, losses = _rows(len(x), batch, seed, shuffle), []
    for step in range(steps):
        if schedule is not None:
            for group, full in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = full * schedule(step)
        chosen = next(rows)
        loss = functional.cross_entropy(network(x[chosen]), t[chosen])
        if not torch.isfinite(loss):
            raise Diverged(step=step, learning_rate=rate)
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        if watch is not None:
            watch(step, losses[-1])
        optimizer.step()
    return losses


def _rows(count: int, batch: int | None, seed: int, shuffle: bool):
    if batch is None:
        while True:
            yield slice(None)
    rng = np.random.default_rng(seed)
    order = torch.from_numpy(rng.permutation(count))
    while True:
        for start in range(0, count - batch + 1, batch):
            yield order[start : start + batch]
        if shuffle:
            order = torch.from_numpy(rng.permutation(count))


@torch.no_grad()
def accuracy(network: nn.Module, x: torch.Tensor, t: torch.Tensor) -> float:
    """Share of right answers in evaluation mode; the mode is restored.

    Where the network has a normalization, `network.fit` comes first.
    """
    was = network.training
    network.eval()
    share = (network(x).argmax(1) == t).double().mean().item()
    network.train(was)
    return share
