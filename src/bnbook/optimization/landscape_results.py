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
