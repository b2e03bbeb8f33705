"""How far a network of finite width and batch is from the limit χ: a long experiment."""

from bnbook.experiments import Experiment
from bnbook.propagation.variance import activation_named, simulate, weight_law

LAYERS, SKIP = 9, 3
BATCHES, WIDTHS, SEEDS = (8, 12, 16, 24, 32), (64, 128, 256), range(6)
SHOWN = ("linear", "ReLU", "tanh", "hard-tanh")


def finite_factor(activation: str, width: int, batch: int, seed: int) -> dict:
    """Growth of the gradient variance per layer, in one normalized random network.

    Args:
        activation: a name in `ACTIVATIONS`.
        width: K, of all layers.
        batch: B.
        seed: of weights, inputs and output gradients.

    Returns:
        factor: the mean, over layers, of V(∂L/∂s^l)/V(∂L/∂s^{l+1}).
    """
    run = simulate(
        [width] * (LAYERS + 1),
        activation_named(activation),
        weight_law("normal"),
        norm=True,
        batch=batch,
        networks=1,
        seed=seed,
    )
    return {"factor": float(run.factors[0, SKIP:].mean())}


_SIZES = [(512, batch) for batch in BATCHES] + [(width, 32) for width in WIDTHS]
FINITE = Experiment(
    part="propagation",
    name="variance_finite",
    run=finite_factor,
    settings=[
        {"activation": name, "width": width, "batch": batch, "seed": seed}
        for name in SHOWN
        for width, batch in _SIZES
        for seed in SEEDS
    ],
)
EXPERIMENTS = (FINITE,)
