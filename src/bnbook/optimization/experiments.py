"""The long experiments of this part: `make experiments`."""

from bnbook.optimization import (
    divergence_runs,
    landscape_runs,
    lp_precision,
    lp_training,
    rate_sweep,
    robustness,
    scale_training,
)

EXPERIMENTS = (
    *rate_sweep.EXPERIMENTS,
    *divergence_runs.EXPERIMENTS,
    *scale_training.EXPERIMENTS,
    *landscape_runs.EXPERIMENTS,
    *lp_training.EXPERIMENTS,
    *lp_precision.EXPERIMENTS,
    *robustness.EXPERIMENTS,
)
