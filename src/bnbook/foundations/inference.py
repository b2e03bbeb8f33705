"""From batch to population: running averages of batch statistics, what they estimate.

α is everywhere the weight of the OLD value, as in Yu (2021): new = α · old + (1 − α) ·
batch. PyTorch's `momentum` is the weight of the new batch, 1 − α. Folding is in
`bnbook.foundations.folding`, recalculation after training in
`bnbook.foundations.recalibration`.
"""

import math
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np

from bnbook.validation import require_float_array, require_shape

ESTIMATORS = ("biased", "unbiased", "moments", "deviation")


@dataclass(frozen=True)
class EmaMemory:
    """How far an exponential average looks back; all in units of batches.

    Attributes:
        mean_age: average age of what it averages; the newest batch has age 0. Also its
            lag under a linear drift of one unit a batch.
        half_life: number of newest batches that carry half of the weight.
        window: length of the plain average with the same variance, for independent
            batches. A plain average of that length has the same mean age, too.
    """

    mean_age: float
    half_life: float
    window: float


def require_alpha(alpha: float) -> float:
    """Return `alpha` as a float if it is a weight in [0, 1].

    Raises:
        TypeError: `alpha` is not a real number.
        ValueError: `alpha` is NaN or outside [0, 1].
    """
    if not isinstance(alpha, Real) or isinstance(alpha, bool | np.bool_):
        raise TypeError(
            f"alpha must be a real number, got {type(alpha).__name__}; "
            "it is the weight of the old value, for example 0.97"
        )
    if not 0 <= alpha <= 1:  # also catches NaN
        raise ValueError(
            f"alpha must lie in [0, 1], got {alpha}; it is the weight of the old value, "
            "so PyTorch's momentum p is alpha = 1 - p"
        )
    return float(alpha)


