"""Many genetic searches at once, on a score that is a formula and not a network."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bnbook.foundations.inference import require_count
from bnbook.training.genetic_search import (
    FIRST_BOUNDS,
    draw,
    next_bounds,
    require_bounds,
)


@dataclass(frozen=True)
class Simulation:
    """R searches.

    Attributes:
        bounds: (R, G + 1, 2, 2): before the first generation and after each, for
            log₁₀ λ and log₁₀ η, lower and upper.
    """

    bounds: np.ndarray

    @property
    def widths(self) -> np.ndarray:
        """(R, G + 1, 2): upper − lower, in decades."""
        return self.bounds[..., 1] - self.bounds[..., 0]

    @property
    def returned(self) -> np.ndarray:
        """(R, 2): log₁₀ λ and log₁₀ η, the midpoints of the last bounds."""
        return self.bounds[:, -1].mean(axis=-1)


def simulate(
    score: Callable[[np.ndarray], np.ndarray],
    repetitions: int,
    rng: np.random.Generator,
    *,
    generations: int = 10,
    models: int = 10,
    selected: int = 3,
    bounds: tuple[tuple[float, float], ...] = FIRST_BOUNDS,
    factor: float = 1.5,
    ddof: int = 0,
    keep_inside: bool = False,
) -> Simulation:
    """Run Algorithm 3.2.0 many times side by side.

    Args:
        score: takes points (R, models, 2), log₁₀ λ and log₁₀ η, returns scores
            (R, models).
        repetitions: R.
        rng: draws the points.
        generations: as for `genetic_search`, and so are the arguments that follow.
        models: see there.
        selected: see there.
        bounds: see there.
        factor: see there.
        ddof: see there.
        keep_inside: see there.

    Raises:
        TypeError: a count is no integer.
        ValueError: a count is too small, or the bounds are not two intervals.
    """
    repetitions = require_count("repetitions", repetitions, 1)
    generations = require_count("generations", generations, 1)
    models = require_count("models", models, require_count("selected", selected, 1))
    first = require_bounds(bounds)
    history = np.empty((repetitions, generations + 1, 2, 2))
    history[:, 0] = first
    for g in range(generations):
        points = draw(history[:, g, None], rng.random((repetitions, models, 2)))
        best = np.argsort(-score(points), axis=1, kind="stable")[:, :selected]
        chosen = np.take_along_axis(points, best[..., None], axis=1)
        new = next_bounds(chosen, factor=factor, ddof=ddof)
        if keep_inside:
            new = np.clip(new, first[:, :1], first[:, 1:])
        history[:, g + 1] = new
    return Simulation(history)


def quadratic(
    optimum: float, noise: float = 0.0, rng: np.random.Generator | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """A score that falls off as the squared distance of η from its optimum, in decades.

    λ has no effect on it. On a network that holds for a small λ only.

    Args:
        optimum: log₁₀ of the best η.
        noise: standard deviation of what is added to each score, in squared decades.
        rng: draws the noise.

    Returns:
        A function of points (…, 2), log₁₀ λ and log₁₀ η, that returns scores (…).

    Raises:
        ValueError: noise is negative, or positive without a generator.
    """
    if noise < 0 or (noise > 0 and rng is None):
        raise ValueError(
            f"noise must be at least 0, and needs rng if positive, got {noise} and {rng}"
        )

    def score(points: np.ndarray) -> np.ndarray:
        exact = -((points[..., 1] - optimum) ** 2)
        return exact + noise * rng.normal(size=exact.shape) if noise else exact

    return score


def gaussian_mutation(
    parents: np.ndarray, deviation: float, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Children as a genetic algorithm mutates them: a random parent plus normal noise.

    Args:
        parents: (k,).
        deviation: of the noise.
        count: number of children.
        rng: chooses the parents and draws the noise.

    Returns:
        (count,).

    Source: what Yu (2021), §3.1, names; Algorithm 3.2.0 does something else.
    """
    return rng.choice(parents, size=count) + deviation * rng.normal(size=count)
