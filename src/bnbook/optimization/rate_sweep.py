"""How many steps least squares takes at each learning rate: many runs side by side."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bnbook.experiments import Experiment
from bnbook.optimization.least_squares import (
    Problem,
    bn_gradients,
    effective_weight,
    equivalent_gamma,
    excess_loss,
    gradient,
)
from bnbook.optimization.pseudo_condition import (
    pseudo_kappa,
    random_problem,
    spectrum,
    star_eigenvalues,
)
from bnbook.validation import require_float_array, require_shape

CONVERGED, UNFINISHED, DIVERGED = "converged", "unfinished", "diverged"
HOLD = 10  # steps that the loss must stay below the tolerance


@dataclass(frozen=True)
class Sweep:
    """One entry for each learning rate.

    Attributes:
        steps: updates, at least 1, until the excess loss has fallen below the tolerance
            times its first value for good: it stays there for `HOLD` more steps, and the
            rates are stable near the solution; −1 where it does not. (Above the stable
            rate the loss can fall, and rise again later.)
        outcome: "converged", "unfinished" or "diverged".
        w: the last weight, (rates, d); of a diverged run, where it stood.
    """

    steps: np.ndarray
    outcome: np.ndarray
    w: np.ndarray

    @property
    def best(self) -> int:
        """The smallest number of steps; −1 if no run has converged."""
        done = self.steps[self.steps > 0]
        return int(done.min()) if done.size else -1


def sweep_ols(
    problem: Problem,
    w: np.ndarray,
    rates: np.ndarray,
    *,
    tolerance: float = 1e-6,
    steps: int = 20_000,
    first: bool = False,
) -> Sweep:
    """Plain gradient descent from w, once for each rate.

    Args:
        problem: H, g and E y².
        w: the start, (d,).
        rates: η, (n,), positive and finite.
        tolerance: of the excess loss, relative to the start, between 0 and 1.
        steps: updates at most.
        first: stop as soon as one rate has converged; the others are then unfinished.

    Raises:
        TypeError, ValueError: an argument is not of this kind, or w is the solution.
    """
    rates = _require_rates(rates)

    def update(state):
        return (state[0] - rates[:, None] * gradient(problem, state[0]),)

    def stable(state):
        return rates * problem.eigenvalues[0] < 2

    start = (np.tile(w, (len(rates), 1)),)
    return _sweep(
        problem, w, update, lambda s: s[0], stable, start, tolerance, steps, first
    )


def sweep_bn(
    problem: Problem,
    w: np.ndarray,
    rates_w: np.ndarray,
    rates_gamma: np.ndarray | float = 1.0,
    *,
    gamma: float | None = None,
    tolerance: float = 1e-6,
    steps: int = 20_000,
    first: bool = False,
) -> Sweep:
    """Descent on γ and w, once for each pair of rates.

    Args:
        problem, w, tolerance, steps, first: as for `sweep_ols`; w is not 0.
        rates_w: η_w, (n,), or one number.
        rates_gamma: η_γ, (n,), or one number.
        gamma: the start of γ; None for σ, with which the effective weight is w.

    Raises:
        TypeError, ValueError: as `sweep_ols`; also if w is 0.
    """
    both = np.broadcast_arrays(np.atleast_1d(rates_w), np.atleast_1d(rates_gamma))
    rate_w, rate_gamma = (_require_rates(np.array(rates, float)) for rates in both)
    w = np.asarray(w)
    gamma = float(equivalent_gamma(problem, w)) if gamma is None else gamma

    def update(state):
        d = bn_gradients(problem, *state)
        return state[0] - rate_gamma * d.gamma, state[1] - rate_w[:, None] * d.w

    # Near u the step is stable while η_w λ*₁/s² < 2. w never shrinks: once, for ever.
    top = star_eigenvalues(problem)[0] * (problem.u @ problem.u)

    def stable(state):
        return (rate_gamma < 2) & (rate_w * top < 2 * (state[1] ** 2).sum(-1))

    def weight(state):
        return effective_weight(problem, *state)

    start = np.full(len(rate_w), gamma), np.tile(w, (len(rate_w), 1))
    return _sweep(problem, w, update, weight, stable, start, tolerance, steps, first)


def _sweep(
    problem: Problem,
    w: np.ndarray,
    update: Callable,
    weight: Callable,
    stable: Callable,
    state: tuple[np.ndarray, ...],
    tolerance: float,
    steps: int,
    first: bool,
) -> Sweep:
    require_float_array("w", w)
    require_shape("w", w, problem.g.shape, "one weight for each input")
    if not 0 < tolerance < 1 or steps < 1:
        raise ValueError(
            f"tolerance must lie between 0 and 1 and steps be at least 1, got {tolerance} "
            f"and {steps}"
        )
    initial = excess_loss(problem, weight(state))
    if not (initial > 0).all():
        raise ValueError("the start is the solution; start from another w")
    count = len(initial)
    reached = np.ones(count, int)  # the last step above the tolerance, plus 1
    finished, failed = np.zeros(count, bool), np.zeros(count, bool)
    for step in range(1, steps + 1):
        with np.errstate(over="ignore", invalid="ignore"):
            new = update(state)
            excess = excess_loss(problem, weight(new))
        # A run that has failed stays where it was, and the others go on.
        failed |= ~np.isfinite(excess)
        new = [
            np.where(_like(failed, n), old, n)
            for n, old in zip(new, state, strict=True)
        ]
        state = tuple(new)
        above = ~finished & ~(excess <= tolerance * initial)
        reached[above] = step + 1
        finished |= ~failed & (step >= reached + HOLD) & stable(state)
        if (finished | failed).all() or (first and finished.any()):
            break
    outcome = np.where(finished, CONVERGED, np.where(failed, DIVERGED, UNFINISHED))
    return Sweep(np.where(finished, reached, -1), outcome, state[-1])


def _like(mask: np.ndarray, values: np.ndarray) -> np.ndarray:
    return mask.reshape(mask.shape + (1,) * (values.ndim - 1))


def _require_rates(rates: np.ndarray) -> np.ndarray:
    require_float_array("rates", rates)
    if rates.ndim != 1 or rates.size == 0 or not (rates > 0).all():
        raise ValueError(
            f"rates must be positive, of shape (n,), got shape {rates.shape}; "
            "gradient descent needs a positive step"
        )
    return rates


def random_start(problem: Problem, seed: int) -> np.ndarray:
    """A weight as long as the solution, in a random direction, (d,)."""
    rng = np.random.default_rng([seed, len(problem.g), 1])
    w = rng.normal(size=len(problem.g))
    return w * (np.linalg.norm(problem.u) / np.linalg.norm(w))


def tuned_steps(dimension: int, kappa: float, isotropic: str, seed: int) -> dict:
    """Steps of plain and normalized descent on one random problem, λ from 1 to 1/κ.

    The start is random and as long as u. Rates of w are tried on a grid of two per
    octave. λ from κ to 1 means x and y in other units, both times √κ, so that u stays;
    γ is then √κ times as large, and so the rate of w acts as if multiplied by κ.

    Args:
        dimension: d.
        kappa: condition number of H.
        isotropic: "u" or "g", as for `random_problem`.
        seed: of H, u and the start.

    Returns:
        pseudo: κ*. Then the number of steps until the excess loss is 1e-6 of its start,
        −1 where that takes more than 10 000:
        plain: the best of 25 rates from 1/λ_max to 0.98 · 2/λ_max;
        tuned: normalized, η_γ = 1, the best η_w;
        one_large, one_small: normalized, the best single rate below 2, λ_max = 1 and
        λ_min = 1;
        fixed_large, fixed_small: the same with the rate 1.
    """
    problem = random_problem(spectrum(dimension, kappa), seed, isotropic=isotropic)
    w = random_start(problem, seed)
    at = {"steps": 10_000, "first": True}
    limit = 2 / problem.eigenvalues[0]
    octaves = math.log2(kappa)
    wide = 2 ** np.arange(-4, octaves + 4.25, 0.5)
    single = np.append(2 ** np.arange(-8, 0.75, 0.5), 1.8)

    def one(rates, scale):
        return sweep_bn(problem, w, scale * rates, rates, **at).best

    return {
        "pseudo": pseudo_kappa(problem),
        "plain": sweep_ols(problem, w, limit * np.arange(25, 50) / 50, **at).best,
        "tuned": sweep_bn(problem, w, wide, **at).best,
        "one_large": one(single, 1.0),
        "one_small": one(single, kappa),
        "fixed_large": one(np.ones(1), 1.0),
        "fixed_small": one(np.ones(1), kappa),
    }


_SIZES = [  # few inputs vary most, and two with an isotropic u above all
    *((2, kappa, "u", seeds) for kappa, seeds in ((10, 240), (100, 40), (1000, 240))),
    *((2, kappa, "g", 40) for kappa in (10, 100, 1000)),
    *((3, kappa, "u", seeds) for kappa, seeds in ((10, 240), (1000, 30))),
    *((3, kappa, "g", 30) for kappa in (10, 1000)),
    *((d, k, kind, 12) for d in (5, 10, 20) for k in (10, 1000) for kind in "ug"),
]
STEPS = Experiment(
    part="optimization",
    name="least_squares_steps",
    run=tuned_steps,
    settings=[
        {"dimension": d, "kappa": kappa, "isotropic": isotropic, "seed": seed}
        for d, kappa, isotropic, seeds in _SIZES
        for seed in range(seeds)
    ],
)
EXPERIMENTS = (STEPS,)
