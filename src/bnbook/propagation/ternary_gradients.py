"""Random ternary networks: weight laws for the Monte Carlo, and what a batch measures."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import sympy as sp
import torch

from bnbook.foundations.forward import batch_norm
from bnbook.propagation.activations import RELU, Activation, require_activation
from bnbook.propagation.ternary import TWN, ternary_parts
from bnbook.propagation.ternary_levels import DENSITIES, Delta, levels, tail_moment
from bnbook.propagation.weights import (
    WeightLaw,
    require_count,
    require_widths,
    weight_law,
)


@cache
def quantized_variance(kind: str, factor: float = TWN, scale: str = "none") -> float:
    """V(α tern(w)) for latent weights of variance 1, with Δ = factor · E|w|.

    Args:
        kind: "uniform" or "normal".
        factor: at least 0; with 0, the weights are signs.
        scale: as in `ternary_parts`; "output" is taken for many inputs, where it equals
            "layer".

    Raises:
        ValueError: kind or scale is unknown, or no weight is above the threshold.
    """
    density = _density(kind)
    unit = {density.spread: sp.sqrt(3) if kind == "uniform" else 1}
    mean = tail_moment(density, 1).subs(Delta, 0).subs(unit)
    delta = float(factor * mean)
    if factor >= (most := float(density.end.subs(unit) / mean)):
        raise ValueError(
            f"factor {factor:g} sets every weight to 0; use less than {most:g}"
        )
    found = levels(density)
    of = {"none": found.variance, "layer": found.kept, "output": found.kept}
    if scale == "variance":
        return 1.0
    if scale not in of:
        raise ValueError(f"unknown scale {scale!r}; use one of {', '.join(of)}")
    return float(of[scale].subs(unit).subs(Delta, delta))


def quantized_law(
    kind: str = "uniform", factor: float = TWN, scale: str = "none"
) -> WeightLaw:
    """Latent weights of variance 2/K_{l−1}, quantized as a layer does it.

    Args:
        kind, factor, scale: as in `quantized_variance`.

    Raises:
        ValueError: as there.
    """
    of_unit = quantized_variance(kind, factor, scale)
    latent = weight_law(kind, "He")

    def sample(rng: np.random.Generator, fan_in: int, fan_out: int) -> np.ndarray:
        w = torch.tensor(latent.sample(rng, fan_in, fan_out).T)
        t, alpha, _ = ternary_parts(w, factor=factor, scale=scale)
        return (alpha * t).numpy().T

    def variance(fan_in: int, fan_out: int) -> float:
        return of_unit if scale == "none" else 2 / fan_in * of_unit

    what = "binary" if factor == 0 else "ternary"
    how = {"none": "", "layer": ", α", "output": ", α per output"}
    return WeightLaw(f"{what}{how.get(scale, ', same variance')}", sample, variance)


@dataclass(frozen=True)
class BatchMoments:
    """Mean and variance of s^l over a batch, per neuron, in units of K_{l−1} V(w^l).

    Averages over the neurons of a layer; one row per network, one column for each layer
    from the second on.

    Attributes:
        spread: σ̂², the variance over the batch, (networks, L − 1).
        shift: μ̂², the squared mean over the batch, (networks, L − 1).
    """

    spread: np.ndarray
    shift: np.ndarray


def batch_moments(
    widths: Sequence[int],
    law: WeightLaw,
    activation: Activation = RELU,
    *,
    batch: int,
    networks: int = 16,
    seed: int = 0,
) -> BatchMoments:
    """Draw normalized networks (γ = 1, β = 0), send a batch forward, take its moments.

    Args:
        widths: K_0, K_1, …, K_L, L ≥ 2. The inputs are iid N(0, 1).
        law: of the weights.
        activation: between normalization and the next layer.
        batch: B ≥ 2.
        networks: independent draws of weights and inputs.
        seed: network n is drawn from [seed, n].

    Raises:
        TypeError: activation or law is of another type.
        ValueError: fewer than two layers, a width below 1, batch below 2 or networks
            below 1.
    """
    widths = require_widths(widths)
    require_activation(activation)
    if not isinstance(law, WeightLaw):
        raise TypeError(f"law must be a WeightLaw, got {type(law).__name__}")
    require_count("the number of layers", len(widths) - 1, 2)
    require_count("batch", batch, 2)
    require_count("networks", networks, 1)
    spread = np.empty((networks, len(widths) - 2))
    shift = np.empty_like(spread)
    for n in range(networks):
        rng = np.random.default_rng([seed, n])
        a = rng.normal(size=(batch, widths[0]))
        for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
            s = a @ law.sample(rng, fan_in, fan_out)
            if layer:
                unit = fan_in * law.variance(fan_in, fan_out)
                spread[n, layer - 1] = s.var(axis=0).mean() / unit
                shift[n, layer - 1] = (s.mean(axis=0) ** 2).mean() / unit
            if layer < len(widths) - 2:
                hat, _ = batch_norm(s, np.ones(fan_out), np.zeros(fan_out), eps=0.0)
                a = activation.f(hat)
    return BatchMoments(spread, shift)


def _density(kind: str):
    if kind not in DENSITIES:
        raise ValueError(f"kind must be one of {', '.join(DENSITIES)}, got {kind!r}")
    return DENSITIES[kind]
