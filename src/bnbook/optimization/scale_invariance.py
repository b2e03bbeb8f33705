"""What a step of gradient descent does to weights whose length does not matter.

The loss is scale-invariant in w: L(cw) = L(w) for c > 0, as for the weights of a neuron
before batch normalization with ε = 0. Throughout, G = ‖w‖² and g̃ is the gradient at the
unit vector w/‖w‖, so that ∂L/∂w = g̃/‖w‖ and g̃ is orthogonal to w. A step is

    w ← (1 − ηλ) w − η ∂L/∂w

with learning rate η and weight decay λ. `bnbook.foundations.geometry` proves what a layer
has to do with it; `bnbook.optimization.scale_training` trains networks.

Sources: van Laarhoven (2017), Hoffer et al. (2018), Arora et al. (2019), Wan et al. (2020).
"""

import math
from dataclasses import dataclass
from numbers import Real

import numpy as np


def effective_rate(rate: float, norm2: np.ndarray) -> np.ndarray:
    """η/‖w‖², the rate of the same step on the unit sphere.

    Args:
        rate: η > 0.
        norm2: ‖w‖² > 0, of any shape.

    Raises:
        ValueError: the rate or a length is not positive and finite.
    """
    return require_rate(rate) / _positive("norm2", norm2)


def next_norm2(
    norm2: np.ndarray, gradient2: np.ndarray, rate: float, decay: float = 0.0
) -> np.ndarray:
    """‖w‖² after a step: (1 − ηλ)² G + η² ‖g̃‖²/G, by Pythagoras.

    Args:
        norm2: G > 0 before the step.
        gradient2: ‖g̃‖² ≥ 0; shapes broadcast.
        rate: η > 0.
        decay: λ ≥ 0 with ηλ < 1.

    Raises:
        ValueError: an argument is out of its range.
    """
    shrink = 1 - require_product(rate, decay)
    norm2 = _positive("norm2", norm2)
    return shrink**2 * norm2 + rate**2 * _not_negative(gradient2) / norm2


def step_angle(
    norm2: np.ndarray, gradient2: np.ndarray, rate: float, decay: float = 0.0
) -> np.ndarray:
    """Angle in radians by which a step turns w; tan θ = η ‖g̃‖/((1 − ηλ) G).

    Args, raises: as for `next_norm2`.
    """
    shrink = 1 - require_product(rate, decay)
    across = rate * np.sqrt(_not_negative(gradient2))
    return np.arctan2(across, shrink * _positive("norm2", norm2))


def rate_after_step(angle: np.ndarray, gradient2: np.ndarray) -> np.ndarray:
    """η/‖w‖² after a step without decay that turned w by θ: sin 2θ/(2‖g̃‖).

    At most 1/(2‖g̃‖), whatever η was.

    Args:
        angle: θ of the step, from 0 to π/2.
        gradient2: ‖g̃‖² > 0 of the step.

    Raises:
        ValueError: an angle lies elsewhere, or a gradient is not positive.
    """
    angle = np.asarray(angle, dtype=float)
    if not ((angle >= 0) & (angle <= math.pi / 2)).all():
        raise ValueError(f"angle must lie between 0 and π/2, got {angle}")
    return np.sin(2 * angle) / (2 * np.sqrt(_positive("gradient2", gradient2)))


@dataclass(frozen=True)
class Equilibrium:
    """Where length and angle settle under weight decay.

    Attributes:
        norm2: ‖w‖².
        angle: turned per step, in radians.
        steps: after so many steps a deviation of ‖w‖⁴ has fallen to 1/e, to leading order
            in ηλ.
    """

    norm2: float
    angle: float
    steps: float


