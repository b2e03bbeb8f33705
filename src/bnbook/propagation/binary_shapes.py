"""Sign networks of unequal widths on the digits: is it the width ratio that hurts?

Six shapes, and four controls that are narrow in one layer only: the same widths at the
entrance, in the middle and at the end separate the ratio of widths from the place.
"""

from bnbook.experiments import Experiment
from bnbook.propagation.binary_training import (
    CONSTANT,
    EPOCHS,
    PRECISIONS,
    SEEDS,
    train_grid,
)

# Hidden widths with about as many weights as the constant network.
SHAPES = {
    "constant": (64, 64, 64, 64, 64),
    "growing": (24, 36, 54, 81, 127),
    "shrinking": (108, 72, 48, 32, 22),
    "hourglass": (108, 48, 22, 48, 108),
    "bottleneck": (80, 80, 16, 80, 80),
    "zigzag": (108, 32, 108, 32, 108),
}
# The bottleneck has its 16 in the middle: here it stands first or last, and 24 likewise.
CONTROLS = {
    "first24": (24, 80, 80, 80, 80),
    "mid24": (80, 80, 24, 80, 80),
    "first16": (16, 80, 80, 80, 80),
    "last16": (80, 80, 80, 80, 16),
}
HIDDEN = SHAPES | CONTROLS
RATES = (0.1, 0.3, 1.0, 3.0)
CHOSEN_RATE = 1.0  # the best of RATES for signs, by the validation data; but first16:
FIRST16_RATE = 0.3
FIRST_FRESH, FRESH_SEEDS = 100, 48  # seeds that did not choose the rate


def widths_of(shape: str) -> tuple[int, ...]:
    """Inputs, hidden widths and classes of a shape.

    Raises:
        ValueError: the shape is unknown.
    """
    if shape not in HIDDEN:
        raise ValueError(f"unknown shape {shape!r}; use one of {', '.join(HIDDEN)}")
    return CONSTANT[0], *HIDDEN[shape], CONSTANT[-1]


def shape_run(
    *, shape: str, precision: str, seeds: int, epochs: int
) -> list[dict[str, float]]:
    """Train a shape with batch normalization and SGD, with every rate in `RATES`.

    Args:
        shape: a name in `HIDDEN`.
        precision: as for `SignNetworks`; the estimator is "hardtanh".
        seeds: their number; the seeds are 0, 1, …
        epochs: as for `train`.

    Returns:
        The rows of `train_grid`.
    """
    names = {"norm": "bn", "estimator": "hardtanh", "precision": precision}
    how = {"optimizer": "sgd", "rates": RATES, "seeds": range(seeds)}
    return train_grid(widths_of(shape), names, epochs=epochs, **how)


def fresh_run(
    *, shape: str, learning_rate: float, first_seed: int, seeds: int, epochs: int
) -> list[dict[str, float]]:
    """Train a shape of signs with one rate and the seeds first_seed, first_seed + 1, …

    Args:
        shape, epochs: as for `shape_run`.
        learning_rate: of SGD.
        first_seed, seeds: the first, and how many.

    Returns:
        The rows of `train_grid`, without the rate.
    """
    names = {"norm": "bn", "estimator": "hardtanh"}
    numbers = range(first_seed, first_seed + seeds)
    how = {"optimizer": "sgd", "rates": (learning_rate,), "seeds": numbers}
    rows = train_grid(widths_of(shape), names, epochs=epochs, **how)
    return [{k: v for k, v in row.items() if k != "learning_rate"} for row in rows]


WIDTHS_SLICE = {"shape": "growing", "precision": "full", "seeds": 1, "epochs": 2}
WIDTHS = Experiment(
    part="propagation",
    name="binary_shapes",
    run=shape_run,
    settings=[
        *(
            {"shape": shape, "precision": precision, "seeds": SEEDS, "epochs": EPOCHS}
            for shape in HIDDEN
            for precision in PRECISIONS
        ),
        WIDTHS_SLICE,
    ],
)
FRESH_SLICE = {
    "shape": "first24",
    "learning_rate": CHOSEN_RATE,
    "first_seed": FIRST_FRESH,
    "seeds": 1,
    "epochs": 2,
}
FRESH = Experiment(
    part="propagation",
    name="binary_shape_seeds",
    run=fresh_run,
    settings=[
        *(
            FRESH_SLICE | {"shape": shape, "seeds": FRESH_SEEDS, "epochs": EPOCHS}
            for shape in HIDDEN
        ),
        FRESH_SLICE
        | {"shape": "first16", "learning_rate": FIRST16_RATE}
        | {"seeds": FRESH_SEEDS, "epochs": EPOCHS},
        FRESH_SLICE,
    ],
)
