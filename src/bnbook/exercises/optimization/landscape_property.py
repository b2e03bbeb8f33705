"""Exercise: a test for a function that finds the largest eigenvalues."""

import numpy as np

from bnbook.exercises.model import PropertyExercise, variants


def test_top_eigenvalues(top) -> None:
    """Test a function for the largest eigenvalues: pass if it is right, else fail an `assert`.

    Args:
        top: a function of (matrix, k), with matrix symmetric (n, n) and 1 ≤ k ≤ n. It must
            return its k largest eigenvalues by algebraic value, the largest first, (k,), to
            about eight digits, repeated as often as they occur. It must not change the matrix.
    """
    rng = np.random.default_rng(0)
    for values in ([-9.0, 5.0, 3.0, 3.0, 1.0, -2.0], [-1.0, -4.0, -7.0], [2.5]):
        q = np.linalg.qr(rng.normal(size=(len(values), len(values))))[0]
        matrix = (q * values) @ q.T
        matrix = (matrix + matrix.T) / 2
        kept = matrix.copy()
        for k in range(1, len(values) + 1):
            found = top(matrix, k)
            assert np.shape(found) == (k,)
            np.testing.assert_allclose(found, np.sort(values)[::-1][:k], rtol=1e-6)
        assert (matrix == kept).all()


def dense(matrix, k):
    """it takes all eigenvalues and keeps k."""
    return np.linalg.eigvalsh(matrix)[::-1][:k]


def general(matrix, k):
    """it uses a method for general matrices."""
    return np.sort(np.linalg.eigvals(matrix).real)[::-1][:k]


def rotations(matrix, k):
    """it rotates the matrix, in a copy, until it is diagonal."""
    a = matrix.copy()
    n = len(a)
    for _ in range(12):
        for i in range(n):
            for j in range(i + 1, n):
                angle = np.arctan2(2 * a[i, j], a[i, i] - a[j, j]) / 2
                c, s = np.cos(angle), np.sin(angle)
                turn = np.eye(n)
                turn[[i, j], [i, j]] = c
                turn[i, j], turn[j, i] = -s, s
                a = turn.T @ a @ turn
    return np.sort(np.diag(a))[::-1][:k]


def by_magnitude(matrix, k):
    """it returns the eigenvalues of largest magnitude, as power iteration finds them."""
    values = np.linalg.eigvalsh(matrix)
    return values[np.argsort(-abs(values))][:k]


def magnitudes(matrix, k):
    """it returns singular values: the signs are lost."""
    return np.linalg.svd(matrix, compute_uv=False)[:k]


def ascending(matrix, k):
    """it returns the right values, the smallest of them first."""
    return np.linalg.eigvalsh(matrix)[-k:]


def smallest(matrix, k):
    """it returns the k smallest eigenvalues."""
    return np.linalg.eigvalsh(matrix)[:k]


def each_once(matrix, k):
    """it returns a repeated eigenvalue once."""
    values = np.linalg.eigvalsh(matrix)[::-1]
    new = np.append(True, abs(np.diff(values)) > 1e-9 * abs(values).max())
    return np.append(values[new], values[~new])[:k]


def only_positive(matrix, k):
    """it leaves out negative eigenvalues, and puts 0 in their place."""
    return np.maximum(np.linalg.eigvalsh(matrix)[::-1], 0)[:k]


def one_too_few(matrix, k):
    """it never returns all n eigenvalues, as `eigsh` refuses to."""
    return np.linalg.eigvalsh(matrix)[::-1][: min(k, max(len(matrix) - 1, 1))]


def diagonal(matrix, k):
    """it returns the largest diagonal entries."""
    return np.sort(np.diag(matrix))[::-1][:k]


def squared(matrix, k):
    """it returns the eigenvalues of the square."""
    return np.linalg.eigvalsh(matrix)[::-1][:k] ** 2


def _matrix(values, seed=1):
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=2 * (len(values),)))[0]
    return (q * values) @ q.T


