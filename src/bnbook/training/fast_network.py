"""The training step and the prediction of `bnbook.training.network`, with buffers reused.

Both models get the same care, so that their ratio shows the cost of batch normalization
and not of an idle implementation: each array of a step is allocated once, a bias or a
shift is added while the block is in the cache where the ReLU follows, and weights are
updated in place.
"""

from collections.abc import Callable

import numpy as np

from bnbook.foundations.inference import require_count
from bnbook.training.architecture import Network, require_inputs
from bnbook.training.blocks import (
    affine,
    aligned,
    descend,
    keep_where_positive,
    one_blas_thread,
    product,
)
from bnbook.training.fast_batch_norm import (
    DTYPES,
    FastCache,
    fast_batch_norm,
    fast_batch_norm_backward,
)
from bnbook.training.layers import running_affine
from bnbook.training.losses import LOSSES


class FastStep:
    """One training step of a network, computed in buffers that are allocated once.

    The control keeps one activation for each hidden layer: the weighted sums become its
    output in place. Batch normalization keeps the weighted sums as well, one array of
    the same size more for each layer. Two more hold the gradient on its way back.

    Args:
        network: its parameters and running statistics are updated in place.
        batch_size: M of every batch, at least 2 with batch normalization.
        threads: how many work at once. With several, each calls a BLAS that is limited
            to one; with one, the products have as many as their library is set to.

    Raises:
        TypeError: the network is not in float32 or float64, or a number is no integer.
        ValueError: batch_size or threads is too small, or the network keeps biases before
            batch normalization.
    """

    def __init__(self, network: Network, batch_size: int, *, threads: int = 1):
        """Allocate the buffers."""
        if network.dtype not in DTYPES:
            raise TypeError(
                f"the network must be in float32 or float64, got {network.dtype}; convert it with astype"
            )
        if network.batch_norm and "b1" in network.parameters:
            raise ValueError(
                "the network keeps biases before batch normalization, which removes them; make it with "
                "bias_before_norm=False"
            )
        self.network = network
        self.batch_size = require_count(
            "batch_size", batch_size, 1 + network.batch_norm
        )
        self.threads = require_count("threads", threads, 1)
        hidden = network.sizes[1:-1]
        shapes = [(batch_size, size) for size in hidden]
        shapes += shapes * network.batch_norm
        shapes += [(batch_size * max(hidden, default=1),)] * 2
        shapes += [(max(p.size for p in network.parameters.values()),)]
        buffers = aligned(shapes, network.dtype)
        self.a, buffers = buffers[: len(hidden)], buffers[len(hidden) :]
        *self.z, first, second, self.dw = buffers
        self.d = (first, second)

    @property
    def activation_bytes(self) -> int:
        """Bytes of all buffers that hold an activation or its gradient."""
        return sum(buffer.nbytes for buffer in (*self.a, *self.z, *self.d))

    def __call__(
        self,
        x: np.ndarray,
        t: np.ndarray,
        *,
        learning_rate: float,
        l2: float = 0.0,
    ) -> float:
        """Make one step of gradient descent and return the loss before it.

        Args:
            x: (batch_size, D), in the dtype of the network; taken as checked otherwise.
            t: labels, (batch_size,).
            learning_rate: positive.
            l2: λ ≥ 0, as in `bnbook.training.network.loss_and_gradients`.

        Returns:
            The mean loss of the batch, without the penalty.

        Raises:
            TypeError, ValueError: x does not fit.
            FloatingPointError: the loss is not finite; then nothing has been changed.
        """
        network = self.network
        if require_inputs(network, x) is not x or len(x) != self.batch_size:
            raise ValueError(
                f"x must be a {network.dtype} array of {self.batch_size} rows, got {x.dtype} "
                f"of shape {x.shape}; make a FastStep for each batch size"
            )
        loss_of, loss_backward = LOSSES[network.loss]
        with (
            one_blas_thread(self.threads),
            np.errstate(over="ignore", invalid="ignore", divide="ignore"),
        ):
            y, caches = self._forward(x)
            logits = y[:, 0] if network.loss == "logistic" else y
            loss, loss_cache = loss_of(logits, t)
            if not np.isfinite(loss):
                raise FloatingPointError(
                    f"the loss is not finite, it is {loss}; lower the learning rate"
                )
            for running, cache in zip(network.running, caches, strict=True):
                batch = cache.statistics
                running.update(batch.mean[0], batch.var[0], batch.count)
            dy = loss_backward(loss_cache).reshape(len(x), -1)
            self._backward(x, dy, caches, learning_rate, l2)
        return float(loss)

    def _forward(self, x: np.ndarray) -> tuple[np.ndarray, list[FastCache]]:
        p, caches, a = self.network.parameters, [], x
        for i, out in enumerate(self.a, 1):
            if self.network.batch_norm:
                z = product(a, p[f"W{i}"], self.z[i - 1], threads=self.threads)
                a, cache = fast_batch_norm(
                    z,
                    p[f"gamma{i}"],
                    p[f"beta{i}"],
                    eps=self.network.eps,
                    threads=self.threads,
                    out=out,
                    relu=True,
                )
                caches.append(cache)
            else:
                a = product(a, p[f"W{i}"], out, threads=self.threads)
                affine(a, a, offset=p[f"b{i}"], relu=True, threads=self.threads)
        last = self.network.depth
        return a @ p[f"W{last}"] + p[f"b{last}"], caches

    def _backward(self, x, dz, caches, learning_rate, l2) -> None:
        """Gradient and update of one layer after the other, from the last to the first."""
        network, p = self.network, self.network.parameters
        for i in range(network.depth, 0, -1):
            inputs = self.a[i - 2] if i > 1 else x
            w = p[f"W{i}"]
            dw = self.dw[: w.size].reshape(w.shape)
            product(inputs.T, dz, dw, threads=self.threads)
            if f"b{i}" in p:
                p[f"b{i}"] -= learning_rate * dz.sum(axis=0)
            if i > 1:
                da = self.d[i % 2][: inputs.size].reshape(inputs.shape)
                dz = self._through_layer(
                    i - 1,
                    product(dz, w.T, da, threads=self.threads),
                    caches,
                    learning_rate,
                )
            descend(w, dw, 1 - learning_rate * l2, learning_rate, threads=self.threads)

    def _through_layer(self, i, da, caches, learning_rate) -> np.ndarray:
        """∂L/∂z of hidden layer i, written over ∂L/∂a."""
        if not self.network.batch_norm:
            keep_where_positive(da, self.a[i - 1], da, threads=self.threads)
            return da
        grads = fast_batch_norm_backward(
            da, caches[i - 1], threads=self.threads, out=da, relu_output=self.a[i - 1]
        )
        p = self.network.parameters
        p[f"gamma{i}"] -= learning_rate * grads.dgamma
        p[f"beta{i}"] -= learning_rate * grads.dbeta
        return grads.dx


