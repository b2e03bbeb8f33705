"""The runs of the accuracy table, and what they are held against.

What is claimed was fixed here before the reported runs were made.
"""

from collections.abc import Callable

import pandas as pd

from bnbook.estimation.experiment import NETWORKS, Run, train
from bnbook.estimation.methods import BESIDE, METHODS, Method
from bnbook.experiments import Experiment, Row

RATES = (0.03, 0.1, 0.3, 1.0)
CHOICE_SEEDS = (100, 101)  # they choose the learning rate and are not reported
SEEDS = tuple(range(10))
# With ten seeds, paired differences had a standard deviation of about a point, and so
# intervals of ±0.5 to ±0.9 beside margins of 1. Ten more were added where there are
# claims, for that reason and before an interval of a difference was computed.
MORE_SEEDS = tuple(range(10, 20))
EXAMPLES = 300
STEPS = 300
EVERY = 25

# What each claim is held against, in points of test accuracy at the peak of validation,
# by differences paired by seed, in each of the two plain networks.
# - "Almost", "similar", "a small reduction": at most this. (Source: two stages end 0.3
#   below batch normalization, 32 + 4 another 0.6, and 0.3 above it on ResNet-50.)
SMALL_REDUCTION = 1.0
# - "A small drop" of single examples with rotation and shrinkage, and of groups of two in
#   the residual network: at most this, the source's own for single examples.
SMALL_DROP = 3.5
# - "Improved", "raises": more than 0.
# - The table: Spearman's rank correlation between our accuracies and the source's peaks,
#   over its eleven rows, one value for each seed: at least this.
RANK_CORRELATION = 0.7

RESIDUAL = (
    "batch",
    "two_stage",
    "improved_2_resnet",
    "single_turned",
    "single_shrunk",
    "frozen_turned",
    "none",
)


def table_rows(
    *, network: str, method: str, data: str, examples: int, steps: int
) -> list[Row]:
    """Choose the learning rate of a method by two seeds, and train ten others with it.

    The rate is that of the largest peak of the validation accuracy, averaged over the two
    seeds.

    Returns:
        A row for each seed and rate: `purpose` "choose" or "report"; test accuracies are
        those of the reported seeds, 0 for the others.
    """
    options = {"data": data, "examples": examples, "steps": steps, "every": EVERY}
    pairs = [(seed, rate) for rate in RATES for seed in CHOICE_SEEDS]
    seeds, rates = zip(*pairs, strict=True)
    row = (METHODS | BESIDE)[method]
    choice = train(network, row, seeds=seeds, rates=rates, test=False, **options)
    means = choice.peak.reshape(len(RATES), len(CHOICE_SEEDS)).mean(1)
    best = RATES[means.argmax()]
    return [
        *_rows("choose", choice, pairs),
        *_report(network, row, SEEDS, best, **options),
    ]


def more_rows(
    *, network: str, method: str, data: str, examples: int, steps: int
) -> list[Row]:
    """Train ten more seeds with the learning rate that `table_rows` has chosen.

    Raises:
        FileNotFoundError, ValueError: the table holds no such run; make it first.
    """
    rate = chosen_rate(network, method, data)
    options = {"data": data, "examples": examples, "steps": steps, "every": EVERY}
    return _report(network, METHODS[method], MORE_SEEDS, rate, **options)


def other_rate_rows(
    *, network: str, method: str, other: float, data: str, examples: int, steps: int
) -> list[Row]:
    """Train the ten seeds of the table with a learning rate that was not chosen.

    Args:
        other: the learning rate.
    """
    options = {"data": data, "examples": examples, "steps": steps, "every": EVERY}
    return _report(network, METHODS[method], SEEDS, other, **options)


def chosen_rate(network: str, method: str, data: str = "digits") -> float:
    """The learning rate of the reported runs of a method, from the stored table."""
    experiment = TABLE if data == "digits" else TABLE.on(data)
    table = pd.read_csv(experiment.path)
    at = (table.network == network) & (table.method == method)
    rates = table.rate[at & (table.purpose == "report")]
    if rates.empty:
        raise ValueError(
            f"the table has no run of {method!r} in {network!r}; run "
            f'make experiments ARGS="--only {experiment.name}" first'
        )
    return float(rates.iloc[0])


def _report(
    network: str, method: Method, seeds: tuple[int, ...], rate: float, **options
) -> list[Row]:
    """Train these seeds with one learning rate."""
    run = train(network, method, seeds=seeds, rates=[rate] * len(seeds), **options)
    return _rows("report", run, [(seed, rate) for seed in seeds])


def _rows(purpose: str, run: Run, members: list[tuple[int, float]]) -> list[Row]:
    asked = run.test is not None
    return [
        {
            "purpose": purpose,
            "seed": seed,
            "rate": rate,
            "peak": round(run.peak[s], 4),
            "peak_step": run.peak_step[s],
            "test": round(run.test[s], 4) if asked else 0.0,
            "test_end": round(run.test_end[s], 4) if asked else 0.0,
            "lost": run.lost[s],
        }
        | {
            f"at_{EVERY * (look + 1)}": round(accuracy, 4)
            for look, accuracy in enumerate(run.curve[:, s])
        }
        for s, (seed, rate) in enumerate(members)
    ]


def methods_of(network: str) -> tuple[str, ...]:
    """The rows of the table for this network, by their names in `METHODS`."""
    if network.startswith("residual"):
        return RESIDUAL
    return tuple(name for name in METHODS if name != "improved_2_resnet")


def claimed(network: str) -> tuple[str, ...]:
    """Those rows of the table for which the source has a number."""
    column = "resnet" if network.startswith("residual") else "peak"
    return tuple(
        name
        for name in methods_of(network)
        if getattr(METHODS[name], column) is not None
    )


def _settings(
    networks: tuple[str, ...], methods: Callable[[str], tuple[str, ...]]
) -> list[Row]:
    return [
        {
            "network": network,
            "method": method,
            "data": "digits",
            "examples": EXAMPLES,
            "steps": STEPS,
        }
        for network in networks
        for method in methods(network)
    ]


TABLE = Experiment(
    "estimation", "experiment_table", table_rows, _settings(NETWORKS, methods_of)
)
MORE = Experiment(  # after TABLE, which chooses the learning rates
    "estimation",
    "experiment_more",
    more_rows,
    _settings(("plain 6", "plain 10", "residual 10"), claimed),
)
OPEN = Experiment(  # asked for by a reader, after the table was made
    "estimation",
    "experiment_open",
    table_rows,
    _settings(("plain 6", "plain 10", "dense 4"), lambda network: tuple(BESIDE)),
)
OTHER_RATE = Experiment(  # likewise: a tie in the choice, and an edge of the grid
    "estimation",
    "experiment_other_rate",
    other_rate_rows,
    [
        {
            "network": network,
            "method": method,
            "other": rate,
            "data": "digits",
            "examples": EXAMPLES,
            "steps": STEPS,
        }
        for network, method, rate in (
            ("plain 10", "two_stage", 0.1),
            ("plain 6", "single_turned", 0.3),
        )
    ],
)
EXPERIMENTS = (TABLE, MORE, OPEN, OTHER_RATE)
