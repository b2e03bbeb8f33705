"""`bnbook.foundations.sums`: every rule against numbers, and the decision in both directions."""

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from bnbook.foundations.sums import (
    M,
    batch_sum,
    canonical,
    derivative,
    index,
    is_zero,
    lambdify_batch,
    residual,
    unfold,
)

i, k, m = index("i"), index("k"), index("m")
z, g = sp.IndexedBase("z"), sp.IndexedBase("g")
mu, c, eps = sp.symbols("mu c epsilon", positive=True)
MEAN = batch_sum(z[k], k) / M
VARIANCE = batch_sum((z[k] - MEAN) ** 2, k) / M

RNG = np.random.default_rng(0)
Z, G = RNG.normal(3.0, 2.0, 5), RNG.normal(size=5)


def number(expression):
    """Value at the fixed data, computed by SymPy's own summation, not by the module."""
    return lambdify_batch(expression, [z, g], [c, eps])(Z, G, 1.7, 0.3)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (batch_sum(sp.S.One, m), M),
        (batch_sum(c, m), c * M),
        (batch_sum(sp.S.Zero, m), sp.S.Zero),
        (batch_sum(c * z[m], m), c * batch_sum(z[m], m)),
        (batch_sum(z[m] + g[m], m), batch_sum(z[m], m) + batch_sum(g[m], m)),
        (batch_sum(sp.KroneckerDelta(m, i) * z[m], m), z[i]),
        (batch_sum(sp.KroneckerDelta(i, m), m), sp.S.One),
        (batch_sum(z[k], k) - batch_sum(z[m], m), sp.S.Zero),
        (
            batch_sum(z[m] * batch_sum(g[k], k), m),
            batch_sum(z[m], m) * batch_sum(g[m], m),
        ),
        (
            batch_sum(z[m] * batch_sum(g[m], m), m),
            batch_sum(z[m], m) * batch_sum(g[m], m),
        ),
        (
            batch_sum(batch_sum(z[m] * g[k], k), m),
            batch_sum(z[m], m) * batch_sum(g[m], m),
        ),
        (
            batch_sum(batch_sum(sp.KroneckerDelta(m, k) * z[k], k), m),
            batch_sum(z[m], m),
        ),
        (batch_sum(z[m] - MEAN, m), sp.S.Zero),
    ],
)
def test_rules(expression, expected):
    assert canonical(expression) == canonical(expected)


monomials = st.sampled_from(
    [
        sp.S.One,
        z[m],
        g[m],
        z[m] ** 2,
        z[m] * g[m],
        1 / z[m],
        c,
        MEAN,
        1 / sp.sqrt(VARIANCE + eps),
    ]
)
summands = st.lists(
    st.tuples(st.integers(-3, 3), monomials, monomials), min_size=1, max_size=3
).map(lambda terms: sp.Add(*(n * a * b for n, a, b in terms)))


@settings(max_examples=60)
@given(summands, summands)
def test_canonical_form_has_the_same_value(first, second):
    expression = batch_sum(first, m) * batch_sum(second, m) + batch_sum(
        first * second, m
    )
    np.testing.assert_allclose(
        number(canonical(expression)), number(expression), rtol=1e-9, atol=1e-9
    )


@settings(max_examples=30)
@given(summands)
def test_canonical_is_idempotent(summand):
    once = canonical(batch_sum(summand, m))
    assert canonical(once) == once


@pytest.mark.parametrize(
    "function",
    [
        VARIANCE,
        1 / sp.sqrt(VARIANCE + eps),
        batch_sum(g[m] * (z[m] - MEAN), m) / sp.sqrt(VARIANCE + eps),
        batch_sum(z[m] ** 3, m) * z[i],
    ],
)
def test_derivative_equals_complex_step(function):
    at = lambdify_batch(derivative(function, z[i]), [z, g], [c, eps], at=i)(
        Z, G, 1.7, 0.3
    )
    for example in range(5):
        step = Z + 1e-30j * np.eye(5)[example]
        value = lambdify_batch(function.subs(i, example + 1), [z, g], [c, eps])(
            step, G, 1.7, 0.3
        )
        np.testing.assert_allclose(
            at[example], np.imag(value) / 1e-30, rtol=1e-10, atol=1e-12
        )


IDENTITIES = [
    (VARIANCE, batch_sum(z[m] ** 2, m) / M - MEAN**2),
    (
        batch_sum((z[m] - MEAN) ** 2, m) / sp.sqrt(VARIANCE + eps),
        M * (VARIANCE + eps - eps) / sp.sqrt(VARIANCE + eps),
    ),
    (
        (VARIANCE + eps) ** sp.Rational(-3, 2) * (VARIANCE + eps),
        1 / sp.sqrt(VARIANCE + eps),
    ),
    (
        batch_sum((z[m] - MEAN) ** 2, m) / (VARIANCE + eps),
        M - M * eps / (VARIANCE + eps),
    ),
    (
        1 / sp.sqrt(batch_sum((z[m] - MEAN) ** 2, m) / M),
        sp.sqrt(M) / sp.sqrt(batch_sum((z[m] - MEAN) ** 2, m)),
    ),
]


@pytest.mark.parametrize(("left", "right"), IDENTITIES)
def test_true_identities_are_proved(left, right):
    assert is_zero(left - right)
    assert residual(left - right) == 0


