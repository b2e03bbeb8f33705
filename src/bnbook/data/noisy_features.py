"""Classes that a few features separate, among many features of pure noise.

Morwani (2020, §5) describes such data in two sentences. What they leave open is a
parameter of `noisy_features`.
"""

import math
from numbers import Integral, Real

import numpy as np

from bnbook.data.splits import Dataset, Split

SEPARATIONS = ("levels", "planes")
_PARTS = ("train", "validation", "test")


def noisy_features(
    per_class: int,
    *,
    features: int = 1000,
    useful: int = 100,
    classes: int = 5,
    noise: float = 3.0,
    separation: str = "levels",
    width: float = 0.8,
    margin: float = 0.5,
    held_out: int = 60,
    seed: int = 0,
) -> Dataset:
    """Draw a dataset whose classes are separable in its first features alone.

    Of the d features the first d₁ are useful. The others are N(0, noise²), iid.

    "levels": in each useful feature the classes sit at equidistant levels, in an order
    of its own; the levels have mean 0 and variance 1. An example lies within
    ± width/2 · (distance of two levels) of the level of its class, uniformly. As
    width < 1, one useful feature separates all classes, and so do linear scores of
    all of them: the nearest centre is always the right one.

    "planes": the useful features are N(0, 1), iid. C random vectors of variance 1/d₁
    give C scores, and the class is the largest; examples whose largest score is not
    `margin` above the second are not used. Only all useful features together
    separate the classes.

    Args:
        per_class: training examples of each class, at least 1. The first n of each class
            are the same for every per_class ≥ n.
        features: d, at least 1.
        useful: d₁, from 1 to d.
        classes: C, at least 2.
        noise: standard deviation ≥ 0 of the d − d₁ other features.
        separation: a name in `SEPARATIONS`.
        width: of a level, from 0 to below 1; only for "levels".
        margin: at least 0; only for "planes". Large ones take long to draw.
        held_out: validation examples of each class, at least 1, and as many test examples.
        seed: of the levels or planes, the examples, and their order.

    Returns:
        The dataset, in float32, each part in random order; not standardized.

    Raises:
        ValueError: an argument is out of its range, or not a number.

    Source: Morwani (2020), §5, with d = 1000, d₁ = 100 and C = 5; the rest is our choice.
    """
    d = _require_count("features", features, 1)
    d1 = _require_count("useful", useful, 1)
    c = _require_count("classes", classes, 2)
    counts = [_require_count("per_class", per_class, 1)]
    counts += [_require_count("held_out", held_out, 1)] * 2
    if d1 > d:
        raise ValueError(
            f"useful must be at most features, got {d1} of {d}; lower useful"
        )
    noise = _require_between("noise", noise, 0, math.inf)
    width = _require_between("width", width, 0, 1)
    margin = _require_between("margin", margin, 0, math.inf)
    if separation not in SEPARATIONS:
        raise ValueError(
            f"unknown separation {separation!r}; use one of {', '.join(SEPARATIONS)}"
        )
    rng = np.random.default_rng([seed, 0])
    if separation == "levels":
        centres, step = _levels(rng, c, d1)
    else:
        planes = rng.normal(size=(c, d1)) / math.sqrt(d1)
    parts = {}
    for number, (name, count) in enumerate(zip(_PARTS, counts, strict=True), 1):
        x = np.empty((c, count, d))
        for k in range(c):
            signal, rest = (
                np.random.default_rng([seed, number, k, which]) for which in (0, 1)
            )
            if separation == "levels":
                spread = signal.uniform(-0.5, 0.5, size=(count, d1))
                x[k, :, :d1] = centres[k] + width * step * spread
            else:
                x[k, :, :d1] = _beyond(planes, k, count, margin, signal)
            x[k, :, d1:] = noise * rest.normal(size=(count, d - d1))
        order = np.random.default_rng([seed, number]).permutation(c * count)
        labels = np.repeat(np.arange(c), count)
        parts[name] = Split(
            x.reshape(-1, d)[order].astype(np.float32), labels[order].astype(np.int64)
        )
    names = tuple(
        f"{'useful' if j < d1 else 'noise'}_{j if j < d1 else j - d1}" for j in range(d)
    )
    return Dataset("noisy features", names, **parts)


def _levels(rng: np.random.Generator, c: int, d1: int) -> tuple[np.ndarray, float]:
    """Centres (C, d₁), a permutation of the same levels in each column; their distance."""
    levels = np.arange(c) - (c - 1) / 2
    step = 1 / levels.std()
    return step * np.array([rng.permutation(levels) for _ in range(d1)]).T, step


def _beyond(
    planes: np.ndarray, k: int, count: int, margin: float, rng: np.random.Generator
) -> np.ndarray:
    """`count` normal vectors whose score k is the largest by at least `margin`."""
    kept: list[np.ndarray] = []
    for _ in range(1000 * count):
        z = rng.normal(size=(64, planes.shape[1]))
        scores = z @ planes.T
        others = np.delete(scores, k, axis=1).max(axis=1)
        kept.extend(z[scores[:, k] >= others + margin])
        if len(kept) >= count:
            return np.array(kept[:count])
    raise ValueError(
        f"class {k} is too rare with margin {margin}: {len(kept)} of {count} examples "
        "found; lower the margin or use another seed"
    )


def _require_count(name: str, value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(
            f"{name} must be an integer of at least {least}, got {value!r}"
        )
    return int(value)


def _require_between(name: str, value: float, low: float, below: float) -> float:
    if (
        isinstance(value, bool | np.bool_)
        or not isinstance(value, Real)
        or not low <= value < below
    ):
        raise ValueError(
            f"{name} must be a number of at least {low} and below {below}, got {value!r}"
        )
    return float(value)
