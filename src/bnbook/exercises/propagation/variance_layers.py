"""Exercise: forward and backward variances of a ReLU network, layer by layer."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def relu_variances(
    widths: np.ndarray, weight_variances: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Variances of s^l and of ∂L/∂s^l in a random ReLU network without normalization.

    s^1 = x W^1 and s^l = max(s^{l−1}, 0) W^l, with W^l of shape (K_{l−1}, K_l). The inputs and
    the gradient ∂L/∂s^L have variance 1.

    Args:
        widths: K_0, K_1, …, K_L, (L + 1,), whole numbers in floating point.
        weight_variances: V(w^1), …, V(w^L), (L,).

    Returns:
        forward: V(s^l) for l = 1 … L, (L,).
        backward: V(∂L/∂s^l) for l = 1 … L, (L,); the last entry is 1.
    """
    depth = len(weight_variances)
    forward, backward = np.ones(depth), np.ones(depth)
    for n in range(depth):
        before = 1.0 if n == 0 else forward[n - 1] / 2  # E max(s, 0)²
        forward[n] = widths[n] * weight_variances[n] * before
    for n in range(depth - 2, -1, -1):
        backward[n] = widths[n + 2] * weight_variances[n + 1] * backward[n + 1] / 2
    return forward, backward


def activation_forgotten(widths, weight_variances):
    """You treat the network as linear. ReLU keeps half of a centred variance forward,
    E max(s, 0)² = V(s)/2, and lets half of the gradients through, E f'² = 1/2."""
    forward, backward = relu_variances(widths, weight_variances)
    halvings = np.arange(len(forward))
    return forward * 2.0**halvings, backward * 2.0 ** halvings[::-1]


def fans_exchanged(widths, weight_variances):
    """You multiply by the fan-out forward and by the fan-in backward. A sum s has as many terms as
    the layer has inputs, K_{l−1}; a gradient as many as the neuron has successors, K_{l+1}."""
    depth = len(weight_variances)
    forward, backward = np.ones(depth), np.ones(depth)
    for n in range(depth):
        before = 1.0 if n == 0 else forward[n - 1] / 2
        forward[n] = widths[n + 1] * weight_variances[n] * before
    for n in range(depth - 2, -1, -1):
        backward[n] = widths[n + 1] * weight_variances[n + 1] * backward[n + 1] / 2
    return forward, backward


def input_rectified(widths, weight_variances):
    """You halve the variance of the input as well. The first layer multiplies x itself; ReLU comes
    after it."""
    forward, backward = relu_variances(widths, weight_variances)
    return forward / 2, backward


def variance_of_relu(widths, weight_variances):
    """You use the variance of max(s, 0), which is (1/2 − 1/(2π)) V(s). The weights are centred, so
    the second moment counts, mean included: V(s)/2."""
    _, backward = relu_variances(widths, weight_variances)
    keep = 0.5 - 1 / (2 * np.pi)
    forward = np.cumprod(widths[:-1] * weight_variances) * keep ** np.arange(
        len(backward)
    )
    return forward, backward


def own_weights_backward(widths, weight_variances):
    """Your backward pass uses the weights of layer l itself. The gradient of s^l comes through the
    next layer: K_{l+1} and V(w^{l+1})."""
    forward, backward = relu_variances(widths, weight_variances)
    for n in range(len(backward) - 2, -1, -1):
        backward[n] = widths[n + 1] * weight_variances[n] * backward[n + 1] / 2
    return forward, backward


def fan_in_backward(widths, weight_variances):
    """Your forward variances are right, but backward you multiply by the fan-in. The gradient of a
    neuron of layer l adds up what the K_{l+1} neurons it feeds send back."""
    forward, _ = relu_variances(widths, weight_variances)
    return forward, fans_exchanged(widths, weight_variances)[1]


def fan_out_forward(widths, weight_variances):
    """Your backward variances are right, but forward you multiply by the fan-out. A sum s^l has as many
    terms as the layer has inputs, K_{l−1}."""
    _, backward = relu_variances(widths, weight_variances)
    return fans_exchanged(widths, weight_variances)[0], backward


def _printed(widths, weight_variances):
    steps = widths[1:-1] * weight_variances[:-1]
    return np.append(1.0, np.cumprod(steps))


def printed_products(widths, weight_variances):
    """You use the products as the source prints them. Its forward one has a factor too few, and the
    fan-out for the fan-in; both leave out the activation, a factor 1/2 at each ReLU."""
    linear = activation_forgotten(widths, weight_variances)[1]
    return _printed(widths, weight_variances), linear


def printed_forward(widths, weight_variances):
    """Your forward variances are the product that the source prints: it has a factor too few, the
    fan-out for the fan-in, and no activation."""
    _, backward = relu_variances(widths, weight_variances)
    return _printed(widths, weight_variances), backward


def printed_forward_halved(widths, weight_variances):
    """Your forward variances halve at each ReLU, as they must, but their widths and weights are those
    that the source prints. Layer l multiplies by K_{l−1} V(w^l), the first one included."""
    _, backward = relu_variances(widths, weight_variances)
    return _printed(widths, weight_variances) / 2.0 ** np.arange(
        len(backward)
    ), backward


def deviations(widths, weight_variances):
    """You return standard deviations. The square of these is the variance that is asked for."""
    forward, backward = relu_variances(widths, weight_variances)
    return np.sqrt(forward), np.sqrt(backward)


def as_products(widths, weight_variances):
    """The same, by cumulative products."""
    forward = np.cumprod(widths[:-1] * weight_variances / 2) * 2
    steps = np.append(widths[2:] * weight_variances[1:] / 2, 1.0)
    return forward, np.cumprod(steps[::-1])[::-1]


_rng = np.random.default_rng(701)

EXERCISE = FunctionExercise(
    id="variance-layers",
    chapter="propagation/variance",
    title="Variances of a ReLU network",
    level="core",
    reference=relu_variances,
    why="Forward each layer multiplies by fan-in × V(w) × E max(s, 0)², backward by fan-out × V(w) × "
    "E f'²; for ReLU both expectations bring a factor 1/2.",
    mistakes=variants(
        activation_forgotten,
        fans_exchanged,
        input_rectified,
        variance_of_relu,
        own_weights_backward,
        fan_in_backward,
        fan_out_forward,
        printed_products,
        printed_forward,
        printed_forward_halved,
        deviations,
    ),
    alternatives=(as_products,),
    hints=(
        "A neuron of layer l adds K_{l−1} terms w a with E (w a)² = V(w) E a². What is E a² for the "
        "input, and for a = max(s, 0) with s symmetric about 0?",
        "Backward: ∂L/∂s^l is f'(s^l) times a sum of K_{l+1} terms with the weights of layer l + 1, and "
        "f' is 1 for half of the neurons.",
    ),
    cases=(
        Case(
            "four layers of unequal widths",
            (np.array([7.0, 4.0, 12.0, 5.0, 3.0]), _rng.uniform(0.1, 0.6, 4)),
        ),
        Case(
            "equal widths, He",
            (np.full(6, 50.0), np.full(5, 2 / 50)),
            "the widths are equal and V(w) = 2/K: the variances stay constant.",
        ),
        Case(
            "one layer", (np.array([6.0, 9.0]), np.array([0.3])), "there is one layer."
        ),
    ),
    returns=("forward", "backward"),
)
