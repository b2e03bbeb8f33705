"""The experiment of Yu (2021), §3: a network with and without batch normalization.

Each run trains one network on events of its own seed. The seed also gives the split, the
first weights and the order of the batches, and both models get the same: their
difference is paired, and a spread over seeds includes that of the data.
"""

from functools import lru_cache

import numpy as np
import torch

from bnbook.data.digits import digits
from bnbook.data.higgs import higgs
from bnbook.data.splits import Dataset
from bnbook.experiments import Diverged, Experiment
from bnbook.training.fast_batch_norm import fast_batch_norm, fast_batch_norm_backward
from bnbook.training.network import Network, evaluate, train

MODELS = ("control", "bn")
LAYERS, BATCH, EPOCHS, ALPHA = 4, 1024, 10, 0.97  # as in the source
SEEDS = (0, 1, 2, 3, 4)

# Smaller than the source's 1000 neurons and 495 000 events: a run of ten epochs takes
# seconds.
WIDTH, ROWS = 64, 100_000
# Three rates a decade, and six where the models differ: 0.1 to 21.5.
RATES = tuple(float(f"{10 ** (k / 6):.3g}") for k in (-6, -4, -2, *range(-1, 9)))
BEST_RATE = {"control": 1.0, "bn": 3.16}  # of the sweep, by mean validation accuracy
L2S = (1e-8, 1e-4, 1e-3, 1e-2)
DROPOUTS = (0.0, 0.1, 0.3)

# The source's width, on events that a laptop bears.
WIDE, WIDE_ROWS, WIDE_SEEDS = 1000, 30_000, (0, 1, 2)
WIDE_RATES = {"control": (0.1, 0.215, 0.464, 1.0), "bn": (1.0, 3.16)}

DIGITS_WIDTH, DIGITS_BATCH, DIGITS_EPOCHS = 64, 64, 15
DIGITS_RATES = tuple(float(f"{10 ** (k / 3):.3g}") for k in range(-5, 6))


@lru_cache(maxsize=1)
def events(rows: int, seed: int) -> Dataset:
    """Simulated collisions, standardized; see `bnbook.data.higgs_toy`."""
    return higgs(rows, seed=seed).standardized()


def trained(
    data: Dataset,
    *,
    model: str,
    width: int,
    rate: float,
    l2: float,
    seed: int,
    batch_size: int = BATCH,
    epochs: int = EPOCHS,
    dtype: type = np.float32,
) -> list[dict[str, float]]:
    """Train a network of four hidden layers, and test it as its best epoch left it.

    Args:
        data: standardized examples.
        model: "bn" for batch normalization before each ReLU, "control" without.
        width: neurons of each hidden layer.
        rate: learning rate of plain gradient descent.
        l2: λ, the weight of half the sum of the squared weights.
        seed: of the first weights and of the order of the batches.
        batch_size: examples in a batch.
        epochs: how often training sees each example.
        dtype: of all arithmetic.

    Returns:
        One row an epoch: `epoch`, counted from 1, `train_loss`, `train_accuracy`,
        `validation_loss`, `validation_accuracy`, `best_epoch`, the one with the highest
        validation accuracy, and `test_accuracy` of that epoch, the same in all rows.

    Raises:
        ValueError: the model has another name.
        Diverged: the loss was not finite.
    """
    if model not in MODELS:
        raise ValueError(f"model must be one of {MODELS}, got {model!r}")
    outputs = {} if data.classes == 2 else {"loss": "softmax"}
    last = 1 if data.classes == 2 else data.classes
    network = Network(
        (len(data.features), *[width] * LAYERS, last),
        batch_norm=model == "bn",
        seed=seed,
        dtype=dtype,
        alpha=ALPHA,
        # The same numbers in half the time; see the chapter on the cost.
        normalize=(fast_batch_norm, fast_batch_norm_backward),
        **outputs,
    )
    parts = {n: (x.astype(dtype), t) for n, (x, t) in data.parts().items()}
    history = train(
        network,
        parts["train"],
        parts["validation"],
        learning_rate=rate,
        l2=l2,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
    )
    network.restore(history.best)
    _, test_accuracy = evaluate(network, *parts["test"])
    curves = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    return [
        {"epoch": epoch + 1}
        | {name: float(getattr(history, name)[epoch]) for name in curves}
        | {"best_epoch": history.best_epoch, "test_accuracy": test_accuracy}
        for epoch in range(epochs)
    ]


def run_toy(
    *, model: str, rate: float, l2: float, width: int, rows: int, seed: int
) -> list[dict[str, float]]:
    """One network on simulated collisions; see `trained`."""
    return trained(
        events(rows, seed), model=model, width=width, rate=rate, l2=l2, seed=seed
    )


def run_digits(*, model: str, rate: float, seed: int) -> list[dict[str, float]]:
    """One network on the handwritten digits; see `trained`."""
    return trained(
        digits(seed).standardized(),
        model=model,
        width=DIGITS_WIDTH,
        rate=rate,
        l2=0.0,
        seed=seed,
        batch_size=DIGITS_BATCH,
        epochs=DIGITS_EPOCHS,
    )


