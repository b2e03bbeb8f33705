"""Exercise: the order of an explosion from its losses."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def growth_order(losses: np.ndarray) -> float:
    """By which factor the increments of log loss grow from step to step; the median over the steps.

    Args:
        losses: positive and rising, (N,), N ≥ 3.

    Returns:
        order: 1 for exponential growth, L − 1 for L layers that multiply each other.
    """
    increments = np.diff(np.log(losses))
    return float(np.median(increments[1:] / increments[:-1]))


def of_the_logs(losses):
    """You take the ratios of log loss itself. A constant factor of the loss spoils them: its logarithm
    is the same in every step, and only the increments are free of it."""
    logs = np.log(losses)
    return float(np.median(logs[1:] / logs[:-1]))


def of_the_losses(losses):
    """You compare increments of the loss. Take logarithms first: the loss grows like exp(c qᵗ)."""
    increments = np.diff(losses)
    return float(np.median(increments[1:] / increments[:-1]))


def differences(losses):
    """You subtract successive increments. An order is a ratio: the increments are multiplied."""
    return float(np.median(np.diff(np.log(losses), 2)))


def averaged(losses):
    """You return the mean of the ratios. One step in which a layer dies has a ratio far from the rest;
    the median is asked for."""
    increments = np.diff(np.log(losses))
    return float(np.mean(increments[1:] / increments[:-1]))


def turned(losses):
    """Your ratio is upside down: later increments over earlier ones."""
    increments = np.diff(np.log(losses))
    return float(np.median(increments[:-1] / increments[1:]))


def one_by_one(losses):
    """The same, step by step."""
    ratios = []
    for a, b, c in zip(losses, losses[1:], losses[2:], strict=False):
        ratios.append((np.log2(c) - np.log2(b)) / (np.log2(b) - np.log2(a)))
    ratios.sort()
    half = len(ratios) // 2
    if len(ratios) % 2:
        return float(ratios[half])
    return float((ratios[half - 1] + ratios[half]) / 2)


EXERCISE = FunctionExercise(
    id="learning-rate-order",
    chapter="optimization/learning_rate",
    title="Faster than exponential",
    level="core",
    reference=growth_order,
    why="P′ = (ηc)^L P^(L−1) gives log P an increment that is multiplied by L − 1 in every step; the "
    "constant drops out of the increments.",
    mistakes=variants(of_the_logs, of_the_losses, differences, averaged, turned),
    alternatives=(one_by_one,),
    hints=(
        "Take the logarithm, then differences of neighbours.",
        "Divide each difference by the one before it, and take the median.",
    ),
    cases=(
        Case("a measured one", (np.array([150.0, 6e3, 4.1e8, 9e20, 3e50, 2e90]),)),
        Case(
            "exponential",
            (5.0 * 30.0 ** np.arange(6.0),),
            "the growth is exponential: the order is 1.",
            rtol=1e-9,
        ),
        Case(
            "doubly exponential",
            (7.0 * np.exp(0.3 * 3.0 ** np.arange(6.0)),),
            "the loss is 7 exp(0.3 · 3ᵗ).",
            rtol=1e-9,
        ),
    ),
    returns=("order",),
)
