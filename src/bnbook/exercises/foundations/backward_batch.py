"""The random batches on which several backward exercises are checked."""

import numpy as np


def batch_and_gradient(rng: np.random.Generator, count: int, features: int, eps: float):
    """An upstream gradient and a batch (count, features), γ with both signs, and ε."""
    x = rng.normal(2.0, 1.5, size=(count, features))
    gamma = np.array([1.5, -0.7, 2.2, 0.6, -1.3])[:features]
    return rng.normal(0.4, 1.0, size=(count, features)), x, gamma, eps
