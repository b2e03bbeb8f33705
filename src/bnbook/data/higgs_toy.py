"""A toy of the HIGGS data: simulated collisions with the same 28 columns.

Both processes of Baldi, Sadowski and Whiteson (2014) end in the same particles, two W
bosons and two b-quarks; only the masses on the way differ:

    signal      gg → H⁰ → W∓ H±,  H± → W± h⁰,  h⁰ → b b̄
    background  gg → t t̄,         t → W b

One W decays to a lepton and a neutrino, the other to two quarks. The toy follows these
chains with exact two-body kinematics. It has no matrix elements, no parton densities, no
showers and no detector: every decay is isotropic, one jet is radiated, energies are blurred.
It is made for teaching, and no statement about physics follows from it.
"""

import numpy as np

from bnbook.data.higgs_masses import (
    CHARGED_HIGGS_MASS,
    JETS,
    LOW_LEVEL,
    TOP_MASS,
    W_MASS,
    derived_masses,
)
from bnbook.data.kinematics import four_vector, lorentzian, transverse, two_body_decay

SIGNAL_SHARE = 0.53  # as in the UCI file
HIGGS_MASS, HEAVY_HIGGS_MASS, B_MASS = 125.0, 425.0, 4.7  # GeV
W_WIDTH, TOP_WIDTH = 2.1, 1.4  # GeV
BLOCK = 8192  # events made at a time, so that more rows begin with the same ones

# Probability of the b-tags 0, 1 and 2: for a jet from a b-quark, and for another.
B_TAGS, OTHER_TAGS = (0.30, 0.30, 0.40), (0.75, 0.18, 0.07)
LOST = 0.12  # mean share of its energy that a jet loses
QUARKS = ("q1", "q2", "b1", "b2")


