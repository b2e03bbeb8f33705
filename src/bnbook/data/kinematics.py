"""Relativistic kinematics with arrays of four-vectors, in units where c = 1.

A four-vector is (E, px, py, pz), the last axis of an array (N, 4), in GeV; z is the
direction of the beam. Two-body decays are generated in the rest frame of the parent and
boosted to the frame in which the parent moves.
"""

import numpy as np


def mass_squared(p: np.ndarray) -> np.ndarray:
    """E² − |p|², (N,), in GeV²; the same in every frame."""
    # (E − |p|)(E + |p|) keeps more digits than E² − |p|² where a particle is fast.
    momentum = np.sqrt((p[..., 1:] ** 2).sum(axis=-1))
    return (p[..., 0] - momentum) * (p[..., 0] + momentum)


def mass(p: np.ndarray) -> np.ndarray:
    """Invariant mass, (N,), in GeV; 0 where rounding makes its square negative."""
    return np.sqrt(np.maximum(mass_squared(p), 0.0))


def four_vector(
    pt: np.ndarray, eta: np.ndarray, phi: np.ndarray, m: np.ndarray | float = 0.0
) -> np.ndarray:
    """Four-vector, (N, 4), from what a detector measures.

    Args:
        pt: momentum across the beam, (N,), in GeV.
        eta: pseudorapidity −ln tan(θ/2), (N,), where θ is the angle from the beam.
        phi: angle around the beam, (N,), in radians.
        m: mass, (N,) or a number, in GeV.
    """
    pz = pt * np.sinh(eta)
    energy = np.sqrt(pt**2 + pz**2 + np.square(m))
    return np.stack([energy, pt * np.cos(phi), pt * np.sin(phi), pz], axis=-1)


def transverse(p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The inverse of `four_vector`: pt in GeV, eta, and phi from −π to π, each (N,)."""
    pt = np.hypot(p[..., 1], p[..., 2])
    return pt, np.arcsinh(p[..., 3] / pt), np.arctan2(p[..., 2], p[..., 1])


def boosted(p: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Four-vectors p, given in the rest frame of `frame`, as the laboratory sees them.

    Args:
        p: four-vectors in the rest frame, (N, 4).
        frame: four-vectors of the moving frame in the laboratory, (N, 4), with masses
            above 0.

    Returns:
        (N, 4): E′ = (E·p_E + P·p)/M and p′ = p + P (E′ + p_E)/(E + M), for a frame of
        energy E, momentum P and mass M. There is no angle in this form, and nothing
        cancels where the frame is slow.
    """
    energy, momentum, m = frame[..., :1], frame[..., 1:], mass(frame)[..., None]
    e = (energy * p[..., :1] + (momentum * p[..., 1:]).sum(-1, keepdims=True)) / m
    return np.concatenate(
        [e, p[..., 1:] + momentum * (e + p[..., :1]) / (energy + m)], axis=-1
    )


def decay_momentum(m: np.ndarray, m1: np.ndarray, m2: np.ndarray) -> np.ndarray:
    """Momentum of either product of a decay at rest, (N,), in GeV.

    Raises:
        ValueError: the products are heavier than the parent.
    """
    forbidden = m1 + m2 > m
    if np.any(forbidden):
        raise ValueError(
            f"a parent of mass {float(np.broadcast_to(m, forbidden.shape)[forbidden][0]):.4g} GeV "
            "is lighter than its products; draw other masses"
        )
    return np.sqrt((m - m1 - m2) * (m + m1 + m2) * (m - m1 + m2) * (m + m1 - m2)) / (
        2 * m
    )


def two_body_decay(
    parent: np.ndarray,
    m1: np.ndarray | float,
    m2: np.ndarray | float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Let each parent decay into two particles, in all directions alike at rest.

    Args:
        parent: four-vectors, (N, 4).
        m1: mass of the first product, (N,) or a number, in GeV.
        m2: mass of the second product.
        rng: where the directions come from.

    Returns:
        The four-vectors of the two products in the frame of the parents, (N, 4) each;
        their sum is the parent.

    Raises:
        ValueError: the products are heavier than a parent.
    """
    m = mass(parent)
    momentum = decay_momentum(m, m1, m2)
    cosine = rng.uniform(-1.0, 1.0, len(parent))
    phi = rng.uniform(-np.pi, np.pi, len(parent))
    sine = np.sqrt(1 - cosine**2)
    direction = np.stack([sine * np.cos(phi), sine * np.sin(phi), cosine], axis=-1)
    vector = momentum[:, None] * direction
    energy = np.sqrt(momentum**2 + np.square(m1))[:, None]
    first = boosted(np.concatenate([energy, vector], axis=-1), parent)
    return first, parent - first


def lorentzian(
    center: float, width: float, count: int, rng: np.random.Generator, reach: float = 4
) -> np.ndarray:
    """Masses of an unstable particle, (count,), in GeV: density ∝ 1/((m − center)² + width²/4).

    This Breit–Wigner line is cut `reach` widths from its center, so that a chain of decays
    stays possible.
    """
    edge = np.arctan(2 * reach)
    return center + width / 2 * np.tan(rng.uniform(-edge, edge, count))
