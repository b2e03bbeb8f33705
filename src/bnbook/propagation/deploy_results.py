"""What `benchmarks/deploy.py` has measured: speeds with an interval over its sessions."""

import numpy as np
import pandas as pd
from scipy import stats

from bnbook.claims import Interval
from bnbook.experiments import BOOK
from bnbook.training import timing

RESULTS = BOOK / "propagation" / "results"


def load_speed() -> tuple[dict[str, str], pd.DataFrame, pd.DataFrame]:
    """The machine, one row for each layer and session, and one for each network.

    Raises:
        FileNotFoundError: the benchmark has not been run with --save.
    """
    found = timing.load("deploy_speed", RESULTS)
    return (
        found["machine"],
        pd.DataFrame(found["layers"]),
        pd.DataFrame(found["networks"]),
    )


def speed_up(
    rows: pd.DataFrame, column: str, *, claim_low: float, claim_high: float = np.inf
) -> Interval:
    """Mean of a ratio over sessions, with the 95 % interval of Student's t.

    The logarithms of the ratios are averaged, so that a/b and b/a say the same.

    Args:
        rows: one row for each session.
        column: of the ratio.
        claim_low, claim_high: the values claimed.

    Raises:
        ValueError: there are fewer than three sessions, or a ratio is missing.
    """
    logs = np.log(rows[column].to_numpy(float))
    if len(logs) < 3 or not np.isfinite(logs).all():
        raise ValueError(
            f"an interval needs at least three sessions with the ratio {column}, "
            f"got {rows[column].tolist()}"
        )
    half = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs))
    center = logs.mean()
    return Interval(
        *(float(np.exp(v)) for v in (center, center - half, center + half)),
        claim_low,
        claim_high,
    )
