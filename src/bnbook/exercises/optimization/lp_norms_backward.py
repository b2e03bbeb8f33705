"""Exercise: the gradient of an Lp normalization."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def order_backward(dy: np.ndarray, x: np.ndarray, gamma: float, p: float) -> np.ndarray:
    """∂L/∂x of one feature for y = γ ẑ + β with ẑ = (x − μ)/s and s = (mean |x − μ|^p)^(1/p).

    Args:
        dy: ∂L/∂y, (M,).
        x: the values of the feature, (M,).
        gamma: γ.
        p: a finite number > 1.

    Returns:
        dx: ∂L/∂x, (M,).
    """
    c = x - x.mean()
    s = np.mean(np.abs(c) ** p) ** (1 / p)
    z_hat = c / s
    v = np.abs(z_hat) ** (p - 1) * np.sign(z_hat)
    return gamma / s * (dy - dy.mean() - (v - v.mean()) * np.mean(dy * z_hat))


def _parts(x, p):
    c = x - x.mean()
    s = np.mean(np.abs(c) ** p) ** (1 / p)
    z_hat = c / s
    return s, z_hat, np.abs(z_hat) ** (p - 1) * np.sign(z_hat)


def formula_of_two(dy, x, gamma, p):
    """You use ẑ where v = |ẑ|^(p−1) sgn ẑ belongs. That is the formula of p = 2, the only order for
    which the two are equal."""
    c = x - x.mean()
    s = np.mean(np.abs(c) ** p) ** (1 / p)
    z_hat = c / s
    return gamma / s * (dy - dy.mean() - z_hat * np.mean(dy * z_hat))


def mean_of_v_left(dy, x, gamma, p):
    """You do not subtract the mean of v. It is 0 for p = 2 only; the gradient must have mean 0,
    because a shift of the batch changes nothing."""
    c = x - x.mean()
    s = np.mean(np.abs(c) ** p) ** (1 / p)
    z_hat = c / s
    v = np.abs(z_hat) ** (p - 1) * np.sign(z_hat)
    return gamma / s * (dy - dy.mean() - v * np.mean(dy * z_hat))


def sign_forgotten(dy, x, gamma, p):
    """You use |ẑ|^(p−1) without the sign. Below the mean, a larger x makes the scale smaller."""
    c = x - x.mean()
    s = np.mean(np.abs(c) ** p) ** (1 / p)
    z_hat = c / s
    v = np.abs(z_hat) ** (p - 1)
    return gamma / s * (dy - dy.mean() - (v - v.mean()) * np.mean(dy * z_hat))


def transposed(dy, x, gamma, p):
    """You exchange ẑ and v: you apply the Jacobian and not its transpose. For p = 2 it is symmetric,
    and nobody notices."""
    c = x - x.mean()
    s = np.mean(np.abs(c) ** p) ** (1 / p)
    z_hat = c / s
    v = np.abs(z_hat) ** (p - 1) * np.sign(z_hat)
    centred = dy - dy.mean()
    return gamma / s * (centred - z_hat * np.mean(centred * v))


def scale_constant(dy, x, gamma, p):
    """You treat the scale as a constant. It depends on the batch, which removes the part of dy along
    ẑ."""
    c = x - x.mean()
    s = np.mean(np.abs(c) ** p) ** (1 / p)
    return gamma / s * (dy - dy.mean())


def scale_summed(dy, x, gamma, p):
    """Your scale adds |x − μ|^p up. It is a mean over the batch: s = (mean |x − μ|^p)^(1/p)."""
    c = x - x.mean()
    s = np.sum(np.abs(c) ** p) ** (1 / p)
    z_hat = c / s
    v = np.abs(z_hat) ** (p - 1) * np.sign(z_hat)
    return gamma / s * (dy - dy.mean() - (v - v.mean()) * np.mean(dy * z_hat))


def product_summed(dy, x, gamma, p):
    """You take the sum of g ẑ where its mean belongs. s is a mean over the batch, so ∂s/∂c_m = v_m/M
    brings 1/M."""
    s, z_hat, v = _parts(x, p)
    return gamma / s * (dy - dy.mean() - (v - v.mean()) * np.sum(dy * z_hat))


def factor_p(dy, x, gamma, p):
    """You have a factor p too many in the last term. The power brings p down, and the root 1/p brings
    1/p: they cancel."""
    s, z_hat, v = _parts(x, p)
    return gamma / s * (dy - dy.mean() - p * (v - v.mean()) * np.mean(dy * z_hat))


def gradient_not_centred(dy, x, gamma, p):
    """You do not subtract the mean of ∂L/∂y. μ depends on every x too, and a shift of the batch changes
    nothing: the gradient must have mean 0."""
    s, z_hat, v = _parts(x, p)
    return gamma / s * (dy - (v - v.mean()) * np.mean(dy * z_hat))


def nothing_centred(dy, x, gamma, p):
    """You leave out the way through μ: neither ∂L/∂y nor v loses its mean. A shift of the batch changes
    nothing, so the gradient must have mean 0."""
    s, z_hat, v = _parts(x, p)
    return gamma / s * (dy - v * np.mean(dy * z_hat))


def v_twice(dy, x, gamma, p):
    """You put v in both places, (v − mean v) · mean(g v). v comes from ∂s/∂c; what it multiplies comes
    from ẑ = c/s, and is mean(g ẑ)."""
    s, _, v = _parts(x, p)
    return gamma / s * (dy - dy.mean() - (v - v.mean()) * np.mean(dy * v))


def exchanged(dy, x, gamma, p):
    """You exchange ẑ and v: you have ẑ · mean(g v) where v · mean(g ẑ) belongs. The direction is that of
    ∂s/∂c, which is v; for p = 2 the two are equal."""
    s, z_hat, v = _parts(x, p)
    return gamma / s * (dy - dy.mean() - z_hat * np.mean(dy * v))


def gamma_forgotten(dy, x, gamma, p):
    """The factor γ is missing. y = γ ẑ + β, so ∂L/∂ẑ is γ ∂L/∂y."""
    return order_backward(dy, x, 1.0, p)


def by_chain_rule(dy, x, gamma, p):
    """The same, in the steps of the chain rule."""
    count = len(x)
    c = x - x.mean()
    power = np.mean(np.abs(c) ** p)
    s = power ** (1 / p)
    dz_hat = gamma * dy
    ds = -np.sum(dz_hat * c) / s**2
    dpower = ds * s / (p * power)
    dc = dz_hat / s + dpower * p * np.abs(c) ** (p - 1) * np.sign(c) / count
    return dc - dc.mean()


_rng = np.random.default_rng(852)
_draw = lambda n: (_rng.normal(size=n), _rng.normal(size=n) + 2)  # noqa: E731

EXERCISE = FunctionExercise(
    id="lp-norms-backward",
    chapter="optimization/lp_norms",
    title="Backward through any order",
    level="core",
    reference=order_backward,
    why="∂s/∂c = v/M with v = |ẑ|^(p−1) sgn ẑ. The gradient loses its mean, and v takes the place of one "
    "of the two ẑ of batch normalization.",
    mistakes=variants(
        formula_of_two,
        mean_of_v_left,
        sign_forgotten,
        transposed,
        scale_constant,
        scale_summed,
        product_summed,
        factor_p,
        gradient_not_centred,
        nothing_centred,
        v_twice,
        exchanged,
        gamma_forgotten,
    ),
    alternatives=(by_chain_rule,),
    hints=(
        "Differentiate s: ∂s/∂c_m = s^(1−p) |c_m|^(p−1) sgn(c_m)/M. Write it in terms of ẑ.",
        "dx = (γ/s)(g − v · mean(g ẑ)), then subtract its mean.",
    ),
    cases=(
        Case("p = 3, 8 examples", (*_draw(8), 1.3, 3.0), count=8),
        Case("p = 1.5, 7 examples", (*_draw(7), -0.8, 1.5), count=7),
        Case("p = 2, 6 examples", (*_draw(6), 0.6, 2.0), "p = 2.", count=6),
        Case("p = 6, 9 examples", (*_draw(9), 2.1, 6.0), count=9),
    ),
    returns=("dx",),
)
