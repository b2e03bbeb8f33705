"""The long experiments of this part: `make experiments`."""

from bnbook.optimization import (
    divergence,
    lp_precision,
    lp_training,
    rate_sweep,
    robustness,
    scale_training,
)

EXPERIMENTS = (
    *rate_sweep.EXPERIMENTS,
    *divergence.EXPERIMENTS,
    *scale_training.EXPERIMENTS,
    *lp_training.EXPERIMENTS,
    *lp_precision.EXPERIMENTS,
    *robustness.EXPERIMENTS,
)
