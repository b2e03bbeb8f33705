"""The 28 columns of the HIGGS data, and the seven masses computed from the other 21.

Baldi, Sadowski and Whiteson (2014) derive seven masses from what the detector measures.
Where there is a choice, in the momentum of the neutrino along the beam and in which jet
belongs to which particle, this module states its own.
"""

import numpy as np

from bnbook.data.kinematics import four_vector, mass
from bnbook.validation import require_float_array

JETS = 4
LOW_LEVEL = (
    "lepton_pT",
    "lepton_eta",
    "lepton_phi",
    "missing_energy_magnitude",
    "missing_energy_phi",
    *(
        f"jet_{number}_{what}"
        for number in range(1, JETS + 1)
        for what in ("pt", "eta", "phi", "btag")
    ),
)
HIGH_LEVEL = ("m_jj", "m_jjj", "m_lv", "m_jlv", "m_bb", "m_wbb", "m_wwbb")
FEATURES = LOW_LEVEL + HIGH_LEVEL

W_MASS, TOP_MASS, CHARGED_HIGGS_MASS = 80.4, 173.0, 325.0  # GeV


def neutrino_pz(
    lepton: np.ndarray, px: np.ndarray, py: np.ndarray, m: float = W_MASS
) -> np.ndarray:
    """Momentum of the neutrino along the beam, (N,), from the mass of the W, in GeV.

    (lepton + neutrino)² = m² is a quadratic equation for pz. Of two real roots this
    takes the one nearer to 0; of two complex ones their real part, and then lepton and
    neutrino together are heavier than m.

    Args:
        lepton: four-vectors, (N, 4), of massless leptons that do not fly along the beam.
        px: momentum of the neutrino across the beam, (N,).
        py: the same, along the other axis.
        m: mass that lepton and neutrino should have together.
    """
    pt2 = lepton[:, 1] ** 2 + lepton[:, 2] ** 2
    a = m**2 / 2 + lepton[:, 1] * px + lepton[:, 2] * py
    middle = a * lepton[:, 3] / pt2
    discriminant = a**2 - pt2 * (px**2 + py**2)
    spread = lepton[:, 0] * np.sqrt(np.maximum(discriminant, 0)) / pt2
    return middle - np.copysign(spread, middle)


def derived_masses(low: np.ndarray) -> np.ndarray:
    """The seven masses of Baldi et al. (2014), (N, 7), in GeV, from the 21 columns.

    Jets and lepton are taken as massless. The two jets with the highest b-tags, the
    harder one first among equals, are the b-jets; the other two are the jets of the W
    that decayed to quarks. The b-jets go to the two tops such that both are as near to
    173 GeV as possible (least sum of squares); and the W of m_wbb is the one whose mass
    with both b-jets is nearer to 325 GeV.

    Args:
        low: columns `LOW_LEVEL`, (N, 21), momenta in GeV and angles in radians. The
            columns of the UCI file are scaled, by factors that it does not give; the
            masses cannot be computed from them.

    Raises:
        TypeError: low is not a floating-point array.
        ValueError: low has another shape, or a number is not finite.
    """
    require_float_array("low", low)
    if low.ndim != 2 or low.shape[1] != len(LOW_LEVEL):
        raise ValueError(
            f"low must have shape (N, {len(LOW_LEVEL)}), the columns of LOW_LEVEL, got {low.shape}"
        )
    low = low.astype(np.float64)
    lepton = four_vector(*low[:, :3].T)
    px, py = low[:, 3] * np.cos(low[:, 4]), low[:, 3] * np.sin(low[:, 4])
    pz = neutrino_pz(lepton, px, py)
    neutrino = np.stack([np.sqrt(px**2 + py**2 + pz**2), px, py, pz], axis=-1)
    jets = low[:, 5:].reshape(-1, JETS, 4)
    vectors = four_vector(*np.moveaxis(jets[..., :3], -1, 0))
    rank = np.lexsort((-jets[..., 0], -jets[..., 3]), axis=-1)
    b1, b2, j1, j2 = (
        np.take_along_axis(vectors, rank[:, k, None, None], axis=1)[:, 0]
        for k in range(JETS)
    )
    lv, jj, bb = lepton + neutrino, j1 + j2, b1 + b2
    tops = [[mass(jj + b), mass(lv + other)] for b, other in ((b1, b2), (b2, b1))]
    m_jjj, m_jlv = nearest(tops, [TOP_MASS, TOP_MASS])
    (m_wbb,) = nearest([[mass(lv + bb)], [mass(jj + bb)]], [CHARGED_HIGGS_MASS])
    columns = [mass(jj), m_jjj, mass(lv), m_jlv, mass(bb), m_wbb, mass(lv + jj + bb)]
    return np.stack(columns, axis=-1)


def nearest(choices: list[list[np.ndarray]], targets: list[float]) -> np.ndarray:
    """For each event the choice whose masses are nearest to the targets, (K, N).

    Args:
        choices: for each choice, K masses, (N,) each.
        targets: what the K masses should be.
    """
    stacked = np.array(choices)
    distance = ((stacked - np.array(targets)[:, None]) ** 2).sum(axis=1)
    return np.take_along_axis(stacked, distance.argmin(axis=0)[None, None], axis=0)[0]
