"""How long the book's batch normalization takes, forward and backward, relative to PyTorch's.

Both are timed in one run on one thread, in turns, so that whatever else the machine does hits both alike.
Each turn gives one ratio; the median and the quartiles of the ratios are printed.
"""

import platform
import time
from collections.abc import Callable

import numpy as np
import torch

from bnbook.foundations.backward import batch_norm_backward
from bnbook.foundations.forward import batch_norm

SHAPE, WARM_UP, TURNS = (1024, 1000), 5, 41
rng = np.random.default_rng(0)
x, dy = rng.normal(size=(2, *SHAPE)).astype(np.float32)
gamma, beta = rng.normal(size=(2, SHAPE[1])).astype(np.float32)
tensors = [torch.tensor(array, requires_grad=True) for array in (x, gamma, beta)]
dy_tensor = torch.tensor(dy)


def in_numpy() -> np.ndarray:
    """Forward and backward with the book's functions; returns dx."""
    _, cache = batch_norm(x, gamma, beta)
    return batch_norm_backward(dy, cache).dx


def in_torch() -> np.ndarray:
    """Forward and backward with PyTorch's kernel; returns dx."""
    y = torch.nn.functional.batch_norm(tensors[0], None, None, *tensors[1:], training=True)
    return torch.autograd.grad(y, tensors, dy_tensor)[0].numpy()


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """Check that both agree, time them in turns, and print the ratio."""
    torch.set_num_threads(1)  # NumPy's elementwise operations and sums use one thread
    np.testing.assert_allclose(in_numpy(), in_torch(), rtol=1e-3, atol=1e-5)
    for _ in range(WARM_UP):
        in_numpy(), in_torch()
    ratios = []
    for turn in range(TURNS):
        first, second = (in_numpy, in_torch) if turn % 2 else (in_torch, in_numpy)
        times = {first: seconds(first)}
        times[second] = seconds(second)
        ratios.append(times[in_numpy] / times[in_torch])
    low, median, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    print(f"batch_norm forward + backward, {SHAPE[0]} × {SHAPE[1]} float32, one thread, {TURNS} turns")
    print(f"  NumPy (bnbook) / PyTorch: {median:.2f} times as long, quartiles {low:.2f} to {high:.2f}")
    print(f"  NumPy {np.__version__}, PyTorch {torch.__version__}, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