def higgs_toy(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Simulate n collisions: a toy with the columns of the HIGGS data.

    Args:
        n: number of events, at least 1.
        seed: a non-negative integer. With the same seed, more events begin with the same
            ones.

    Returns:
        x, (n, 28), float32: the columns `bnbook.data.higgs_masses.FEATURES`; momenta,
        energies and masses in GeV, angles in radians (the UCI file scales every column),
        and t, (n,), int64: 1 for signal, 53 % of the events, and 0 for background.

    Raises:
        TypeError: n or seed is not an integer.
        ValueError: n is less than 1 or seed negative.
    """
    for name, value, least in (("n", n, 1), ("seed", seed, 0)):
        if not isinstance(value, int | np.integer) or isinstance(value, bool):
            raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    labels, *streams = (
        np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3)
    )
    t = (labels.random(n) < SIGNAL_SHARE).astype(np.int64)
    low = np.empty((n, len(LOW_LEVEL)), np.float32)
    for label, (chain, rng) in enumerate(
        zip((background, signal), streams, strict=True)
    ):
        rows = np.flatnonzero(t == label)
        blocks, found = [], 0
        while found < len(rows):
            blocks.append(detected(chain(BLOCK, rng), rng))
            found += len(blocks[-1])
        if blocks:
            low[rows] = np.concatenate(blocks)[: len(rows)]
    # From the rounded columns, so that they can be computed again from the table.
    return np.concatenate([low, derived_masses(low).astype(np.float32)], axis=1), t


def signal(count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Four-vectors, (count, 4), of every particle in gg → H⁰ → W H± → W W h⁰ → W W b b̄.

    The W from H⁰ and the one from H± are named by their decays: "W_lv" decayed to
    "lepton" and "neutrino", "W_jj" to "q1" and "q2". "radiated" balances the momentum of
    "H0" across the beam.
    """
    w1, w2 = (lorentzian(W_MASS, W_WIDTH, count, rng) for _ in range(2))
    heavy = produced(np.full(count, HEAVY_HIGGS_MASS), rng)
    first, charged = two_body_decay(heavy, w1, CHARGED_HIGGS_MASS, rng)
    second, light = two_body_decay(charged, w2, HIGGS_MASS, rng)
    b1, b2 = two_body_decay(light, B_MASS, B_MASS, rng)
    swap = rng.random(count)[:, None] < 0.5
    leptonic, hadronic = np.where(swap, second, first), np.where(swap, first, second)
    chain = {"H0": heavy, "H+": charged, "h0": light, "b1": b1, "b2": b2}
    return chain | w_decays(leptonic, hadronic, rng) | radiated(heavy, rng)


def background(count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Four-vectors, (count, 4), of every particle in gg → t t̄ → W b W b̄.

    "t_lv" decayed to "W_lv" and "b1", "t_jj" to "W_jj" and "b2"; the rest as in `signal`.
    """
    t1, t2 = (lorentzian(TOP_MASS, TOP_WIDTH, count, rng) for _ in range(2))
    w1, w2 = (lorentzian(W_MASS, W_WIDTH, count, rng) for _ in range(2))
    pair = produced(t1 + t2 + rng.gamma(1.6, 70.0, count), rng)
    top_lv, top_jj = two_body_decay(pair, t1, t2, rng)
    leptonic, b1 = two_body_decay(top_lv, w1, B_MASS, rng)
    hadronic, b2 = two_body_decay(top_jj, w2, B_MASS, rng)
    chain = {"tt": pair, "t_lv": top_lv, "t_jj": top_jj, "b1": b1, "b2": b2}
    return chain | w_decays(leptonic, hadronic, rng) | radiated(pair, rng)


def produced(m: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What two gluons make: four-vectors, (N, 4), of mass m, moving along and across the beam."""
    rapidity, pt = rng.normal(0.0, 0.9, len(m)), rng.exponential(45.0, len(m))
    phi = rng.uniform(-np.pi, np.pi, len(m))
    across = np.sqrt(m**2 + pt**2)
    return np.stack(
        [
            across * np.cosh(rapidity),
            pt * np.cos(phi),
            pt * np.sin(phi),
            across * np.sinh(rapidity),
        ],
        axis=-1,
    )


def radiated(system: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The jet, (N, 4), that the gluons radiate, opposite to the system across the beam."""
    pt, _, phi = transverse(system)
    eta = rng.normal(0.0, 1.8, len(system))
    return {"radiated": four_vector(pt, eta, phi + np.pi)}


def w_decays(
    leptonic: np.ndarray, hadronic: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Let one W decay to a lepton and a neutrino, the other to two quarks."""
    lepton, neutrino = two_body_decay(leptonic, 0.0, 0.0, rng)
    q1, q2 = two_body_decay(hadronic, 0.0, 0.0, rng)
    names = ("W_lv", "W_jj", "lepton", "neutrino", "q1", "q2")
    return dict(zip(names, (leptonic, hadronic, lepton, neutrino, q1, q2), strict=True))


def detected(particles: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """What a detector would record: the 21 columns `LOW_LEVEL` of the events it accepts.

    A jet loses an exponentially distributed share of its energy, 12 % on average, and is
    scaled up by that average; then energies of jets are blurred by 100 %/√E ⊕ 6 %, of
    leptons by 2 %. The missing energy is what the visible particles lack across the beam,
    blurred by 12 GeV along each axis.
    An event is accepted with a lepton and four jets of at least 20 GeV across the beam at
    |η| < 2.5, two of them b-tagged (after Baldi et al.); the four hardest jets are kept.

    Args:
        particles: four-vectors, (N, 4), by name, as `signal` makes them.
        rng: where the blur and the tags come from.

    Returns:
        Up to N rows, (K, 21), in float64.
    """
    lepton = particles["lepton"]
    lepton = lepton * (1 + 0.02 * rng.normal(size=(len(lepton), 1)))
    jets = np.stack([particles[name] for name in (*QUARKS, "radiated")], axis=1)
    blur = np.hypot(1.0 / np.sqrt(jets[..., 0]), 0.06)
    factor = np.maximum(1 + blur * rng.normal(size=blur.shape), 0.1)
    kept = np.maximum(1 - rng.exponential(LOST, blur.shape), 0.1) / (1 - LOST)
    jets = jets * (factor * kept)[..., None]
    unseen = -(lepton + jets.sum(axis=1))[:, 1:3]
    unseen = unseen + 12.0 * rng.normal(size=unseen.shape)
    draw = rng.random(blur.shape)
    from_b = np.array([name.startswith("b") for name in (*QUARKS, "radiated")])
    limits = np.where(from_b[:, None], np.cumsum(B_TAGS)[:2], np.cumsum(OTHER_TAGS)[:2])
    tag = (draw[..., None] > limits).sum(axis=-1)

    pt, eta, phi = transverse(jets)
    seen = (pt > 20) & (abs(eta) < 2.5)
    order = np.argsort(np.where(seen, -pt, np.inf), axis=1, kind="stable")[:, :JETS]
    columns = [np.take_along_axis(a, order, axis=1) for a in (pt, eta, phi, tag)]
    lepton_pt, lepton_eta, lepton_phi = transverse(lepton)
    accepted = (seen.sum(axis=1) >= JETS) & ((columns[3] > 0).sum(axis=1) >= 2)
    accepted &= (lepton_pt > 20) & (abs(lepton_eta) < 2.5)
    missing = np.hypot(*unseen.T), np.arctan2(unseen[:, 1], unseen[:, 0])
    first = np.stack([lepton_pt, lepton_eta, lepton_phi, *missing], axis=-1)
    rows = np.concatenate(
        [first, np.stack(columns, axis=-1).reshape(len(first), -1)], axis=1
    )
    return rows[accepted]