def equilibrium(
    gradient2: float, rate: float, decay: float, momentum: float = 0.0
) -> Equilibrium:
    """The fixed point of length and angle, with α the momentum:

        ‖w‖⁴ = η‖g̃‖²/(λ (1 − α)(2 − ηλ/(1 + α))),   cos θ = 1 − ηλ/(1 + α).

    For α = 0 it is exact for constant ‖g̃‖. For α > 0 the gradient is taken as orthogonal
    to the accumulated step on average, as if each step's were a fresh random one.

    Args:
        gradient2: ‖g̃‖² > 0.
        rate: η > 0.
        decay: λ > 0 with ηλ < 1; without decay there is no equilibrium.
        momentum: α of `torch.optim.SGD`, 0 ≤ α < 1.

    Raises:
        ValueError: an argument is out of its range.

    Source: Wan et al. (2020), Theorem 1 and its form for momentum.
    """
    product = require_product(rate, decay)
    gradient2 = float(_positive("gradient2", gradient2))
    if decay == 0:
        raise ValueError("decay must be positive; without it the length only grows")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must lie in 0 ≤ α < 1, got {momentum}")
    turn = product / (1 + momentum)
    norm4 = rate * gradient2 / (decay * (1 - momentum) * (2 - turn))
    # arccos(1 − x) without loss of digits for small x
    angle = 2 * math.asin(math.sqrt(turn / 2))
    return Equilibrium(math.sqrt(norm4), angle, (1 - momentum) / (4 * product))


@dataclass(frozen=True)
class Path:
    """‖w‖² before each step and after the last, (T + 1,), and the angles (T,)."""

    norm2: np.ndarray
    angle: np.ndarray


def follow(
    norm2: float, gradient2: np.ndarray, rates: np.ndarray, decay: float
) -> Path:
    """Length and angle over many steps, for given ‖g̃‖² and a schedule of rates.

    Args:
        norm2: G > 0 at the start.
        gradient2: ‖g̃‖² ≥ 0, one number or (T,).
        rates: η of each step, (T,), T ≥ 1.
        decay: λ ≥ 0 with ηλ < 1 throughout.

    Raises:
        ValueError: an argument is out of its range, or shapes do not fit.
    """
    rates = np.asarray(rates, dtype=float)
    if rates.ndim != 1 or not rates.size:
        raise ValueError(f"rates must have shape (T,), T ≥ 1, got {rates.shape}")
    gradient2 = np.broadcast_to(np.asarray(gradient2, dtype=float), rates.shape)
    lengths, angles = [float(_positive("norm2", norm2))], []
    for rate, square in zip(rates.tolist(), gradient2.tolist(), strict=True):
        angles.append(float(step_angle(lengths[-1], square, rate, decay)))
        lengths.append(float(next_norm2(lengths[-1], square, rate, decay)))
    return Path(np.array(lengths), np.array(angles))


def norm2_bound(
    rate: float, norm2: float, *, smoothness: float, slope: float, drop: float
) -> float:
    """How far gradient descent without decay can let ‖w‖² grow, in any number of steps.

    max(G₀, ηS + η²K²/G₀) + 2ηΔ, for full-batch gradient descent with constant η on a
    scale-invariant loss, twice differentiable away from w = 0.

    Args:
        rate: η > 0.
        norm2: G₀ > 0 at the start.
        smoothness: S, a bound on the Hessian's norm at unit vectors.
        slope: K, a bound on ‖g̃‖.
        drop: Δ, largest loss minus smallest.

    Raises:
        ValueError: an argument is not positive and finite.
    """
    require_rate(rate)
    for name, value in (
        ("norm2", norm2),
        ("smoothness", smoothness),
        ("slope", slope),
        ("drop", drop),
    ):
        _positive(name, value)
    reached = max(norm2, rate * smoothness + (rate * slope) ** 2 / norm2)
    return reached + 2 * rate * drop


def gradient_bound(
    steps: np.ndarray, rate: float, first: float, last: float
) -> np.ndarray:
    """√((G_T² − G₀²)/(2η²T)), which the smallest ‖g̃‖ of T steps cannot exceed.

    Args:
        steps: T ≥ 1.
        rate: η > 0, no decay.
        first: G₀ > 0.
        last: G_T ≥ G₀, or a bound on it such as `norm2_bound`.

    Raises:
        ValueError: an argument is out of its range.
    """
    steps, last = np.asarray(steps, dtype=float), np.asarray(last, dtype=float)
    if not (steps >= 1).all() or not (last >= _positive("first", first)).all():
        raise ValueError(
            f"steps must be at least 1 and last at least first, got {steps}, {last}, {first}"
        )
    return np.sqrt((last**2 - first**2) / (2 * require_rate(rate) ** 2 * steps))


