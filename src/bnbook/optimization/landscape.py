"""How far a step can trust the loss and the gradient, in raw and in relative units.

A symmetry of a network is a diagonal matrix D with L(Dθ) = L(θ) for all θ: in front of batch
normalization with ε = 0 each neuron's weights and bias may be multiplied by any c > 0, and
a ReLU passes a factor on, to be divided out in the next layer. Differentiated, it gives
D ∇L(Dθ) = ∇L(θ) and D H(Dθ) D = H(θ): gradient and Hessian change although the function
does not. With T = diag|θ|, T∇L and T H T do not change, apart from signs.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.func import grad_and_value

from bnbook.optimization.dense import DenseNetwork
from bnbook.optimization.hessian import Hessian, Spectrum, classifier_loss, lanczos


@dataclass(frozen=True)
class Probe:
    """What a walk along the steepest descent from one point saw; S steps.

    Attributes:
        losses: L at each step, (S,).
        changes: norm of the change of the gradient since the start, (S,).
        distances: norm of the change of the parameters, (S,).
        loss: L at the start.
        gradient: norm of the gradient at the start.
    """

    losses: np.ndarray
    changes: np.ndarray
    distances: np.ndarray
    loss: float
    gradient: float

    @property
    def loss_range(self) -> float:
        """Largest minus smallest loss, over the steps and the start; infinite if a loss is
        not finite."""
        ends = np.append(self.losses, self.loss)
        return float(np.ptp(ends)) if np.isfinite(ends).all() else math.inf

    @property
    def smoothness(self) -> float:
        """Largest change of the gradient over the distance; infinite if not finite."""
        ratios = self.changes / self.distances
        return float(ratios.max()) if np.isfinite(ratios).all() else math.inf


def probe(
    network: torch.nn.Module,
    x: torch.Tensor,
    t: torch.Tensor,
    steps: Sequence[float],
    *,
    relative: bool = False,
) -> Probe:
    """Walk along the negative gradient, and watch loss and gradient.

    Raw: θ − a ∇L for each step a, with Euclidean norms. Relative: every parameter is
    measured in units of its own size, u = θ/|θ₀|. The gradient in these units is
    T∇L with T = diag|θ₀|, and the walk goes to θ − a √n T²∇L/‖T∇L‖, so that a is the root
    mean square of the relative changes Δθ/θ₀ of the n parameters. What it sees is then the
    same for all networks that a symmetry connects.

    Args:
        network, x, t: as for `classifier_loss`; the network is not changed.
        steps: a > 0, (S,).
        relative: in which units.

    Raises:
        ValueError: a step is not positive and finite; the gradient vanishes; see
            `classifier_loss`.

    Source: Santurkar et al. (2018), §3.1, for the raw walk.
    """
    steps = np.asarray(steps, dtype=float)
    if (
        steps.ndim != 1
        or not len(steps)
        or not ((steps > 0) & np.isfinite(steps)).all()
    ):
        raise ValueError(f"steps must be positive and finite, got {steps}")
    loss, point = classifier_loss(network, x, t)
    look = grad_and_value(loss)
    gradient, start = look(point)
    unit = point.abs() if relative else torch.ones_like(point)
    size = (unit * gradient).norm()
    if not size > 0:
        raise ValueError(
            f"the gradient has the norm {size:g} at the start, so that no direction "
            "descends; take another point"
        )
    scale = math.sqrt(len(point)) / size if relative else torch.tensor(1.0)
    direction = scale * unit**2 * gradient
    losses, changes, distances = [], [], []
    for step in steps:
        there, value = look(point - step * direction)
        losses.append(value.item())
        changes.append((unit * (there - gradient)).norm().item())
        distances.append((step * scale * size).item())
    return Probe(
        np.array(losses),
        np.array(changes),
        np.array(distances),
        start.item(),
        size.item(),
    )


class RelativeHessian:
    """T H T with T = diag|θ|: curvature for relative changes of the parameters.

    Attributes:
        size, value, products: as for `Hessian`.
        gradient: T∇L, (n,).
    """

    def __init__(self, hessian: Hessian, point: torch.Tensor):
        """Scale a Hessian at the point where it was taken."""
        self._hessian = hessian
        self.units = point.abs().numpy()
        self.size, self.value = hessian.size, hessian.value
        self.gradient = self.units * hessian.gradient

    @property
    def products(self) -> int:
        """Number of products with H taken so far."""
        return self._hessian.products

    def __matmul__(self, vector: np.ndarray) -> np.ndarray:
        """T H T v, one product with H."""
        return self.units * (self._hessian @ (self.units * vector))


def relative_eigenvalues(
    network: torch.nn.Module,
    x: torch.Tensor,
    t: torch.Tensor,
    k: int,
    *,
    rtol: float = 1e-3,
    seed: int = 0,
) -> Spectrum:
    """The k largest eigenvalues of T H T, T = diag|θ|; arguments as `top_eigenvalues`.

    They are the same for all networks that a symmetry connects.

    Source: the curvature of the adaptive sharpness of Kwon et al. (2021), with the
    elementwise normalization.
    """
    loss, point = classifier_loss(network, x, t)
    hessian = RelativeHessian(Hessian(loss, point), point)
    return lanczos(hessian, k, rtol=rtol, seed=seed)


@torch.no_grad()
def rescaled(network: DenseNetwork, factors: Sequence[float]) -> DenseNetwork:
    """A network of the same function with other weights.

    With batch normalization and ε = 0, weights and bias of hidden layer l are multiplied by
    c_l, and the normalization divides it out. With ε > 0 the function changes slightly.
    Without normalization the activation must be a ReLU: what enters layer l + 1 is then
    multiplied by c_1 ⋯ c_l, its bias as well, and the weights of the last layer are divided
    by the whole product.

    Args:
        network: stays as it is.
        factors: c_l > 0, one for each hidden layer.

    Raises:
        ValueError: a factor is not positive and finite, or their number is another.
    """
    factors = [float(c) for c in factors]
    hidden = len(network.linears) - 1
    if len(factors) != hidden or not all(0 < c < math.inf for c in factors):
        raise ValueError(
            f"factors must be {hidden} positive numbers, one for each hidden layer, "
            f"got {factors}"
        )
    other, total = copy.deepcopy(network), 1.0
    for linear, c in zip(other.linears[:-1], factors, strict=True):
        total = c if network.normalized else total * c
        linear.weight *= c
        linear.bias *= total
    if not network.normalized:
        other.linears[-1].weight /= total
    return other


def distance(network: torch.nn.Module, start: torch.nn.Module) -> float:
    """‖θ − θ_start‖ over all parameters of two networks of one architecture."""
    pairs = zip(network.parameters(), start.parameters(), strict=True)
    return math.sqrt(sum((a - b).detach().square().sum().item() for a, b in pairs))
