"""Random search and Optuna's TPE, with the same budget and bounds as the genetic search.

Both return the best model that they trained.
"""

import numpy as np

from bnbook.foundations.inference import require_count
from bnbook.training.genetic_search import (
    FIRST_BOUNDS,
    Score,
    SearchResult,
    Trial,
    draw,
    require_bounds,
    try_score,
)


def random_search(
    score: Score,
    *,
    rng: np.random.Generator,
    evaluations: int = 100,
    bounds: tuple[tuple[float, float], ...] = FIRST_BOUNDS,
) -> SearchResult:
    """Draw every model uniformly, in decades, from the first bounds.

    Args:
        score: as for `genetic_search`.
        rng: draws the hyperparameters.
        evaluations: models to train.
        bounds: of log₁₀ λ and log₁₀ η, (lower, upper) each.

    Raises:
        TypeError: evaluations is no integer.
        ValueError: there is no evaluation, or the bounds are not two intervals.

    Source: Bergstra and Bengio (2012).
    """
    evaluations = require_count("evaluations", evaluations, 1)
    first = require_bounds(bounds)
    trials = []
    for _ in range(evaluations):
        log_l2, log_rate = draw(first, rng.random(2)).tolist()
        trials.append(Trial(0, log_l2, log_rate, try_score(score, log_l2, log_rate)))
    return _best_of(trials, first)


def tpe_search(
    score: Score,
    *,
    seed: int,
    evaluations: int = 100,
    bounds: tuple[tuple[float, float], ...] = FIRST_BOUNDS,
) -> SearchResult:
    """Let Optuna's tree-structured Parzen estimator propose the models.

    The sampler is `optuna.samplers.TPESampler(seed=seed)` with its defaults: it draws ten
    models at random, then fits one density to the better and one to the other models, and
    proposes where their ratio is largest, for each hyperparameter by itself. A failed run
    is reported as failed, which the sampler then leaves out.

    Args:
        score: as for `genetic_search`.
        seed: of the sampler.
        evaluations: models to train.
        bounds: of log₁₀ λ and log₁₀ η, (lower, upper) each.

    Raises:
        TypeError: evaluations or seed is no integer.
        ValueError: there is no evaluation, or the bounds are not two intervals.

    Source: Akiba et al. (2019).
    """
    evaluations = require_count("evaluations", evaluations, 1)
    seed = require_count("seed", seed, 0)
    first = require_bounds(bounds)
    import optuna  # here, because it takes a while to import

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        sampler = optuna.samplers.TPESampler(seed=seed)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        trials = []
        for _ in range(evaluations):
            asked = study.ask()
            log_l2 = asked.suggest_float("log_l2", *first[0])
            log_rate = asked.suggest_float("log_rate", *first[1])
            value = try_score(score, log_l2, log_rate)
            trials.append(Trial(0, log_l2, log_rate, value))
            if trials[-1].failed:
                study.tell(asked, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(asked, value)
    finally:
        optuna.logging.set_verbosity(before)
    return _best_of(trials, first)


def _best_of(trials: list[Trial], first: np.ndarray) -> SearchResult:
    best = max(trials, key=lambda trial: trial.score)
    return SearchResult(best.log_l2, best.log_rate, tuple(trials), first[None])
