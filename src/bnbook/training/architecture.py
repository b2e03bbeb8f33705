"""What a fully connected network is: sizes, parameters, running statistics, prediction.

How it is differentiated and trained is in `bnbook.training.network`.
"""

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bnbook.foundations.backward import batch_norm_backward
from bnbook.foundations.forward import batch_norm
from bnbook.foundations.inference import RunningStatistics, require_alpha, require_count
from bnbook.training.layers import linear, relu, running_affine
from bnbook.training.losses import LOSSES
from bnbook.validation import require_eps, require_float_array

ROWS = 8192  # examples at once at inference, to bound the memory


@dataclass(frozen=True)
class State:
    """A network at one moment: copies of its parameters and running statistics."""

    parameters: dict[str, np.ndarray]
    running: tuple[RunningStatistics, ...]


class Network:
    """Layers of linear – [batch normalization –] ReLU, then a linear layer and a loss.

    Weights W1, W2, … have shape (D_in, D_out) and start normal with variance 2/D_in
    before a ReLU (He et al., 2015) and 1/D_in before the loss; biases b start at 0,
    scales gamma at 1, shifts beta at 0. The weights depend only on `seed` and `sizes`:
    a network with batch normalization and its control start from the same ones. A
    linear layer before batch normalization has no bias, since the batch mean would
    remove it; beta is in its place.

    Args:
        sizes: features of the input, of each hidden layer, of the output; for example
            (28, 1000, 1000, 1000, 1000, 1).
        batch_norm: whether to normalize the weighted sums of the hidden layers.
        loss: "logistic" for labels 0 and 1, with one output; or "softmax" for labels
            0 … K − 1, with K outputs.
        seed: of the weights.
        dtype: of parameters and activations: a float dtype, or a complex one to
            differentiate by the complex-step method.
        eps: ε ≥ 0, added to the batch variance.
        alpha: weight of the old value in the running statistics, in [0, 1].
        bias_correction: start the running statistics from nothing, so that the first
            batches count fully; False to start from mean 0 and variance 1, as PyTorch
            does.
        bias_before_norm: keep the biases that batch normalization ignores.
        normalize: the two functions that normalize a batch, with the signatures of
            `batch_norm` and `batch_norm_backward`; the cache needs `statistics`. They
            may overwrite their first argument.

    Attributes:
        parameters: name → array; `W1` and `b1`, or `W1`, `gamma1` and `beta1`, ….
        running: running statistics of each hidden layer; empty without batch
            normalization.

    Raises:
        TypeError: a size, the seed, eps or alpha is not a number; dtype is not
            floating or complex.
        ValueError: sizes, loss, eps or alpha is out of range, or the number of outputs
            does not fit the loss.

    Source: Yu (2021), §3.1 and Fig. 3.1.0; the source does not give the initial values.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        batch_norm: bool,
        loss: str = "logistic",
        seed: int,
        dtype: type = np.float32,
        eps: float = 1e-5,
        alpha: float = 0.97,
        bias_correction: bool = True,
        bias_before_norm: bool = False,
        normalize: tuple[Callable, Callable] = (batch_norm, batch_norm_backward),
    ):
        """Draw the weights."""
        self.sizes = tuple(require_count("a size", size, 1) for size in sizes)
        if len(self.sizes) < 2:
            raise ValueError(
                f"sizes must name input and output, got {self.sizes}; for example (28, 100, 1)"
            )
        if loss not in LOSSES:
            raise ValueError(f"loss must be one of {tuple(LOSSES)}, got {loss!r}")
        if (loss == "logistic") != (self.sizes[-1] == 1):
            raise ValueError(
                f"the {loss} loss needs {'1 output' if loss == 'logistic' else 'at least 2 outputs'}, "
                f"got {self.sizes[-1]}; change the last size or the loss"
            )
        self.dtype = np.dtype(dtype)
        if self.dtype.kind not in "fc":
            raise TypeError(
                f"dtype must be floating or complex, got {self.dtype}; use for example np.float32"
            )
        self.batch_norm = bool(batch_norm)
        self.loss = loss
        self.eps = require_eps(eps)
        self.alpha = require_alpha(alpha)
        self.normalize = normalize
        self.parameters: dict[str, np.ndarray] = {}
        self.running = []
        rng = np.random.default_rng(require_count("seed", seed, 0))
        for i, (fan_in, fan_out) in enumerate(itertools.pairwise(self.sizes), 1):
            hidden = i < self.depth
            w = rng.normal(size=(fan_in, fan_out)) * np.sqrt((1 + hidden) / fan_in)
            normalized = hidden and self.batch_norm
            new = {"W": w}
            if not normalized or bias_before_norm:
                new["b"] = np.zeros(fan_out)
            if normalized:
                new |= {"gamma": np.ones(fan_out), "beta": np.zeros(fan_out)}
                self.running.append(
                    RunningStatistics(
                        fan_out, alpha=self.alpha, bias_correction=bias_correction
                    )
                )
            for name, value in new.items():
                self.parameters[f"{name}{i}"] = value.astype(self.dtype)

    @property
    def depth(self) -> int:
        """Number of linear layers."""
        return len(self.sizes) - 1

    @property
    def layers(self) -> tuple[tuple[str, int], ...]:
        """Kind and number of outputs of each layer, in order, from ("input", D) on."""
        found = [("input", self.sizes[0])]
        for i, size in enumerate(self.sizes[1:], 1):
            found.append(("linear", size))
            if i < self.depth:
                found += [("batch norm", size)] * self.batch_norm + [("ReLU", size)]
        head = "sigmoid" if self.loss == "logistic" else "softmax"
        return (*found, (head, self.sizes[-1]))

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Logits in inference mode, with the running statistics.

        Args:
            x: (N, D).

        Returns:
            (N,) for the logistic loss, (N, K) for softmax.

        Raises:
            TypeError: x is not a floating-point array.
            ValueError: x has the wrong shape or is not finite; or batch normalization
                has not seen a training batch yet.
        """
        return predict(self, require_inputs(self, x))

    def state(self) -> State:
        """A copy of what training changes."""
        return State(
            {name: value.copy() for name, value in self.parameters.items()},
            tuple(copy.deepcopy(self.running)),
        )

    def restore(self, state: State) -> None:
        """Return to a state, for example to `History.best`; the state stays a copy.

        Raises:
            ValueError: the state is of a network with other parameters.
        """
        shapes = {n: v.shape for n, v in self.parameters.items()}
        given = {n: v.shape for n, v in state.parameters.items()}
        if shapes != given:
            raise ValueError(
                f"the state has the parameters {given}, the network {shapes}; restore a state of "
                "this network"
            )
        self.parameters = {n: v.copy() for n, v in state.parameters.items()}
        self.running = list(copy.deepcopy(state.running))

    def astype(self, dtype: type) -> "Network":
        """A copy of the network in another dtype, running statistics included."""
        other = copy.deepcopy(self)
        other.dtype = np.dtype(dtype)
        other.parameters = {n: v.astype(dtype) for n, v in other.parameters.items()}
        return other


