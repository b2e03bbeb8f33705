"""Exercise: how often a sum of signs lies in the window of hard-tanh."""

import math

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def window_share(fan_in: int) -> float:
    """P(|s| ≤ 1) for the sum s of `fan_in` independent signs, each ±1 with probability 1/2.

    Args:
        fan_in: K, the number of signs, from 1 to 1000.

    Returns:
        The probability.
    """
    middle = math.comb(fan_in, fan_in // 2) / 2**fan_in
    return middle if fan_in % 2 == 0 else 2 * middle


def one_value(fan_in):
    """You count one value of s. That is right for even K, where only s = 0 lies in the window; for
    odd K both −1 and +1 do."""
    return math.comb(fan_in, fan_in // 2) / 2**fan_in


def both_always(fan_in):
    """You count two values of s. That is right for odd K; for even K the sum is even, and only
    s = 0 lies in the window."""
    return 2 * math.comb(fan_in, fan_in // 2) / 2**fan_in


def gaussian(fan_in):
    """You treat s as normal with variance K. The sum takes only every second integer, so whether
    the window holds one or two of them depends on the parity of K."""
    return math.erf(1 / math.sqrt(2 * fan_in))


def asymptotic(fan_in):
    """You use √(2/(πK)), the limit for large and even K. The exact answer is a binomial
    coefficient."""
    return math.sqrt(2 / (math.pi * fan_in))


def normalized(fan_in):
    """You give the share for a sum that batch normalization has divided by √K. Here s itself must
    lie in the window."""
    return math.erf(1 / math.sqrt(2))


def not_divided(fan_in):
    """You count the ways and do not divide by the number of all cases, 2^K."""
    return float(2 ** (fan_in % 2) * math.comb(fan_in, fan_in // 2))


def factorials_in_floats(fan_in):
    """Your count is right, but it computes factorials in floating point, and 255! is beyond the
    largest float. Divide whole numbers first: `math.comb(K, j)` is exact."""
    factorial = [np.prod(np.arange(1.0, n + 1)) for n in range(fan_in + 1)]
    j = fan_in // 2
    ways = factorial[fan_in] / factorial[j] / factorial[fan_in - j]
    return (1 + fan_in % 2) * ways / 2**fan_in


def by_convolution(fan_in):
    """The same, by building the distribution of s one sign at a time."""
    law = {0: 1.0}
    for _ in range(fan_in):
        following = {}
        for value, weight in law.items():
            for step in (-1, 1):
                following[value + step] = following.get(value + step, 0.0) + weight / 2
        law = following
    return sum(weight for value, weight in law.items() if abs(value) <= 1)


EXERCISE = FunctionExercise(
    id="binary-parity",
    chapter="propagation/binary",
    title="Even and odd sums",
    level="core",
    reference=window_share,
    why="s = K − 2j for j negative signs has the parity of K, and binomial frequency. For even K the "
    "window holds j = K/2 only, for odd K the two middle values of j, which are equally frequent.",
    mistakes=variants(
        one_value,
        both_always,
        gaussian,
        asymptotic,
        normalized,
        not_divided,
        factorials_in_floats,
    ),
    alternatives=(by_convolution,),
    hints=(
        "If j of the K signs are negative, s = K − 2j. Which j give |s| ≤ 1?",
        "`math.comb(K, j)` of the 2^K cases have j negative signs.",
        "For odd K there are two such j, (K − 1)/2 and (K + 1)/2, with the same count.",
    ),
    cases=(
        Case("K = 5", (5,)),
        Case("K = 6", (6,)),
        Case("K = 1", (1,), "the sum is the sign itself."),
        Case("K = 64", (64,)),
        Case(
            "K = 255",
            (255,),
            "K is large: 2^255 still fits into a float, and 255! does not.",
        ),
    ),
    returns=("share",),
)
