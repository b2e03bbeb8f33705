"""The long experiments of this part: `make experiments`."""

from bnbook.estimation import (
    conversion_bias,
    experiment_bias,
    experiment_runs,
    minibatch_bias,
    minibatch_runs,
    single_example_runs,
    single_example_training,
)

EXPERIMENTS = (
    *minibatch_runs.EXPERIMENTS,
    *minibatch_bias.EXPERIMENTS,
    *single_example_runs.EXPERIMENTS,
    *conversion_bias.EXPERIMENTS,
    *single_example_training.EXPERIMENTS,
    *experiment_runs.EXPERIMENTS,
    *experiment_bias.EXPERIMENTS,
)
