"""The long experiments of this part: `make experiments`."""

from bnbook.estimation import (
    minibatch_runs,
    single_example_runs,
)

EXPERIMENTS = (
    *minibatch_runs.EXPERIMENTS,
    *single_example_runs.EXPERIMENTS,
)
