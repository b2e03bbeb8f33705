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
    scale_invariance_bounce,
    scale_invariance_property,
    scale_invariance_schedule,
    scale_invariance_settled,
    scale_invariance_sphere,
    scale_invariance_twin,
)

EXERCISES = (
    least_squares_gradients.EXERCISE,
    least_squares_star.EXERCISE,
    least_squares_limits.EXERCISE,
    least_squares_step.EXERCISE,
    least_squares_property.EXERCISE,
    scale_invariance_twin.EXERCISE,
    scale_invariance_bounce.EXERCISE,
    scale_invariance_sphere.EXERCISE,
    scale_invariance_schedule.EXERCISE,
    scale_invariance_settled.EXERCISE,
    scale_invariance_property.EXERCISE,
    robustness_scale.EXERCISE,
    robustness_batches.EXERCISE,
    robustness_unseen.EXERCISE,
    robustness_honest.EXERCISE,
    robustness_property.EXERCISE,
)
