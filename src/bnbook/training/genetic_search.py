"""The genetic hyperparameter search of Yu (2021), Algorithm 3.2.0.

Two hyperparameters are searched in decades: log₁₀ λ of the L2 coefficient and log₁₀ η of
the learning rate. Where the printed algorithm can be read in several ways, the reading is
an argument. Other searches are in `bnbook.training.other_searches`, many searches at once
in `bnbook.training.search_simulation`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

import numpy as np

from bnbook.experiments import Diverged
from bnbook.foundations.inference import require_count

FIRST_BOUNDS = ((-10.0, 0.0), (-10.0, 0.0))  # log₁₀ λ and log₁₀ η: (lower, upper)

# score(l2, learning_rate): the larger the better.
Score = Callable[[float, float], float]


@dataclass(frozen=True)
class Trial:
    """One trained model.

    Attributes:
        generation: from 0.
        log_l2: log₁₀ λ.
        log_rate: log₁₀ η.
        score: validation accuracy; −inf if the run failed.
    """

    generation: int
    log_l2: float
    log_rate: float
    score: float

    @property
    def failed(self) -> bool:
        """Whether the run diverged or returned NaN."""
        return self.score == -np.inf


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        log_l2: log₁₀ of the returned λ.
        log_rate: log₁₀ of the returned η.
        trials: every model, in the order of training.
        bounds: (G + 1, 2, 2): before the first generation and after each, for log₁₀ λ and
            log₁₀ η, lower and upper. A search without generations keeps the first.
    """

    log_l2: float
    log_rate: float
    trials: tuple[Trial, ...]
    bounds: np.ndarray

    @property
    def l2(self) -> float:
        """The returned λ."""
        return float(10.0**self.log_l2)

    @property
    def learning_rate(self) -> float:
        """The returned η."""
        return float(10.0**self.log_rate)

    @property
    def best(self) -> Trial:
        """The model with the highest score, the first of several."""
        return max(self.trials, key=lambda trial: trial.score)

    @property
    def failures(self) -> int:
        """Number of failed runs."""
        return sum(trial.failed for trial in self.trials)


def genetic_search(
    score: Score,
    *,
    rng: np.random.Generator,
    generations: int = 10,
    models: int = 10,
    selected: int = 3,
    bounds: tuple[tuple[float, float], ...] = FIRST_BOUNDS,
    factor: float = 1.5,
    ddof: int = 0,
    upper_first: bool = True,
    elitism: bool = False,
    keep_inside: bool = False,
    ties: str = "first",
    failed: str = "last",
    returns: str = "midpoint",
) -> SearchResult:
    """Search λ and η as Algorithm 3.2.0 prints it; the defaults are its plainest reading.

    Args:
        score: trains a model with (λ, η) and returns its validation accuracy. A run that
            raises `Diverged` or returns NaN has failed.
        rng: draws the hyperparameters.
        generations: G, 10 as printed.
        models: in a generation, 10 as printed.
        selected: k, the 3 best as printed.
        bounds: first bounds of log₁₀ λ and log₁₀ η, (lower, upper) each.
        factor: new bounds are mean ± factor · std of the selected, 1.5 as printed.
        ddof: std divides by k − ddof: 0 (the population's) or 1 (the sample's).
        upper_first: "upper, lower ← mean ± 1.5 std" gives the upper bound the plus, or
            not.
        elitism: the selected compete again in the next generation.
        keep_inside: new bounds are cut off at the first ones.
        ties: of models with equal scores, the "first" trained is selected, or one at
            "random".
        failed: failed runs rank "last" and may be selected, or are "dropped"; if all
            are, the bounds stay.
        returns: the "midpoint" of the last bounds as printed, or the "best" model.

    Raises:
        TypeError: a count is no integer, or the factor no number.
        ValueError: a count is too small, or an option is unknown.

    Source: Yu (2021), Algorithm 3.2.0 and §3.1.
    """
    generations = require_count("generations", generations, 1)
    selected = require_count("selected", selected, 1 + (ddof == 1))
    models = require_count("models", models, selected)
    if not isinstance(factor, Real) or isinstance(factor, bool | np.bool_):
        raise TypeError(f"factor must be a number, got {type(factor).__name__}")
    if not 0 <= factor < np.inf:
        raise ValueError(
            f"factor must be finite and not negative, got {factor}; the source uses 1.5"
        )
    _require_option("ddof", ddof, (0, 1))
    _require_option("ties", ties, ("first", "random"))
    _require_option("failed", failed, ("last", "dropped"))
    _require_option("returns", returns, ("midpoint", "best"))
    first = require_bounds(bounds)

    now, history, trials, parents = first, [first], [], []
    for generation in range(generations):
        children = []
        for _ in range(models):  # lines 6 to 12
            log_l2, log_rate = draw(now, rng.random(2))
            value = try_score(score, log_l2, log_rate)
            children.append(Trial(generation, float(log_l2), float(log_rate), value))
        trials += children
        candidates = parents + children if elitism else children
        parents = select(candidates, selected, ties=ties, failed=failed, rng=rng)
        if parents:  # lines 13 to 19
            chosen = np.array([(p.log_l2, p.log_rate) for p in parents])
            # A single survivor has no sample deviation; its bounds close on it.
            degrees = min(ddof, len(parents) - 1)
            now = next_bounds(chosen, factor=factor, ddof=degrees)
            if not upper_first:
                now = now[:, ::-1]
            if keep_inside:
                now = np.clip(now, first[:, :1], first[:, 1:])
        history.append(now)

    found = now.mean(axis=1)  # lines 21 and 22
    if returns == "best":
        best = max(trials, key=lambda trial: trial.score)
        found = np.array([best.log_l2, best.log_rate])
    return SearchResult(
        float(found[0]), float(found[1]), tuple(trials), np.array(history)
    )


