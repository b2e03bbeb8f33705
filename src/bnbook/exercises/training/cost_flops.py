"""Exercise: the matrix products of a training step."""

from bnbook.exercises.model import Case, FunctionExercise, variants


def step_flops(inputs: int, width: int, hidden: int, outputs: int, batch: int) -> int:
    """Flops of the matrix products in a training step of a fully connected network.

    Count a product of (M, K) and (K, N) as 2 M K N. Leave out what no update needs: the
    gradient of the network's input. Biases, activations and the update do not count.

    Args:
        inputs: features of the input.
        width: neurons of each hidden layer.
        hidden: number of hidden layers, at least 1.
        outputs: neurons of the output layer.
        batch: M.
    """
    first = 2 * batch * inputs * width
    between = (hidden - 1) * 2 * batch * width * width
    last = 2 * batch * width * outputs
    return 2 * first + 3 * between + 3 * last


def forward_only(inputs, width, hidden, outputs, batch):
    """You count the forward pass alone. Training also needs ∂L/∂W = aᵀ dz and da = dz Wᵀ of each
    layer, each as large as z = a W."""
    weights = inputs * width + (hidden - 1) * width**2 + width * outputs
    return 2 * batch * weights


def two_products(inputs, width, hidden, outputs, batch):
    """You count two products a layer. The backward pass has two of its own: ∂L/∂W for the update
    and ∂L/∂a for the layers before; with the forward pass that makes three."""
    return 2 * forward_only(inputs, width, hidden, outputs, batch)


def input_gradient(inputs, width, hidden, outputs, batch):
    """You count three products for the first layer as well. Its ∂L/∂a is the gradient of the input,
    which nothing needs."""
    return 3 * forward_only(inputs, width, hidden, outputs, batch)


def multiplications(inputs, width, hidden, outputs, batch):
    """You count the multiplications alone. A product of K pairs is K multiplications and as many
    additions: 2 K."""
    return step_flops(inputs, width, hidden, outputs, batch) / 2


def one_example(inputs, width, hidden, outputs, batch):
    """You count a single example. Every product has M rows."""
    return step_flops(inputs, width, hidden, outputs, 1)


def last_layer_short(inputs, width, hidden, outputs, batch):
    """You save a product in the last layer, not in the first. The last layer must pass the gradient
    on; the first need not."""
    all_three = input_gradient(inputs, width, hidden, outputs, batch)
    return all_three - 2 * batch * width * outputs


def one_layer_more(inputs, width, hidden, outputs, batch):
    """You count a product between hidden layers too many: n layers have n − 1 between them."""
    return step_flops(inputs, width, hidden + 1, outputs, batch)


def by_layers(inputs, width, hidden, outputs, batch):
    """The same, layer by layer."""
    sizes = [inputs] + [width] * hidden + [outputs]
    total = 0
    for layer in range(hidden + 1):
        total += 6 * batch * sizes[layer] * sizes[layer + 1]
    return total - 2 * batch * inputs * width


def by_kinds(inputs, width, hidden, outputs, batch):
    """The same, one kind of product after the other."""
    later = (hidden - 1) * width * width + width * outputs
    forward = weights = 2 * batch * (inputs * width + later)
    return forward + weights + 2 * batch * later


EXERCISE = FunctionExercise(
    id="cost-flops",
    chapter="training/cost",
    title="Flops of a step",
    level="core",
    reference=step_flops,
    why="Forward z = a W, backward ∂L/∂W = aᵀ dz and ∂L/∂a = dz Wᵀ: three products with the same "
    "three lengths, of which the first layer skips the last.",
    mistakes=variants(
        forward_only,
        two_products,
        input_gradient,
        multiplications,
        one_example,
        last_layer_short,
        one_layer_more,
    ),
    alternatives=(by_layers, by_kinds),
    hints=(
        "Write the shapes of z = a W, of aᵀ dz and of dz Wᵀ below each other. All three products have "
        "the same three lengths M, K and N.",
        "Six M K N for each layer, and four for the first.",
    ),
    cases=(
        Case("5 inputs, two hidden layers of 3", (5, 3, 2, 2, 7)),
        Case("the source's network", (28, 1000, 4, 1, 1024)),
        Case(
            "one hidden layer",
            (4, 6, 1, 3, 10),
            "no product lies between hidden layers.",
        ),
    ),
    returns=("flops",),
)
