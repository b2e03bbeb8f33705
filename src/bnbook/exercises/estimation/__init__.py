"""The exercises of the part `estimation`, in the order of its chapters; one module each."""

from bnbook.exercises.estimation import (
    minibatch_backward,
    minibatch_property,
    minibatch_renorm,
    minibatch_shrunk,
    minibatch_worth,
    s_graph_factors,
    s_graph_paths,
    s_graph_product,
    s_graph_property,
    s_graph_unbiased,
    single_example_backward,
    single_example_fold,
    single_example_property,
    single_example_scaling,
    single_example_shrinkage,
)

EXERCISES = (
    minibatch_worth.EXERCISE,
    minibatch_shrunk.EXERCISE,
    minibatch_renorm.EXERCISE,
    minibatch_backward.EXERCISE,
    minibatch_property.EXERCISE,
    s_graph_product.EXERCISE,
    s_graph_paths.EXERCISE,
    s_graph_unbiased.EXERCISE,
    s_graph_factors.EXERCISE,
    s_graph_property.EXERCISE,
    single_example_scaling.EXERCISE,
    single_example_backward.EXERCISE,
    single_example_fold.EXERCISE,
    single_example_shrinkage.EXERCISE,
    single_example_property.EXERCISE,
)
