"""How many independent values a batch is worth, for its mean and for its second moment.

Measured on the inputs of the normalizations of small networks that are not trained yet.
"""

import numpy as np
import pandas as pd
import torch

from bnbook.data.images import images
from bnbook.estimation.minibatch_estimates import effective_size, position_correlation
from bnbook.estimation.minibatch_runs import norm_inputs, set_population, small_network

MOMENTS = ("mean", "second moment")
PER_CLASS, BATCH, REGROUPED = 96, 16, 8


def measured_worth(groups: np.ndarray) -> np.ndarray:
    """Variance of a value over that of the mean of a group.

    Args:
        groups: (…, G, C, n): G groups of n values, for each of C channels. Leading axes
            hold other groupings of the same values; the variances are averaged over them.

    Returns:
        (C,).

    Raises:
        ValueError: there are fewer than two groups.
    """
    if groups.ndim < 3 or groups.shape[-3] < 2:
        raise ValueError(
            f"groups must be (…, G, C, n) with G at least 2, got {groups.shape}"
        )
    of_means = groups.mean(axis=-1).var(axis=-2).reshape(-1, groups.shape[-2])
    of_values = groups.var(axis=(-3, -1)).reshape(-1, groups.shape[-2])
    return of_values.mean(axis=0) / of_means.mean(axis=0)


def batch_correlation(values: np.ndarray, batch: int) -> np.ndarray:
    """Mean correlation of two values in a batch of examples that belong together.

    With ρ_w between two positions of one example and ρ_b between two examples of one
    class, the mean over all pairs of a batch of M examples with P positions is

        ρ = ((P − 1) ρ_w + (M − 1) P ρ_b)/(M P − 1)

    ρ_w follows from the means of examples, and ρ_b from the means of whole classes.

    Args:
        values: (K, E, C, P), E examples of each of K classes.
        batch: M, at least 2.

    Returns:
        ρ for each channel, (C,).
    """
    classes, examples, channels, positions = values.shape
    whole = values.transpose(0, 2, 1, 3).reshape(classes, channels, -1)
    in_class = (examples * positions - 1) * position_correlation(whole)
    within = np.zeros(channels)
    if positions > 1:
        each = values.reshape(-1, channels, positions)
        within = (positions - 1) * position_correlation(each)
    between = (in_class - within) / (examples - 1)  # P ρ_b
    return (within + (batch - 1) * between) / (batch * positions - 1)


def batch_worth(network: str, seed: int) -> pd.DataFrame:
    """Worth of batches of digits in front of each normalization of a random network.

    Args:
        network: "dense": batches of 16, of all classes or of one; or "conv": single
            images, or 16 of one class.
        seed: of the weights.

    Returns:
        One row for each layer, batch and moment, with medians over the channels: n, the
        values in the batch; rho, by which equation `effective_size` gives worth; and
        measured, by `measured_worth`. The second moment is that about the mean of the
        population. For single images rho comes from every other image, measured from the
        rest.
    """
    dataset = images("digits", 0).standardized()
    x, labels = torch.from_numpy(dataset.train.x).double(), dataset.train.t
    model = small_network(
        network, x.shape[1], dataset.classes, seed=seed, dtype=torch.float64
    )
    set_population(model, x)
    rng, rows = np.random.default_rng(seed), []
    of_class = np.stack(
        [np.flatnonzero(labels == c)[:PER_CLASS] for c in range(dataset.classes)]
    )
    shuffled = [rng.permuted(of_class, axis=1) for _ in range(REGROUPED)]
    whole = len(x) // BATCH * BATCH
    mixed = [rng.permutation(len(x))[:whole] for _ in range(REGROUPED)]
    for layer, z in enumerate(norm_inputs(model, x), 1):
        off = z.numpy() - z.numpy().mean(axis=(0, 2), keepdims=True)
        for moment, values in zip(MOMENTS, (off, off**2), strict=True):
            rho = batch_correlation(values[of_class], BATCH)
            kinds = [("16 of one class", rho, _groups(values, shuffled))]
            if network == "conv":
                rho = position_correlation(values[::2])
                kinds.insert(0, ("1 image", rho, values[1::2]))
            else:
                kinds.insert(0, ("16 mixed", np.zeros(1), _groups(values, mixed)))
            for batch, rho, groups in kinds:
                n = groups.shape[-1]
                found = [rho, effective_size(n, rho), measured_worth(groups)]
                medians = [float(np.median(each)) for each in found]
                rows.append((f"{network} {layer}", batch, moment, n, *medians))
    names = ["layer", "batch", "moment", "n", "rho", "worth", "measured"]
    return pd.DataFrame(rows, columns=names).assign(seed=seed)


def _groups(values: np.ndarray, orders: list[np.ndarray]) -> np.ndarray:
    """(orders, G, C, 16 P): the examples (N, C, P) in the order of each, in batches."""
    channels = values.shape[1]
    parts = values[np.stack(orders)].reshape(len(orders), -1, BATCH, *values.shape[1:])
    return parts.swapaxes(2, 3).reshape(*parts.shape[:2], channels, -1)
