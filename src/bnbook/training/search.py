"""The chapter on hyperparameter search: what is searched, by what, and the long runs.

The printed algorithm is in `bnbook.training.genetic_search`, other searches in
`bnbook.training.other_searches`, what can be said without a network in
`bnbook.training.shrinkage` and `bnbook.training.search_simulation`.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd

from bnbook.data.higgs_toy import higgs_toy
from bnbook.data.splits import Dataset, split
from bnbook.experiments import Diverged, Experiment
from bnbook.training.genetic_search import (
    FIRST_BOUNDS,
    Score,
    SearchResult,
    genetic_search,
    next_bounds,
)
from bnbook.training.network import Network, evaluate, train
from bnbook.training.other_searches import random_search, tpe_search
from bnbook.training.search_simulation import quadratic

__all__ = [
    "EXPERIMENTS",
    "FIRST_BOUNDS",
    "METHODS",
    "NETWORK",
    "QUADRATIC",
    "SWEEP",
    "NetworkScore",
    "SearchResult",
    "count_diverged",
    "fit",
    "genetic_search",
    "majority",
    "next_bounds",
    "quadratic_score",
    "random_search",
    "search",
    "toy_dataset",
    "tpe_search",
]

SIZES = (28, 32, 32, 32, 32, 1)  # four hidden layers as in the source, but narrow
EXAMPLES = {"train": 4000, "validation": 2000, "test": 8000}
EPOCHS, BATCH_SIZE = 5, 128
EVALUATIONS, RETRAININGS = 100, 3
METHODS = ("genetic", "random", "tpe")
SEEDS = range(5)


@cache
def toy_dataset(seed: int) -> Dataset:
    """The toy of the HIGGS data, standardized: 4000 examples to train, 2000 to validate,
    8000 to test."""
    count = sum(EXAMPLES.values())
    x, t = higgs_toy(count, seed)
    features = tuple(f"column {i}" for i in range(x.shape[1]))
    shares = {part: EXAMPLES[part] / count for part in ("validation", "test")}
    return split("toy", features, x, t, **shares, seed=seed).standardized()


def fit(
    data: Dataset, *, batch_norm: bool, l2: float, learning_rate: float, seed: int
) -> tuple[float, float]:
    """Train one network of the chapter.

    Args:
        data: what to learn.
        batch_norm: with or without batch normalization.
        l2: λ.
        learning_rate: η.
        seed: of the weights and of the order of the examples.

    Returns:
        The best validation accuracy of all epochs, and the test accuracy after that
        epoch.

    Raises:
        Diverged: the loss is no longer finite.
    """
    network = Network(SIZES, batch_norm=batch_norm, seed=seed)
    history = train(
        network,
        data.train,
        data.validation,
        learning_rate=learning_rate,
        l2=l2,
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        seed=seed,
    )
    network.restore(history.best)
    _, test_accuracy = evaluate(network, *data.test)
    return float(history.validation_accuracy.max()), test_accuracy


class NetworkScore:
    """score(λ, η) for a search: each call trains a new network, from the next seed.

    The seeds depend on `seed` and on the number of the call, so that every method has the
    same luck.

    Args:
        data: what to learn.
        batch_norm: with or without batch normalization.
        seed: of the search.
    """

    def __init__(self, data: Dataset, *, batch_norm: bool, seed: int):
        """Start with the first seed."""
        self.data, self.batch_norm = data, batch_norm
        self.first_seed = self.next_seed = 1000 * seed

    def __call__(self, l2: float, learning_rate: float) -> float:
        """Return the best validation accuracy of a new network."""
        self.next_seed += 1
        return fit(
            self.data,
            batch_norm=self.batch_norm,
            l2=l2,
            learning_rate=learning_rate,
            seed=self.next_seed,
        )[0]

    def test_accuracy(self, l2: float, learning_rate: float) -> float:
        """Mean test accuracy of three networks trained with what a search returned.

        They start from the three seeds after those of a search with 100 evaluations,
        whatever was called before. A run that diverges counts as `majority`.
        """
        accuracies = []
        for number in range(1, RETRAININGS + 1):
            try:
                accuracy = fit(
                    self.data,
                    batch_norm=self.batch_norm,
                    l2=l2,
                    learning_rate=learning_rate,
                    seed=self.first_seed + EVALUATIONS + number,
                )[1]
            except Diverged:
                accuracy = majority(self.data.test.t)
            accuracies.append(accuracy)
        return float(np.mean(accuracies))


def majority(t: np.ndarray) -> float:
    """Accuracy of a network that always names the more frequent class of t, 0 or 1.

    The chapter counts a run that diverged as such a network, in every table and figure.
    """
    share = float(np.mean(t))
    return max(share, 1 - share)


def count_diverged(sweep: pd.DataFrame) -> pd.DataFrame:
    """Rows of `SWEEP`, with `majority` as the accuracies of the runs that diverged."""
    counted = sweep.copy()
    for column, part in (
        ("validation_accuracy", "validation"),
        ("test_accuracy", "test"),
    ):
        of_seed = {
            seed: majority(toy_dataset(seed).parts()[part].t)
            for seed in counted.loc[counted[column].isna(), "seed"].unique()
        }
        counted[column] = counted[column].fillna(counted.seed.map(of_seed))
    return counted


def quadratic_score(optimum: float, noise: float, seed: int) -> Score:
    """score(λ, η) = −(log₁₀ η − optimum)² plus normal noise."""
    of_points = quadratic(optimum, noise, np.random.default_rng([seed, 1]))

    def score(l2: float, learning_rate: float) -> float:
        return float(of_points(np.log10([l2, learning_rate])))

    return score


def search(method: str, score: Score, seed: int) -> SearchResult:
    """100 evaluations of a method of METHODS, within the source's first bounds.

    Raises:
        ValueError: there is no such method.
    """
    searches: dict[str, Callable[[], SearchResult]] = {
        "genetic": lambda: genetic_search(score, rng=np.random.default_rng(seed)),
        "random": lambda: random_search(score, rng=np.random.default_rng(seed)),
        "tpe": lambda: tpe_search(score, seed=seed),
    }
    if method not in searches:
        raise ValueError(f"method must be one of {METHODS}, got {method!r}")
    return searches[method]()


def run_quadratic(method: str, optimum: float, noise: float, seed: int) -> dict:
    """One search on the quadratic; see `search`."""
    found = search(method, quadratic_score(optimum, noise, seed), seed)
    return {
        "log_l2": found.log_l2,
        "log_rate": found.log_rate,
        "best_log_rate": found.best.log_rate,
    }


def run_network(method: str, batch_norm: bool, seed: int) -> list[dict]:
    """One search on the network, a row for each ten evaluations; see `search`."""
    score = NetworkScore(toy_dataset(seed), batch_norm=batch_norm, seed=seed)
    found = search(method, score, seed)
    best = found.best
    returned = {
        "log_l2": found.log_l2,
        "log_rate": found.log_rate,
        "test_accuracy": score.test_accuracy(found.l2, found.learning_rate),
        "best_log_l2": best.log_l2,
        "best_log_rate": best.log_rate,
        "best_test_accuracy": score.test_accuracy(
            float(10**best.log_l2), float(10**best.log_rate)
        ),
    }
    rows = []
    for end in range(10, len(found.trials) + 1, 10):
        # Only the genetic search moves its bounds.
        bounds = found.bounds[min(end // 10, len(found.bounds) - 1)]
        tried = found.trials[:end]
        rows.append(
            {
                "evaluations": end,
                "best_score": max(trial.score for trial in tried),
                "failures": sum(trial.failed for trial in tried),
                "l2_lower": bounds[0, 0],
                "l2_upper": bounds[0, 1],
                "rate_lower": bounds[1, 0],
                "rate_upper": bounds[1, 1],
                **returned,
            }
        )
    return rows


def run_sweep(batch_norm: bool, log_l2: float, log_rate: float, seed: int) -> dict:
    """One network at a point of the grid."""
    validation, test = fit(
        toy_dataset(seed),
        batch_norm=batch_norm,
        l2=float(10.0**log_l2),
        learning_rate=float(10.0**log_rate),
        seed=500 + seed,
    )
    return {"validation_accuracy": validation, "test_accuracy": test}


QUADRATIC = Experiment(
    "training",
    "search_quadratic",
    run_quadratic,
    [
        {"method": method, "optimum": optimum, "noise": noise, "seed": seed}
        for method in METHODS
        for optimum in (-3.0, -0.21, 0.41)  # inside; 0.62 and 2.57 of Table 3.2.1
        for noise in (0.0, 0.5)
        for seed in range(20)
    ],
)

NETWORK = Experiment(
    "training",
    "search_network",
    run_network,
    [
        {"method": method, "batch_norm": batch_norm, "seed": seed}
        for seed in SEEDS
        for batch_norm in (False, True)
        for method in METHODS
    ],
)

RATES = tuple(np.arange(-3, 1.51, 0.25).tolist())
PENALTIES = tuple(np.arange(-10, 0.1, 1.0).tolist())
USUAL_L2 = -7.5  # between the two of Table 3.2.1
GOOD_RATE = {False: -0.25, True: 0.5}

SWEEP = Experiment(
    "training",
    "search_sweep",
    run_sweep,
    [
        {"batch_norm": batch_norm, "log_l2": log_l2, "log_rate": rate, "seed": seed}
        for batch_norm in (False, True)
        for log_l2, rate in (
            *((USUAL_L2, rate) for rate in RATES),
            *((log_l2, GOOD_RATE[batch_norm]) for log_l2 in PENALTIES),
        )
        for seed in SEEDS
    ],
)

EXPERIMENTS = (QUADRATIC, SWEEP, NETWORK)
