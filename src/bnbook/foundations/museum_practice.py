"""Batch normalization done right, one decision a function: what the bugs of the museum
change.

`Layer` makes the decisions inside a layer, the functions below it those of the code
around a layer, and `Implementation` gathers them. Each bug in
`bnbook.foundations.museum_bugs` replaces exactly one of them.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from bnbook.foundations.forward import BatchNorm
from bnbook.validation import require_batch, require_float_tensor


class Layer(BatchNorm):
    """Batch normalization of (M, D) input; every decision is a method of its own.

    Args:
        features: D, a positive integer.
        eps: ε > 0, added to the variance, in squared units of the input.
        momentum: weight of the newest batch in the running statistics, in [0, 1].
        dtype: dtype of parameters and buffers; the input must have the same.

    Raises:
        TypeError: an argument or the input is of the wrong type, or the input is
            not of the layer's dtype.
        ValueError: an argument is out of range; the input has another shape than
            (M, D) or is not finite; in training, it holds fewer than two examples.

    Source: Ioffe and Szegedy (2015), Algorithms 1 and 2.
    """

    def __init__(
        self,
        features: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        dtype: torch.dtype | None = None,
    ):
        """Start with γ = 1, β = 0, running mean 0 and running variance 1."""
        super().__init__(features, eps=eps, momentum=momentum, dtype=dtype)
        if self.eps == 0:
            raise ValueError(
                "eps must be positive here, got 0; with ε = 0 a constant feature divides 0 by 0"
            )

    def accept(self, x: torch.Tensor) -> None:
        """Refuse a batch that has no variance to speak of."""
        if self.takes_from_batch():
            require_batch(len(x), f"axis 0 of x with shape {tuple(x.shape)}")

    def takes_from_batch(self) -> bool:
        """Whether the batch's own statistics are used, and not the running ones."""
        return self.training

    def variance(self, x: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        """Biased variance of each feature, in a second pass over the data."""
        return (x - mean).square().mean(0)

    def statistics(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and biased variance of the batch, as functions of the batch."""
        mean = x.mean(0)
        return mean, self.variance(x, mean)

    def deviation(self, var: torch.Tensor) -> torch.Tensor:
        """What to divide by: √(σ² + ε)."""
        return torch.sqrt(var + self.eps)

    def to_remember(self, var: torch.Tensor, count: int) -> torch.Tensor:
        """The batch's estimate of the population variance: unbiased, without ε."""
        return var * count / (count - 1)

    def blend(self, old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Exponential average; `momentum` is the weight of the newest batch."""
        return (1 - self.momentum) * old + self.momentum * new

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return γ ẑ + β; where the batch's own statistics are used, also remember
        them.
        """
        self._check(x)
        self.accept(x)
        mean, var = self.running_mean, self.running_var
        if self.takes_from_batch():
            mean, var = self.statistics(x)
            with torch.no_grad():
                remembered = self.to_remember(var, len(x))
                self.running_mean.copy_(self.blend(self.running_mean, mean))
                self.running_var.copy_(self.blend(self.running_var, remembered))
        return self.gamma * (x - mean) / self.deviation(var) + self.beta

    def _check(self, x: torch.Tensor) -> None:
        require_float_tensor("x", x)
        if x.dtype != self.gamma.dtype:
            raise TypeError(
                f"x is {x.dtype} and the layer is {self.gamma.dtype}; convert one of them with .to()"
            )
        if x.ndim != 2 or x.shape[1] != len(self.gamma):
            raise ValueError(
                f"x must have shape (M, {len(self.gamma)}), got {tuple(x.shape)}; one example a row, "
                "one feature a column"
            )


def linear(inputs: int, outputs: int, dtype: torch.dtype) -> nn.Linear:
    """The linear layer before a normalization: without a bias, which the mean would
    remove.
    """
    return nn.Linear(inputs, outputs, bias=False, dtype=dtype)


def evaluate(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Output of a trained model in evaluation mode; then each part is back in its own."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    with torch.no_grad():
        y = model(x)
    for part, training in modes:
        part.training = training
    return y


def recompute(model: nn.Module, x: torch.Tensor, dy: torch.Tensor) -> torch.Tensor:
    """Gradient of x where memory is short: keep nothing of the forward pass, run it
    again for the gradient.

    The second pass sees the same batch, so it must not count as another one.
    """
    with torch.no_grad():
        model(x)
    before = [buffer.clone() for buffer in model.buffers()]
    x = x.detach().requires_grad_()
    (dx,) = torch.autograd.grad(model(x), x, dy)
    for buffer, kept in zip(model.buffers(), before, strict=True):
        buffer.copy_(kept)
    return dx


def replicate(layer: nn.Module, count: int) -> list[nn.Module]:
    """`count` ≥ 0 independent layers that start alike."""
    return [copy.deepcopy(layer) for _ in range(count)]


def freeze(layer: nn.Module) -> nn.Module:
    """Keep a trained layer as it is: its parameters, and its running statistics."""
    return layer.requires_grad_(False).eval()


def normalize_padded(
    layer: nn.Module, x: torch.Tensor, lengths: torch.Tensor
) -> torch.Tensor:
    """Normalize sequences of different lengths, padded to one: x (N, T, D), lengths
    (N,).

    Only the true positions t < lengths[n] enter the statistics; the output is 0
    elsewhere.

    Raises:
        ValueError: x has no time axis, or lengths are not N numbers from 0 to T.
    """
    _check_lengths(x, lengths)
    true = torch.arange(x.shape[1]) < lengths[:, None]
    y = torch.zeros_like(x)
    y[true] = layer(x[true])
    return y


def _check_lengths(x: torch.Tensor, lengths: torch.Tensor) -> None:
    if x.ndim != 3:
        raise ValueError(
            f"x must have shape (N, T, D), got {tuple(x.shape)}; pad the sequences to one length T"
        )
    if (
        tuple(lengths.shape) != (len(x),)
        or lengths.min() < 0
        or lengths.max() > x.shape[1]
    ):
        raise ValueError(
            f"lengths must be {len(x)} numbers from 0 to {x.shape[1]}, one for each sequence, got {lengths.tolist()}"
        )


def synchronize(
    means: torch.Tensor, variances: torch.Tensor, counts: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and biased variance of a whole from those of its K parts: (K, D), (K, D),
    (K,) to (D,), (D,).

    Each part counts by its size; the spread between the parts belongs to the variance.

    Raises:
        ValueError: shapes do not match, or a count is not positive.
    """
    _check_parts(means, variances, counts)
    weight = (counts.to(means.dtype) / counts.sum())[:, None]
    mean = (weight * means).sum(0)
    return mean, (weight * (variances + (means - mean) ** 2)).sum(0)


def _check_parts(
    means: torch.Tensor, variances: torch.Tensor, counts: torch.Tensor
) -> None:
    if (
        means.ndim != 2
        or means.shape != variances.shape
        or tuple(counts.shape) != (len(means),)
    ):
        raise ValueError(
            "means and variances must have shape (K, D) and counts shape (K,), got "
            f"{tuple(means.shape)}, {tuple(variances.shape)} and {tuple(counts.shape)}; one row for each part"
        )
    if not len(counts) or counts.min() <= 0:
        raise ValueError(
            f"counts must be positive, got {counts.tolist()}; leave empty parts out"
        )


def parameter_groups(model: nn.Module, decay: float) -> list[dict]:
    """Optimizer groups: weight decay `decay` ≥ 0 for weight matrices, none for γ, β and
    biases.
    """
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


@dataclass(frozen=True)
class Implementation:
    """A layer and the code around it; the defaults are right, an exhibit's bug replaces
    one.

    Attributes:
        layer: called as layer(features, eps=…, momentum=…, dtype=…); the result has
            gamma, beta, running_mean and running_var.
        linear: makes the linear layer before a normalization.
        evaluate: output of a trained model.
        recompute: gradient of the input where the forward pass is run twice.
        replicate: independent copies of a layer.
        freeze: stops a layer from learning.
        normalize_padded: applies a layer to padded sequences.
        synchronize: statistics of a whole from those of its parts.
        parameter_groups: what an optimizer decays.
    """

    layer: Callable[..., nn.Module] = Layer
    linear: Callable[[int, int, torch.dtype], nn.Linear] = linear
    evaluate: Callable[[nn.Module, torch.Tensor], torch.Tensor] = evaluate
    recompute: Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor] = (
        recompute
    )
    replicate: Callable[[nn.Module, int], Sequence[nn.Module]] = replicate
    freeze: Callable[[nn.Module], nn.Module] = freeze
    normalize_padded: Callable[
        [nn.Module, torch.Tensor, torch.Tensor], torch.Tensor
    ] = normalize_padded
    synchronize: Callable[..., tuple[torch.Tensor, torch.Tensor]] = synchronize
    parameter_groups: Callable[[nn.Module, float], list[dict]] = parameter_groups


@dataclass(frozen=True)
class Training:
    """A training run: the loss before each step, and ‖W‖ of the layer before the
    normalization.
    """

    loss: list[float]
    weight_norm: list[float]


def train_network(
    layer: Callable[..., nn.Module], *, steps: int, rate: float = 0.1, seed: int = 0
) -> Training:
    """Fit a small network by gradient descent on one batch of 64 examples.

    The network is linear (5 to 8), normalization, tanh, linear; the target is tanh of a random
    combination of the inputs plus a little noise. Equal seeds give equal data and equal
    first weights.

    Args:
        layer: the normalization, called as layer(features, dtype=…).
        steps: number of steps, at least 1.
        rate: learning rate > 0.
        seed: of the data and the first weights.

    Raises:
        ValueError: steps < 1 or rate ≤ 0.
    """
    if steps < 1 or not rate > 0:
        raise ValueError(
            f"steps must be at least 1 and rate positive, got {steps} and {rate}"
        )
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x = draw(64, 5)
    target = torch.tanh(x @ draw(5, 1)) + 0.1 * draw(64, 1)
    first, last = linear(5, 8, torch.float64), linear(8, 1, torch.float64)
    with torch.no_grad():
        first.weight.copy_(draw(8, 5) / 5**0.5)
        last.weight.copy_(draw(1, 8) / 8**0.5)
    model = nn.Sequential(first, layer(8, dtype=torch.float64), nn.Tanh(), last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    losses, norms = [], []
    for _ in range(steps):
        loss = (model(x) - target).square().mean()
        losses.append(loss.item())
        norms.append(first.weight.norm().item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Training(losses, norms)