def require_count(name: str, value: int, least: int) -> int:
    """Return `value` as an int if it is an integer of at least `least`.

    Raises:
        TypeError: `value` is not an integer.
        ValueError: `value` is less than `least`.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral):
        raise TypeError(
            f"{name} must be an integer, got {type(value).__name__}; pass a whole number"
        )
    if value < least:
        raise ValueError(
            f"{name} must be at least {least}, got {value}; pass a larger number"
        )
    return int(value)


def ema_weights(alpha: float, steps: int) -> np.ndarray:
    """Weights of the last `steps` batches in an exponential average, newest first.

    The batch of age k has the weight (1 − α) αᵏ. The weights sum to 1 − α^steps; what
    is missing lies on older batches and on the initial value.

    Args:
        alpha: weight of the old value, in [0, 1].
        steps: number of batches, at least 1.

    Returns:
        Weights of ages 0, 1, …, steps − 1, shape (steps,).

    Raises:
        TypeError: alpha is not a number, or steps is not an integer.
        ValueError: alpha is outside [0, 1], or steps < 1.

    Source: Yu (2021), §2.2.
    """
    alpha = require_alpha(alpha)
    return (1 - alpha) * alpha ** np.arange(require_count("steps", steps, 1))


def ema_memory(alpha: float) -> EmaMemory:
    """How far an exponential average looks back.

    Mean age α/(1 − α), half-life ln ½ / ln α and window (1 + α)/(1 − α).

    Raises:
        TypeError: alpha is not a real number.
        ValueError: alpha is outside [0, 1), the range where the average ever forgets.

    Source: Yu (2021), §2.2.
    """
    alpha = require_alpha(alpha)
    if alpha == 1:
        raise ValueError(
            "alpha must be below 1, got 1: such an average never moves, so its memory is infinite; "
            "use for example 0.97"
        )
    half_life = math.log(0.5) / math.log(alpha) if alpha > 0 else 0.0
    return EmaMemory(alpha / (1 - alpha), half_life, (1 + alpha) / (1 - alpha))


def normal_deviation_factor(size: int) -> float:
    """c₄(M): E[s] = c₄ τ, with s² the unbiased variance of M normal values.

    c₄(M) = √(2/(M − 1)) Γ(M/2) / Γ((M − 1)/2) < 1; τ is the deviation of the values.

    Raises:
        TypeError: size is not an integer.
        ValueError: size < 2.
    """
    size = require_count("size", size, 2)
    ratio = math.exp(math.lgamma(size / 2) - math.lgamma((size - 1) / 2))
    return math.sqrt(2 / (size - 1)) * ratio


def expected_variance(estimator: str, size: int, alpha: float) -> float:
    """Expectation of a long-run variance estimate, in units of the true variance τ².

    The batches are independent draws of M independent values from one distribution, and
    the average has run so long that its initial value is forgotten. n = (1 + α)/(1 − α)
    is its window. The estimators:

    - "biased": average of σ²; (M − 1)/M.
    - "unbiased": average of M/(M − 1) · σ²; 1.
    - "moments": average of the mean squares minus the square of the average mean;
      1 − 1/(M n).
    - "deviation": square of the average of σ, for normal data;
      (M − 1)/M · (c₄² + (1 − c₄²)/n).

    Args:
        estimator: one of the four names.
        size: batch size M, at least 2.
        alpha: weight of the old value, in [0, 1).

    Raises:
        TypeError: size is not an integer, or alpha is not a number.
        ValueError: the estimator is unknown, size < 2, or alpha is outside [0, 1).

    Source: Ioffe and Szegedy (2015), Algorithm 2 ("unbiased"); Yu (2021), §2.2.
    """
    _require_estimator(estimator)
    size = require_count("size", size, 2)
    window = ema_memory(alpha).window
    shrunk = (size - 1) / size
    if estimator == "biased":
        return shrunk
    if estimator == "unbiased":
        return 1.0
    if estimator == "moments":
        return 1 - 1 / (size * window)
    c4 = normal_deviation_factor(size)
    return shrunk * (c4**2 + (1 - c4**2) / window)


def _require_estimator(estimator: str) -> None:
    if estimator not in ESTIMATORS:
        raise ValueError(
            f"estimator must be one of {ESTIMATORS}, got {estimator!r}; choose one"
        )


def estimate_variance(batches: np.ndarray, estimator: str, alpha: float) -> np.ndarray:
    """Estimate a long-run variance by an exponential average over batches.

    The average starts from nothing and is divided by its total weight, so it has no
    initial value.

    Args:
        batches: one feature, shape (…, T, M): T batches of M values.
        estimator: "biased", "unbiased", "moments" or "deviation"; see
            `expected_variance`.
        alpha: weight of the old value, in [0, 1).

    Returns:
        The estimates, shape (…).

    Raises:
        TypeError: batches is not a floating-point array, or alpha is not a number.
        ValueError: batches is not finite, has fewer than 2 axes, no batch or M < 2; the
            estimator is unknown; or alpha is outside [0, 1).
    """
    batches = require_float_array("batches", batches)
    _require_estimator(estimator)
    if batches.ndim < 2 or batches.shape[-2] < 1 or batches.shape[-1] < 2:
        raise ValueError(
            f"batches must have shape (…, T, M) with T ≥ 1 and M ≥ 2, got {batches.shape}; "
            "put one batch in each row"
        )
    ema_memory(alpha)  # refuses alpha = 1
    weights = ema_weights(alpha, batches.shape[-2])[::-1]
    weights = weights / weights.sum()
    if estimator == "moments":
        # Shifted by one common constant, so that a large mean does not cancel.
        centred = batches - batches.mean(axis=(-2, -1), keepdims=True)
        first, second = centred.mean(-1) @ weights, (centred**2).mean(-1) @ weights
        return second - first**2
    if estimator == "deviation":
        return (batches.std(-1) @ weights) ** 2
    return batches.var(-1, ddof=1 if estimator == "unbiased" else 0) @ weights


def variance_spread(size: int, excess_kurtosis: float = 0.0) -> float:
    """Relative standard deviation of the unbiased variance of one batch.

    √(2/(M − 1) + K/M) with K the excess kurtosis of the data: 0 for normal data, 6 for
    exponential.

    Args:
        size: batch size M, at least 2.
        excess_kurtosis: K ≥ −2, of independent values from one distribution.

    Raises:
        TypeError: size is not an integer, or excess_kurtosis is not a number.
        ValueError: size < 2, or excess_kurtosis is below −2 or not finite.

    Source: Yu (2021), §2.2, whose "vary wildly" this makes a number.
    """
    size = require_count("size", size, 2)
    if not isinstance(excess_kurtosis, Real) or isinstance(excess_kurtosis, bool):
        raise TypeError(
            f"excess_kurtosis must be a real number, got {type(excess_kurtosis).__name__}; "
            "use 0 for normal data"
        )
    if not -2 <= excess_kurtosis < math.inf:
        raise ValueError(
            f"excess_kurtosis must be finite and at least -2, got {excess_kurtosis}; "
            "use 0 for normal data"
        )
    return math.sqrt(2 / (size - 1) + excess_kurtosis / size)


class RunningStatistics:
    """Population mean and variance, gathered from batch statistics. NumPy, float64.

    With a rate `alpha` it keeps exponential averages of the batch means and of the
    unbiased batch variances. With `alpha=None` it pools: every value counts alike, and
    the result is the mean and the unbiased variance of all values together, in whatever
    batches they came.

    Args:
        shape: shape of the statistics, for example (D,), or D.
        alpha: weight of the old value, in [0, 1]; None to pool.
        bias_correction: divide by the total weight of the batches seen, so that the
            initial value plays no part. Without it the averages start from mean 0 and
            variance 1, as PyTorch's do.

    Raises:
        TypeError: alpha is not a number.
        ValueError: alpha is outside [0, 1], or pooling is asked for without bias
            correction.

    Source: Ioffe and Szegedy (2015), Algorithm 2; Yu (2021), §2.2; Chan et al. (1983).
    """

    def __init__(
        self,
        shape: int | tuple[int, ...],
        *,
        alpha: float | None = None,
        bias_correction: bool = True,
    ):
        """Start without any batch."""
        self.alpha = None if alpha is None else require_alpha(alpha)
        if alpha is None and not bias_correction:
            raise ValueError(
                "pooling has no initial value to correct for; pass bias_correction=True, or an alpha"
            )
        self.bias_correction = bool(bias_correction)
        self.count = 0  # values seen per feature
        self.weight = (
            0.0  # total weight of the batches seen, 1 − αᵗ; or their number of values
        )
        self._mean = np.zeros(shape)
        self._var = (
            np.zeros(shape) if bias_correction else np.ones(shape)
        )  # pooling: Σ (z − mean)²

    @property
    def mean(self) -> np.ndarray:
        """The estimate of the population mean, a copy.

        Raises:
            ValueError: no batch has any weight yet.
        """
        return (
            self._mean / self._total()
            if self.alpha is not None
            else self._mean * self._total(1)
        )

    @property
    def var(self) -> np.ndarray:
        """The estimate of the population variance, a copy.

        Raises:
            ValueError: no batch has any weight yet, or a single value was pooled.
        """
        if self.alpha is not None:
            return self._var / self._total()
        return self._var / (self._total(2) - 1)

    def _total(self, least: int = 0) -> float:
        """Divide by this; pooling needs at least so many values."""
        if self.alpha is not None and not self.bias_correction:
            return 1.0
        if self.weight <= 0 or self.count < least:
            raise ValueError(
                f"the statistics rest on {self.count} values of total weight {self.weight:g}; "
                "call update with a batch first"
            )
        return 1.0 if least == 1 else self.weight

    def update(self, mean: np.ndarray, var: np.ndarray, count: int) -> None:
        """Add one batch.

        Args:
            mean: batch mean μ, of the shape of these statistics.
            var: biased batch variance σ², same shape; it is made unbiased here.
            count: M, the number of values behind each; at least 2, or 1 when pooling.

        Raises:
            TypeError: mean or var is not a floating-point array, or count is not an
                integer.
            ValueError: a shape is wrong, a value is not finite, a variance is negative,
                or count is too small.
        """
        for name, value in (("mean", mean), ("var", var)):
            require_float_array(name, value)
            require_shape(name, value, self._mean.shape, "the shape of the statistics")
            if np.iscomplexobj(value):
                raise TypeError(
                    f"{name} must be real, got {value.dtype}; pass its real part"
                )
        if (var < 0).any():
            raise ValueError(
                f"var must not be negative, got {var.min():.3g}; pass a variance"
            )
        count = require_count("count", count, 1 if self.alpha is None else 2)
        if self.alpha is None:
            self._pool(np.asarray(mean, float), count * np.asarray(var, float), count)
        else:
            unbiased = np.asarray(var, float) * (count / (count - 1))
            self._mean = self.alpha * self._mean + (1 - self.alpha) * mean
            self._var = self.alpha * self._var + (1 - self.alpha) * unbiased
            self.weight = self.alpha * self.weight + (1 - self.alpha)
        self.count += count

    def _pool(self, mean: np.ndarray, squares: np.ndarray, count: int) -> None:
        """Join mean, Σ (z − mean)² and count to what is there, as Chan et al. do."""
        total = self.count + count
        step = mean - self._mean
        self._mean = self._mean + step * (count / total)
        self._var = self._var + squares + step**2 * (self.count * count / total)
        self.weight = float(total)

    def merge(self, other: "RunningStatistics") -> "RunningStatistics":
        """Pool the values behind two statistics, for example of two workers, into a third.

        Raises:
            TypeError: other is not a RunningStatistics.
            ValueError: one of the two is an exponential average, which has an order
                that a merge would lose, or the shapes differ.
        """
        if not isinstance(other, RunningStatistics):
            raise TypeError(
                f"other must be RunningStatistics, got {type(other).__name__}; gather it with update"
            )
        if self.alpha is not None or other.alpha is not None:
            raise ValueError(
                "an exponential average depends on the order of its batches, so two of them cannot be "
                "merged; gather with alpha=None"
            )
        require_shape(
            "other", other._mean, self._mean.shape, "the shape of these statistics"
        )
        merged = RunningStatistics(self._mean.shape)
        for part in (self, other):
            if part.count:
                merged._pool(part._mean, part._var, part.count)
                merged.count += part.count
        return merged
