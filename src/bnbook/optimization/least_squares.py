"""Ordinary least squares, plain and through batch normalization, from moments alone.

Inputs x with E x = 0 and E xxᵀ = H, a target y with E xy = g. All losses are halved
mean squares, ½E(y − prediction)², so that H is the Hessian of the plain problem:

    plain:   L(w) = ½E y² − gᵀw + ½wᵀHw
    with BN: L(γ, w) = ½E y² − γ gᵀw/σ + ½γ²,   σ = √(wᵀHw)

Morwani (2020) leaves out the ½: every rate there is half of the rate here. A weight may
carry leading axes, (…, d), for many runs at once. Everything is in float64.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bnbook.experiments import Diverged
from bnbook.validation import require_float_array, require_shape

__all__ = [
    "BnGradients",
    "BnPath",
    "OlsPath",
    "Problem",
    "bn_gradients",
    "bn_loss",
    "descend_bn",
    "descend_ols",
    "effective_weight",
    "equivalent_gamma",
    "excess_loss",
    "gradient",
    "loss",
]


@dataclass(frozen=True, eq=False)
class Problem:
    """The moments of a least squares problem with centred inputs.

    Attributes:
        hessian: H = E xxᵀ, (d, d), symmetric and positive definite.
        g: E xy, (d,).
        square: E y², at least gᵀH⁻¹g.

    Raises:
        TypeError: hessian or g is not a real floating-point array.
        ValueError: shapes do not fit, values are not finite, H is not symmetric, singular
            or indefinite, or no y has these moments.
    """

    hessian: np.ndarray
    g: np.ndarray
    square: float

    def __post_init__(self):
        """Check the moments."""
        for name, value in (("hessian", self.hessian), ("g", self.g)):
            require_float_array(name, value)
            if np.iscomplexobj(value):
                raise TypeError(f"{name} must be real, got {value.dtype}")
        if self.g.ndim != 1 or self.g.size == 0:
            raise ValueError(f"g must have shape (d,), got {self.g.shape}")
        d = len(self.g)
        require_shape("hessian", self.hessian, (d, d), "d rows and columns for g (d,)")
        if not np.allclose(self.hessian, self.hessian.T, rtol=1e-10, atol=0):
            raise ValueError("hessian must be symmetric; pass (H + H.T)/2")
        low, high = np.linalg.eigvalsh(self.hessian)[[0, -1]]
        if not low > 1e-13 * max(high, 0.0):
            raise ValueError(
                f"hessian must be positive definite, its eigenvalues run from {low:.3g} to "
                f"{high:.3g}; drop inputs that are linear combinations of others"
            )
        if not math.isfinite(self.square) or self.square < self.explained * (1 - 1e-9):
            raise ValueError(
                f"square = {self.square:.3g} is less than gᵀH⁻¹g = {self.explained:.3g}: no "
                "y has these moments; use E y²"
            )

    @classmethod
    def from_solution(
        cls, hessian: np.ndarray, u: np.ndarray, noise: float = 0.0
    ) -> "Problem":
        """The problem of y = uᵀx + noise, with noise variance `noise`."""
        g = hessian @ u
        return cls(hessian, g, float(u @ g) + noise)

    @cached_property
    def u(self) -> np.ndarray:
        """The minimizer H⁻¹g, (d,)."""
        return np.linalg.solve(self.hessian, self.g)

    @property
    def explained(self) -> float:
        """uᵀHu = gᵀu, the part of E y² that x explains."""
        return float(self.g @ self.u)

    @cached_property
    def eigenvalues(self) -> np.ndarray:
        """Of H, descending, (d,)."""
        return np.linalg.eigvalsh(self.hessian)[::-1]

    @property
    def kappa(self) -> float:
        """Condition number of H."""
        return float(self.eigenvalues[0] / self.eigenvalues[-1])


@dataclass(frozen=True)
class BnGradients:
    """∂L/∂γ, (…), and ∂L/∂w, (…, d)."""

    gamma: np.ndarray
    w: np.ndarray


@dataclass(frozen=True)
class OlsPath:
    """Weights (steps + 1, d), the start included, and their excess losses."""

    w: np.ndarray
    excess: np.ndarray


@dataclass(frozen=True)
class BnPath:
    """γ, w, the effective weight γw/σ and its excess loss, for each step, 0 … steps."""

    gamma: np.ndarray
    w: np.ndarray
    effective: np.ndarray
    excess: np.ndarray


def loss(problem: Problem, w: np.ndarray) -> np.ndarray:
    """½E(y − xᵀw)², (…), of weights (…, d)."""
    return problem.square / 2 - w @ problem.g + (w * (w @ problem.hessian)).sum(-1) / 2


def gradient(problem: Problem, w: np.ndarray) -> np.ndarray:
    """∂L/∂w = Hw − g, (…, d)."""
    return w @ problem.hessian - problem.g


def excess_loss(problem: Problem, w: np.ndarray) -> np.ndarray:
    """The loss above its minimum, ½(w − u)ᵀH(w − u), (…)."""
    away = w - problem.u
    return (away * (away @ problem.hessian)).sum(-1) / 2


def bn_loss(problem: Problem, gamma: np.ndarray | float, w: np.ndarray) -> np.ndarray:
    """½E(y − γ xᵀw/σ)² with σ = √(wᵀHw), (…).

    Raises:
        ValueError: a w is 0, where σ = 0.

    Source: Morwani (2020), §2, halved.
    """
    sigma, _ = _sigma(problem, w)
    return problem.square / 2 - gamma * (w @ problem.g) / sigma + gamma**2 / 2


def bn_gradients(
    problem: Problem, gamma: np.ndarray | float, w: np.ndarray
) -> BnGradients:
    """∂L/∂γ = γ − gᵀw/σ and ∂L/∂w = −γ/σ (g − (gᵀw/σ²) Hw).

    Args:
        problem: H, g and E y².
        gamma: γ, (…).
        w: not 0, (…, d).

    Raises:
        ValueError: a w is 0, where σ = 0.
    """
    sigma, h_w = _sigma(problem, w)
    slope = w @ problem.g / sigma  # the best γ for this direction
    inside = problem.g - (slope / sigma)[..., None] * h_w
    return BnGradients(gamma - slope, -np.asarray(gamma / sigma)[..., None] * inside)


def effective_weight(
    problem: Problem, gamma: np.ndarray | float, w: np.ndarray
) -> np.ndarray:
    """γw/σ, (…, d): the plain weight that gives the same output."""
    sigma, _ = _sigma(problem, w)
    return np.asarray(gamma / sigma)[..., None] * w


def equivalent_gamma(problem: Problem, w: np.ndarray) -> np.ndarray:
    """γ = σ, (…), with which the effective weight is w itself."""
    return _sigma(problem, w)[0]


def descend_ols(problem: Problem, w: np.ndarray, *, rate: float, steps: int) -> OlsPath:
    """Gradient descent w ← w − η(Hw − g).

    Args:
        problem: H, g and E y².
        w: the start, (d,).
        rate: η > 0.
        steps: how many, at least 1.

    Raises:
        TypeError, ValueError: w, rate or steps is not of this kind.
        Diverged: a loss is not finite.
    """
    _require_start(problem, w, steps, rate)
    path = np.empty((steps + 1, len(w)))
    path[0] = w
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(steps):
            path[step + 1] = path[step] - rate * gradient(problem, path[step])
        excess = excess_loss(problem, path)
    _require_finite(excess, rate)
    return OlsPath(path, excess)


def descend_bn(
    problem: Problem,
    gamma: float,
    w: np.ndarray,
    *,
    rate_gamma: float,
    rate_w: float,
    steps: int,
) -> BnPath:
    """Gradient descent on γ and w at once, each with its own rate.

    Args:
        problem: H, g and E y².
        gamma: its start.
        w: its start, (d,), not 0.
        rate_gamma: η_γ > 0.
        rate_w: η_w > 0.
        steps: how many, at least 1.

    Raises:
        TypeError, ValueError: w, a rate or steps is not of this kind, or w is 0.
        Diverged: a loss is not finite; the rate named is the larger of the two.
    """
    _require_start(problem, w, steps, rate_gamma, rate_w)
    gammas, path = np.empty(steps + 1), np.empty((steps + 1, len(w)))
    gammas[0], path[0] = gamma, w
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(steps):
            d = bn_gradients(problem, gammas[step], path[step])
            gammas[step + 1] = gammas[step] - rate_gamma * d.gamma
            path[step + 1] = path[step] - rate_w * d.w
        effective = effective_weight(problem, gammas, path)
        excess = excess_loss(problem, effective)
    _require_finite(excess, max(rate_gamma, rate_w))
    return BnPath(gammas, path, effective, excess)


def _sigma(problem: Problem, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """σ = √(wᵀHw) and Hw."""
    h_w = w @ problem.hessian
    square = (w * h_w).sum(-1)
    if np.any(square == 0):
        raise ValueError(
            "w is 0, so σ = √(wᵀHw) is 0 and the output 0/0; start from another w"
        )
    return np.sqrt(square), h_w


def _require_start(problem: Problem, w: np.ndarray, steps: int, *rates: float) -> None:
    require_float_array("w", w)
    require_shape("w", w, problem.g.shape, "one weight for each input")
    if not all(0 < rate < math.inf for rate in rates) or steps < 1:
        raise ValueError(
            f"rates must be positive and finite and steps at least 1, got {rates}, {steps}"
        )


def _require_finite(excess: np.ndarray, rate: float) -> None:
    failed = np.flatnonzero(~np.isfinite(excess))
    if failed.size:
        raise Diverged(step=int(failed[0]), learning_rate=rate)
