"""What the runs of `bnbook.training.higgs` show: tables, and intervals over seeds."""

import numpy as np
import pandas as pd

from bnbook.evidence import Interval
from bnbook.intervals import t_interval

# Table 3.2.1 of Yu (2021), control and BN. The gap, training minus validation accuracy at
# the best epoch, is ours.
SOURCE_TABLE = {
    "rate": (0.62, 2.57),
    "l2": (3.98e-8, 1.26e-8),
    "best_epoch": (9, 8),
    "validation_accuracy": (0.6929, 0.7130),
    "train_accuracy": (0.7433, 0.8467),
    "validation_loss": (0.6005, 0.5651),
    "train_loss": (0.5001, 0.3864),
    "final_train_accuracy": (0.7586, 0.8927),
    "final_train_loss": (0.4846, 0.3379),
    "test_accuracy": (0.6872, 0.7127),
    "gap": (0.0504, 0.1337),
}
CHANCE, MARGIN = 0.53, 0.03  # the majority class, and what a run must add to it
CURVES = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")


def runs(frame: pd.DataFrame, threshold: float = CHANCE + MARGIN) -> pd.DataFrame:
    """One row a run, from one row an epoch.

    Args:
        frame: what `Experiment.load` gives for a training experiment; a diverged run is
            one row with gaps.
        threshold: best validation accuracy from which on a run counts as training.

    Returns:
        The settings of each run; `diverged`; `best_epoch`, and at that epoch
        `train_loss`, `train_accuracy`, `validation_loss`, `validation_accuracy` and
        `gap`, training minus validation accuracy; `final_train_loss` and
        `final_train_accuracy` after the last epoch; `test_accuracy` of the best epoch;
        and `trains`: whether the run stayed finite and reached the threshold. A
        diverged run has gaps there and does not train.

    Raises:
        ValueError: a run does not have its best epoch among its rows.
    """
    # The outcome parts the settings from the results.
    settings = list(frame.columns[: list(frame.columns).index("outcome")])
    rows = []
    for key, run in frame.groupby(settings, sort=False):
        row = dict(zip(settings, key, strict=True))
        row["diverged"] = run.outcome.iloc[0] != "finished"
        if row["diverged"]:
            rows.append(row)
            continue
        best = run[run.epoch == run.best_epoch]
        if len(best) != 1:
            raise ValueError(f"the run {row} has {len(best)} rows of its best epoch")
        row |= best.iloc[0][["best_epoch", *CURVES, "test_accuracy"]].to_dict()
        last = run[run.epoch == run.epoch.max()].iloc[0]
        row["final_train_loss"] = last.train_loss
        row["final_train_accuracy"] = last.train_accuracy
        rows.append(row)
    table = pd.DataFrame(rows)
    table["gap"] = table.train_accuracy - table.validation_accuracy
    table["trains"] = table.validation_accuracy >= threshold
    return table


def at_best_rate(table: pd.DataFrame) -> pd.DataFrame:
    """The runs of each model at its best rate: that of the highest mean validation accuracy.

    A rate at which a seed diverged is none. The mean is over all seeds, so the choice is
    the same for all of them.
    """
    chosen = best_rates(table)
    return table[table.rate == table.model.map(chosen)].reset_index(drop=True)


def best_rates(table: pd.DataFrame) -> dict[str, float]:
    """For each model, the rate with the highest mean validation accuracy over all seeds."""
    whole = table[~table.groupby(["model", "rate"]).diverged.transform("any")]
    means = whole.groupby(["model", "rate"]).validation_accuracy.mean()
    return {
        model: float(means[model].idxmax()) for model in means.index.unique("model")
    }


def best_rate_of_each_seed(table: pd.DataFrame) -> pd.DataFrame:
    """The rate with the highest validation accuracy: seeds as rows, models as columns."""
    best = table.loc[table.groupby(["seed", "model"]).validation_accuracy.idxmax()]
    return best.pivot(index="seed", columns="model", values="rate")


def highest_trainable(table: pd.DataFrame) -> pd.DataFrame:
    """The highest rate at which a run trains: seeds as rows, models as columns.

    Raises:
        ValueError: a model trains at no rate for some seed.
    """
    best = table[table.trains].groupby(["seed", "model"]).rate.max().unstack()
    if best.isna().any(axis=None) or len(best) < table.seed.nunique():
        raise ValueError("a model trains at no rate for some seed; add lower rates")
    return best


def paired(table: pd.DataFrame, column: str) -> np.ndarray:
    """BN minus control, one difference a seed.

    Raises:
        ValueError: a model lacks a seed, has it twice, or diverged there.
    """
    values = table.pivot(index="seed", columns="model", values=column)
    differences = (values["bn"] - values["control"]).to_numpy(float)
    if not np.isfinite(differences).all():
        raise ValueError(f"{column} has gaps: {values.to_dict()}")
    return differences


def measured(
    values: np.ndarray, *, resolution: float = 0.0, **claimed: float
) -> Interval:
    """The t interval as evidence.

    Args:
        values: one a seed.
        resolution: how far a value may be off because it was looked for on a grid; the
            interval is that much longer at each end.
        claimed: `claim_low`, `claim_high` or both.

    Raises:
        ValueError: as for `t_interval`; or the resolution is negative.
    """
    if not resolution >= 0:
        raise ValueError(f"resolution must be at least 0, got {resolution}")
    mean, low, high = t_interval(values)
    return Interval(mean, low - resolution, high + resolution, **claimed)


def first_epoch_at(frame: pd.DataFrame, level: pd.Series) -> pd.Series:
    """For each seed the first epoch whose validation accuracy is at least a level.

    Args:
        frame: epochs of runs of one model at one rate.
        level: accuracy to reach, by seed.

    Returns:
        Epochs by seed; one more than the last where the level is never reached.
    """
    reached = frame[frame.validation_accuracy >= frame.seed.map(level)]
    first = reached.groupby("seed").epoch.min()
    never = frame.groupby("seed").epoch.max() + 1
    return first.reindex(never.index).fillna(never).astype(int)


def shrinkage(rate: float, l2: float, steps: int) -> float:
    """Share of its length that a weight loses to L2 alone in so many steps.

    Each step of gradient descent multiplies it by 1 − ηλ, with learning rate η and
    penalty λ/2 Σ W².

    Raises:
        ValueError: ηλ is not between 0 and 1, or steps is negative.
    """
    if not 0 <= rate * l2 <= 1 or steps < 0:
        raise ValueError(
            f"need 0 ≤ rate · l2 ≤ 1 and steps ≥ 0, got {rate * l2:g} and {steps}"
        )
    if rate * l2 == 1:
        return float(steps > 0)
    return float(-np.expm1(steps * np.log1p(-rate * l2)))
