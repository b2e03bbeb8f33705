"""A fully connected network in NumPy, with or without batch normalization, and its training.

The network itself is in `bnbook.training.architecture`, its layers in
`bnbook.training.layers`, the losses in `bnbook.training.losses`, mini-batches and descent
in `bnbook.training.sgd`.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from bnbook.experiments import Diverged
from bnbook.foundations.forward import BatchNormCache, BatchStatistics
from bnbook.foundations.inference import require_count
from bnbook.training.architecture import (
    Network,
    State,
    logits_of,
    predict,
    require_inputs,
)
from bnbook.training.layers import (
    LinearCache,
    ReluCache,
    linear,
    linear_backward,
    relu,
    relu_backward,
)
from bnbook.training.losses import LOSSES
from bnbook.training.sgd import SGD, minibatches, require_number
from bnbook.validation import require_batch

__all__ = [
    "History",
    "Network",
    "State",
    "evaluate",
    "loss_and_gradients",
    "train",
    "training_step",
]


@dataclass(frozen=True)
class LayerCache:
    """What the backward pass needs of one layer; no norm or ReLU after the last."""

    linear: LinearCache
    norm: BatchNormCache | None = None
    relu: ReluCache | None = None


def forward(network: Network, x: np.ndarray) -> tuple[np.ndarray, list[LayerCache]]:
    """Logits of a training batch, (M,) or (M, K), and one cache for each linear layer.

    Batch normalization uses the statistics of the batch; the running ones are left
    alone. The input is taken as checked.

    Raises:
        FloatingPointError: batch normalization meets values that are not finite, or
            that overflow.

    Source: Yu (2021), Eqs. (1), (2) and (3).
    """
    p, a, caches = network.parameters, x, []
    for i in range(1, network.depth + 1):
        y, linear_cache = linear(a, p[f"W{i}"], p.get(f"b{i}"))
        if i == network.depth:
            caches.append(LayerCache(linear_cache))
            break
        norm_cache = None
        if network.batch_norm:
            normalize = network.normalize[0]
            with _overflow_is_numerical(network, y, p[f"gamma{i}"], p[f"beta{i}"]):
                y, norm_cache = normalize(
                    y, p[f"gamma{i}"], p[f"beta{i}"], eps=network.eps
                )
        a, relu_cache = relu(y)
        caches.append(LayerCache(linear_cache, norm_cache, relu_cache))
    return logits_of(network, y), caches


def backward(
    network: Network, dlogits: np.ndarray, caches: Sequence[LayerCache]
) -> dict[str, np.ndarray]:
    """Gradient of the loss for each parameter, from ∂L/∂logits back through the layers.

    Source: Yu (2021), Eqs. (12), (13) and (14), for the normalization.
    """
    gradients = {}
    dz = dlogits.reshape(len(dlogits), -1)
    for i, cache in zip(range(network.depth, 0, -1), reversed(caches), strict=True):
        if cache.relu is not None:
            dz = relu_backward(dz, cache.relu)
        if cache.norm is not None:
            with _overflow_is_numerical(network, dz, cache.norm.gamma):
                norm = network.normalize[1](dz, cache.norm)
            gradients[f"gamma{i}"], gradients[f"beta{i}"] = norm.dgamma, norm.dbeta
            dz = norm.dx
        grads = linear_backward(dz, cache.linear)
        gradients[f"W{i}"], gradients[f"b{i}"] = grads.dw, grads.db
        dz = grads.da
    return {name: gradients[name] for name in network.parameters}


def penalty(network: Network, l2: float) -> complex:
    """(λ/2) Σ W² over the weights of all linear layers; biases, gamma and beta are free."""
    return l2 / 2 * sum((network.parameters[n] ** 2).sum() for n in _weights(network))


@dataclass(frozen=True)
class Pass:
    """One forward and backward pass.

    Attributes:
        loss: mean loss of the batch plus the penalty.
        data_loss: without the penalty.
        gradients: of `loss`, name → array.
        statistics: of the batch, one for each normalized layer.
    """

    loss: complex
    data_loss: complex
    gradients: dict[str, np.ndarray]
    statistics: tuple[BatchStatistics, ...]


def _pass(network: Network, x: np.ndarray, t: np.ndarray, l2: float) -> Pass:
    loss_of, loss_backward = LOSSES[network.loss]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        logits, caches = forward(network, x)
        data_loss, loss_cache = loss_of(logits, t)
        loss = data_loss + penalty(network, l2) if l2 else data_loss
        if not np.isfinite(loss):
            raise FloatingPointError(
                f"the loss is not finite, it is {loss}; lower the learning rate, or check the "
                "parameters"
            )
        gradients = backward(network, loss_backward(loss_cache), caches)
        if l2:
            for name in _weights(network):
                gradients[name] += l2 * network.parameters[name]
    statistics = tuple(c.norm.statistics for c in caches if c.norm is not None)
    return Pass(loss, data_loss, gradients, statistics)


def loss_and_gradients(
    network: Network, x: np.ndarray, t: np.ndarray, *, l2: float = 0.0
) -> tuple[complex, dict[str, np.ndarray]]:
    """Loss of a training batch, and its gradient for every parameter.

    The loss is the mean over the batch plus (λ/2) Σ W² over all weights, so its gradient
    gets λ W; biases, gamma and beta do not decay. Nothing is changed, the running
    statistics included.

    Args:
        network: with or without batch normalization.
        x: (M, D).
        t: labels, (M,): 0 or 1 for the logistic loss, 0 … K − 1 for softmax.
        l2: λ ≥ 0.

    Returns:
        The loss, in nats an example, and name → gradient with the shape of the
        parameter.

    Raises:
        TypeError: x is not a floating-point array, t no array of numbers, or l2 no
            number.
        ValueError: a shape does not fit, x is not finite, a label is not one of the
            classes, l2 is negative, or batch normalization gets a single example.
        FloatingPointError: the loss is not finite.

    Source: Yu (2021), §2 and §3.1; the source names its L2 coefficient, but not what it
        decays.
    """
    x, t = _require_examples(network, x, t)
    if network.batch_norm:
        require_batch(len(x), f"the rows of x with shape {x.shape}")
    result = _pass(network, x, t, require_number("l2", l2, 0))
    return result.loss, result.gradients


def training_step(
    network: Network, optimizer: SGD, x: np.ndarray, t: np.ndarray, *, l2: float = 0.0
) -> float:
    """One update of parameters and running statistics; returns the loss before it.

    Input is taken as checked: `train` checks it once.

    Returns:
        The mean loss of the batch, without the penalty.

    Raises:
        FloatingPointError: the loss is not finite; then nothing has been changed.
    """
    result = _pass(network, x, t, l2)
    for running, batch in zip(network.running, result.statistics, strict=True):
        running.update(np.ravel(batch.mean), np.ravel(batch.var), batch.count)
    optimizer.update(network.parameters, result.gradients)
    return float(result.data_loss)


def evaluate(network: Network, x: np.ndarray, t: np.ndarray) -> tuple[float, float]:
    """Mean loss (without penalty) and accuracy in inference mode.

    A logit of 0 counts as class 0; of equal logits the first wins.

    Args:
        network: trained for at least a step, if it normalizes batches.
        x: (N, D).
        t: labels, (N,).

    Returns:
        The loss, in nats an example, NaN or infinite where the parameters are; and the
        fraction of correct predictions.

    Raises:
        TypeError, ValueError: as for `loss_and_gradients`; or batch normalization has
            not seen a batch yet.
    """
    x, t = _require_examples(network, x, t)
    return _evaluate(network, x, t)


def _evaluate(network: Network, x: np.ndarray, t: np.ndarray) -> tuple[float, float]:
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        logits = predict(network, x)
        loss, _ = LOSSES[network.loss][0](logits, t)
    guess = logits > 0 if network.loss == "logistic" else logits.argmax(axis=1)
    return float(loss), float((guess == t).mean())


@dataclass(frozen=True)
class History:
    """What `train` returns. Arrays have one entry an epoch, in inference mode.

    Attributes:
        train_loss, train_accuracy: over all training examples, after the epoch.
        validation_loss, validation_accuracy: likewise. No loss includes the penalty.
        step_loss: one entry a step: of its batch, in training mode, before the update.
        best_epoch: counted from 1, the first with the highest validation accuracy.
        best: parameters and running statistics after that epoch; `network.restore(best)`
            goes back to them.
    """

    train_loss: np.ndarray
    train_accuracy: np.ndarray
    validation_loss: np.ndarray
    validation_accuracy: np.ndarray
    step_loss: np.ndarray
    best_epoch: int
    best: State


def train(
    network: Network,
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    *,
    learning_rate: float,
    momentum: float = 0.0,
    l2: float = 0.0,
    epochs: int,
    batch_size: int,
    seed: int,
    progress: bool = False,
) -> History:
    """Train by mini-batch gradient descent; the network ends as the last epoch left it.

    Every epoch visits each training example once, in an order drawn anew from `seed`.
    The last batch may be smaller; a last batch of one example joins the one before it
    (see `minibatches`).

    Args:
        network: is trained in place.
        train: x, (N, D), and labels t, (N,).
        validation: likewise; decides on the best epoch, and on nothing else.
        learning_rate: positive.
        momentum: in [0, 1); see `SGD`.
        l2: λ ≥ 0; see `loss_and_gradients`.
        epochs: at least 1.
        batch_size: at least 1; at least 2 with batch normalization.
        seed: of the order of the examples.
        progress: show a progress bar, where the output is a terminal.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range; as for
            `loss_and_gradients`, `SGD` and `minibatches`.
        Diverged: the loss is no longer finite; names the step and the learning rate.

    Source: Yu (2021), §3.1, with his best epoch by validation accuracy.
    """
    x, t = _require_examples(network, *train)
    held_out = _require_examples(network, *validation)
    optimizer = SGD(learning_rate, momentum)
    l2 = require_number("l2", l2, 0)
    epochs = require_count("epochs", epochs, 1)
    batch_size = require_count("batch_size", batch_size, 1 + network.batch_norm)
    rng = np.random.default_rng(require_count("seed", seed, 0))
    if network.batch_norm:
        require_batch(len(x), f"the rows of x with shape {x.shape}")

    rows, step_loss, best_epoch, best = [], [], 0, None
    bar = tqdm(range(1, epochs + 1), unit="epoch", disable=None if progress else True)
    for epoch in bar:
        for index in minibatches(len(x), batch_size, rng):
            try:
                loss = training_step(network, optimizer, x[index], t[index], l2=l2)
            except FloatingPointError as error:
                raise _diverged(step_loss, optimizer) from error
            step_loss.append(loss)
        row = (*_evaluate(network, x, t), *_evaluate(network, *held_out))
        if not np.isfinite(row).all():
            raise _diverged(step_loss, optimizer)
        if not rows or row[3] > max(rows, key=lambda earlier: earlier[3])[3]:
            best_epoch, best = epoch, network.state()
        rows.append(row)
        bar.set_postfix(loss=f"{row[2]:.4f}", accuracy=f"{row[3]:.4f}")
    return History(*np.array(rows).T, np.array(step_loss), best_epoch, best)


def _diverged(step_loss: Sequence[float], optimizer: SGD) -> Diverged:
    return Diverged(step=len(step_loss), learning_rate=optimizer.learning_rate)


def _weights(network: Network) -> list[str]:
    return [f"W{i}" for i in range(1, network.depth + 1)]


def _require_examples(
    network: Network, x: np.ndarray, t: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return x in the dtype of the network, and t, if they belong together."""
    x, t = require_inputs(network, x), np.asarray(t)
    if t.dtype.kind not in "biuf":
        raise TypeError(
            f"t must hold numbers, got dtype {t.dtype}; encode the classes as 0, 1, …"
        )
    if t.shape != x.shape[:1]:
        raise ValueError(
            f"t must have shape {x.shape[:1]}, one label for each row of x, got {t.shape}; "
            "pass as many labels as examples"
        )
    classes = max(network.sizes[-1], 2)
    wrong = ~np.isin(t, np.arange(classes))
    if wrong.any():
        at = int(wrong.argmax())
        raise ValueError(
            f"labels must be 0 … {classes - 1}, got {t[at]} at row {at}; encode the classes "
            "as whole numbers from 0"
        )
    return x, t


@contextlib.contextmanager
def _overflow_is_numerical(network: Network, *values: np.ndarray):
    """Turn the ValueError that batch normalization raises about values that are too large
    into a FloatingPointError, as the rest of an overflowing network does."""
    try:
        yield
    except ValueError as error:
        limit = np.finfo(network.dtype).max ** 0.25
        if all((np.abs(value) < limit).all() for value in values):
            raise
        raise FloatingPointError(str(error)) from error