def predictor(
    network: Network, batch_size: int, *, threads: int = 1
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from (batch_size, D) inputs to logits, with buffers allocated once.

    With batch normalization it multiplies by γ/√(var + ε) and adds β − γ mean/√(var + ε)
    after each matrix product, where the control adds its bias; `fold` leaves only that.

    Args:
        network: float32 or float64, trained for a step if it normalizes batches; the
            function sees later changes of its parameters, not of its running statistics.
        batch_size: rows of each input.
        threads: how many work at once, as for `FastStep`.

    Raises:
        TypeError, ValueError: as for `FastStep`; or no batch has been seen yet.
    """
    step = FastStep(network, batch_size, threads=threads)
    p, last = network.parameters, network.depth
    maps = [
        running_affine(running, p[f"gamma{i}"], p[f"beta{i}"], network.eps)
        for i, running in enumerate(network.running, 1)
    ] or [(None, p[f"b{i}"]) for i in range(1, last)]

    def predict(x: np.ndarray) -> np.ndarray:
        a = require_inputs(network, x)
        with one_blas_thread(threads):
            for i, (out, (scale, offset)) in enumerate(zip(step.a, maps, strict=True)):
                a = product(a, p[f"W{i + 1}"], out, threads=threads)
                affine(a, a, scale=scale, offset=offset, relu=True, threads=threads)
            y = a @ p[f"W{last}"] + p[f"b{last}"]
        return y[:, 0] if network.loss == "logistic" else y

    return predict


def fold(network: Network) -> Network:
    """The network without batch normalization that predicts the same: W · scale and shift.

    Raises:
        ValueError: the network has no batch normalization, or has not seen a batch yet.

    Source: Yu (2021), Eqs. (15) and (3), put into (1).
    """
    if not network.batch_norm:
        raise ValueError(
            "the network has no batch normalization to fold; predict with it as it is"
        )
    folded = Network(
        network.sizes, batch_norm=False, loss=network.loss, seed=0, dtype=network.dtype
    )
    for name in folded.parameters:
        if name in network.parameters:
            folded.parameters[name] = network.parameters[name].copy()
    for i, running in enumerate(network.running, 1):
        p = network.parameters
        scale = p[f"gamma{i}"].astype(float) / np.sqrt(running.var + network.eps)
        bias = p[f"b{i}"] if f"b{i}" in p else 0.0
        shift = p[f"beta{i}"] + scale * (bias - running.mean)
        folded.parameters[f"W{i}"] = (p[f"W{i}"] * scale).astype(network.dtype)
        folded.parameters[f"b{i}"] = shift.astype(network.dtype)
    return folded
