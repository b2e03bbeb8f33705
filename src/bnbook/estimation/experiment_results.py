"""What the stored runs of the accuracy table say, in points (percent)."""

import numpy as np
import pandas as pd
from scipy import stats

from bnbook.estimation.experiment_runs import MORE, TABLE
from bnbook.intervals import t_interval


def load_runs() -> pd.DataFrame:
    """All stored runs of the table, ten or twenty reported seeds for each row."""
    return pd.concat([TABLE.load(), MORE.load()], ignore_index=True)


def reported(
    results: pd.DataFrame, network: str, method: str, column: str = "test"
) -> np.ndarray:
    """A column of the reported runs, one entry a seed in their order, (S,).

    Accuracies are in points; `peak_step`, `rate`, `lost` and the seed as they are.

    Raises:
        ValueError: there are no such runs.
    """
    rows = _rows(results, network, method)
    values = rows[column].to_numpy()
    if column in ("peak_step", "rate", "lost", "seed"):
        return values
    return 100 * values


def difference(
    results: pd.DataFrame, network: str, first: str, second: str, column: str = "test"
) -> np.ndarray:
    """first − second, paired by seed, in points; of the seeds that both have, (S,)."""
    one, two = (
        pd.Series(
            reported(results, network, method, column),
            reported(results, network, method, "seed"),
        )
        for method in (first, second)
    )
    return (one - two).dropna().to_numpy()


def curves(
    results: pd.DataFrame, network: str, method: str
) -> tuple[np.ndarray, np.ndarray]:
    """Updates at each look, (looks,), and validation accuracies there, (S, looks)."""
    rows = _rows(results, network, method)
    names = [name for name in rows if name.startswith("at_")]
    steps = np.array([int(name.removeprefix("at_")) for name in names])
    return steps, 100 * rows[names].to_numpy()


def at_baseline_peak(
    results: pd.DataFrame, network: str, method: str, baseline: str = "batch"
) -> np.ndarray:
    """Validation accuracy after as many updates as the baseline of this seed needs for
    its peak, (S,)."""
    steps, curve = curves(results, network, method)
    peaks = _rows(results, network, baseline).set_index("seed").peak_step
    own = peaks.loc[reported(results, network, method, "seed")].to_numpy()
    return curve[np.arange(len(curve)), np.searchsorted(steps, own)]


def order_correlation(source: np.ndarray, measured: np.ndarray) -> float:
    """Spearman's rank correlation of two columns of the table, (R,) each."""
    return float(stats.spearmanr(source, measured).statistic)


def signed(values: np.ndarray, digits: int = 1) -> tuple[str, str]:
    """Mean with its sign, and Student's 95% interval, as two cells of a table."""
    mean, low, high = t_interval(values)
    return f"{mean:+.{digits}f}", f"{low:+.{digits}f} to {high:+.{digits}f}"


def _rows(results: pd.DataFrame, network: str, method: str) -> pd.DataFrame:
    rows = results[
        (results.network == network)
        & (results.method == method)
        & (results.purpose == "report")
    ]
    if rows.empty:
        raise ValueError(f"no reported runs of {method!r} in the network {network!r}")
    return rows.sort_values("seed")


def order_ceiling(source: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Rank correlations that the seeds would have if the means had the source's order.

    The means of the rows change places, and each row keeps its deviations from its mean:
    so much of the order does the scatter of a single seed leave.

    Args:
        source: a column of the source's table, without equal values, (R,).
        measured: accuracies of each row and seed, (R, S).

    Returns:
        The rank correlation of each seed, (S,).
    """
    means = measured.mean(1)
    places = stats.rankdata(source).astype(int) - 1
    moved = np.sort(means)[places, None] + measured - means[:, None]
    return np.array([order_correlation(source, column) for column in moved.T])


def error_ratio(results: pd.DataFrame, network: str, method: str) -> np.ndarray:
    """Error over that of batch normalization with the same seed: the geometric mean, and
    the ends of its 95% interval, (3,)."""
    gap = np.log(100 - reported(results, network, method))
    base = np.log(100 - reported(results, network, "batch"))[: len(gap)]
    return np.exp(t_interval(gap - base))