@pytest.mark.parametrize(
    ("left", "right"),
    [
        *((left, 2 * right) for left, right in IDENTITIES),
        *((left, right + sp.Rational(1, 10**9)) for left, right in IDENTITIES),
        *((left, right + z[i] / 1000) for left, right in IDENTITIES),
        (VARIANCE, batch_sum((z[m] - MEAN) ** 2, m) / (M - 1)),
        (1 / sp.sqrt(VARIANCE + eps), 1 / (sp.sqrt(VARIANCE) + sp.sqrt(eps))),
        (sp.sqrt(VARIANCE + eps), sp.sqrt(VARIANCE)),
        (batch_sum(z[m], m) ** 2, batch_sum(z[m] ** 2, m)),
    ],
)
def test_false_identities_are_not_proved(left, right):
    assert not is_zero(left - right)
    assert (
        abs(number((left - right).subs(i, 2))) > 1e-12
    )  # false indeed, for a batch of five


def test_unfold_replaces_indexed_abbreviations_at_every_index():
    z_hat = sp.IndexedBase("h")
    definitions = {z_hat[m]: (z[m] - mu) / c, mu: MEAN}
    assert is_zero(
        unfold(z_hat[i] + z_hat[k], definitions) - (z[i] - MEAN) / c - (z[k] - MEAN) / c
    )


def test_unfold_does_not_capture_an_index():
    a = sp.IndexedBase("a")
    definitions = {
        a[m]: batch_sum(g[k] * z[m], k)
    }  # a_m = z_m Σ g; the k inside is its own
    assert is_zero(a[k] - z[k] * batch_sum(g[m], m), definitions)
    assert not is_zero(a[k] - batch_sum(g[m] * z[m], m), definitions)
    assert is_zero(
        batch_sum(a[k], k) - batch_sum(z[m], m) * batch_sum(g[m], m), definitions
    )


def test_derivative_does_not_depend_on_the_name_of_a_bound_index():
    assert (
        derivative(batch_sum(z[m] ** 2, m), z[m])
        == derivative(batch_sum(z[k] ** 2, k), z[m])
        == 2 * z[m]
    )


@pytest.mark.parametrize(
    "expression",
    [
        sp.sqrt((c - mu) ** -2) * (c - mu) - 1,
        sp.sign(1 / batch_sum(z[m], m)) - 1,
        sp.Max(0, 1 / batch_sum(z[m], m)) - 1 / batch_sum(z[m], m),
        sp.log(1 / (c - mu)) + sp.log(c - mu),
        sp.Abs(1 / batch_sum(z[m], m)) - 1 / batch_sum(z[m], m),
    ],
)
def test_reciprocals_lend_their_base_no_sign(expression):
    try:
        assert not is_zero(expression)
    except ValueError:
        pass  # refusing is fine, a proof would not be


def test_unfold_refuses_circular_definitions():
    with pytest.raises(ValueError, match="refer to themselves"):
        unfold(mu, {mu: c + 1, c: mu})


@pytest.mark.parametrize(
    ("message", "expression"),
    [
        ("from 1 to M", sp.Sum(z[m], (m, 0, M))),
        ("from 1 to M", sp.Sum(z[m], (m, 1, M - 1))),
        ("from 1 to M", sp.Sum(z[m] * z[k], (m, 1, k), (k, 1, M))),
        ("its base changes with the index", batch_sum(1 / sp.sqrt(1 + z[m]), m)),
        ("its base changes with the index", batch_sum(1 / (z[m] - MEAN), m)),
        ("only products of indexed symbols", batch_sum(sp.sqrt(z[m]), m)),
        ("only products of indexed symbols", batch_sum(sp.exp(z[m]), m)),
        ("only products of indexed symbols", batch_sum(m * z[m], m)),
        ("only products of indexed symbols", batch_sum(z[k, m], k)),
        ("only products of indexed symbols", batch_sum(z[k + m], k)),
        ("a delta must compare two indices", batch_sum(sp.KroneckerDelta(k, M + 1), k)),
        ("a delta must compare two indices", batch_sum(sp.KroneckerDelta(k, M), k)),
        (
            "a delta must compare two indices",
            batch_sum(sp.KroneckerDelta(2 * k, i) * z[k], k),
        ),
        ("a delta must compare two indices", batch_sum(sp.KroneckerDelta(z[k], i), k)),
        ("a delta must compare two indices", batch_sum(sp.KroneckerDelta(k, i + 1), k)),
        ("a delta must compare two indices", batch_sum(sp.KroneckerDelta(k, 3), k)),
    ],
)
def test_unsupported_sums_are_refused_rather_than_mangled(message, expression):
    with pytest.raises(ValueError, match=message):
        canonical(expression)


class TestLambdify:
    """The displayed expression as a NumPy function."""

    def test_value_and_shape(self):
        each = lambdify_batch(z[i] - MEAN, [z], at=i)(Z)
        np.testing.assert_allclose(each, Z - Z.mean(), rtol=1e-14)
        np.testing.assert_allclose(
            lambdify_batch(VARIANCE, [z])(Z), Z.var(), rtol=1e-14
        )

    def test_deltas_and_batch_size(self):
        np.testing.assert_array_equal(
            lambdify_batch(sp.KroneckerDelta(i, 3) * M, [z], at=i)(Z), [0, 0, 5, 0, 0]
        )

    def test_arrays_of_different_length(self):
        with pytest.raises(ValueError, match="must all have shape"):
            lambdify_batch(z[i] * g[i], [z, g], at=i)(Z, G[:3])

    def test_missing_value(self):
        with pytest.raises(ValueError, match=r"\['c'\] have no value"):
            lambdify_batch(c * z[i], [z], at=i)
