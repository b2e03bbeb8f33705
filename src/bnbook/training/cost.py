"""What batch normalization costs: operations, traffic, and the time these must take.

The counts are taken by running a formula on arrays that keep a tally (`count`), so that
they belong to the code that is timed. A roofline turns them into a prediction.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import sympy as sp

from bnbook.training.higgs_results import best_rates, first_epoch_at, runs

M, D = sp.symbols("M D", positive=True, integer=True)

# Table 3.2.1 of Yu (2021), control and BN.
SOURCE_TRAINING_STEP = (0.249, 0.387)  # seconds
SOURCE_INFERENCE_STEP = (0.124, 0.166)  # seconds
SOURCE_BEST_EPOCH = (9, 8)
SOURCE_SIZES = (28, 1000, 1000, 1000, 1000, 1)
SOURCE_BATCH = 1024


@dataclass
class Tally:
    """Running totals: `flops` (a square root counts as one) and elements `moved`, read
    and written, by operations that each go through memory."""

    flops: int = 0
    moved: int = 0


class Counted(np.lib.mixins.NDArrayOperatorsMixin):
    """An array that adds every operation on it to a tally.

    An elementwise operation counts one flop an element of its result, a sum one less
    than the elements it adds. An operand that occurs twice in one operation is read
    once, since its second use finds it in the cache.
    """

    def __init__(self, value: np.ndarray, tally: Tally):
        """Wrap an array; results share its tally."""
        self.value, self.tally = value, tally

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        """Compute, and count."""
        if method not in ("__call__", "reduce"):
            return NotImplemented
        arrays = [each.value if isinstance(each, Counted) else each for each in inputs]
        result = getattr(ufunc, method)(*arrays, **options)
        size = np.size(result)
        self.tally.flops += np.size(arrays[0]) - size if method == "reduce" else size
        read = {id(each): np.size(each) for each in arrays}
        self.tally.moved += sum(read.values()) + size
        return Counted(result, self.tally)


def count(formula: Callable, *arrays: np.ndarray) -> Tally:
    """Run a formula made of NumPy operators and `np.add.reduce`, and count.

    Args:
        formula: takes the arrays, which it must not convert.
        arrays: its arguments.
    """
    tally = Tally()
    formula(*(Counted(array, tally) for array in arrays))
    return tally


def polynomial(formula: Callable, arguments: Callable, field: str) -> sp.Expr:
    """The count as a polynomial a + b D + c M D, found from runs of three sizes and
    confirmed by a fourth.

    Args:
        formula: as for `count`.
        arguments: from (M, D) to the tuple of its arguments.
        field: "flops" or "moved".

    Raises:
        ValueError: the fourth size does not fit, so that the count has another form.
    """
    sizes = ((3, 2), (5, 2), (3, 7), (11, 13))
    found = [getattr(count(formula, *arguments(*size)), field) for size in sizes]
    a, b, c = sp.symbols("a b c")
    form = a + b * D + c * M * D
    fits = [form.subs({M: m, D: d}) - n for (m, d), n in zip(sizes, found, strict=True)]
    solution = sp.solve(fits[:3], (a, b, c))
    if fits[3].subs(solution) != 0:
        raise ValueError(
            f"the {field} of {formula.__name__} are no polynomial a + b D + c M D; count a "
            "formula that handles each entry alike"
        )
    return form.subs(solution)


def forward_formula(x, gamma, beta, eps):
    """y = γ (x − μ)/√(σ² + ε) + β in plain NumPy, one operation after the other.

    Source: Yu (2021), Eqs. (2) and (3).
    """
    rows = x.value.shape[0] if isinstance(x, Counted) else x.shape[0]
    mean = np.add.reduce(x, axis=0) / rows
    centred = x - mean
    var = np.add.reduce(centred * centred, axis=0) / rows
    z_hat = centred / np.sqrt(var + eps)
    return gamma * z_hat + beta


def backward_formula(dy, z_hat, scale, rows):
    """dx, from g = dy, ẑ and scale = γ/√(σ² + ε), one operation after the other.

    Source: Yu (2021), Eqs. (12), (13) and (14), with Σ ẑ = 0.
    """
    dbeta = np.add.reduce(dy, axis=0)
    dgamma = np.add.reduce(dy * z_hat, axis=0)
    return scale * (dy - dbeta / rows - z_hat * (dgamma / rows))


def inference_formula(x, mean, var, gamma, beta, eps):
    """y = γ (x − mean)/√(var + ε) + β, as printed.

    Source: Yu (2021), Eqs. (15) and (3).
    """
    return gamma * ((x - mean) / np.sqrt(var + eps)) + beta


def scale_and_shift(x, scale, shift):
    """The same map with the two numbers of each feature computed beforehand."""
    return scale * x + shift


def formula_arguments(formula: Callable) -> Callable[[int, int], tuple]:
    """From (M, D) to arguments of one of the four formulas, all float64.

    Raises:
        KeyError: the formula is another.
    """
    kinds = {
        forward_formula: "xdd1",
        backward_formula: "xxd1",
        inference_formula: "xdddd1",
        scale_and_shift: "xdd",
    }[formula]

    def arguments(rows: int, columns: int) -> tuple[np.ndarray, ...]:
        shapes = {"x": (rows, columns), "d": (columns,), "1": ()}
        return tuple(np.ones(shapes[kind]) for kind in kinds)

    return arguments


def matmul_flops(sizes: tuple[int, ...], batch: int, *, training: bool) -> int:
    """Flops of all matrix products of a fully connected network, for one batch.

    A product of (M, K) and (K, N) takes 2 M K N. Training needs three for each layer,
    for z, ∂L/∂W and ∂L/∂a; the gradient of the network's input is not computed.

    Args:
        sizes: features of the input, of each hidden layer, of the output.
        batch: M.
        training: whether to count the backward pass.
    """
    products = [2 * batch * k * n for k, n in itertools.pairwise(sizes)]
    return 3 * sum(products) - products[0] if training else sum(products)


@dataclass(frozen=True)
class Machine:
    """Two measured rates: `flops` a second in matrix products, and `bandwidth`, bytes a
    second in a copy, what is read and what is written together."""

    flops: float
    bandwidth: float

    @property
    def ridge(self) -> float:
        """Flops a byte from which the arithmetic takes longer than the traffic."""
        return self.flops / self.bandwidth

    def attainable(self, intensity):
        """Highest rate, in flops a second, at so many flops a byte.

        Source: Williams, Waterman and Patterson (2009).
        """
        return np.minimum(self.flops, np.asarray(intensity) * self.bandwidth)

    def seconds(self, flops: float, moved_bytes: float) -> float:
        """Shortest time of work that cannot be faster than either rate.

        Raises:
            ValueError: a number is negative.
        """
        if flops < 0 or moved_bytes < 0:
            raise ValueError(
                f"flops and bytes must not be negative, got {flops} and {moved_bytes}"
            )
        return max(flops / self.flops, moved_bytes / self.bandwidth)


# Elements moved for each entry of an activation, by `bnbook.training.fast_network`.
CONTROL_PASSES = {"forward": 2, "backward": 3}  # bias and ReLU in place; the mask
NORM_PASSES = {"forward": 3, "backward": 7}


def predicted_step(
    sizes: tuple[int, ...], batch: int, machine: Machine, *, batch_norm: bool
) -> float:
    """Seconds of a training step if matrix products run at the peak and all other passes
    at the bandwidth, in float32.

    The update of the weights counts with the passes: dW is read and written, then read
    once more with W, which is written.
    """
    passes = NORM_PASSES if batch_norm else CONTROL_PASSES
    activations = batch * sum(sizes[1:-1]) * sum(passes.values())
    weights = 5 * sum(k * n for k, n in itertools.pairwise(sizes))
    traffic = 4 * (activations + weights)
    products = matmul_flops(sizes, batch, training=True)
    return machine.seconds(products, 0) + machine.seconds(0, traffic)


# Elements moved for each entry of a layer, forward and backward, float32. A fused kernel
# reads x and writes y, then reads g and x and writes dx, if a feature's batch stays in
# the cache between its statistics and its output; the fast functions make two passes.
FUSED_PASSES = {"forward": 2, "backward": 3}
FAST_PASSES = {"forward": 3, "backward": 5}


def layer_traffic(passes: dict[str, int], rows: int, columns: int) -> int:
    """Bytes that a float32 layer moves, forward and backward."""
    return 4 * rows * columns * sum(passes.values())


def time_ratios(frame: pd.DataFrame, step_ratio: float) -> pd.DataFrame:
    """How long batch normalization takes to reach the best validation accuracy of the
    control, in units of the time that the control takes, seed by seed.

    Each model runs at its best learning rate. A run that never gets there counts with
    one epoch more than it had, which is too few: its ratio is a lower bound.

    Args:
        frame: rows of epochs, from an experiment of `bnbook.training.higgs`.
        step_ratio: time of a training step, BN over control.

    Returns:
        One row a seed: `level`, `control` and `bn`, the epochs needed, `reached`, and
        `ratio` of the times.

    Raises:
        ValueError: step_ratio is not positive.
    """
    if not 0 < step_ratio < math.inf:
        raise ValueError(
            f"step_ratio must be positive, got {step_ratio}; pass BN over control"
        )
    rates = best_rates(runs(frame))
    curves = {
        model: frame[(frame.model == model) & (frame.rate == rate)]
        for model, rate in rates.items()
    }
    level = curves["control"].groupby("seed").validation_accuracy.max()
    found = pd.DataFrame({"level": level})
    for model in ("control", "bn"):
        found[model] = first_epoch_at(curves[model], level)
    last = curves["bn"].groupby("seed").epoch.max()
    found["reached"] = found.bn <= last
    found["ratio"] = found.bn / found.control * step_ratio
    return found


def lost_throughput(control: float, norm: float) -> float:
    """Share of the steps an hour that is lost, from two step times: 1 − control/norm."""
    return 1 - control / norm


def added_time(control: float, norm: float) -> float:
    """Share of the step time that is added, from two step times: norm/control − 1."""
    return norm / control - 1


def rounded_ratio(
    above: float, below: float, half: float
) -> tuple[float, float, float]:
    """above/below, and the least and largest value if both were rounded by ± half.

    Raises:
        ValueError: the divisor may be 0.
    """
    if below <= half or not math.isfinite(above):
        raise ValueError(f"below must exceed the rounding {half}, got {below}")
    return (
        above / below,
        (above - half) / (below + half),
        (above + half) / (below - half),
    )
