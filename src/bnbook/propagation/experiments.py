"""The long experiments of this part: `make experiments`."""

from bnbook.propagation import (
    binary_arguments,
    deploy_training,
    finite_size,
    ternary_training,
)

EXPERIMENTS = (
    *finite_size.EXPERIMENTS,
    *binary_arguments.EXPERIMENTS,
    *ternary_training.EXPERIMENTS,
    *deploy_training.EXPERIMENTS,
)
