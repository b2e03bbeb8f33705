"""The exercises of the part `optimization`, in the order of its chapters; one module each."""

from bnbook.exercises.optimization import (
    least_squares_gradients,
    least_squares_limits,
    least_squares_property,
    least_squares_star,
    least_squares_step,
    robustness_batches,
    robustness_honest,
    robustness_property,
    robustness_scale,
    robustness_unseen,
)

EXERCISES = (
    least_squares_gradients.EXERCISE,
    least_squares_star.EXERCISE,
    least_squares_limits.EXERCISE,
    least_squares_step.EXERCISE,
    least_squares_property.EXERCISE,
    robustness_scale.EXERCISE,
    robustness_batches.EXERCISE,
    robustness_unseen.EXERCISE,
    robustness_honest.EXERCISE,
    robustness_property.EXERCISE,
)
