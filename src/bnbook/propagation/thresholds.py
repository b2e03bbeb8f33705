"""Batch normalization and sign after an integer sum, as a comparison with an integer.

At inference y = γ (s − μ)/√(σ² + ε) + β, and only its sign goes on. s is an integer
between two bounds, so the sign changes at one integer, if at all.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from bnbook.foundations.folding import inference_affine


@dataclass(frozen=True)
class Threshold:
    """The rule "+1 if and only if s ≥ at", or its contrary where `flip` is set.

    Attributes:
        at: (D,), int64.
        flip: (D,), boolean.
    """

    at: np.ndarray
    flip: np.ndarray

    def bits(self, s: np.ndarray) -> np.ndarray:
        """Whether each sum gives +1: booleans of the shape of s, (…, D)."""
        return (s >= self.at) ^ self.flip


@dataclass(frozen=True, eq=False)
class Scores:
    """Integer scores A s + B of integer sums, with a few exceptions.

    Attributes:
        multiplier, offset: A and B, (D,), int64.
        feature, at, score: (exceptions,): where the sum of `feature` is `at`, its score is
            `score` instead.
    """

    multiplier: np.ndarray
    offset: np.ndarray
    feature: np.ndarray
    at: np.ndarray
    score: np.ndarray

    def __call__(self, s: np.ndarray) -> np.ndarray:
        """The scores of sums, (N, D), int64: only their order in a row means something."""
        scores = self.multiplier * s + self.offset
        for feature, at, score in zip(self.feature, self.at, self.score, strict=True):
            scores[s[:, feature] == at, feature] = score
        return scores


def fold_sign(norm: nn.Module, low: int, high: int) -> Threshold:
    """The integer thresholds that act as `norm` and sign do, bit for bit.

    The module itself is asked, in its own dtype, by bisection: it needs no formula and
    inherits every rounding. Bisection is right because y is monotone in s, also as it is
    computed: rounding never reverses an order, so neither does a chain of rounded
    operations of which each is monotone.

    Args:
        norm: `nn.BatchNorm1d` or `2d` with D features, in evaluation mode.
        low, high: every sum that can occur lies between them.

    Returns:
        One threshold for each feature. sign(0) is +1, as in `binary.sign`.

    Raises:
        TypeError: norm is no such module.
        ValueError: norm is in training mode, has no or unusable statistics, or its
            output is not finite at a bound; low exceeds high; or norm's dtype cannot
            hold every integer between them.
    """
    low, high = _require_range(norm, low, high)
    first, last = (np.full(norm.num_features, s, np.int64) for s in (low, high))
    at_first = evaluate(norm, first[None])[0] >= 0
    at_last = evaluate(norm, last[None])[0] >= 0
    # `last` always gives what the largest sum gives; `first` does not, where they differ.
    changes = at_first != at_last
    last = np.where(changes, last, first)
    while (last - first > 1).any():
        middle = (first + last) // 2
        as_last = (evaluate(norm, middle[None])[0] >= 0) == at_last
        first = np.where(as_last, first, middle)
        last = np.where(as_last, middle, last)
    return Threshold(last, ~at_last)


def fold_scores(norm: nn.Module, low: int, high: int, step: int = 1) -> Scores:
    """Integer scores that order the features as the outputs of `norm` do.

    An argmax needs only the order of its candidates, and each feature has finitely many.
    A and B are γ/σ and β − γμ/σ in fixed point. All possible scores are then put in the
    order of the module's outputs; the few that its own rounding has moved past a
    neighbour are raised to that neighbour, and kept as exceptions.

    Args:
        norm, low, high: as for `fold_sign`.
        step: the sums are low, low + step, …; 2 where all weights and inputs are signs.

    Raises:
        TypeError, ValueError: as `fold_sign`.
    """
    low, high = _require_range(norm, low, high)
    sums = np.arange(low, high + 1, step)[:, None].repeat(norm.num_features, axis=1)
    values = evaluate(norm, sums)
    slope, shift = (v.cpu().numpy() for v in inference_affine(norm))
    size = max(float(np.abs(values).max()), float(np.abs(shift).max())) or 1.0
    unit = 2.0 ** (50 - math.frexp(size)[1])  # A s + B stays far below 2^63
    multiplier = np.rint(slope * unit).astype(np.int64)
    offset = np.rint(shift * unit).astype(np.int64)
    scores = (multiplier * sums + offset).ravel()
    feature = np.broadcast_to(np.arange(sums.shape[1]), sums.shape).ravel()
    order = np.lexsort((scores, -feature, values.ravel()))  # weakest first
    exceptions, before = [], order[0]
    for entry in order[1:]:
        # Of equal scores the lower feature wins, so a higher one needs one more.
        least = scores[before] + (feature[entry] > feature[before])
        if scores[entry] < least:
            scores[entry] = least
            exceptions.append(entry)
        before = entry
    return Scores(
        multiplier,
        offset,
        feature[exceptions].astype(np.int32),
        sums.ravel()[exceptions].astype(np.int32),
        scores[exceptions],
    )


def same_winners(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two tables of possible scores decide every argmax alike.

    Args:
        a, b: (sums, D): the score of a feature for each sum. Of equal scores, the feature
            with the lower number wins, as in `np.argmax`.

    Returns:
        Whether, for all pairs of features and all pairs of sums, the same one wins.

    Raises:
        ValueError: the shapes differ.
    """
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(
            f"a and b must both be (sums, features), got {a.shape} and {b.shape}"
        )
    feature = -np.broadcast_to(np.arange(a.shape[1]), a.shape).ravel()
    # From the weakest to the strongest by a. By b, no one may beat its successor.
    order = np.lexsort((b.ravel(), feature, a.ravel()))
    scores, feature = b.ravel()[order], feature[order]
    beaten = (scores[1:] == scores[:-1]) & (feature[1:] >= feature[:-1])
    return bool(((scores[1:] > scores[:-1]) | beaten).all())


