"""The scale of a batch in a narrow number format: what L1, L2 and L∞ need of it."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from bnbook.data.images import images
from bnbook.experiments import Experiment
from bnbook.optimization.dense import DenseNetwork
from bnbook.optimization.descent import accuracy, descend, tensors
from bnbook.optimization.lp_norms import LpNorm, require_order
from bnbook.validation import require_float_array

FORMATS: Mapping[str, torch.dtype] = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}
ACCUMULATORS = ("wide", "same")
HIDDEN = (32, 32)
NORMS = {"L1": 1.0, "L2": 2.0, "L∞": math.inf}
FACTORS = tuple(2.0**k for k in (-14, -10, -5, 0, 5, 10))
SEEDS = (0, 1, 2, 3, 4)
RATE, STEPS = 0.5, 120


def round_to(x: np.ndarray, name: str) -> np.ndarray:
    """The nearest number of the format for each entry, as float64; infinite beyond its
    largest.

    Raises:
        ValueError: the format is unknown.
    """
    rounded = torch.from_numpy(np.asarray(x, dtype=np.float64)).to(_format(name))
    return rounded.double().numpy()


def _format(name: str) -> torch.dtype:
    if name not in FORMATS:
        raise ValueError(f"unknown format {name!r}; use one of {', '.join(FORMATS)}")
    return FORMATS[name]


def narrow_scale(
    c: np.ndarray, p: float, name: str, *, accumulator: str = "wide"
) -> float:
    """(mean |c|^p)^(1/p) for p = 1 or 2, or max |c| for p = ∞, each result rounded.

    Args:
        c: deviations of one feature, (M,); they are rounded first.
        p: 1, 2 or ∞.
        name: of the format.
        accumulator: "wide" adds the rounded terms exactly, as hardware with a wide
            accumulator nearly does, and rounds the mean; "same" rounds after each addition,
            one by one, and after the division.

    Returns:
        The scale; 0 or infinite where the format has no number for what lies between.

    Raises:
        TypeError: c is not a real floating-point array.
        ValueError: c is not (M,) with M ≥ 1, or an option is unknown.
    """
    require_float_array("c", c)
    p = require_order(p)
    if c.ndim != 1 or not len(c):
        raise ValueError(f"c must have shape (M,), one feature, got {c.shape}")
    if p not in NORMS.values():
        raise ValueError(f"p must be 1, 2 or ∞, got {p}; they need no other powers")
    if accumulator not in ACCUMULATORS:
        raise ValueError(
            f"unknown accumulator {accumulator!r}; use one of {', '.join(ACCUMULATORS)}"
        )
    size = np.abs(round_to(c, name))
    if math.isinf(p):
        return float(size.max())
    terms = round_to(size * size, name) if p == 2 else size
    total = terms.sum()
    if accumulator == "same":
        sums = torch.zeros((), dtype=_format(name))
        for term in torch.from_numpy(terms).to(_format(name)):
            sums = sums + term
        total = sums.item()
    mean = round_to(total / len(c), name)
    return float(round_to(np.sqrt(mean), name) if p == 2 else mean)


def integer_bits(bits: int, examples: int, p: float) -> int:
    """Bits that hold Σ |c|^p, or max |c|, exactly, for any integers c with |c| < 2^bits.

    Raises:
        ValueError: bits or examples is below 1, or p is not a whole number ≥ 1 or ∞.
    """
    p = require_order(p)
    if bits < 1 or examples < 1 or not (math.isinf(p) or p == int(p)):
        raise ValueError(
            f"bits and examples must be at least 1 and p whole or ∞, got {bits}, "
            f"{examples} and {p}"
        )
    largest = 2**bits - 1
    total = largest if math.isinf(p) else examples * largest ** int(p)
    return total.bit_length()


class NarrowLpNorm(LpNorm):
    """`LpNorm` whose input, deviations and scale are those of a narrow format.

    The mean and the scale are as by a wide accumulator, rounded; gradients are those of
    the exact normalization at the rounded values (straight through), and ε = 0.

    Args:
        features: D.
        p: 1, 2 or ∞.
        name: of the format; "float64" rounds nothing.
        dtype: of the parameters.

    Raises:
        ValueError: p or the format is unknown.
    """

    def __init__(
        self,
        features: int,
        *,
        p: float,
        name: str,
        dtype: torch.dtype = torch.float64,
    ):
        """Start as `LpNorm` does."""
        super().__init__(features, p=p, eps=0.0, dtype=dtype)
        if self.p not in NORMS.values():
            raise ValueError(f"p must be 1, 2 or ∞, got {p}")
        self.format = _format(name)

    def statistics(
        self, z: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As of `LpNorm`, rounded; a scale may be 0 or infinite."""
        z = self._rounded(z)
        mean = self._rounded(z.mean(0))
        c = self._rounded(z - mean)
        size = c.abs()
        if math.isinf(self.p):
            return mean, c, size.amax(0)
        if self.p == 1:
            return mean, c, self._rounded(size.mean(0))
        square = self._rounded(self._rounded(c * c).mean(0))
        return mean, c, self._rounded(square.sqrt())

    def _rounded(self, exact: torch.Tensor) -> torch.Tensor:
        return _Round.apply(exact, self.format)


class _Round(torch.autograd.Function):
    """Round forward, hand the gradient on unchanged."""

    @staticmethod
    def forward(ctx, exact, dtype):
        return exact.to(dtype).to(exact.dtype)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


def train_narrow(
    data: str, norm: str, name: str, factor: float, seed: int
) -> dict[str, float]:
    """Train with normalization in a narrow format, all hidden weights times `factor`.

    Their rate is multiplied by factor², so that with exact statistics every factor gives
    the same network, times factor: for powers of 2 to the last digit.

    Args:
        data: name of the images.
        norm: a name in `NORMS`.
        name: of the format.
        factor: of the hidden weights.
        seed: of the weights.

    Returns:
        the training loss before the last step, and the validation accuracy.

    Raises:
        Diverged: a loss is not finite.
        ValueError: the norm or the format is unknown.
    """
    if norm not in NORMS:
        raise ValueError(f"unknown norm {norm!r}; use one of {', '.join(NORMS)}")
    found = images(data, seed=0).standardized()
    (x, t), held = tensors(found.train), tensors(found.validation)

    def make(width: int) -> nn.Module:
        return NarrowLpNorm(width, p=NORMS[norm], name=name)

    widths = (len(found.features), *HIDDEN, found.classes)
    network = DenseNetwork(widths, normalization=make, seed=seed)
    hidden = [p for linear in network.linears[:-1] for p in linear.parameters()]
    others = [*network.norms.parameters(), *network.linears[-1].parameters()]
    with torch.no_grad():
        for parameter in hidden:
            parameter.mul_(factor)
    groups = [{"params": hidden, "lr": RATE * factor**2}, {"params": others}]
    losses = descend(network, x, t, rate=RATE, steps=STEPS, parameters=groups)
    network.fit(x)
    return {"loss": losses[-1], "validation": accuracy(network, *held)}


LP_PRECISION = Experiment(
    "optimization",
    "lp_precision",
    train_narrow,
    [
        {"data": "digits", "norm": norm, "name": name, "factor": factor, "seed": seed}
        for norm in NORMS
        for name, factors in (("float64", (1.0,)), ("float16", FACTORS))
        for factor in factors
        for seed in SEEDS
    ],
)
EXPERIMENTS = (LP_PRECISION,)
