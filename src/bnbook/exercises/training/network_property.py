"""Exercise: a test that tells a right gradient of a network from a wrong one."""

import numpy as np

from bnbook.exercises.model import PropertyExercise, variants

EPS = 1e-5


def test_network(network) -> None:
    """Test the gradients of a network: pass if they are right, else fail an `assert`.

    Args:
        network: a function of w (D, H), gamma (H,), beta (H,), u (H,), x (M, D) and t (M,). It
            returns the loss and its gradients dw, dgamma, dbeta and du. The network is linear, batch
            norm with ε = 1e-5, ReLU, and the logit (its output) times u; the loss is the mean
            logistic loss on labels t of 0.0 and 1.0. The loss is always right; the gradients may not
            be.
    """
    rng = np.random.default_rng(0)
    for count, inputs, hidden in [(6, 3, 4), (9, 2, 3)]:
        x = rng.normal(size=(count, inputs))
        t = (rng.random(count) < 0.5).astype(float)
        shapes = (inputs, hidden), (hidden,), (hidden,), (hidden,)
        parameters = [rng.normal(0.2, 1.0, size=shape) for shape in shapes]
        gradients = network(*parameters, x, t)[1:]
        for position, (value, gradient) in enumerate(
            zip(parameters, gradients, strict=True)
        ):
            assert gradient.shape == value.shape
            for index in np.ndindex(value.shape):
                losses = []
                for step in (1e-6, -1e-6):
                    moved = [p.copy() for p in parameters]
                    moved[position][index] += step
                    losses.append(network(*moved, x, t)[0])
                slope = (losses[0] - losses[1]) / 2e-6
                assert abs(gradient[index] - slope) < 1e-6


def _network(w, gamma, beta, u, x, t, **wrong):
    """The network, with one thing in its backward pass changed if `wrong` says so."""
    z = x @ w
    centred = z - z.mean(axis=0)
    std = np.sqrt((centred**2).mean(axis=0) + EPS)
    z_hat = centred / std
    y = gamma * z_hat + beta
    a = np.maximum(y, 0)
    logit = a @ u
    loss = (np.logaddexp(0, logit) - t * logit).mean()
    dlogit = 1 / (1 + np.exp(-logit)) - t
    if not wrong.get("summed"):
        dlogit = dlogit / len(t)
    du = a.T @ dlogit
    da = np.outer(dlogit, u)
    dy = da if wrong.get("unmasked") else da * (y > 0)
    dgamma = (dy * (y if wrong.get("after_shift") else z_hat)).sum(axis=0)
    dbeta = dy.mean(axis=0) if wrong.get("averaged_shift") else dy.sum(axis=0)
    g = dy if wrong.get("unscaled") else dy * gamma
    dz = g.copy()
    if not wrong.get("fixed_mean"):
        dz -= g.mean(axis=0)
    if not wrong.get("fixed_std"):
        dz -= z_hat * (g * z_hat).mean(axis=0)
    return loss, x.T @ (dz / std), dgamma, dbeta, du


def closed_form(w, gamma, beta, u, x, t):
    """it uses the closed form of batch normalization's gradient."""
    return _network(w, gamma, beta, u, x, t)


def complex_step(w, gamma, beta, u, x, t):
    """it differentiates its own loss by the complex-step method."""

    def loss(w, gamma, beta, u):
        z = x @ w
        centred = z - z.mean(axis=0)
        y = gamma * centred / np.sqrt((centred**2).mean(axis=0) + EPS) + beta
        logit = np.where(y.real > 0, y, 0) @ u
        return (np.log(1 + np.exp(logit)) - t * logit).mean()

    parameters = [p.astype(complex) for p in (w, gamma, beta, u)]
    gradients = []
    for position, value in enumerate(parameters):
        gradient = np.empty(value.shape)
        for index in np.ndindex(value.shape):
            moved = [p.copy() for p in parameters]
            moved[position][index] += 1e-30j
            gradient[index] = loss(*moved).imag / 1e-30
        gradients.append(gradient)
    return (loss(*parameters).real, *gradients)


def detached(w, gamma, beta, u, x, t):
    """it treats mean and deviation of the batch as constants in the backward pass."""
    return _network(w, gamma, beta, u, x, t, fixed_mean=True, fixed_std=True)


def detached_mean(w, gamma, beta, u, x, t):
    """it treats the mean of the batch as a constant in the backward pass."""
    return _network(w, gamma, beta, u, x, t, fixed_mean=True)


def detached_deviation(w, gamma, beta, u, x, t):
    """it treats the deviation of the batch as a constant in the backward pass."""
    return _network(w, gamma, beta, u, x, t, fixed_std=True)


def scale_forgotten(w, gamma, beta, u, x, t):
    """it forgets the factor γ on the way back to w, which is invisible where γ = 1."""
    return _network(w, gamma, beta, u, x, t, unscaled=True)


def mask_forgotten(w, gamma, beta, u, x, t):
    """it lets the gradient through the ReLU everywhere."""
    return _network(w, gamma, beta, u, x, t, unmasked=True)


def not_averaged(w, gamma, beta, u, x, t):
    """it returns the gradient of the summed loss, not of the mean."""
    return _network(w, gamma, beta, u, x, t, summed=True)


def scale_after_shift(w, gamma, beta, u, x, t):
    """it multiplies by y in place of ẑ for dgamma, which is invisible where γ = 1 and β = 0."""
    return _network(w, gamma, beta, u, x, t, after_shift=True)


def shift_averaged(w, gamma, beta, u, x, t):
    """it averages dbeta over the batch once more."""
    return _network(w, gamma, beta, u, x, t, averaged_shift=True)