def draw(bounds: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Rand(lower, upper) of lines 7 and 8: lower + (upper − lower) u.

    Args:
        bounds: (…, 2), lower and upper; reversed bounds give the same distribution.
        u: uniform in [0, 1), of the shape that is left.
    """
    lower, upper = bounds[..., 0], bounds[..., 1]
    return lower + (upper - lower) * u


def select(
    trials: list[Trial],
    count: int,
    *,
    ties: str = "first",
    failed: str = "last",
    rng: np.random.Generator | None = None,
) -> list[Trial]:
    """The `count` best of a generation, the best first (line 13).

    Args:
        trials: in the order of training.
        count: how many to select; fewer are returned if fewer are left.
        ties: "first" or "random"; see `genetic_search`.
        failed: "last" or "dropped".
        rng: breaks ties at random.
    """
    if failed == "dropped":
        trials = [trial for trial in trials if not trial.failed]
    if ties == "random":
        trials = [trials[i] for i in rng.permutation(len(trials))]
    return sorted(trials, key=lambda trial: -trial.score)[:count]  # stable


def next_bounds(
    chosen: np.ndarray, *, factor: float = 1.5, ddof: int = 0
) -> np.ndarray:
    """New bounds, mean ± factor · std of the selected (lines 14 to 19).

    Args:
        chosen: (…, k, P): k selected models, P hyperparameters, as log₁₀.
        factor: 1.5 as printed.
        ddof: std divides by k − ddof.

    Returns:
        (…, P, 2): lower and upper.
    """
    mean, std = chosen.mean(axis=-2), chosen.std(axis=-2, ddof=ddof)
    return np.stack([mean - factor * std, mean + factor * std], axis=-1)


def try_score(score: Score, log_l2: float, log_rate: float) -> float:
    """Score of λ = 10^log_l2 and η = 10^log_rate; −inf for a run that diverges or is NaN.

    Raises:
        TypeError: the score is not a number.
    """
    try:
        value = score(float(10.0**log_l2), float(10.0**log_rate))
    except Diverged:
        return -np.inf
    if not isinstance(value, Real) or isinstance(value, bool | np.bool_):
        raise TypeError(
            f"score must return a number, got {type(value).__name__}; return the "
            "validation accuracy"
        )
    return -np.inf if np.isnan(value) else float(value)


def require_bounds(bounds: object) -> np.ndarray:
    """Return the bounds as an array, (2, 2), if they are two intervals.

    Raises:
        ValueError: they are not two pairs of finite numbers, lower before upper.
    """
    array = np.array(bounds, dtype=float)
    if array.shape != (2, 2) or not np.isfinite(array).all():
        raise ValueError(
            "bounds must be finite ((lower, upper), (lower, upper)) of log₁₀ λ and log₁₀ η, "
            f"got {bounds!r}; use for example {FIRST_BOUNDS}"
        )
    if (array[:, 0] >= array[:, 1]).any():
        raise ValueError(
            f"each lower bound must be below its upper one, got {bounds!r}"
        )
    return array


def _require_option(name: str, value: object, allowed: tuple) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {allowed}, got {value!r}")
