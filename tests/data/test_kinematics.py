"""Four-vectors, boosts and decays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnbook.data.kinematics import (
    boosted,
    decay_momentum,
    four_vector,
    lorentzian,
    mass,
    mass_squared,
    transverse,
    two_body_decay,
)

SEEDS = st.integers(0, 2**32 - 1)


def moving(rng, m, count=50):
    return four_vector(
        rng.exponential(100, count),
        rng.normal(0, 1.5, count),
        rng.uniform(-np.pi, np.pi, count),
        m,
    )


def boost_matrix(frame):
    """The textbook's Λ for one frame."""
    m = mass(frame)
    gamma, beta = frame[0] / m, frame[1:] / frame[0]
    matrix = np.empty((4, 4))
    matrix[0, 0] = gamma
    matrix[0, 1:] = matrix[1:, 0] = gamma * beta
    matrix[1:, 1:] = np.eye(3) + (gamma - 1) * np.outer(beta, beta) / (beta @ beta)
    return matrix


@given(SEEDS)
def test_a_boost_is_the_lorentz_matrix(seed):
    rng = np.random.default_rng(seed)
    frame, p = moving(rng, 173.0), moving(rng, 5.0)
    expected = [boost_matrix(f) @ v for f, v in zip(frame, p, strict=True)]
    np.testing.assert_allclose(boosted(p, frame), expected, rtol=1e-9, atol=1e-7)


@given(SEEDS, st.floats(0.1, 200))
def test_a_boost_keeps_products(seed, m):
    rng = np.random.default_rng(seed)
    frame, p, q = moving(rng, 125.0), moving(rng, m), moving(rng, 1.0)
    metric = np.array([1, -1, -1, -1])
    before = (p * q * metric).sum(axis=1)
    after = (boosted(p, frame) * boosted(q, frame) * metric).sum(axis=1)
    scale = boosted(p, frame)[:, 0] * boosted(q, frame)[:, 0]
    assert (abs(after - before) <= 1e-12 * scale).all()


def test_a_frame_at_rest_changes_nothing_and_rest_becomes_the_frame():
    rng = np.random.default_rng(0)
    p = moving(rng, 4.7)
    still = np.tile([80.4, 0, 0, 0], (len(p), 1))
    np.testing.assert_allclose(boosted(p, still), p, rtol=1e-14)
    frame = moving(rng, 80.4)
    np.testing.assert_allclose(boosted(still, frame), frame, rtol=1e-9)


@given(SEEDS, st.floats(0, 0.49), st.floats(0, 0.49))
def test_a_decay_conserves_momentum_and_keeps_masses(seed, share1, share2):
    rng = np.random.default_rng(seed)
    parent = moving(rng, 325.0)
    m1, m2 = 325 * share1, 325 * share2
    first, second = two_body_decay(parent, m1, m2, rng)
    np.testing.assert_allclose(first + second, parent, rtol=1e-12, atol=1e-10)
    for p, m in ((first, m1), (second, m2)):
        assert (abs(mass_squared(p) - m**2) <= 1e-9 * parent[:, 0] ** 2).all()


def test_a_decay_at_rest_is_back_to_back_with_the_momentum_of_the_formula():
    rng = np.random.default_rng(1)
    parent = np.tile([125.0, 0, 0, 0], (20_000, 1))
    first, second = two_body_decay(parent, 4.7, 30.0, rng)
    np.testing.assert_allclose(first[:, 1:], -second[:, 1:], atol=1e-12)
    momentum = np.linalg.norm(first[:, 1:], axis=1)
    np.testing.assert_allclose(momentum, decay_momentum(125.0, 4.7, 30.0))
    energies = np.sqrt(momentum**2 + 4.7**2) + np.sqrt(momentum**2 + 30.0**2)
    np.testing.assert_allclose(energies, 125.0)
    # In all directions alike: each component is uniform, with mean 0 and variance p²/3.
    directions = first[:, 1:] / momentum[:, None]
    assert abs(directions.mean(axis=0)).max() < 5 / np.sqrt(3 * 20_000)
    np.testing.assert_allclose(np.cov(directions.T), np.eye(3) / 3, atol=0.01)


def test_a_decay_that_is_too_heavy_is_refused():
    parent = np.tile([100.0, 0, 0, 0], (3, 1))
    with pytest.raises(ValueError, match="100 GeV is lighter than its products"):
        two_body_decay(parent, 80.0, 20.1, np.random.default_rng(0))


def test_transverse_is_the_inverse_of_four_vector():
    rng = np.random.default_rng(2)
    pt, eta, phi = rng.exponential(50, 99), rng.normal(0, 2, 99), rng.uniform(-3, 3, 99)
    for back, there in zip(
        transverse(four_vector(pt, eta, phi, 9.0)), (pt, eta, phi), strict=True
    ):
        np.testing.assert_allclose(back, there, rtol=1e-9, atol=1e-12)


def test_pseudorapidity_is_minus_the_log_of_the_tangent_of_half_the_angle():
    theta = np.array([0.1, 1.0, 2.0, 3.0])
    p = four_vector(np.ones(4), -np.log(np.tan(theta / 2)), np.zeros(4))
    np.testing.assert_allclose(np.arctan2(p[:, 1], p[:, 3]), theta)


def test_the_lorentzian_has_its_width_and_its_edges():
    m = lorentzian(173.0, 1.4, 100_000, np.random.default_rng(3))
    assert m.min() >= 173 - 4 * 1.4 - 1e-9 and m.max() <= 173 + 4 * 1.4 + 1e-9
    assert abs(np.median(m) - 173) < 0.02
    # Within half a width of the center: arctan(1)/arctan(8) of a line cut at 4 widths.
    inside = (abs(m - 173) < 0.7).mean()
    assert abs(inside - np.arctan(1) / np.arctan(8)) < 0.01


def test_a_slow_massive_particle_keeps_its_digits():
    p = four_vector(np.array([1e-6]), np.array([0.1]), np.array([1.0]), 425.0)
    np.testing.assert_allclose(mass(p), 425.0, rtol=1e-15)
