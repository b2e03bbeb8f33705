"""The long experiments of this part: `make experiments`."""

from bnbook.estimation import (
    experiment_runs,
    minibatch_bias,
    minibatch_runs,
    single_example_runs,
)

EXPERIMENTS = (
    *minibatch_runs.EXPERIMENTS,
    *minibatch_bias.EXPERIMENTS,
    *single_example_runs.EXPERIMENTS,
    *experiment_runs.EXPERIMENTS,
)