@torch.no_grad()
def evaluate(norm: nn.Module, s: np.ndarray) -> np.ndarray:
    """What `norm` makes of integer sums, (M, D): its outputs, (M, D), in its dtype."""
    x = torch.from_numpy(np.ascontiguousarray(s)).to(norm.running_mean)
    if isinstance(norm, nn.BatchNorm2d):
        x = x[:, :, None, None]
    return norm(x).reshape(s.shape).cpu().numpy()


def real_threshold(
    gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, var: np.ndarray, eps: float
) -> Threshold:
    """The thresholds of textbook algebra, for γ ≠ 0: γ (s − μ)/σ + β ≥ 0 at s = μ − βσ/γ.

    They are right for real numbers, and computed here in float64. A float32 model may
    decide otherwise for the one sum nearest to the threshold.

    Args:
        gamma, beta, mean, var: (D,) each.
        eps: ε, added to the variance.

    Raises:
        ValueError: a γ is 0, where the sign does not depend on s.
    """
    gamma, beta, mean, var = (
        np.asarray(v, np.float64) for v in (gamma, beta, mean, var)
    )
    if (gamma == 0).any():
        raise ValueError(
            "γ is 0 for a feature, whose sign is then that of β for every sum; "
            "use fold_sign, which returns a constant"
        )
    edge = mean - beta * np.sqrt(var + eps) / gamma
    # For γ < 0: s ≤ edge, the contrary of s ≥ ⌊edge⌋ + 1.
    at = np.where(gamma > 0, np.ceil(edge), np.floor(edge) + 1)
    return Threshold(at.astype(np.int64), gamma < 0)


def _require_range(norm: nn.Module, low: int, high: int) -> tuple[int, int]:
    if type(norm) not in (nn.BatchNorm1d, nn.BatchNorm2d):
        raise TypeError(
            f"expected nn.BatchNorm1d or nn.BatchNorm2d, got {type(norm).__name__}"
        )
    inference_affine(norm)  # refuses training mode and statistics that are not finite
    if not low <= high:
        raise ValueError(f"low must not exceed high, got {low} and {high}")
    exact = round(2 / torch.finfo(norm.running_mean.dtype).eps)
    if max(-low, high) > exact:
        raise ValueError(
            f"sums reach {max(-low, high)}, and {norm.running_mean.dtype} holds every "
            f"integer only to {exact}; use a wider dtype or fewer inputs"
        )
    for s in (low, high):
        y = evaluate(norm, np.full((1, norm.num_features), s))
        if not np.isfinite(y).all():
            raise ValueError(
                f"the normalized sum is not finite at s = {s}; γ or β is too large for "
                f"{norm.running_mean.dtype}"
            )
    return int(low), int(high)
