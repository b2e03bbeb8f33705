"""Exercise: the neutrino that nobody saw."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def neutrino_along_beam(
    lepton: np.ndarray, px: np.ndarray, py: np.ndarray, m: float
) -> np.ndarray:
    """Momentum of the neutrino along the beam, from the mass of the W.

    Args:
        lepton: four-vectors (E, px, py, pz) of massless leptons, (N, 4), in GeV.
        px: momentum of the neutrino across the beam, (N,).
        py: the same, along the other axis.
        m: mass of lepton and neutrino together, in GeV.

    Returns:
        pz, (N,), in GeV: of two real roots the one nearer to 0, of two complex ones
        their real part.
    """
    pt2 = lepton[:, 1] ** 2 + lepton[:, 2] ** 2
    a = m**2 / 2 + lepton[:, 1] * px + lepton[:, 2] * py
    middle = a * lepton[:, 3] / pt2
    discriminant = np.maximum(a**2 - pt2 * (px**2 + py**2), 0)
    spread = lepton[:, 0] * np.sqrt(discriminant) / pt2
    return np.where(middle > 0, middle - spread, middle + spread)


def _roots(lepton, px, py, m, *, half=0.5, sign=1.0, floor=True):
    """Both roots, the one with the smaller spread first, with parts that can be wrong."""
    pt2 = lepton[:, 1] ** 2 + lepton[:, 2] ** 2
    a = half * m**2 + sign * (lepton[:, 1] * px + lepton[:, 2] * py)
    inside = a**2 - pt2 * (px**2 + py**2)
    if floor:
        inside = np.maximum(inside, 0)
    with np.errstate(invalid="ignore"):
        spread = lepton[:, 0] * np.sqrt(inside) / pt2
    middle = a * lepton[:, 3] / pt2
    toward = np.where(middle > 0, middle - spread, middle + spread)
    return toward, 2 * middle - toward, middle


def further_root(lepton, px, py, m):
    """You take the root further from 0. Slow neutrinos are the likelier ones; the exercise asks for the
    nearer root."""
    return _roots(lepton, px, py, m)[1]


def complex_is_nan(lepton, px, py, m):
    """You return NaN where the roots are complex. The blur of the detector makes that common; their real
    part is the best guess, so replace a negative discriminant by 0."""
    return _roots(lepton, px, py, m, floor=False)[0]


def always_the_middle(lepton, px, py, m):
    """You return the middle between the roots. That is right only where they are complex."""
    return _roots(lepton, px, py, m)[2]


def always_minus(lepton, px, py, m):
    """You always subtract the root of the discriminant, or take the algebraically smaller root. Where the
    middle is negative, the root nearer to 0 is the larger one: −90 is further from 0 than −5."""
    near, far, middle = _roots(lepton, px, py, m)
    return np.where(middle > 0, near, far)


def mass_not_halved(lepton, px, py, m):
    """You use m² where m²/2 belongs: (l + ν)² = 2 l·ν for massless particles, so l·ν = m²/2."""
    return _roots(lepton, px, py, m, half=1.0)[0]


def product_sign(lepton, px, py, m):
    """You subtract the product of the momenta across the beam. E E_ν − p·p_ν = m²/2 gives
    E E_ν = m²/2 + p·p_ν: it is added."""
    return _roots(lepton, px, py, m, sign=-1.0)[0]


def fixed_mass(lepton, px, py, m):
    """You ignore the argument m and use 80.4 GeV, the mass of the W. The function is asked for other masses
    too."""
    return _roots(lepton, px, py, 80.4)[0]


def zero_for_complex(lepton, px, py, m):
    """You return 0 where the roots are complex. They have a real part, a l_z/pt²: return that."""
    return np.where(
        np.isnan(complex_is_nan(lepton, px, py, m)), 0.0, _roots(lepton, px, py, m)[0]
    )


def sign_lost(lepton, px, py, m):
    """You return the magnitude of the root. Compare the magnitudes to find the nearer root, and return the
    root itself, with its sign."""
    return abs(_roots(lepton, px, py, m)[0])


def by_both_roots(lepton, px, py, m):
    """The same, comparing both roots."""
    near, far, _ = _roots(lepton, px, py, m)
    return np.where(abs(near) <= abs(far), near, far)


def by_polynomials(lepton, px, py, m):
    """The same, with the roots of a polynomial for each event."""
    found = []
    for (energy, lx, ly, lz), x, y in zip(lepton, px, py, strict=True):
        a = m**2 / 2 + lx * x + ly * y
        roots = np.roots(
            [energy**2 - lz**2, -2 * a * lz, energy**2 * (x**2 + y**2) - a**2]
        )
        complex_ = abs(roots[0].imag) > 0
        found.append(roots[0].real if complex_ else min(roots.real, key=abs))
    return np.array(found)


def _leptons(seed, count):
    rng = np.random.default_rng(seed)
    pt, eta = rng.uniform(20, 120, count), rng.normal(0, 1.2, count)
    phi = rng.uniform(-np.pi, np.pi, count)
    lepton = np.stack(
        [pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)],
        axis=-1,
    )
    return lepton, rng


_lepton, _rng = _leptons(502, 8)
_far, _far_rng = _leptons(503, 6)

EXERCISE = FunctionExercise(
    id="higgs-neutrino",
    chapter="training/higgs",
    title="The neutrino that nobody saw",
    level="core",
    reference=neutrino_along_beam,
    why="With a = m²/2 + p·p_ν across the beam, E √(p_ν² + pz²) = a + l_z pz, squared, is a quadratic "
    "equation for pz with roots (a l_z ± E √(a² − pt² p_ν²))/pt².",
    mistakes=variants(
        further_root,
        complex_is_nan,
        always_the_middle,
        always_minus,
        mass_not_halved,
        product_sign,
        fixed_mass,
        zero_for_complex,
        sign_lost,
    ),
    alternatives=(by_both_roots, by_polynomials),
    hints=(
        "Write 2 (E E_ν − p·p_ν) = m² with E_ν = √(px² + py² + pz²), and solve for pz.",
        "With a = m²/2 + l_x px + l_y py the roots are (a l_z ± E √(a² − pt²(px² + py²)))/pt², where pt² is "
        "that of the lepton.",
    ),
    cases=(
        Case(
            "eight events",
            (_lepton, *_rng.normal(0, 25, (2, 8)), 80.4),
            "the roots are real.",
            rtol=1e-7,
        ),
        Case(
            "large missing energy",
            (_far, *_far_rng.normal(0, 150, (2, 6)), 60.0),
            "some roots are complex, and m is not 80.4.",
            rtol=1e-7,
        ),
    ),
    returns=("pz",),
)
