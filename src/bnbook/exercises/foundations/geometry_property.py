"""Exercise: a test that tells the right projection from wrong ones."""

import numpy as np

from bnbook.exercises.model import PropertyExercise, variants


def test_project(project) -> None:
    """Test an implementation of the projection behind the backward pass.

    Pass if it is correct, fail an `assert` if it is not.

    Args:
        project: a function of g (M,) and x (M,) that returns the part of g that is
            orthogonal to the vector of ones and to x, (M,). All arrays are float64, and
            the values of x differ.
    """
    rng = np.random.default_rng(0)
    for count in (3, 5, 12):
        g, x = rng.normal(0.7, 1.0, count), rng.normal(2.0, 1.5, count)
        kept = project(g, x)
        assert kept.shape == g.shape
        assert abs(kept.sum()) < 1e-10  # orthogonal to ones
        assert abs((kept * x).sum()) < 1e-10  # and to x
        # What was removed must be a straight line in x.
        removed = g - kept
        design = np.stack([np.ones(count), x], axis=1)
        line = design @ np.linalg.lstsq(design, removed, rcond=None)[0]
        np.testing.assert_allclose(removed, line, rtol=0, atol=1e-10)


def plain(g, x):
    """it removes the mean, and then the part along the centred x."""
    centred = x - x.mean()
    g = g - g.mean()
    return g - centred * (g @ centred) / (centred @ centred)


def by_least_squares(g, x):
    """it is the residual of a least squares fit, which rounds differently."""
    design = np.stack([np.ones_like(x), x], axis=1)
    return g - design @ np.linalg.lstsq(design, g, rcond=None)[0]


def by_basis(g, x):
    """it subtracts the parts along an orthonormal basis of ones and x."""
    q, _ = np.linalg.qr(np.stack([x, np.ones_like(x)], axis=1))
    return g - q @ (q.T @ g)


def nothing_removed(g, x):
    """it returns g unchanged, which is idempotent and symmetric."""
    return g.copy()


def everything_removed(g, x):
    """it returns 0, which is orthogonal to everything."""
    return np.zeros_like(g)


def only_the_mean(g, x):
    """it removes the mean only."""
    return g - g.mean()


def only_x(g, x):
    """it removes the part along the centred x only."""
    centred = x - x.mean()
    return g - centred * (g @ centred) / (centred @ centred)


def x_not_centred(g, x):
    """it removes the mean of g and then the part along x itself; where x has mean 0 that
    is right."""
    g = g - g.mean()
    return g - x * (g @ x) / (x @ x)


def length_restored(g, x):
    """it stretches its result to the length of g, so what it removes is not in the span
    of ones and x."""
    kept = plain(g, x)
    return kept * np.linalg.norm(g) / max(np.linalg.norm(kept), 1e-300)


def removed_too_often(g, x):
    """it subtracts the part along x twice, a reflection."""
    return 2 * plain(g, x) - (g - g.mean())


def not_divided(g, x):
    """it normalizes x and forgets the 1/M: it subtracts ẑ Σgẑ instead of ẑ Σgẑ/M."""
    z_hat = (x - x.mean()) / x.std()
    g = g - g.mean()
    return g - z_hat * (g @ z_hat)


def unbiased_variance(g, x):
    """it normalizes x with the variance of M − 1 and then divides by M."""
    z_hat = (x - x.mean()) / x.std(ddof=1)
    g = g - g.mean()
    return g - z_hat * (g @ z_hat) / len(g)


def _data(count=6):
    rng = np.random.default_rng(1)
    return rng.normal(0.7, 1.0, count), rng.normal(2.0, 1.5, count)


def never_fails(project):
    """Your test asserts nothing that a wrong implementation violates, such as the shape.
    State what must hold for the values."""
    g, x = _data()
    assert project(g, x).shape == g.shape


def only_the_sum(project):
    """Your test seems to check only that the result sums to 0. It must be orthogonal to x
    too, and nothing else may be removed."""
    assert abs(project(*_data()).sum()) < 1e-10


def only_orthogonality(project):
    """Your test seems to check only that the result is orthogonal to ones and to x. So is
    0, and so is any multiple of the right answer: check also what was removed."""
    g, x = _data()
    kept = project(g, x)
    assert abs(kept.sum()) < 1e-10
    assert abs(kept @ x) < 1e-10


def only_idempotence(project):
    """Your test seems to check only that projecting twice changes nothing. That holds for
    every projection, also for g itself and for 0: check onto which subspace it goes."""
    g, x = _data()
    kept = project(g, x)
    np.testing.assert_allclose(project(kept, x), kept, rtol=0, atol=1e-10)


def centred_data(project):
    """Your test seems to use an x of mean 0, where it does not matter whether the
    implementation centres x. Draw x with another mean."""
    g, x = _data()
    x = x - x.mean()
    np.testing.assert_allclose(project(g, x), plain(g, x), rtol=0, atol=1e-10)


def exact_equality(project):
    """Your test seems to demand exact equality. A correct implementation that adds in
    another order differs in the last digit: allow about 1e-10."""
    assert (project(*_data()) == plain(*_data())).all()


def against_least_squares(project):
    """The same by comparing with a least squares residual."""
    g, x = _data(9)
    np.testing.assert_allclose(
        project(g, x), by_least_squares(g, x), rtol=0, atol=1e-10
    )


def with_known_parts(project):
    """The same by building g from a known line and a known orthogonal part."""
    rng = np.random.default_rng(2)
    x = rng.normal(-1.0, 2.0, 8)
    q, _ = np.linalg.qr(np.column_stack([np.ones(8), x, rng.normal(size=(8, 2))]))
    orthogonal = q[:, 2:] @ np.array([1.5, -0.4])
    g = 0.7 - 1.3 * x + orthogonal
    np.testing.assert_allclose(project(g, x), orthogonal, rtol=0, atol=1e-10)


EXERCISE = PropertyExercise(
    id="geometry-property",
    chapter="foundations/geometry",
    title="A test for the projection",
    level="hard",
    reference=test_project,
    why="Two conditions determine the result: it is orthogonal to ones and to x, and what "
    "was removed is a combination of the two. Either alone lets wrong ones pass.",
    mistakes=variants(
        never_fails,
        only_the_sum,
        only_orthogonality,
        only_idempotence,
        centred_data,
        exact_equality,
    ),
    alternatives=(against_least_squares, with_known_parts),
    hints=(
        "Which two things must hold of the result, and which one of what was removed?",
        "The result is orthogonal to ones and to x. What was removed, g minus the result, is "
        "a line a + b x: fit one with `np.linalg.lstsq` and see that nothing is left.",
        "Use an x whose mean is not 0, and a tolerance of about 1e-10.",
    ),
    correct=variants(plain, by_least_squares, by_basis),
    mutants=variants(
        nothing_removed,
        everything_removed,
        only_the_mean,
        only_x,
        x_not_centred,
        length_restored,
        removed_too_often,
        not_divided,
        unbiased_variance,
    ),
)
