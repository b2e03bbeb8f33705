"""What the experiments and `benchmarks/landscape.py` have measured, summarized."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from bnbook.experiments import BOOK
from bnbook.training import timing

RESULTS = BOOK / "optimization" / "results"


def load_benchmark() -> tuple[dict[str, str], pd.DataFrame]:
    """The machine, and one row for each network and seed.

    Raises:
        FileNotFoundError: the benchmark has not been run with --save.
    """
    found = timing.load("landscape", RESULTS)
    return found["machine"], pd.DataFrame(found["runs"])


def product_ratio(row: Mapping[str, float]) -> float:
    """Products of power iteration over those of Lanczos."""
    return row["power_products"] / row["lanczos_products"]


def best_rate(results: pd.DataFrame, treatment: str) -> tuple[float, pd.DataFrame]:
    """The learning rate with the lowest geometric mean of the training loss over the seeds,
    among those at which no run diverged; and its rows, by seed.

    Raises:
        ValueError: there is no such rate.
    """
    rows = results[results.treatment == treatment]
    means = (
        np.log(rows.set_index("rate").loss)
        .groupby("rate")
        .agg(lambda logs: np.inf if logs.isna().any() else logs.mean())
    )
    if means.empty or not np.isfinite(means.min()):
        raise ValueError(
            f"no learning rate at which all runs of {treatment!r} finished"
        )
    rate = float(means.idxmin())
    return rate, rows[rows.rate == rate].sort_values("seed").reset_index(drop=True)


def rank_correlations(results: pd.DataFrame, name: str, target: str) -> np.ndarray:
    """Spearman's rank correlation of two columns over the runs of each seed, (seeds,).

    Raises:
        ValueError: a seed has fewer than three finished runs.
    """
    found = []
    for _, runs in results.dropna(subset=[name, target]).groupby("seed"):
        if len(runs) < 3:
            raise ValueError(
                "a rank correlation needs at least three runs of each seed"
            )
        found.append(stats.spearmanr(runs[name], runs[target]).statistic)
    return np.array(found)


def log_ratios(results: pd.DataFrame, name: str, *, scale: float = 1.0) -> np.ndarray:
    """log of normalized over plain, the mean over the checkpoints, for each seed, (seeds,).

    Args:
        results: of the experiment `SMOOTHNESS`.
        name: of a positive column.
        scale: of the weights in front of the normalizations.

    Raises:
        ValueError: no run has this scale, or a value is not positive and finite.
    """
    norm = results[(results.kind == "norm") & (results.scale == scale)]
    plain = results[results.kind == "plain"]
    both = [
        rows.pivot(index="seed", columns="step", values=name) for rows in (norm, plain)
    ]
    ratios = np.log((both[0] / both[1]).to_numpy(float))
    if ratios.size == 0 or not np.isfinite(ratios).all():
        raise ValueError(f"{name} at scale {scale} has no positive value for each run")
    return ratios.mean(axis=1)


def largest_good_rate(
    results: pd.DataFrame, treatment: str, *, least: float = 0.9
) -> np.ndarray:
    """The largest learning rate with a test accuracy of at least `least`, for each seed.

    Raises:
        ValueError: a seed has no such rate.
    """
    rows = results[(results.treatment == treatment) & (results.test >= least)]
    rates = rows.groupby("seed").rate.max()
    missing = set(results.seed) - set(rates.index)
    if missing:
        raise ValueError(
            f"{treatment!r} reaches {least:g} at no rate for seeds {missing}"
        )
    return rates.sort_index().to_numpy()
