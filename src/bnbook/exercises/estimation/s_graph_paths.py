"""Exercise: a gradient as a sum over paths, without listing them."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def gradient_by_paths(jacobians: np.ndarray) -> np.ndarray:
    """Sum the products of Jacobians over all paths from each node to the last one.

    Args:
        jacobians: J(S, T) in row T and column S, for K numbered nodes, (K, K); 0
            where there is no edge. Edges lead from smaller to larger numbers only.
            Every node holds one number, and the last one is the loss.

    Returns:
        ∂L/∂S for each node, (K,); 1 for the loss itself.
    """
    count = len(jacobians)
    gradient = np.zeros(count)
    gradient[-1] = 1.0
    for node in range(count - 2, -1, -1):
        gradient[node] = jacobians[:, node] @ gradient
    return gradient


def direct_edges(jacobians):
    """You take the direct edge to the loss only. A node also acts through the nodes between."""
    result = jacobians[-1].copy()
    result[-1] = 1.0
    return result


def chain_only(jacobians):
    """You multiply along one path, from each node to the next. Edges that skip nodes make further
    paths, and each adds its product."""
    steps = np.append(np.diag(jacobians, -1), 1.0)
    return np.cumprod(steps[::-1])[::-1]


def two_edges(jacobians):
    """You stop at paths of two edges. A path can pass through every node between."""
    total = np.eye(len(jacobians)) + jacobians + jacobians @ jacobians
    return total[-1]


def counted_paths(jacobians):
    """You count the paths. Each is to be weighted with the product of its Jacobians."""
    return gradient_by_paths((jacobians != 0).astype(float))


def from_the_first(jacobians):
    """You sum over the paths from the first node to each of the others. The gradient is the other way
    round: from each node to the last."""
    count = len(jacobians)
    result = np.zeros(count)
    result[0] = 1.0
    for node in range(1, count):
        result[node] = jacobians[node] @ result
    return result


def rows_for_columns(jacobians):
    """You exchange row and column: J(S, T) stands in row T and column S. The row of a node holds the edges that
    come in, from nodes that you have not reached, so nothing but the 1 of the loss is left."""
    gradient = np.zeros(len(jacobians))
    gradient[-1] = 1.0
    for node in range(len(jacobians) - 2, -1, -1):
        gradient[node] = jacobians[node] @ gradient
    return gradient


def loss_left_out(jacobians):
    """Your last entry is not 1: ∂L/∂L is the empty path, whose product is 1."""
    result = gradient_by_paths(jacobians)
    result[-1] = 0.0
    return result


def by_solving(jacobians):
    """The same, as the last row of (I − J)⁻¹ = I + J + J² + …"""
    identity = np.eye(len(jacobians))
    return np.linalg.solve((identity - jacobians).T, identity[-1])


_rng = np.random.default_rng(1202)


def _graph(count, density):
    edges = np.tril(_rng.normal(size=(count, count)), -1)
    return edges * (_rng.random((count, count)) < density)


EXERCISE = FunctionExercise(
    id="s-graph-paths",
    chapter="estimation/s_graph",
    title="All paths at once",
    level="core",
    reference=gradient_by_paths,
    why="Every path from S begins with one edge S → T and goes on as a path from T. So the sums of the later "
    "nodes give that of S: K steps for up to 2^(K−2) paths.",
    mistakes=variants(
        direct_edges,
        chain_only,
        two_edges,
        counted_paths,
        from_the_first,
        rows_for_columns,
        loss_left_out,
    ),
    alternatives=(by_solving,),
    hints=(
        "Begin at the loss. When you come to a node, the sums of all nodes that it leads to are known.",
        "gradient[S] = Σ_T gradient[T] J(S, T), and J(S, T) stands in column S.",
    ),
    cases=(
        Case("6 nodes, all edges", (np.tril(_rng.normal(size=(6, 6)), -1),)),
        Case("7 nodes, half of the edges", (_graph(7, 0.5),)),
        Case(
            "a parameter, one statistic, the loss",
            (np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [-1.0, 0.5, 0.0]]),),
            "two paths lead from the first node, and they cancel.",
        ),
    ),
    returns=("gradient",),
)
