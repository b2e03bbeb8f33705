"""Exercise: the run from longer weights that repeats another run."""

from bnbook.exercises.model import Case, FunctionExercise, variants


def twin_run(rate: float, decay: float, factor: float) -> tuple[float, float]:
    """Learning rate and weight decay with which a run from longer weights repeats another.

    The weights w are scale-invariant: L(cw) = L(w). The first run starts at w with η and λ,
    the second one at c·w, and shall stay at c times the weights of the first.

    Args:
        rate: η of the first run.
        decay: λ of the first run.
        factor: c > 0.

    Returns:
        rate, decay: of the second run.
    """
    return factor**2 * rate, decay / factor**2


def decay_kept(rate, decay, factor):
    """You keep λ. Then the second run shrinks its weights by c²ηλ a step, and not by ηλ."""
    return factor**2 * rate, decay


def rate_kept(rate, decay, factor):
    """You keep both. The gradient at c·w is 1/c times that at w, so the second run's steps are too
    short by 1/c, and its weights are longer by c: it needs c²."""
    return rate, decay


def linear_factor(rate, decay, factor):
    """You scale by c. One factor c makes up for the smaller gradient, a second one for the longer
    weights."""
    return factor * rate, decay / factor


def other_way(rate, decay, factor):
    """You divide the rate and multiply the decay. Longer weights have smaller gradients and need
    larger steps."""
    return rate / factor**2, factor**2 * decay


def decay_multiplied(rate, decay, factor):
    """You multiply the decay as well. It is the product ηλ that shrinks the weights; it must stay."""
    return factor**2 * rate, factor**2 * decay


def from_the_product(rate, decay, factor):
    """The same, from the two quantities that must not change."""
    effective, product = rate / 1.0**2, rate * decay
    twin = effective * factor * factor
    return twin, product / twin


EXERCISE = FunctionExercise(
    id="scale-invariance-twin",
    chapter="optimization/scale_invariance",
    title="The twin run",
    level="warm-up",
    reference=twin_run,
    why="If the weights are c·w, the gradient is 1/c of that at w, so c·w − c²η·(1/c)∂L/∂w is c times the "
    "first step; and the product ηλ shrinks both alike.",
    mistakes=variants(
        decay_kept, rate_kept, linear_factor, other_way, decay_multiplied
    ),
    alternatives=(from_the_product,),
    hints=(
        "Write the step from c·w with unknown η' and λ', and put in ∂L/∂w(cw) = ∂L/∂w(w)/c.",
        "Compare with c times the step from w: the coefficients of w and of ∂L/∂w must agree.",
    ),
    cases=(
        Case("c = 3", (0.1, 0.02, 3.0)),
        Case("c = 1/2", (2.0, 0.001, 0.5), "c is below 1."),
        Case("c = 10", (0.3, 0.4, 10.0), "c is large."),
    ),
    returns=("rate", "decay"),
)
