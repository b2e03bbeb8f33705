"""Exercise: χ of a polynomial activation from its Hermite coefficients."""

import math

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def chi(a: np.ndarray) -> float:
    """χ = E[f'²]/Var f for f = Σ_n a_n He_n under a standard Gaussian.

    He_n are the probabilists' Hermite polynomials: E[He_n He_k] = n! for n = k, else 0, and
    He_n' = n He_{n−1}.

    Args:
        a: the coefficients a_0, a_1, …, (N,), N ≥ 2, not all of a_1, a_2, … zero.

    Returns:
        value: χ ≥ 1.
    """
    energy = np.array([math.factorial(n) * c**2 for n, c in enumerate(a)])
    degree = np.arange(len(a))
    return float((degree * energy).sum() / energy[1:].sum())


def mean_counted(a):
    """You divide by E[f²]. The variance leaves out the mean: n = 0 does not count."""
    energy = np.array([math.factorial(n) * c**2 for n, c in enumerate(a)])
    return float((np.arange(len(a)) * energy).sum() / energy.sum())


def factorial_forgotten(a):
    """You treat the He_n as normalized. E[He_n²] = n!, so a_n counts n! a_n²."""
    degree = np.arange(len(a))
    return float((degree * a**2).sum() / (a[1:] ** 2).sum())


def degree_squared(a):
    """You weight the energies n! a_n² by n². The n² from He_n' = n He_{n−1} meets
    E[He_{n−1}²] = (n − 1)!, and n² (n − 1)! is n · n!."""
    energy = np.array([math.factorial(n) * c**2 for n, c in enumerate(a)])
    return float((np.arange(len(a)) ** 2 * energy).sum() / energy[1:].sum())


def factorial_one_too_low(a):
    """You keep (n − 1)! in numerator and denominator. Var f has n! a_n²."""
    low = np.array([math.factorial(n) * c**2 for n, c in enumerate(a[1:])])
    return float((np.arange(1, len(a)) ** 2 * low).sum() / low.sum())


def inverted(a):
    """You return Var f/E[f'²], which is at most 1."""
    return 1 / chi(a)


def by_polynomials(a):
    """The same, by Gauss–Hermite quadrature, exact for polynomials."""
    from numpy.polynomial import hermite_e

    nodes, weights = hermite_e.hermegauss(len(a) + 2)
    weights = weights / weights.sum()
    f = hermite_e.hermeval(nodes, a)
    slope = hermite_e.hermeval(nodes, hermite_e.hermeder(a))
    return float(weights @ slope**2 / (weights @ f**2 - (weights @ f) ** 2))


EXERCISE = FunctionExercise(
    id="variance-chi",
    chapter="propagation/variance",
    title="The mean degree",
    level="warm-up",
    reference=chi,
    why="Var f = Σ n! a_n² and E[f'²] = Σ n · n! a_n², both from n = 1 on: χ is the mean of n with the "
    "weights n! a_n².",
    mistakes=variants(
        mean_counted,
        factorial_forgotten,
        degree_squared,
        factorial_one_too_low,
        inverted,
    ),
    alternatives=(by_polynomials,),
    hints=(
        "Write f' = Σ n a_n He_{n−1} and square: only equal degrees survive the expectation.",
        "E[f'²] = Σ n² a_n² (n − 1)!, and Var f = Σ a_n² n! without n = 0.",
    ),
    cases=(
        Case("degree 4", (np.array([0.7, 1.1, -0.6, 0.25, 0.12]),)),
        Case(
            "a straight line", (np.array([2.0, -0.5]),), "f is a straight line: χ = 1."
        ),
        Case(
            "ReLU, cut after degree 2",
            (np.array([0.3989422804014327, 0.5, 0.19947114020071635]),),
        ),
    ),
    returns=("value",),
)
