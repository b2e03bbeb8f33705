"""Exercise: a test for the gradient of one example through its own second moment."""

import numpy as np

from bnbook.exercises.model import PropertyExercise, Variant, variants


def test_scaled_gradient(backward) -> None:
    """Test a backward pass: pass if it is right, else fail an `assert`.

    Args:
        backward: a function of (dy, x, square). The layer is y = x/√ν†, with running
            second moment `square`, no ε, no cap and no mean. The gradient through ν†
            goes to each example's own second moment, scaled by S/Q: it is to be
            (I − xxᵀ/‖x‖²) dy/√square for each row of x and dy, (M, d).
    """
    rng = np.random.default_rng(0)
    x, dy = rng.normal(1.0, 1.0, (5, 7)), rng.normal(0.5, 1.0, (5, 7))
    x *= np.array([[0.1, 0.7, 1.0, 2.0, 9.0]]).T
    for square in (0.5, 3.0):
        dx = backward(dy.copy(), x.copy(), square)
        assert dx.shape == x.shape
        # Orthogonal to the example, and unchanged where dy is orthogonal already.
        np.testing.assert_allclose((dx * x).sum(1), 0, atol=1e-10)
        across = dy - (dy * x).sum(1, keepdims=True) / (x * x).sum(1, keepdims=True) * x
        np.testing.assert_allclose(dx, across / np.sqrt(square), atol=1e-10)
        # An example alone gets what it gets in company.
        alone = np.vstack(
            [backward(dy[m : m + 1], x[m : m + 1], square) for m in range(5)]
        )
        np.testing.assert_allclose(dx, alone, atol=1e-10)


def projector(dy, x, square):
    """it is the formula."""
    along = (dy * x).sum(1, keepdims=True) / (x * x).sum(1, keepdims=True)
    return (dy - along * x) / np.sqrt(square)


def by_loop(dy, x, square):
    """it builds a matrix for each example."""
    d = x.shape[1]
    rows = [
        (np.eye(d) - np.outer(p, p) / (p @ p)) @ g for p, g in zip(x, dy, strict=True)
    ]
    return np.array(rows) / square**0.5


def not_scaled(dy, x, square):
    """it leaves S/Q out."""
    return (dy - (dy * x).mean(1, keepdims=True) / square * x) / np.sqrt(square)


def capped(dy, x, square):
    """it caps S/Q at 2."""
    factor = np.minimum(square / (x * x).mean(1, keepdims=True), 2)
    along = (dy * x).mean(1, keepdims=True) / square
    return (dy - factor * along * x) / np.sqrt(square)


def joint(dy, x, square):
    """it lets the examples interact: it removes the part along the whole batch."""
    return (dy - (dy * x).sum() / (x * x).sum() * x) / np.sqrt(square)


def frozen(dy, x, square):
    """it treats the second moment as a constant."""
    return dy / np.sqrt(square)


def own_root(dy, x, square):
    """it divides by the example's own root, as layer normalization does."""
    return projector(dy, x, square) * np.sqrt(square / (x * x).mean(1, keepdims=True))


def centred(dy, x, square):
    """it also removes the mean of the gradient."""
    dx = projector(dy, x, square)
    return dx - dx.mean(1, keepdims=True)


def root_forgotten(dy, x, square):
    """it does not divide by the root of the running second moment."""
    return projector(dy, x, square) * np.sqrt(square)


def half(dy, x, square):
    """it removes half of the part along the example."""
    return (projector(dy, x, square) + dy / np.sqrt(square)) / 2


def _draw(seed=1, count=4):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 6)), rng.normal(size=(count, 6))


def never_fails(backward):
    """Your test asserts nothing that a wrong gradient violates: check that dx is orthogonal to each
    example."""
    dy, x = _draw()
    assert np.isfinite(backward(dy, x, 1.5)).all()


def only_orthogonal(backward):
    """Your test seems to check only that dx is orthogonal to x. That fixes neither its size nor what
    happens in the other directions."""
    dy, x = _draw()
    np.testing.assert_allclose((backward(dy, x, 1.5) * x).sum(1), 0, atol=1e-9)


def one_example(backward):
    """Your test seems to use one example. With one, examples cannot interact: use several."""
    dy, x = _draw(count=1)
    for square in (0.5, 3.0):
        np.testing.assert_allclose(
            backward(dy, x, square), projector(dy, x, square), atol=1e-9
        )


def at_square_one(backward):
    """Your test seems to use the running second moment 1 only. There a missing root is invisible."""
    dy, x = _draw()
    x = x * np.array([[0.2, 1.0, 3.0, 8.0]]).T
    np.testing.assert_allclose(backward(dy, x, 1.0), projector(dy, x, 1.0), atol=1e-9)


def zeros_only(backward):
    """Your test seems to use gradients dy along the examples only, where 0 is right. What happens in the other
    directions is not tested: draw dy at random."""
    _, x = _draw()
    x = x * np.array([[0.2, 1.0, 3.0, 8.0]]).T
    for square in (0.5, 3.0):
        np.testing.assert_allclose(backward(2 * x, x, square), 0, atol=1e-9)


def _along_the_examples(calls):
    return all(
        abs(
            (c["dy"] * c["x"]).sum(1) ** 2
            - (c["dy"] ** 2).sum(1) * (c["x"] ** 2).sum(1)
        ).max()
        < 1e-9 * (c["dy"] ** 2).sum() * (c["x"] ** 2).sum()
        for c in calls
    )


def by_linearity(backward):
    """The same, column by column: the Jacobian of each example against the projector."""
    rng = np.random.default_rng(3)
    x = rng.normal(0.4, 1.0, (4, 3)) * np.array([[0.1, 1.0, 2.0, 6.0]]).T
    for square in (0.3, 2.0):
        for i in range(3):
            for m in range(4):
                dy = np.zeros((4, 3))
                dy[m, i] = 1.0
                expected = np.zeros((4, 3))
                expected[m] = (dy[m] - x[m] * x[m, i] / (x[m] @ x[m])) / square**0.5
                assert abs(backward(dy, x, square) - expected).max() < 1e-9


EXERCISE = PropertyExercise(
    id="single-example-property",
    chapter="estimation/single_example",
    title="A test for a projector",
    level="hard",
    reference=test_scaled_gradient,
    why="Several examples of different sizes show interaction and a missing or capped S/Q; a second running "
    "moment shows a missing root; comparing with the projector fixes all other directions.",
    mistakes=(
        *variants(never_fails, only_orthogonal),
        Variant.of(
            one_example, seen=lambda calls: all(len(c["x"]) == 1 for c in calls)
        ),
        Variant.of(
            at_square_one, seen=lambda calls: all(c["square"] == 1 for c in calls)
        ),
        Variant.of(zeros_only, seen=_along_the_examples),
    ),
    alternatives=(by_linearity,),
    hints=(
        "What should dx·x be for each example? And what should happen to a dy that is orthogonal to x?",
        "Use several examples of very different sizes, and two running second moments other than 1.",
    ),
    correct=variants(projector, by_loop),
    mutants=variants(
        not_scaled,
        capped,
        joint,
        frozen,
        own_root,
        centred,
        root_forgotten,
        half,
    ),
)
