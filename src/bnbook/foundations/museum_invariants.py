"""What must hold for any batch normalization, as functions of an implementation that
return a residual.

None of them compares with another implementation: each states a property of the thing
itself.
"""

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from bnbook.foundations.museum_practice import Implementation


@dataclass(frozen=True)
class Setting:
    """The sizes, constants and random numbers on which an invariant is tried.

    Attributes:
        size: M ≥ 2, examples in a batch.
        features: D ≥ 1.
        eps: ε > 0.
        momentum: weight of the newest batch, in (0, 1) and not 1/2, where old and
            new weigh the same.
        seed: of the random numbers.

    Raises:
        ValueError: a value is out of range.
    """

    size: int = 6
    features: int = 3
    eps: float = 0.1
    momentum: float = 0.1
    seed: int = 0

    def __post_init__(self):
        """Refuse settings in which right and wrong look alike."""
        if self.size < 2 or self.features < 1:
            raise ValueError(
                f"size must be at least 2 and features at least 1, got {self.size} and {self.features}"
            )
        if not 0 < self.eps < math.inf:
            raise ValueError(
                f"eps must be positive and finite, got {self.eps}; its place shows only then"
            )
        if not 0 < self.momentum < 1 or self.momentum == 0.5:
            raise ValueError(
                f"momentum must lie in (0, 1) and not be 0.5, got {self.momentum}; use for example 0.1"
            )

    def layer(self, implementation: Implementation, **changes) -> nn.Module:
        """A fresh float64 layer of the implementation, in training mode; `changes` go
        to its constructor.
        """
        options = {
            "eps": self.eps,
            "momentum": self.momentum,
            "dtype": torch.float64,
        } | changes
        return implementation.layer(self.features, **options).train()

    def draw(self, *shape: int, mean: float = 3.0, spread: float = 2.0) -> torch.Tensor:
        """Normal float64 data, of shape (M, D) unless told otherwise; equal calls give
        equal data.
        """
        generator = torch.Generator().manual_seed(self.seed)
        shape = shape or (self.size, self.features)
        return mean + spread * torch.randn(
            *shape, generator=generator, dtype=torch.float64
        )


def gradient_is_slope(implementation: Implementation, setting: Setting) -> float:
    """Distance of autograd's slope from a central difference, in units of ‖g‖/√ε.

    The largest over four random directions; g is the upstream gradient.
    """
    x = setting.draw()
    dy = setting.draw(mean=0.3, spread=1.0).flip(0)

    def loss(moved):
        return (setting.layer(implementation)(moved) * dy).sum()

    x.requires_grad_()
    (dx,) = torch.autograd.grad(loss(x), x)
    worst, h = 0.0, 1e-5
    for direction in setting.draw(4, *x.shape, mean=0.0):
        step = h * direction / direction.norm()
        slope = (loss(x + step) - loss(x - step)) / 2
        worst = max(worst, ((dx * step).sum() - slope).abs().item() / h)
    return worst * math.sqrt(setting.eps) / dy.norm().item()


def shift_has_no_effect(implementation: Implementation, setting: Setting) -> float:
    """Change of the float32 output when 8192 is added to every value, which loses no
    digit of the data.
    """
    x = (setting.draw(mean=0.0, spread=1.0) * 64).round() / 64
    x[0], x[1] = -1.0, 1.0  # a spread that rounding cannot hide
    x = x.float()
    still, moved = (
        setting.layer(implementation, dtype=torch.float32)(data)
        for data in (x, x + 8192)
    )
    return (still - moved).abs().max().item()


def output_has_unit_variance(implementation: Implementation, setting: Setting) -> float:
    """Distance of the output's mean from 0 and of its variance from σ²/(σ² + ε), with γ
    = 1 and β = 0.
    """
    x = setting.draw()
    y, var = setting.layer(implementation)(x), x.var(0, correction=0)
    expected = var / (var + setting.eps)
    return max(
        y.mean(0).abs().max().item(),
        (y.var(0, correction=0) / expected - 1).abs().max().item(),
    )


def units_cancel(implementation: Implementation, setting: Setting) -> float:
    """Change of the output when x is measured in other units: x times c, and ε times
    c².
    """
    x, c = setting.draw(), 3.0
    here = setting.layer(implementation)(x)
    there = setting.layer(implementation, eps=setting.eps * c**2)(c * x)
    return (here - there).abs().max().item()


def one_example_teaches_nothing(
    implementation: Implementation, setting: Setting
) -> float:
    """1 if the layer trains on one example although its gradient is 0; 0 if it refuses,
    or learns.
    """
    x = setting.draw(1, setting.features).requires_grad_()
    try:
        y = setting.layer(implementation)(x)
    except ValueError:
        return 0.0
    (dx,) = torch.autograd.grad((y * setting.draw(1, setting.features)).sum(), x)
    return float(dx.abs().max() < 1e-12)


def constant_has_no_variance(implementation: Implementation, setting: Setting) -> float:
    """Distance of the running variance from half its start, after a constant batch with
    momentum 1/2.
    """
    layer = setting.layer(implementation, momentum=0.5)
    start = layer.running_var.clone()
    layer(torch.full((setting.size, setting.features), 3.0, dtype=torch.float64))
    return (layer.running_var - start / 2).abs().max().item()


def momentum_is_the_newest(implementation: Implementation, setting: Setting) -> float:
    """Distance of the first running mean from momentum · μ, relative to the largest μ."""
    layer, x = setting.layer(implementation), setting.draw()
    layer(x)
    return (
        (layer.running_mean - setting.momentum * x.mean(0)).abs().max()
        / x.mean(0).abs().max()
    ).item()


