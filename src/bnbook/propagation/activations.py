"""Activations under a Gaussian input: E[f], E[f²], Var f, E[f'²] and χ, exact and by quadrature.

An `Activation` is a pair: the function of the forward pass, and what the backward pass
multiplies by. The second is the derivative, or a stand-in for it (a straight-through
estimator) where the derivative is 0 almost everywhere, as for the sign.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from numbers import Real

import numpy as np
import sympy as sp

x = sp.Symbol("x", real=True)
q = sp.Symbol("q", positive=True)

_NODES = 160  # Gauss–Legendre nodes on each smooth piece
_REACH = 13.0  # standard deviations; beyond, a Gaussian has mass below 1e-37


@dataclass(frozen=True)
class Activation:
    """An activation as a pair (f, f').

    Attributes:
        name: for tables.
        f: the function of the forward pass, array to array of the same shape.
        derivative: what the backward pass multiplies by, array to array: f', or the
            straight-through stand-in.
        pieces: (f, f', low, high) as SymPy expressions in `x`, covering the line; needed
            by `moments` only.
        breaks: points where f or f' is not smooth; quadrature splits there.
        exact: whether SymPy can integrate the pieces in closed form.
    """

    name: str
    f: Callable[[np.ndarray], np.ndarray]
    derivative: Callable[[np.ndarray], np.ndarray]
    pieces: tuple[tuple[sp.Expr, sp.Expr, sp.Expr, sp.Expr], ...] = field(
        default=(), compare=False
    )
    breaks: tuple[float, ...] = ()
    exact: bool = True


@dataclass(frozen=True)
class Moments:
    """Expectations under s ~ N(0, q); SymPy expressions or floats.

    Attributes:
        mean: E[f(s)].
        square: E[f(s)²].
        slope: E[f'(s)²].
    """

    mean: sp.Expr | float
    square: sp.Expr | float
    slope: sp.Expr | float

    @property
    def variance(self) -> sp.Expr | float:
        """Var f = E[f²] − E[f]²."""
        return self.square - self.mean**2

    @property
    def chi(self) -> sp.Expr | float:
        """χ = E[f'²]/Var f; meant for q = 1, after batch normalization with γ = 1, β = 0."""
        return self.slope / self.variance


def _sign(s: np.ndarray) -> np.ndarray:
    return np.where(s >= 0, 1.0, -1.0)  # never 0, as a binary network needs it


def _hard_tanh(s: np.ndarray) -> np.ndarray:
    return np.clip(s, -1.0, 1.0)


def _inside(s: np.ndarray) -> np.ndarray:
    return (np.abs(s) <= 1).astype(np.float64)


_ZERO, _ONE = sp.S.Zero, sp.S.One
LINEAR = Activation("linear", lambda s: s, np.ones_like, ((x, _ONE, -sp.oo, sp.oo),))
RELU = Activation(
    "ReLU",
    lambda s: np.maximum(s, 0.0),
    lambda s: (s > 0).astype(np.float64),
    ((_ZERO, _ZERO, -sp.oo, _ZERO), (x, _ONE, _ZERO, sp.oo)),
    (0.0,),
)
TANH = Activation(
    "tanh",
    np.tanh,
    lambda s: 1 - np.tanh(s) ** 2,
    ((sp.tanh(x), 1 - sp.tanh(x) ** 2, -sp.oo, sp.oo),),
    exact=False,
)
HARD_TANH = Activation(
    "hard-tanh",
    _hard_tanh,
    _inside,
    (
        (-_ONE, _ZERO, -sp.oo, -_ONE),
        (x, _ONE, -_ONE, _ONE),
        (_ONE, _ZERO, _ONE, sp.oo),
    ),
    (-1.0, 1.0),
)
SIGN_IDENTITY = Activation(
    "sign, identity",
    _sign,
    np.ones_like,
    ((-_ONE, _ONE, -sp.oo, _ZERO), (_ONE, _ONE, _ZERO, sp.oo)),
    (0.0,),
)
SIGN_HARD_TANH = Activation(
    "sign, hard-tanh",
    _sign,
    _inside,
    (
        (-_ONE, _ZERO, -sp.oo, -_ONE),
        (-_ONE, _ONE, -_ONE, _ZERO),
        (_ONE, _ONE, _ZERO, _ONE),
        (_ONE, _ZERO, _ONE, sp.oo),
    ),
    (-1.0, 0.0, 1.0),
)
ACTIVATIONS = {
    a.name: a for a in (LINEAR, RELU, TANH, HARD_TANH, SIGN_IDENTITY, SIGN_HARD_TANH)
}


def activation_named(name: str) -> Activation:
    """The activation of this name.

    Raises:
        ValueError: there is none; the message lists them.
    """
    if name not in ACTIVATIONS:
        raise ValueError(
            f"unknown activation {name!r}; use one of {', '.join(ACTIVATIONS)}, "
            "or make your own Activation(name, f, derivative)"
        )
    return ACTIVATIONS[name]


@cache
def moments(activation: Activation, variance: sp.Expr = _ONE) -> Moments:
    """E[f], E[f²] and E[f'²] under s ~ N(0, variance), as SymPy expressions.

    Args:
        activation: with `pieces`.
        variance: a positive number or symbol, for example `q`.

    Returns:
        Closed forms, or integrals that are not evaluated where there is no closed form
        (tanh).

    Raises:
        TypeError: activation is not an Activation.
        ValueError: it has no pieces, or the variance is not known to be positive.
    """
    require_activation(activation)
    variance = sp.sympify(variance)
    if not variance.is_positive:
        raise ValueError(
            f"variance must be positive, got {variance}; declare a symbol with positive=True"
        )
    if not activation.pieces:
        raise ValueError(
            f"{activation.name} has no pieces to integrate; give them, or use "
            "quadrature_moments"
        )
    if activation.exact and variance != q:
        found = moments(activation, q)
        at = [sp.simplify(e.subs(q, variance)) for e in vars(found).values()]
        return Moments(*at)

    def expect(values: Callable) -> sp.Expr:
        parts: list[tuple[sp.Expr, sp.Expr, sp.Expr]] = []
        for f, slope, low, high in activation.pieces:
            term = sp.sympify(values(f, slope))
            if parts and parts[-1][0] == term and parts[-1][2] == low:
                low = parts.pop()[1]  # one integral over both pieces
            parts.append((term, low, high))
        if activation.exact:
            return sp.simplify(sp.Add(*(_integral(*part) for part in parts)))
        density = _density(variance)
        return sp.Add(
            *(sp.Integral(t * density, (x, low, high)) for t, low, high in parts)
        )

    odd = not activation.exact and all(
        sp.simplify(f + f.subs(x, -x)) == 0 for f, *_ in activation.pieces
    )
    return Moments(
        _ZERO if odd else expect(lambda f, _: f),
        expect(lambda f, _: f**2),
        expect(lambda _, slope: slope**2),
    )


def _density(variance: sp.Expr) -> sp.Expr:
    return sp.exp(-(x**2) / (2 * variance)) / sp.sqrt(2 * sp.pi * variance)


@cache
def _integral(term: sp.Expr, low: sp.Expr, high: sp.Expr) -> sp.Expr:
    return sp.integrate(term * _density(q), (x, low, high))


def expectation(
    function: Callable[[np.ndarray], np.ndarray],
    *,
    variance: float = 1.0,
    breaks: tuple[float, ...] = (),
) -> float:
    """E[function(s)] for s ~ N(0, variance), by Gauss–Legendre quadrature on each piece.

    Args:
        function: smooth between the breaks, and growing no faster than a polynomial.
        variance: ≥ 0; for 0, s is 0.
        breaks: points where the function or its derivative jumps.

    Raises:
        TypeError: variance is not a real number.
        ValueError: it is negative or not finite, or so is the result not.
    """
    if not isinstance(variance, Real) or isinstance(variance, bool | np.bool_):
        raise TypeError(
            f"variance must be a real number, got {type(variance).__name__}"
        )
    if not 0 <= variance < np.inf:
        raise ValueError(
            f"variance must be finite and at least 0, got {variance}; "
            "rescale the weights of the layers before"
        )
    if variance == 0:
        return float(function(np.zeros(1))[0])
    std = float(np.sqrt(variance))
    inner = [b / std for b in breaks if abs(b) < _REACH * std]
    # Around 0 a function may be steep on the scale of s, however wide its Gaussian is.
    inner += [u / std for u in (-4.0, 4.0) if abs(u) < _REACH * std]
    edges = np.unique([-_REACH, -3.0, 0.0, 3.0, _REACH, *inner])
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    half, middle = np.diff(edges)[:, None] / 2, (edges[1:] + edges[:-1])[:, None] / 2
    t = half * nodes + middle
    density = np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi)
    total = float((half * weights * density * function(std * t)).sum())
    if not np.isfinite(total):
        raise ValueError("the function is not finite under the Gaussian; check it")
    return total


def quadrature_moments(activation: Activation, variance: float = 1.0) -> Moments:
    """The same as `moments`, as floats, by quadrature of the NumPy functions.

    Raises:
        TypeError, ValueError: as `expectation`.
    """
    require_activation(activation)
    at = {"variance": variance, "breaks": activation.breaks}
    return Moments(
        expectation(activation.f, **at),
        expectation(lambda s: activation.f(s) ** 2, **at),
        expectation(lambda s: activation.derivative(s) ** 2, **at),
    )


def hermite_energy(activation: Activation, degrees: int) -> np.ndarray:
    """n! a_n² for n = 0 … degrees − 1, with f = Σ a_n He_n under s ~ N(0, 1).

    He_n are the probabilists' Hermite polynomials. The entries from n = 1 on sum to
    Var f, and each counts n times in E[f'²] if f' is the derivative of f.

    Raises:
        ValueError: degrees is not between 1 and 60.
    """
    require_activation(activation)
    if not isinstance(degrees, int) or not 1 <= degrees <= 60:
        raise ValueError(f"degrees must be an integer from 1 to 60, got {degrees!r}")

    def normalized(s, n):  # He_n/√n!, by the recursion that stays near 1
        before, now = np.zeros_like(s), np.ones_like(s)
        for k in range(n):
            before, now = now, (s * now - np.sqrt(k) * before) / np.sqrt(k + 1)
        return now

    return np.array(
        [
            expectation(
                lambda s, n=n: activation.f(s) * normalized(s, n),
                breaks=activation.breaks,
            )
            ** 2
            for n in range(degrees)
        ]
    )


def require_activation(activation: Activation) -> Activation:
    """Return `activation` if it is one.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(activation, Activation):
        raise TypeError(
            f"activation must be an Activation, got {type(activation).__name__}; "
            f"use activation_named with one of {', '.join(ACTIVATIONS)}"
        )
    return activation