def _setting(count=6, seed=1, trivial=False):
    rng = np.random.default_rng(seed)
    x, t = rng.normal(size=(count, 3)), (rng.random(count) < 0.5).astype(float)
    w, u = rng.normal(size=(3, 4)), rng.normal(size=4)
    gamma = np.ones(4) if trivial else rng.normal(0.2, 1.0, size=4)
    beta = np.zeros(4) if trivial else rng.normal(size=4)
    return [w, gamma, beta, u], x, t


def _slopes(network, parameters, x, t, position):
    value = parameters[position]
    slopes = np.empty(value.shape)
    for index in np.ndindex(value.shape):
        losses = []
        for step in (1e-6, -1e-6):
            moved = [p.copy() for p in parameters]
            moved[position][index] += step
            losses.append(network(*moved, x, t)[0])
        slopes[index] = (losses[0] - losses[1]) / 2e-6
    return slopes


def only_shapes(network):
    """Your test seems to check shapes, or that a step against the gradient lowers the loss. Every wrong
    gradient here has the right shape, and lowers it too: compare values with the slope of the loss."""
    parameters, x, t = _setting()
    for value, gradient in zip(parameters, network(*parameters, x, t)[1:], strict=True):
        assert gradient.shape == value.shape


def only_orthogonality(network):
    """Your test seems to check only that dw is orthogonal to the columns of w. That holds for every
    gradient that accounts for both statistics, also for one with wrong values: compare with the slope of
    the loss."""
    parameters, x, t = _setting()
    dw = network(*parameters, x, t)[1]
    assert abs((dw * parameters[0]).sum(axis=0)).max() < 1e-3


def only_weights(network):
    """Your test seems to compare dw and du only. A wrong dgamma or dbeta passes: compare all four
    gradients."""
    parameters, x, t = _setting()
    found = network(*parameters, x, t)[1:]
    for position in (0, 3):
        slopes = _slopes(network, parameters, x, t, position)
        np.testing.assert_allclose(found[position], slopes, atol=1e-6)


def only_scale_and_shift(network):
    """Your test seems to compare dgamma and dbeta only. They come before the normalization on the way
    back, so an error in its gradient does not reach them: compare dw too."""
    parameters, x, t = _setting()
    found = network(*parameters, x, t)[1:]
    for position in (1, 2):
        slopes = _slopes(network, parameters, x, t, position)
        np.testing.assert_allclose(found[position], slopes, atol=1e-6)


def only_initial_values(network):
    """Your test seems to use γ = 1 and β = 0 only, the initial values. A forgotten γ is invisible
    there: draw them at random."""
    parameters, x, t = _setting(trivial=True)
    found = network(*parameters, x, t)[1:]
    for position, gradient in enumerate(found):
        slopes = _slopes(network, parameters, x, t, position)
        np.testing.assert_allclose(gradient, slopes, atol=1e-6)


def too_tight(network):
    """Your test seems to demand more digits than a finite difference has. Compare your step and
    tolerance: for a loss near 1 a central difference with step h is off by about h² + 1e-16/h."""
    parameters, x, t = _setting()
    found = network(*parameters, x, t)[1:]
    for position, gradient in enumerate(found):
        slopes = _slopes(network, parameters, x, t, position)
        assert abs(gradient - slopes).max() < 1e-15


def along_random_lines(network):
    """The same, along random directions in the space of all parameters."""
    rng = np.random.default_rng(5)
    for seed in range(4):
        parameters, x, t = _setting(count=8, seed=seed)
        found = network(*parameters, x, t)[1:]
        for _ in range(8):
            ways = [rng.normal(size=p.shape) for p in parameters]
            ends = [
                network(
                    *[p + h * d for p, d in zip(parameters, ways, strict=True)], x, t
                )[0]
                for h in (1e-6, -1e-6)
            ]
            slope = sum((g * d).sum() for g, d in zip(found, ways, strict=True))
            assert abs(slope - (ends[0] - ends[1]) / 2e-6) < 1e-6


def with_torch(network):
    """The same, against automatic differentiation."""
    import torch

    for seed in range(3):
        parameters, x, t = _setting(seed=seed)
        found = network(*parameters, x, t)[1:]
        leaves = [torch.tensor(p, requires_grad=True) for p in parameters]
        w, gamma, beta, u = leaves
        z = torch.tensor(x) @ w
        y = torch.nn.functional.batch_norm(
            z, None, None, gamma, beta, training=True, eps=EPS
        )
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            torch.relu(y) @ u, torch.tensor(t)
        )
        for gradient, expected in zip(
            found, torch.autograd.grad(loss, leaves), strict=True
        ):
            np.testing.assert_allclose(gradient, expected.numpy(), atol=1e-9)


EXERCISE = PropertyExercise(
    id="network-property",
    chapter="training/network",
    title="A test for a gradient",
    level="hard",
    reference=test_network,
    why="The loss is right, so its slope along each parameter is what the gradient must be. Random γ and β, and "
    "every parameter, leave no error a place to hide.",
    mistakes=variants(
        only_shapes,
        only_orthogonality,
        only_weights,
        only_scale_and_shift,
        only_initial_values,
        too_tight,
    ),
    alternatives=(along_random_lines, with_torch),
    hints=(
        "A handful of examples, 3 inputs and 4 units suffice. Move one entry of one parameter by h = 1e-6 and "
        "by −h, and call `network` for the loss each time. The "
        "difference over 2h is the entry of the gradient, to about nine digits.",
        "Do so for all four parameters, with γ and β drawn at random: at γ = 1 and β = 0 some errors cannot be "
        "seen.",
    ),
    correct=variants(closed_form, complex_step),
    mutants=variants(
        detached,
        detached_mean,
        detached_deviation,
        scale_forgotten,
        mask_forgotten,
        not_averaged,
        scale_after_shift,
        shift_averaged,
    ),
)
