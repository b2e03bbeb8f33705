"""Largest eigenvalues of the Hessian of a loss, from Hessian-vector products alone.

The Hessian of a loss L(θ) of n parameters has n² entries. One product H v costs about as
much as two gradients, because v is constant: H v = ∇_θ(⟨∇L, v⟩). Lanczos' method builds
the space of v, H v, H² v, … and finds in it the best estimates of the outer eigenvalues;
power iteration keeps the last vector only, and therefore needs more products.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse.linalg import (
    ArpackError,
    ArpackNoConvergence,
    LinearOperator,
    eigsh,
)
from torch import nn
from torch.func import functional_call, grad, vjp
from torch.nn import functional

from bnbook.validation import require_float_tensor

Loss = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Spectrum:
    """The largest eigenvalues of a Hessian, and what they cost.

    Attributes:
        values: the k largest by algebraic value, descending, (k,).
        products: number of Hessian-vector products used.
    """

    values: np.ndarray
    products: int


class Hessian:
    """The matrix H = ∂²L/∂θ∂θᵀ at one point, known by its products H @ v.

    Args:
        loss: L, a function of the vector θ (n,) to one number, made of PyTorch operations
            that can be differentiated twice.
        point: θ, (n,), floating-point.

    Attributes:
        size: n.
        value: L(θ).
        gradient: ∇L(θ), (n,).
        products: number of products taken so far.

    Raises:
        TypeError: point is not a floating-point tensor.
        ValueError: point is not a vector of at least one finite number, or the loss or its
            gradient is not finite there.
    """

    def __init__(self, loss: Loss, point: torch.Tensor):
        """Differentiate once, and keep what a second differentiation needs."""
        require_float_tensor("point", point)
        if point.ndim != 1 or len(point) == 0:
            raise ValueError(
                f"point must be a vector of parameters, got shape {tuple(point.shape)}; "
                "flatten it"
            )
        point = point.detach()
        self.size, self.products = len(point), 0
        self.value = float(loss(point))
        gradient, self._pull = vjp(grad(loss), point)
        self.gradient = gradient.detach().numpy()
        if not (np.isfinite(self.value) and np.isfinite(self.gradient).all()):
            raise ValueError(
                f"the loss is {self.value:g} or its gradient is not finite; "
                "lower the learning rate, or take an earlier step"
            )

    def __matmul__(self, vector: np.ndarray) -> np.ndarray:
        """H v for v (n,), by reverse differentiation of ⟨∇L, v⟩; counts one product."""
        vector = np.asarray(vector, dtype=self.gradient.dtype)
        if vector.shape != (self.size,):
            raise ValueError(
                f"a vector must have shape ({self.size},), one entry for each parameter, "
                f"got {vector.shape}"
            )
        self.products += 1
        # H is symmetric, so that vᵀH, which the reverse mode gives, is H v.
        return self._pull(torch.from_numpy(vector))[0].detach().numpy()

    def dense(self) -> np.ndarray:
        """All of H, (n, n), by n products; made symmetric."""
        rows = np.stack([self @ unit for unit in np.eye(self.size)])
        return (rows + rows.T) / 2


def classifier_loss(
    network: nn.Module, x: torch.Tensor, t: torch.Tensor
) -> tuple[Loss, torch.Tensor]:
    """Mean cross-entropy as a function of all parameters in one vector, and their values.

    The network is taken in training mode, so that its normalizations use the statistics of
    the batch x, and the derivatives go through them. It is left as it was. Computed in
    float64 whatever the network's dtype.

    Args:
        network: scores (M, classes) of a batch (M, D). It must not average its statistics
            over steps: such a state would change with every product.
        x: inputs, (M, D).
        t: class numbers, (M,).

    Returns:
        The function of θ (n,), and θ, in the order of `network.parameters()`.

    Raises:
        TypeError: x is not a floating-point tensor.
        ValueError: x is not finite, t does not fit it, or there is no parameter.
    """
    require_float_tensor("x", x)
    if x.ndim < 2 or tuple(t.shape) != tuple(x.shape[:1]):
        raise ValueError(
            f"x must be (M, inputs) and t (M,), got {tuple(x.shape)} and {tuple(t.shape)}"
        )
    named = {name: p.detach().double() for name, p in network.named_parameters()}
    if not named:
        raise ValueError("the network has no parameters; there is no Hessian")
    state = {
        name: b.double() if b.is_floating_point() else b
        for name, b in network.named_buffers()
    }
    sizes = [p.numel() for p in named.values()]
    x = x.double()

    def loss(theta: torch.Tensor) -> torch.Tensor:
        parts = theta.split(sizes)
        values = {
            name: part.view(p.shape)
            for (name, p), part in zip(named.items(), parts, strict=True)
        }
        modes = {module: module.training for module in network.modules()}
        network.train()
        try:
            scores = functional_call(network, values | state, (x,))
        finally:
            for module, mode in modes.items():
                module.training = mode
        return functional.cross_entropy(scores, t)

    return loss, torch.cat([p.reshape(-1) for p in named.values()])


def top_eigenvalues(
    network: nn.Module,
    x: torch.Tensor,
    t: torch.Tensor,
    k: int,
    *,
    rtol: float = 1e-3,
    seed: int = 0,
) -> Spectrum:
    """The k largest eigenvalues of the Hessian of a classifier's loss, by Lanczos.

    The loss is the mean cross-entropy in training mode; see `classifier_loss`.

    Args:
        network, x, t: as for `classifier_loss`.
        k: number of eigenvalues, from 1 to the number of parameters.
        rtol: as for `lanczos`.
        seed: of the vector that Lanczos starts from.

    Raises:
        TypeError, ValueError: an argument is out of its range, or the loss or its gradient
            is not finite.
        RuntimeError: see `lanczos`.
    """
    return lanczos(Hessian(*classifier_loss(network, x, t)), k, rtol=rtol, seed=seed)


def lanczos(hessian: Hessian, k: int, *, rtol: float = 1e-3, seed: int = 0) -> Spectrum:
    """The k largest eigenvalues, by `scipy.sparse.linalg.eigsh`.

    Where n is so small that its first search space would be the whole space, n products
    give the matrix itself, and its eigenvalues are found directly.

    Args:
        hessian: any object with `size`, `products` and `@`, like `Hessian`.
        k: number of eigenvalues, from 1 to n.
        rtol: an estimate λ with unit vector v is taken when ‖Hv − λv‖ ≤ rtol |λ|. Some
            eigenvalue then lies within rtol |λ| of it, mostly far closer: the error is
            about the square of the residual over the gap to the next eigenvalue.
        seed: of the start vector.

    Raises:
        TypeError: k is not an integer.
        ValueError: k or rtol is out of its range.
        RuntimeError: Lanczos did not find them to this tolerance, or broke down, as for a
            Hessian that is 0.
    """
    k, before = _require(hessian, k, rtol), hessian.products
    space = max(2 * k + 1, 20)
    if hessian.size <= space:
        rows = np.stack([hessian @ unit for unit in np.eye(hessian.size)])
        values = np.linalg.eigvalsh((rows + rows.T) / 2)
    else:
        matrix = LinearOperator(
            (hessian.size, hessian.size), matvec=hessian.__matmul__, dtype=np.float64
        )
        start = np.random.default_rng(seed).normal(size=hessian.size)
        try:
            values = eigsh(
                matrix,
                k,
                which="LA",
                v0=start,
                ncv=space,
                tol=rtol,
                return_eigenvectors=False,
            )
        except ArpackNoConvergence as error:
            raise RuntimeError(
                f"Lanczos found {len(error.eigenvalues)} of {k} eigenvalues to {rtol:g}; "
                "ask for fewer, or give a larger rtol"
            ) from error
        except ArpackError as error:
            raise RuntimeError(
                f"Lanczos broke down ({error}); is the Hessian 0?"
            ) from error
    return Spectrum(np.sort(values)[::-1][:k].copy(), hessian.products - before)


def power_iteration(
    hessian: Hessian,
    k: int,
    *,
    rtol: float = 1e-3,
    seed: int = 0,
    most: int = 100_000,
) -> Spectrum:
    """The k largest eigenvalues, by power iteration with deflation.

    v ← Hv/‖Hv‖ turns v towards the eigenvector of the eigenvalue that is largest in
    absolute value. Then v is kept orthogonal to the vectors found (deflation), and the next
    one is sought. A negative eigenvalue found on the way is left out, and k others are
    sought.

    Args:
        hessian, k, rtol, seed: as for `lanczos`, with the same rule for taking an estimate.
        most: give up after so many products.

    Raises:
        TypeError, ValueError: as `lanczos`.
        RuntimeError: there were `most` products, or fewer than k eigenvalues are positive.
    """
    k, before = _require(hessian, k, rtol), hessian.products
    rng = np.random.default_rng(seed)
    vectors, found = np.empty((0, hessian.size)), []
    while len(found) < k:
        if len(vectors) == hessian.size:
            raise RuntimeError(f"only {len(found)} eigenvalues are positive, not {k}")
        v = _without(vectors, rng.normal(size=hessian.size))
        while True:
            v /= np.linalg.norm(v)
            # The vectors found are not exact, so that Hv leaves their complement a little.
            product = _without(vectors, hessian @ v)
            value = v @ product
            if np.linalg.norm(product - value * v) <= rtol * abs(value):
                break
            if hessian.products - before >= most:
                raise RuntimeError(
                    f"power iteration found {len(found)} of {k} eigenvalues in {most} "
                    "products; ask for fewer, or give a larger rtol"
                )
            v = product
        vectors = np.vstack([vectors, v])
        if value > 0:
            found.append(value)
    return Spectrum(np.sort(found)[::-1].copy(), hessian.products - before)


def _without(vectors: np.ndarray, v: np.ndarray) -> np.ndarray:
    return v - vectors.T @ (vectors @ v)


def _require(hessian: Hessian, k: int, rtol: float) -> int:
    try:
        k = operator.index(k)
    except TypeError as error:
        raise TypeError(f"k must be an integer, got {type(k).__name__}") from error
    if not 1 <= k <= hessian.size:
        raise ValueError(
            f"k must lie between 1 and {hessian.size}, the number of parameters, got {k}"
        )
    if not 0 < rtol < 1:
        raise ValueError(f"rtol must lie between 0 and 1, got {rtol}")
    return k
