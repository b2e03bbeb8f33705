"""Exercise: the best shrinkage for a batch of single-example gradients."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def best_shrinkage(
    direct: np.ndarray, through: np.ndarray, truth: np.ndarray, batches: np.ndarray
) -> np.ndarray:
    """The r in [0, 1] with the smallest expected squared error, for batches of several sizes.

    From example n alone the estimate is a_n + r b_n: what comes directly, and what comes
    through the statistics, shrunk. A step averages a batch of examples, drawn
    independently from the N equally likely ones; the true gradient is `truth`.

    Args:
        direct: a_n, (N, P).
        through: b_n, (N, P), not all 0.
        truth: (P,).
        batches: numbers of examples in a batch, (K,), from 1.

    Returns:
        r: (K,), between 0 and 1.
    """
    a, b = direct.mean(axis=0), through.mean(axis=0)
    covariance = ((direct - a) * (through - b)).sum(axis=1).mean()
    variance = ((through - b) ** 2).sum(axis=1).mean()
    top = (truth - a) @ b - covariance / batches
    return np.clip(top / (b @ b + variance / batches), 0, 1)


def bias_only(direct, through, truth, batches):
    """You minimize the bias. With few examples the variance counts too, and it falls as 1/batch."""
    a, b = direct.mean(axis=0), through.mean(axis=0)
    return np.full(len(batches), np.clip((truth - a) @ b / (b @ b), 0, 1))


def batch_ignored(direct, through, truth, batches):
    """You use the variance of one example. That of a mean over the batch is smaller by the factor
    1/batch."""
    return best_shrinkage(direct, through, truth, np.ones(len(batches)))


def covariance_forgotten(direct, through, truth, batches):
    """You leave the covariance of the two parts out. They come from the same example and are far from
    independent: this is why shrinking can raise the variance."""
    a, b = direct.mean(axis=0), through.mean(axis=0)
    variance = ((through - b) ** 2).sum(axis=1).mean()
    return np.clip((truth - a) @ b / (b @ b + variance / batches), 0, 1)


def covariance_sign(direct, through, truth, batches):
    """The covariance has the wrong sign. The error contains + 2 r Cov(a, b)/batch, so a positive covariance
    makes the best r smaller."""
    a, b = direct.mean(axis=0), through.mean(axis=0)
    covariance = ((direct - a) * (through - b)).sum(axis=1).mean()
    variance = ((through - b) ** 2).sum(axis=1).mean()
    top = (truth - a) @ b + covariance / batches
    return np.clip(top / (b @ b + variance / batches), 0, 1)


def not_clipped(direct, through, truth, batches):
    """Your r leaves the range from 0 to 1. Outside it the parabola has no minimum that is allowed: take the
    nearer end."""
    a, b = direct.mean(axis=0), through.mean(axis=0)
    covariance = ((direct - a) * (through - b)).sum(axis=1).mean()
    variance = ((through - b) ** 2).sum(axis=1).mean()
    top = (truth - a) @ b - covariance / batches
    return top / (b @ b + variance / batches)


def lower_end_forgotten(direct, through, truth, batches):
    """Your r can fall below 0. That is outside the range from 0 to 1 too: take 0 there."""
    return np.minimum(not_clipped(direct, through, truth, batches), 1)


def folded_back(direct, through, truth, batches):
    """You turn a negative r into a positive one. Where the parabola has its minimum below 0, the best allowed r
    is the nearer end, 0."""
    return abs(np.clip(not_clipped(direct, through, truth, batches), -1, 1))


def variance_only(direct, through, truth, batches):
    """You minimize the variance alone. The bias counts as well, and it does not fall with the batch."""
    a, b = direct.mean(axis=0), through.mean(axis=0)
    covariance = ((direct - a) * (through - b)).sum(axis=1).mean()
    variance = ((through - b) ** 2).sum(axis=1).mean()
    return np.full(len(batches), np.clip(-covariance / variance, 0, 1))


def by_moments(direct, through, truth, batches):
    """The same, one batch size after another, from second moments about the truth."""
    e = direct - truth

    def product(u, v, share):  # of the errors of a mean over the batch
        inside = (u * v).sum(axis=1).mean()
        return share * inside + (1 - share) * (u.mean(axis=0) @ v.mean(axis=0))

    best = []
    for batch in batches:
        r = -product(e, through, 1 / batch) / product(through, through, 1 / batch)
        best.append(min(max(r, 0.0), 1.0))
    return np.array(best)


_rng = np.random.default_rng(814)
_a = _rng.normal(0.2, 1.0, (30, 6))
_b = -0.6 * _a + 0.5 * _rng.normal(size=(30, 6)) + 0.35
_g = _a.mean(axis=0) + 0.4 * _b.mean(axis=0) + 0.05 * _rng.normal(size=6)

EXERCISE = FunctionExercise(
    id="single-example-shrinkage",
    chapter="estimation/single_example",
    title="How much to shrink",
    level="hard",
    reference=best_shrinkage,
    why="The error is a parabola in r: ‖E a + r E b − g‖² + Var(a + r b)/B. Its minimum moves from that of "
    "the variance to that of the bias as B grows.",
    mistakes=variants(
        bias_only,
        batch_ignored,
        covariance_forgotten,
        covariance_sign,
        not_clipped,
        lower_end_forgotten,
        folded_back,
        variance_only,
    ),
    alternatives=(by_moments,),
    hints=(
        "The expected squared error is bias² + variance/batch. Write both as polynomials in r.",
        "Set the derivative to 0: r = ((g − E a)·E b − Cov(a, b)/B)/(‖E b‖² + Var(b)/B), where Cov and Var "
        "sum over the P parameters.",
    ),
    cases=(
        Case("batches of 3, 8 and 30", (_a, _b, _g, np.array([3.0, 8.0, 30.0]))),
        Case("one example", (_a, _b, _g, np.array([1.0]))),
        Case(
            "some minima lie above 1",
            (_a, 0.2 * _b, _g + 1.5 * _b.mean(axis=0), np.array([2.0, 500.0])),
            "at 500 the minimum of the parabola lies above 1.",
        ),
        Case(
            "some minima lie below 0",
            (_a, _b, _g - 1.1 * _b.mean(axis=0), np.array([2.0, 500.0])),
            "at 500 the minimum of the parabola lies below 0.",
        ),
    ),
    returns=("r",),
)
