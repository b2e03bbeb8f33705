"""Exercise: fold batch normalization into a grouped transposed convolution."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def fold_transposed(
    weight: np.ndarray,
    bias: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    eps: float,
    groups: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Merge a transposed convolution and the inference-mode normalization after it.

    Group g maps inputs g · C/G … (g + 1) · C/G − 1 to outputs g · K/G … (g + 1) · K/G −
    1.

    Args:
        weight: weights as PyTorch stores them, (C, K/G, L): inputs, outputs of one
            group, taps.
        bias: b, (K,).
        gamma, beta: scale and shift of the normalization, (K,).
        running_mean, running_var: its running statistics, (K,).
        eps: its ε.
        groups: G, the number of groups; it divides C and K.

    Returns:
        The weights, (C, K/G, L), and the bias, (K,), of one transposed convolution that
        does both.
    """
    scale = gamma / np.sqrt(running_var + eps)
    per_group = scale.reshape(groups, -1)
    per_input = np.repeat(per_group, weight.shape[0] // groups, axis=0)
    return weight * per_input[:, :, None], scale * (bias - running_mean) + beta


def _bias(bias, gamma, beta, running_mean, running_var, eps):
    scale = gamma / np.sqrt(running_var + eps)
    return scale, scale * (bias - running_mean) + beta


def one_group_for_all(
    weight, bias, gamma, beta, running_mean, running_var, eps, groups
):
    """You give every input the scales of the first group's outputs. The inputs of group
    g lead to outputs of their own: use the scales of that group."""
    scale, shift = _bias(bias, gamma, beta, running_mean, running_var, eps)
    return weight * scale[: weight.shape[1]][None, :, None], shift


def groups_interleaved(
    weight, bias, gamma, beta, running_mean, running_var, eps, groups
):
    """You assign the groups to the inputs in turn. The inputs of a group are
    neighbours: the first C/G inputs belong to the first group (`np.repeat`, not
    `np.tile`)."""
    scale, shift = _bias(bias, gamma, beta, running_mean, running_var, eps)
    per_input = np.tile(scale.reshape(groups, -1), (weight.shape[0] // groups, 1))
    return weight * per_input[:, :, None], shift


def outputs_interleaved(
    weight, bias, gamma, beta, running_mean, running_var, eps, groups
):
    """You take the outputs of a group to be spread out. They are neighbours: the first
    K/G outputs belong to the first group."""
    scale, shift = _bias(bias, gamma, beta, running_mean, running_var, eps)
    per_input = np.repeat(
        scale.reshape(-1, groups).T, weight.shape[0] // groups, axis=0
    )
    return weight * per_input[:, :, None], shift


def inputs_scaled(weight, bias, gamma, beta, running_mean, running_var, eps, groups):
    """You scale along the first axis, as for an ordinary convolution. In a transposed
    one the first axis holds the inputs; the outputs of a group are the second."""
    scale, shift = _bias(bias, gamma, beta, running_mean, running_var, eps)
    return weight * np.resize(scale, weight.shape[0])[:, None, None], shift


def bias_not_scaled(weight, bias, gamma, beta, running_mean, running_var, eps, groups):
    """You add b without scaling it. The normalization multiplies all of its input, the
    bias included."""
    scale, shift = _bias(bias, gamma, beta, running_mean, running_var, eps)
    folded, _ = fold_transposed(
        weight, bias, gamma, beta, running_mean, running_var, eps, groups
    )
    return folded, shift - scale * bias + bias


def bias_lost(weight, bias, gamma, beta, running_mean, running_var, eps, groups):
    """You leave out b. The running mean contains it, so without b the output is
    shifted."""
    return fold_transposed(
        weight, 0 * bias, gamma, beta, running_mean, running_var, eps, groups
    )


def bias_not_folded(weight, bias, gamma, beta, running_mean, running_var, eps, groups):
    """You return the old bias. The shift of the normalization belongs there:
    scale · (b − running mean) + β."""
    folded, _ = fold_transposed(
        weight, bias, gamma, beta, running_mean, running_var, eps, groups
    )
    return folded, bias


def missing_root(weight, bias, gamma, beta, running_mean, running_var, eps, groups):
    """You divide by the variance and not by its root: the scale is
    γ/√(running var + ε)."""
    squared = (running_var + eps) ** 2 - eps
    return fold_transposed(
        weight, bias, gamma, beta, running_mean, squared, eps, groups
    )


def eps_ignored(weight, bias, gamma, beta, running_mean, running_var, eps, groups):
    """You leave out ε: the scale is γ/√(running var + ε)."""
    return fold_transposed(
        weight, bias, gamma, beta, running_mean, running_var, 0.0, groups
    )


def group_by_group(weight, bias, gamma, beta, running_mean, running_var, eps, groups):
    """The same, one group after the other."""
    scale = gamma * (running_var + eps) ** -0.5
    blocks = zip(np.split(weight, groups), np.split(scale, groups), strict=True)
    folded = [np.einsum("ikl,k->ikl", block, part) for block, part in blocks]
    return np.concatenate(folded), beta - scale * (running_mean - bias)


_rng = np.random.default_rng(305)


def _layer(inputs, outputs, taps, groups, eps):
    return (
        _rng.normal(size=(inputs, outputs // groups, taps)),
        _rng.normal(1.0, 1.0, size=outputs),
        _rng.normal(size=outputs),
        _rng.normal(size=outputs),
        _rng.normal(2.0, 1.0, size=outputs),
        _rng.uniform(0.5, 3.0, size=outputs),
        eps,
        groups,
    )


EXERCISE = FunctionExercise(
    id="inference-fold-transposed",
    chapter="foundations/inference",
    title="Fold into a transposed convolution",
    level="hard",
    reference=fold_transposed,
    why="Only the axis of the outputs matters. In a transposed convolution it is the second one, and with "
    "groups each block of inputs has its own block of outputs.",
    mistakes=variants(
        one_group_for_all,
        groups_interleaved,
        outputs_interleaved,
        inputs_scaled,
        bias_not_scaled,
        bias_lost,
        bias_not_folded,
        missing_root,
        eps_ignored,
    ),
    alternatives=(group_by_group,),
    hints=(
        "The scale of output k is γ_k/√(running var_k + ε). To which output does weight[i, j] lead, if "
        "there is one group?",
        "With G groups, weight[i, j] leads from input i, in group g = i // (C/G), to output g · K/G + j.",
        "`scale.reshape(groups, -1)` has one row per group; `np.repeat` it C/G times along axis 0.",
    ),
    cases=(
        Case(
            "6 inputs, 6 outputs, 3 groups",
            _layer(6, 6, 3, 3, 0.2),
            "there are three groups.",
        ),
        Case(
            "4 inputs, 6 outputs, 2 groups",
            _layer(4, 6, 2, 2, 0.1),
            "there are two groups.",
        ),
        Case(
            "2 inputs, 3 outputs, 1 group",
            _layer(2, 3, 4, 1, 0.4),
            "there is one group.",
        ),
    ),
    returns=("weight", "bias"),
)
