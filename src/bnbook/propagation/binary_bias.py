"""Batch normalization before a sign, as a comparison of s with one number."""

from dataclasses import dataclass

import numpy as np

from bnbook.validation import require_float_array, require_shape


@dataclass(frozen=True)
class SignRule:
    """What normalization and sign do to s, one entry a neuron; arrays (K,).

    Attributes:
        bias: b = μ − βσ/γ where γ ≠ 0, else 0.
        direction: the sign of γ: +1 for y = +1 where s ≥ b, −1 for y = +1 where s ≤ b,
            0 for y = constant whatever s is.
        constant: the sign of β, used where γ = 0.
    """

    bias: np.ndarray
    direction: np.ndarray
    constant: np.ndarray

    def __call__(self, s: np.ndarray) -> np.ndarray:
        """±1, of the shape (…, K) of s.

        Raises:
            TypeError: s is not a floating-point array.
            ValueError: s is not finite, or its last axis is not K long.
        """
        require_float_array("s", s)
        require_shape("s", s, (*s.shape[:-1], *self.bias.shape), "one column a neuron")
        above, below = s >= self.bias, s <= self.bias
        fires = np.where(self.direction > 0, above, below)
        fires = np.where(self.direction == 0, self.constant > 0, fires)
        return np.where(fires, 1.0, -1.0)


def sign_rule(
    gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, std: np.ndarray
) -> SignRule:
    """The rule that equals sign(γ (s − μ)/σ + β), with sign(0) = +1, in real arithmetic.

    Args:
        gamma, beta: of the normalization, (K,); γ of any sign, and 0.
        mean: μ, (K,).
        std: σ > 0, with ε in it if there is one, (K,).

    Returns:
        The rule. Where γ = 0, it is the constant sign(β).

    Raises:
        TypeError: an argument is not a floating-point array.
        ValueError: shapes differ, an entry is not finite, a σ is not positive, or a bias
            leaves the range of the dtype because its γ is too small.

    Source: Sari and Partovi Nia (2020), §3, for γ > 0.
    """
    _require_norm(gamma=gamma, beta=beta, mean=mean, std=std)
    with np.errstate(over="ignore"):
        shift = beta * std / np.where(gamma == 0, 1, gamma)
    bias = np.where(gamma == 0, 0, mean - shift)
    _require_range(bias)
    return SignRule(bias, np.sign(gamma), np.where(beta >= 0, 1.0, -1.0))


def _require_norm(**named: np.ndarray) -> None:
    for name, value in named.items():
        require_float_array(name, value)
        require_shape(name, value, np.shape(named["gamma"]), "one entry a neuron")
    if not (named["std"] > 0).all():
        least = named["std"].min()
        raise ValueError(
            f"std must be positive, got {least}; a constant neuron needs ε > 0"
        )


def _require_range(bias: np.ndarray) -> None:
    if not np.isfinite(bias).all():
        raise ValueError(
            "a bias overflows: |γ| is too small beside βσ; set such a γ to 0, "
            "or use a wider dtype"
        )
