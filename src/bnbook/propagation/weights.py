"""Laws of random weights: a shape, and a rule for the variance from the two fans."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np

Rule = Callable[[int, int], float]

RULES: dict[str, Rule] = {
    "1/fan-in": lambda fan_in, fan_out: 1 / fan_in,
    "1/fan-out": lambda fan_in, fan_out: 1 / fan_out,
    "Xavier": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "He": lambda fan_in, fan_out: 2 / fan_in,
    "He, fan-out": lambda fan_in, fan_out: 2 / fan_out,
    "1": lambda fan_in, fan_out: 1.0,
}


@dataclass(frozen=True)
class WeightLaw:
    """The distribution of the weights of a layer: centred and iid.

    Attributes:
        name: for tables.
        sample: (rng, fan_in, fan_out) to an array (fan_in, fan_out).
        variance: (fan_in, fan_out) to the variance of one weight.
    """

    name: str
    sample: Callable[[np.random.Generator, int, int], np.ndarray]
    variance: Rule


def weight_law(
    kind: str, rule: str | Rule = "1/fan-in", *, gain: float = 1.0
) -> WeightLaw:
    """A `WeightLaw` of a shape and a rule for the variance.

    Args:
        kind: "normal", "uniform" (symmetric about 0) or "signs" (±√variance).
        rule: a name in `RULES`, or a function of (fan_in, fan_out).
        gain: factor > 0 on the variance.

    Raises:
        ValueError: kind, rule or gain is not one of these.
    """
    shapes = {
        "normal": lambda rng, shape: rng.normal(size=shape),
        "uniform": lambda rng, shape: rng.uniform(-math.sqrt(3), math.sqrt(3), shape),
        "signs": lambda rng, shape: 2.0 * rng.integers(0, 2, shape) - 1.0,
    }
    if kind not in shapes:
        raise ValueError(f"kind must be one of {tuple(shapes)}, got {kind!r}")
    if isinstance(rule, str) and rule not in RULES:
        raise ValueError(f"rule must be one of {tuple(RULES)}, got {rule!r}")
    if not isinstance(gain, Real) or not 0 < gain < math.inf:
        raise ValueError(f"gain must be positive and finite, got {gain!r}")
    by = RULES[rule] if isinstance(rule, str) else rule

    def variance(fan_in: int, fan_out: int) -> float:
        return gain * by(fan_in, fan_out)

    def sample(rng: np.random.Generator, fan_in: int, fan_out: int) -> np.ndarray:
        draw = shapes[kind](rng, (fan_in, fan_out))
        return math.sqrt(variance(fan_in, fan_out)) * draw

    name = rule if isinstance(rule, str) else getattr(rule, "__name__", "rule")
    times = "" if gain == 1 else f" × {gain:g}"
    return WeightLaw(f"{kind}, {name}{times}", sample, variance)


def require_widths(widths: Sequence[int]) -> tuple[int, ...]:
    """Return the widths as integers.

    Raises:
        ValueError: fewer than two, or one is not an integer of at least 1.
    """
    listed = tuple(widths)
    if len(listed) < 2:
        raise ValueError(
            f"widths must name the inputs and at least one layer, got {listed}; "
            "use for example (64, 128, 10)"
        )
    for width in listed:
        require_count("every width", width, 1)
    return tuple(int(width) for width in listed)


def require_count(name: str, value: int, least: int) -> None:
    """Raise a ValueError unless `value` is an integer of at least `least`."""
    if (
        not isinstance(value, Integral)
        or isinstance(value, bool | np.bool_)
        or value < least
    ):
        raise ValueError(
            f"{name} must be an integer of at least {least}, got {value!r}"
        )