def run_slice(*, model: str, rate: float, seed: int) -> list[dict[str, float]]:
    """A run of less than a second, in float64, which the chapter repeats live."""
    return trained(
        events(6000, seed),
        model=model,
        width=24,
        rate=rate,
        l2=1e-4,
        seed=seed,
        batch_size=256,
        epochs=4,
        dtype=np.float64,
    )


def run_dropout(
    *, model: str, dropout: float, rate: float, seed: int
) -> dict[str, float]:
    """A network of the same shape in PyTorch, with dropout after each ReLU.

    Args:
        model: "bn" or "control".
        dropout: probability that an activation is set to 0 in training.
        rate: learning rate.
        seed: of events, weights, batches and dropout.

    Returns:
        `best_epoch` by validation accuracy, and accuracies of that epoch:
        `train_accuracy`, `validation_accuracy`, `test_accuracy`.

    Raises:
        Diverged: the loss was not finite.
    """
    torch.manual_seed(seed)
    data = events(ROWS, seed)
    parts = {n: tuple(map(torch.from_numpy, p)) for n, p in data.parts().items()}
    x, t = parts["train"]
    model_ = sequential(len(data.features), model == "bn", dropout)
    optimizer = torch.optim.SGD(model_.parameters(), lr=rate)
    best, step = {"validation_accuracy": -1.0}, 0
    for epoch in range(1, EPOCHS + 1):
        model_.train()
        for batch in torch.randperm(len(x)).split(BATCH):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                model_(x[batch])[:, 0], t[batch].float()
            )
            if not torch.isfinite(loss):
                raise Diverged(step=step, learning_rate=rate)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
        model_.eval()
        with torch.no_grad():
            accuracy = {
                f"{name}_accuracy": ((model_(x_)[:, 0] > 0) == t_).float().mean().item()
                for name, (x_, t_) in parts.items()
            }
        if accuracy["validation_accuracy"] > best["validation_accuracy"]:
            best = {"best_epoch": epoch, **accuracy}
    return best


def sequential(features: int, batch_norm: bool, dropout: float) -> torch.nn.Sequential:
    """Linear – [batch normalization –] ReLU – dropout, four times, then one output.

    Weights start normal with variance 2/D_in, before the output 1/D_in, and biases at 0,
    as in `Network`.
    """
    layers: list[torch.nn.Module] = []
    for number in range(LAYERS):
        wide = torch.nn.Linear(
            WIDTH if number else features, WIDTH, bias=not batch_norm
        )
        layers.append(wide)
        if batch_norm:
            layers.append(torch.nn.BatchNorm1d(WIDTH, momentum=1 - ALPHA))
        layers += [torch.nn.ReLU(), torch.nn.Dropout(dropout)]
    layers.append(torch.nn.Linear(WIDTH, 1))
    for layer in layers:
        if isinstance(layer, torch.nn.Linear):
            gain = 1 if layer is layers[-1] else 2
            torch.nn.init.normal_(layer.weight, 0, (gain / layer.in_features) ** 0.5)
            if layer.bias is not None:
                torch.nn.init.zeros_(layer.bias)
    return torch.nn.Sequential(*layers)


def _toy(model, rate, seed, *, l2=0.0, width=WIDTH, rows=ROWS):
    return {
        "model": model,
        "rate": rate,
        "l2": l2,
        "width": width,
        "rows": rows,
        "seed": seed,
    }


# Every rate, on the validation accuracy of which the best one was chosen.
SWEEP = Experiment(
    "training",
    "higgs_rates",
    run_toy,
    [_toy(m, r, seed) for seed in SEEDS for m in MODELS for r in RATES],
)
L2 = Experiment(
    "training",
    "higgs_l2",
    run_toy,
    [
        _toy(m, BEST_RATE[m], seed, l2=l2)
        for seed in SEEDS
        for m in MODELS
        for l2 in L2S
    ],
)
WIDE_RUNS = Experiment(
    "training",
    "higgs_wide",
    run_toy,
    [
        _toy(m, rate, seed, width=WIDE, rows=WIDE_ROWS)
        for seed in WIDE_SEEDS
        for m in MODELS
        for rate in WIDE_RATES[m]
    ],
)
DROPOUT = Experiment(
    "training",
    "higgs_dropout",
    run_dropout,
    [
        {"model": m, "dropout": p, "rate": BEST_RATE[m], "seed": seed}
        for seed in SEEDS
        for m in MODELS
        for p in DROPOUTS
    ],
)
DIGITS = Experiment(
    "training",
    "higgs_digits",
    run_digits,
    [
        {"model": m, "rate": r, "seed": seed}
        for seed in SEEDS
        for m in MODELS
        for r in DIGITS_RATES
    ],
)
SLICE = Experiment(
    "training",
    "higgs_slice",
    run_slice,
    [{"model": m, "rate": 0.1, "seed": 0} for m in MODELS],
)

EXPERIMENTS = (SWEEP, L2, WIDE_RUNS, DROPOUT, DIGITS, SLICE)