def rayleigh(w: np.ndarray, eigenvalues: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A scale-invariant loss with known constants: L = ½ Σ λ_i w_i²/Σ w_i².

    With the spread λ_max − λ_min = 1: S = 2, K = ½ and Δ = ½ in `norm2_bound`.

    Args:
        w: (…, d), no row 0.
        eigenvalues: λ_i, (d,).

    Returns:
        L, (…,), and ∂L/∂w, (…, d).

    Raises:
        ValueError: shapes do not fit, or a row of w is 0, where the loss is undefined.
    """
    w, eigenvalues = np.asarray(w), np.asarray(eigenvalues)
    if eigenvalues.ndim != 1 or w.shape[-1:] != eigenvalues.shape:
        raise ValueError(
            f"w must end in the shape of eigenvalues {eigenvalues.shape}, got {w.shape}"
        )
    norm2 = (w * w).sum(axis=-1, keepdims=True)
    if not (norm2 != 0).all():
        raise ValueError("w must not be 0; a scale-invariant loss is undefined there")
    twice = (eigenvalues * w * w).sum(axis=-1, keepdims=True) / norm2
    return twice[..., 0] / 2, (eigenvalues - twice) * w / norm2


@dataclass(frozen=True)
class Descent:
    """Gradient descent on `rayleigh`, R rates at once, T steps.

    Attributes:
        norm2: ‖w‖² before each step and after the last, (T + 1, R).
        gradient: ‖g̃‖ before each step, (T, R).
        loss: before each step, (T, R).
    """

    norm2: np.ndarray
    gradient: np.ndarray
    loss: np.ndarray

    def steps_to(self, gradient: float) -> np.ndarray:
        """The first step before which ‖g̃‖ is at most this, (R,); T if none is."""
        there = self.gradient <= gradient
        return np.where(there.any(axis=0), there.argmax(axis=0), len(there))


def rayleigh_descent(
    eigenvalues: np.ndarray, rates: np.ndarray, *, steps: int, seed: int = 0
) -> Descent:
    """Descend from one random unit vector with each of the rates, without decay.

    Args:
        eigenvalues: (d,).
        rates: η > 0, (R,).
        steps: T ≥ 1.
        seed: of the start.

    Raises:
        ValueError: an argument is out of its range.
    """
    rates = np.array([require_rate(rate) for rate in rates])
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    start = np.random.default_rng(seed).normal(size=len(eigenvalues))
    w = np.tile(start / np.linalg.norm(start), (len(rates), 1))
    lengths, gradients, losses = [(w * w).sum(axis=1)], [], []
    for _ in range(steps):
        loss, gradient = rayleigh(w, eigenvalues)
        losses.append(loss)
        gradients.append(np.linalg.norm(gradient, axis=1) * np.sqrt(lengths[-1]))
        w = w - rates[:, None] * gradient
        lengths.append((w * w).sum(axis=1))
    return Descent(np.array(lengths), np.array(gradients), np.array(losses))


def require_rate(rate: float) -> float:
    """Refuse a learning rate that is not positive and finite."""
    if isinstance(rate, bool) or not isinstance(rate, Real) or not 0 < rate < math.inf:
        raise ValueError(
            f"rate must be positive and finite, got {rate!r}; use for example 0.1"
        )
    return float(rate)


def require_product(rate: float, decay: float) -> float:
    """Return ηλ, and refuse λ < 0 or ηλ ≥ 1, where a step forgets or flips the weights."""
    rate = require_rate(rate)
    if isinstance(decay, bool) or not isinstance(decay, Real) or not decay >= 0:
        raise ValueError(f"decay must be a number of at least 0, got {decay!r}")
    if not rate * decay < 1:
        raise ValueError(
            f"rate × decay must be below 1, got {rate} × {decay} = {rate * decay:g}: "
            "the step would forget the weights or flip them; lower one of the two"
        )
    return rate * decay


def _positive(name: str, values) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if not ((values > 0) & (values < math.inf)).all():
        raise ValueError(
            f"{name} must be positive and finite, got {values}; w = 0 has no direction"
            if "norm" in name
            else f"{name} must be positive and finite, got {values}"
        )
    return values


def _not_negative(values) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if not ((values >= 0) & (values < math.inf)).all():
        raise ValueError(f"gradient2 must be finite and at least 0, got {values}")
    return values