def never_fails(top):
    """Your test asserts nothing that a wrong function violates: build a matrix from eigenvalues you
    choose, and compare."""
    assert np.isfinite(top(_matrix([3.0, 2.0, 1.0]), 2)).all()


def only_positive_definite(top):
    """Your test seems to use positive eigenvalues only. There, largest by value and largest by
    magnitude are the same: include a large negative one."""
    for k in (1, 2, 3):
        found = top(_matrix([3.0, 2.0, 1.0]), k)
        np.testing.assert_allclose(found, [3.0, 2.0, 1.0][:k], rtol=1e-6)


def only_the_largest(top):
    """Your test seems to ask for k = 1 only, and cannot see order, repetition or number."""
    np.testing.assert_allclose(top(_matrix([-9.0, 5.0, 3.0]), 1), [5.0], rtol=1e-6)
    np.testing.assert_allclose(top(_matrix([-9.0, -5.0]), 1), [-5.0], rtol=1e-6)


def any_order(top):
    """Your test seems to sort before it compares. The largest comes first."""
    values = [-9.0, 5.0, 3.0, 3.0]
    for k in (1, 2, 3, 4):
        found = top(_matrix(values), k)
        assert np.shape(found) == (k,)
        expected = np.sort(values)[::-1][:k]
        np.testing.assert_allclose(np.sort(found)[::-1], expected, rtol=1e-6)


def distinct_values(top):
    """Your test seems to use distinct eigenvalues only. A repeated one counts as often as it
    occurs."""
    values = [5.0, 3.0, -2.0, -9.0]
    for k in (1, 2, 3, 4):
        np.testing.assert_allclose(top(_matrix(values), k), values[:k], rtol=1e-6)


def too_strict(top):
    """Your test seems to demand equality to the last bit. Methods differ by rounding errors."""
    values = [-9.0, 5.0, 3.0]
    for k in (1, 2, 3):
        assert list(top(_matrix(values), k)) == sorted(values, reverse=True)[:k]


def by_invariants(top):
    """The same, by trace, shifts and block matrices."""
    rng = np.random.default_rng(2)
    for n in (1, 2, 5):
        a = rng.normal(size=(n, n))
        a = a + a.T - 2 * np.eye(n)
        twice = np.kron(np.eye(2), a)
        for matrix in (a, twice):
            kept, size = matrix.copy(), len(matrix)
            everything = np.asarray(top(matrix, size))
            assert everything.shape == (size,) and (np.diff(everything) <= 1e-9).all()
            for power in (1, 2, 3):
                trace = np.trace(np.linalg.matrix_power(matrix, power))
                np.testing.assert_allclose((everything**power).sum(), trace, rtol=1e-6)
            for shift in (0.0, 50.0, -50.0):
                moved = matrix + shift * np.eye(size)
                for k in range(1, size + 1):
                    expected = everything[:k] + shift
                    np.testing.assert_allclose(top(moved, k), expected, rtol=1e-6)
            assert (matrix == kept).all()


EXERCISE = PropertyExercise(
    id="landscape-property",
    chapter="optimization/landscape",
    title="A test for the largest eigenvalues",
    level="hard",
    reference=test_top_eigenvalues,
    why="Eigenvalues that one chooses, turned by an orthogonal matrix, give matrices whose answer is known: a "
    "large negative one, a repeated one, only negative ones, and every k up to n.",
    mistakes=variants(
        never_fails,
        only_positive_definite,
        only_the_largest,
        any_order,
        distinct_values,
        too_strict,
    ),
    alternatives=(by_invariants,),
    hints=(
        "Take an orthogonal Q from `np.linalg.qr` and test on Q diag(values) Qᵀ.",
        "Choose values with a large negative one, a repeated one, and all negative; try k from 1 to n.",
    ),
    correct=variants(dense, general, rotations),
    mutants=variants(
        by_magnitude,
        magnitudes,
        ascending,
        smallest,
        each_once,
        only_positive,
        one_too_few,
        diagonal,
        squared,
    ),
)
