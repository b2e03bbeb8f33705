"""Exercise: the mass of two jets."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def dijet_mass(
    pt1: np.ndarray,
    eta1: np.ndarray,
    phi1: np.ndarray,
    pt2: np.ndarray,
    eta2: np.ndarray,
    phi2: np.ndarray,
) -> np.ndarray:
    """Mass of two massless jets together, from what the detector measures.

    Args:
        pt1: momentum of the first jet across the beam, (N,), in GeV.
        eta1: its pseudorapidity, (N,).
        phi1: its angle around the beam, (N,), in radians.
        pt2: the same for the second jet, (N,).
        eta2: its pseudorapidity, (N,).
        phi2: its angle, (N,).

    Returns:
        √((E₁ + E₂)² − |p₁ + p₂|²), (N,), in GeV.
    """
    return np.sqrt(2 * pt1 * pt2 * (np.cosh(eta1 - eta2) - np.cos(phi1 - phi2)))


def _sum(pt1, eta1, phi1, pt2, eta2, phi2):
    """E, px, py and pz of both jets together."""
    return (
        pt1 * np.cosh(eta1) + pt2 * np.cosh(eta2),
        pt1 * np.cos(phi1) + pt2 * np.cos(phi2),
        pt1 * np.sin(phi1) + pt2 * np.sin(phi2),
        pt1 * np.sinh(eta1) + pt2 * np.sinh(eta2),
    )


def squared(pt1, eta1, phi1, pt2, eta2, phi2):
    """You return the square of the mass. Its unit is GeV²; take the root."""
    return dijet_mass(pt1, eta1, phi1, pt2, eta2, phi2) ** 2


def transverse_only(pt1, eta1, phi1, pt2, eta2, phi2):
    """You leave out the momentum along the beam, as if both pseudorapidities were 0. That is the
    transverse mass; with η the energy is pt cosh η."""
    return np.sqrt(2 * pt1 * pt2 * (1 - np.cos(phi1 - phi2)))


def masses_added(pt1, eta1, phi1, pt2, eta2, phi2):
    """You add E² − |p|² of the two jets one by one. That is 0 for massless jets. Add the four-vectors
    first; the mass is in the angle between them."""
    return np.zeros_like(pt1)


def energy_from_pt(pt1, eta1, phi1, pt2, eta2, phi2):
    """You take pt for the energy. It is the momentum across the beam only: the energy of a massless jet
    is pt cosh η."""
    _, px, py, pz = _sum(pt1, eta1, phi1, pt2, eta2, phi2)
    return np.sqrt(np.maximum((pt1 + pt2) ** 2 - px**2 - py**2 - pz**2, 0))


def factor_two_missing(pt1, eta1, phi1, pt2, eta2, phi2):
    """Your result is too small by √2. For massless jets (p₁ + p₂)² = 2 p₁·p₂."""
    return dijet_mass(pt1, eta1, phi1, pt2, eta2, phi2) / np.sqrt(2)


def angle_sign(pt1, eta1, phi1, pt2, eta2, phi2):
    """You add cos Δφ where it must be subtracted. Two jets side by side have a small mass, two jets back
    to back a large one."""
    return np.sqrt(2 * pt1 * pt2 * (np.cosh(eta1 - eta2) + np.cos(phi1 - phi2)))


def cosine_of_eta(pt1, eta1, phi1, pt2, eta2, phi2):
    """You use cos(η₁ − η₂). Pseudorapidity is no angle: it takes cosh."""
    inside = 2 * pt1 * pt2 * (np.cos(eta1 - eta2) - np.cos(phi1 - phi2))
    return np.sqrt(np.abs(inside))


def small_angles(pt1, eta1, phi1, pt2, eta2, phi2):
    """You use √(pt₁ pt₂ (Δη² + Δφ²)), which holds for jets close together only, and not across φ = ±π.
    Keep cosh and cos."""
    return np.sqrt(pt1 * pt2 * ((eta1 - eta2) ** 2 + (phi1 - phi2) ** 2))


def by_components(pt1, eta1, phi1, pt2, eta2, phi2):
    """The same, by adding four-vectors."""
    energy, px, py, pz = _sum(pt1, eta1, phi1, pt2, eta2, phi2)
    return np.sqrt(energy**2 - px**2 - py**2 - pz**2)


def by_half_angles(pt1, eta1, phi1, pt2, eta2, phi2):
    """The same, without a subtraction."""
    squares = np.sinh((eta1 - eta2) / 2) ** 2 + np.sin((phi1 - phi2) / 2) ** 2
    return 2 * np.sqrt(pt1 * pt2 * squares)


_rng = np.random.default_rng(501)


def _jets(count):
    return tuple(
        draw
        for _ in range(2)
        for draw in (
            _rng.uniform(20, 200, count),
            _rng.uniform(-2.5, 2.5, count),
            _rng.uniform(-np.pi, np.pi, count),
        )
    )


EXERCISE = FunctionExercise(
    id="higgs-mass",
    chapter="training/higgs",
    title="The mass of two jets",
    level="warm-up",
    reference=dijet_mass,
    why="For massless jets the squares vanish and (p₁ + p₂)² = 2 p₁·p₂ = 2 (E₁E₂ − p₁·p₂), which is "
    "2 pt₁ pt₂ (cosh η₁ cosh η₂ − sinh η₁ sinh η₂ − cos Δφ).",
    mistakes=variants(
        squared,
        transverse_only,
        masses_added,
        energy_from_pt,
        factor_two_missing,
        angle_sign,
        cosine_of_eta,
        small_angles,
    ),
    alternatives=(by_components, by_half_angles),
    hints=(
        "A massless jet has px = pt cos φ, py = pt sin φ, pz = pt sinh η and E = pt cosh η.",
        "Add the two four-vectors, then take √(E² − px² − py² − pz²).",
    ),
    cases=(
        Case("five pairs of jets", _jets(5), rtol=1e-9),
        Case(
            "both at the same η, across φ = ±π",
            (
                np.array([50.0, 80.0]),
                np.array([1.2, -0.3]),
                np.array([3.0, -2.0]),
                np.array([30.0, 60.0]),
                np.array([1.2, -0.3]),
                np.array([-3.0, 2.5]),
            ),
            "the pseudorapidities are equal.",
            rtol=1e-9,
        ),
    ),
    returns=("m",),
)