def require_inputs(network: Network, x: np.ndarray) -> np.ndarray:
    """Return `x` in the dtype of the network, if it is a batch for it.

    Raises:
        TypeError: x is not a floating-point array.
        ValueError: x is empty, not finite, or has another number of features.
    """
    require_float_array("x", x)
    if x.ndim != 2 or x.shape[1] != network.sizes[0] or len(x) == 0:
        raise ValueError(
            f"x must have shape (M, {network.sizes[0]}) with M > 0, got {x.shape}; put one example "
            "in each row, with one column for each input of the network"
        )
    return x.astype(network.dtype, copy=False)


def logits_of(network: Network, y: np.ndarray) -> np.ndarray:
    """The last weighted sums as logits: (M, 1) becomes (M,) for the logistic loss."""
    return y[:, 0] if network.loss == "logistic" else y


def predict(network: Network, x: np.ndarray) -> np.ndarray:
    """Logits in inference mode, some rows at a time; see `Network.predict`."""
    affine = [
        running_affine(
            running,
            network.parameters[f"gamma{i}"],
            network.parameters[f"beta{i}"],
            network.eps,
        )
        for i, running in enumerate(network.running, 1)
    ]
    return np.concatenate(
        [
            _predict_rows(network, x[start : start + ROWS], affine)
            for start in range(0, len(x), ROWS)
        ]
    )


def _predict_rows(network: Network, a: np.ndarray, affine: list) -> np.ndarray:
    p = network.parameters
    for i in range(1, network.depth + 1):
        y, _ = linear(a, p[f"W{i}"], p.get(f"b{i}"))
        if i < network.depth:
            if affine:
                scale, shift = affine[i - 1]
                y *= scale
                y += shift
            a, _ = relu(y)
    return logits_of(network, y)