def running_variance_is_unbiased(
    implementation: Implementation, setting: Setting
) -> float:
    """Distance of the running variance's average over *all* batches of two from the
    population's variance.
    """
    population = setting.draw(3, setting.features)
    remembered = []
    for pair in itertools.product(range(3), repeat=2):
        layer = setting.layer(implementation, momentum=0.5)
        start = layer.running_var.clone()
        layer(population[list(pair)])
        remembered.append(2 * layer.running_var - start)
    average, exact = torch.stack(remembered).mean(0), population.var(0, correction=0)
    return ((average - exact).abs() / exact).max().item()


def mode_is_explicit(implementation: Implementation, setting: Setting) -> float:
    """Change of the output when gradients are switched off, in training mode and in
    evaluation mode.
    """
    worst, x = 0.0, setting.draw()
    for training in (True, False):
        layer = setting.layer(implementation).train(training)
        with torch.no_grad():
            without = copy.deepcopy(layer)(x)
        worst = max(worst, (layer(x) - without).abs().max().item())
    return worst


def answer_ignores_company(implementation: Implementation, setting: Setting) -> float:
    """Change of a trained model's answer to one example when the rest of the batch
    changes.
    """
    layer, x = setting.layer(implementation), setting.draw()
    layer(x)
    company = x.clone()
    company[1:] += 5.0
    first, second = (implementation.evaluate(layer, batch)[0] for batch in (x, company))
    return (first - second).abs().max().item()


def one_batch_counts_once(implementation: Implementation, setting: Setting) -> float:
    """Distance of the running mean after a recomputed step from the running mean after
    a plain one.
    """
    x, plain, recomputed = (
        setting.draw(),
        setting.layer(implementation),
        setting.layer(implementation),
    )
    plain(x)
    implementation.recompute(recomputed, x, setting.draw(mean=0.0))
    return (plain.running_mean - recomputed.running_mean).abs().max().item()


def replicas_are_independent(implementation: Implementation, setting: Setting) -> float:
    """Change of one replica's running mean when the other one is trained."""
    used, idle = implementation.replicate(setting.layer(implementation), 2)
    before = idle.running_mean.clone()
    used(setting.draw())
    return (idle.running_mean - before).abs().max().item()


def frozen_stays_frozen(implementation: Implementation, setting: Setting) -> float:
    """Change of a frozen layer's running mean when it is used on other data."""
    layer = setting.layer(implementation)
    layer(setting.draw())
    before = layer.running_mean.clone()
    implementation.freeze(layer)(setting.draw() + 10.0)
    return (layer.running_mean - before).abs().max().item()


def padding_has_no_effect(implementation: Implementation, setting: Setting) -> float:
    """Change of the output at the true positions when more padding is added."""
    x = setting.draw(setting.size, 3, setting.features)
    lengths = torch.tensor([3 - n % 3 for n in range(setting.size)])
    true = torch.arange(3) < lengths[:, None]
    x = torch.where(true[:, :, None], x, 0.0)
    longer = torch.cat([x, torch.zeros_like(x)], dim=1)
    short, long = (
        implementation.normalize_padded(setting.layer(implementation), data, lengths)
        for data in (x, longer)
    )
    return (short[true] - long[:, :3][true]).abs().max().item()


def parts_make_the_whole(implementation: Implementation, setting: Setting) -> float:
    """Distance of the merged statistics of two unequal parts from those of all values
    together.
    """
    x = setting.draw(3 * setting.size, setting.features)
    x[setting.size :] += 4.0
    parts = x[: setting.size], x[setting.size :]
    means, variances = (
        torch.stack(list(values))
        for values in (
            (part.mean(0) for part in parts),
            (part.var(0, correction=0) for part in parts),
        )
    )
    mean, var = implementation.synchronize(
        means, variances, torch.tensor([len(part) for part in parts])
    )
    return max(
        (mean - x.mean(0)).abs().max().item(),
        (var / x.var(0, correction=0) - 1).abs().max().item(),
    )


def every_parameter_matters(implementation: Implementation, setting: Setting) -> float:
    """Number of parameters of linear layer and normalization whose gradient vanishes on
    random data.
    """
    with torch.random.fork_rng(devices=[]):  # leaves the reader's random numbers alone
        torch.manual_seed(setting.seed)
        linear = implementation.linear(4, setting.features, torch.float64)
    model = nn.Sequential(linear, setting.layer(implementation))
    dy = setting.draw(mean=0.0)
    loss = (model(setting.draw(setting.size, 4)) * dy).sum()
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    return float(sum(g.abs().max() < 1e-9 * dy.abs().max() for g in gradients))


def no_gradient_no_change(implementation: Implementation, setting: Setting) -> float:
    """Change of γ in an optimizer's step with weight decay, where all gradients are 0."""
    layer = setting.layer(implementation)
    optimizer = torch.optim.SGD(implementation.parameter_groups(layer, 0.1), lr=0.5)
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return (layer.gamma - 1).abs().max().item()


@dataclass(frozen=True)
class Invariant:
    """A statement that holds for every correct implementation.

    Attributes:
        name: a few words.
        statement: the statement in one sentence.
        residual: 0 up to rounding where it holds.
        tolerance: what rounding may leave.
    """

    name: str
    statement: str
    residual: Callable[[Implementation, Setting], float]
    tolerance: float

    def holds(
        self, implementation: Implementation, setting: Setting | None = None
    ) -> bool:
        """Whether the implementation satisfies it; one that raises or returns NaN does
        not.
        """
        try:
            residual = self.residual(implementation, setting or Setting())
        except (ValueError, RuntimeError, ArithmeticError):
            return False
        return bool(residual <= self.tolerance)  # not so for NaN
