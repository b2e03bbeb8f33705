"""Exercise: merge the statistics of two groups."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def merge_moments(
    count_a: int,
    mean_a: np.ndarray,
    m2_a: np.ndarray,
    count_b: int,
    mean_b: np.ndarray,
    m2_b: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and Σ (x − μ)² of the union of two groups of examples, from those of each group.

    Args:
        count_a: number of examples of the first group.
        mean_a: their mean, (D,).
        m2_a: their sum of squared deviations from mean_a, (D,).
        count_b: number of examples of the second group.
        mean_b: their mean, (D,).
        m2_b: their sum of squared deviations from mean_b, (D,).

    Returns:
        mean, (D,), and m2, (D,), of all count_a + count_b examples.
    """
    count = count_a + count_b
    delta = mean_b - mean_a
    mean = mean_a + delta * count_b / count
    return mean, m2_a + m2_b + delta**2 * count_a * count_b / count


def means_ignored(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    """You add the two sums and leave it at that. Each was measured from its own group's mean; the
    distance between the means adds δ² n_a n_b/(n_a + n_b)."""
    mean = (count_a * mean_a + count_b * mean_b) / (count_a + count_b)
    return mean, m2_a + m2_b


def means_unweighted(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    """Your m2 is right, but your mean is halfway between the two means. The larger group weighs
    more: weight each mean by its count."""
    return (mean_a + mean_b) / 2, merge_moments(
        count_a, mean_a, m2_a, count_b, mean_b, m2_b
    )[1]


def halves_throughout(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    """You treat the groups as equally large, in the mean and in the between-group term. Weight by
    the counts: the mean is (n_a μ_a + n_b μ_b)/n, and the term is δ² n_a n_b/n."""
    quarter = (mean_b - mean_a) ** 2 * (count_a + count_b) / 4
    return (mean_a + mean_b) / 2, m2_a + m2_b + quarter


def weights_swapped(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    """You move the mean of a towards that of b by the share of a. The more examples b has, the
    further it must move: by n_b/n."""
    mean = mean_a + (mean_b - mean_a) * count_a / (count_a + count_b)
    return mean, merge_moments(count_a, mean_a, m2_a, count_b, mean_b, m2_b)[1]


def not_divided(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    """You add δ² n_a n_b without dividing by n_a + n_b. For two groups of one, m2 must be δ²/2."""
    mean, _ = merge_moments(count_a, mean_a, m2_a, count_b, mean_b, m2_b)
    return mean, m2_a + m2_b + (mean_b - mean_a) ** 2 * count_a * count_b


def not_squared(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    """You forget to square δ in the between-group term: m2 has the unit of x²."""
    mean, _ = merge_moments(count_a, mean_a, m2_a, count_b, mean_b, m2_b)
    weight = count_a * count_b / (count_a + count_b)
    return mean, m2_a + m2_b + abs(mean_b - mean_a) * weight


def divided_at_the_end(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    """You return a variance. Keep the sum m2, so that the result can be merged again."""
    mean, m2 = merge_moments(count_a, mean_a, m2_a, count_b, mean_b, m2_b)
    return mean, m2 / (count_a + count_b)


def taken_for_variances(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    """You weight m2_a and m2_b by the counts, as if they were variances. They are sums already:
    add them as they are."""
    mean, _ = merge_moments(count_a, mean_a, m2_a, count_b, mean_b, m2_b)
    weight = count_a * count_b / (count_a + count_b)
    return mean, count_a * m2_a + count_b * m2_b + (mean_b - mean_a) ** 2 * weight


def about_the_new_mean(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    """The same: move each sum of squares to the common mean."""
    mean = (count_a * mean_a + count_b * mean_b) / (count_a + count_b)
    m2 = m2_a + count_a * (mean_a - mean) ** 2 + m2_b + count_b * (mean_b - mean) ** 2
    return mean, m2


def by_an_example(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    """The same, for groups of more than one from two examples and copies of the mean."""
    groups = []
    for count, mean, m2 in ((count_a, mean_a, m2_a), (count_b, mean_b, m2_b)):
        rows = np.tile(mean, (count, 1))
        if count > 1:
            rows[0] += np.sqrt(m2 / 2)
            rows[1] -= np.sqrt(m2 / 2)
        groups.append(rows)
    rows = np.concatenate(groups)
    return rows.mean(axis=0), rows.var(axis=0) * len(rows)


_rng = np.random.default_rng(304)

EXERCISE = FunctionExercise(
    id="numerics-merge",
    chapter="foundations/numerics",
    title="Merge two groups",
    level="core",
    reference=merge_moments,
    why="Moving a sum of squared deviations from its own mean to another point adds n times the squared "
    "distance; for both groups together that is δ² n_a n_b/n.",
    mistakes=variants(
        means_ignored,
        means_unweighted,
        halves_throughout,
        weights_swapped,
        not_divided,
        not_squared,
        divided_at_the_end,
        taken_for_variances,
    ),
    alternatives=(about_the_new_mean, by_an_example),
    hints=(
        "The mean of the union is the mean of the two means, weighted by the counts.",
        "Σ (x − c)² = Σ (x − μ)² + n (μ − c)² for any c. Take c = the mean of the union, for each "
        "group.",
        "With δ = μ_b − μ_a, m2 is m2_a + m2_b + δ² n_a n_b/(n_a + n_b).",
    ),
    cases=(
        Case(
            "5 and 3 examples",
            (
                5,
                _rng.normal(size=3),
                _rng.uniform(1, 4, 3),
                3,
                _rng.normal(2.0, 1.0, 3),
                _rng.uniform(1, 4, 3),
            ),
        ),
        Case(
            "a group of one",
            (
                7,
                _rng.normal(size=2),
                _rng.uniform(2, 6, 2),
                1,
                _rng.normal(1.0, 2.0, 2),
                np.zeros(2),
            ),
            "the second group is a single example.",
        ),
        Case(
            "2 and 12 examples, means far apart",
            (
                2,
                _rng.normal(-20.0, 1.0, 4),
                _rng.uniform(1, 2, 4),
                12,
                _rng.normal(20.0, 1.0, 4),
                _rng.uniform(5, 9, 4),
            ),
            "the means are 40 apart.",
        ),
    ),
    returns=("mean", "m2"),
)
