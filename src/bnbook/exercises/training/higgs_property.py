"""Exercise: a test that tells a relativistic decay from a wrong one."""

import numpy as np

from bnbook.exercises.model import PropertyExercise, variants


def test_decay(decay) -> None:
    """Test an implementation of a two-body decay: pass if it is right, else fail an `assert`.

    Args:
        decay: a function of parent (N, 4), the masses m1 and m2, and directions (N, 3),
            unit vectors. It returns the four-vectors (E, px, py, pz) of both products in
            the laboratory, (N, 4) each; in the rest frame of its parent the first one
            flies along the direction. The parents may move, m1 + m2 is less than their
            mass.
    """
    rng = np.random.default_rng(0)
    momentum = rng.normal(0, 80, size=(6, 3))
    momentum[0] = 0  # at rest
    parent = np.column_stack([np.sqrt(125.0**2 + (momentum**2).sum(1)), momentum])
    directions = rng.normal(size=(6, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    first, second = decay(parent, 80.0, 5.0, directions)
    np.testing.assert_allclose(first + second, parent, rtol=1e-8, atol=1e-6)
    for product, m in ((first, 80.0), (second, 5.0)):
        squared = product[:, 0] ** 2 - (product[:, 1:] ** 2).sum(axis=1)
        np.testing.assert_allclose(squared, m**2, rtol=1e-6, atol=1e-6)
    # At rest the first product flies along the direction; in motion the components
    # across the motion of its parent stay what they are at rest.
    still = np.tile([125.0, 0.0, 0.0, 0.0], (6, 1))
    at_rest, _ = decay(still, 80.0, 5.0, directions)
    length = np.linalg.norm(at_rest[:, 1:], axis=1, keepdims=True)
    np.testing.assert_allclose(at_rest[:, 1:], length * directions, rtol=1e-7)
    across = np.cross(momentum, first[:, 1:] - at_rest[:, 1:])
    assert abs(across).max() < 1e-5
    # Along the motion the momentum is γ (p + v E).
    along = (first[1:, 1:] * momentum[1:]).sum(axis=1)
    before = (at_rest[1:, 1:] * momentum[1:]).sum(axis=1)
    speed2 = (momentum[1:] ** 2).sum(axis=1)
    expected = (parent[1:, 0] * before + speed2 * at_rest[1:, 0]) / 125.0
    np.testing.assert_allclose(along, expected, rtol=1e-6)


def _mass(p):
    return np.sqrt(p[:, 0] ** 2 - (p[:, 1:] ** 2).sum(axis=1))


def _at_rest(parent, m1, m2, directions):
    m = _mass(parent)
    e1 = (m**2 + m1**2 - m2**2) / (2 * m)
    return e1, np.sqrt(e1**2 - m1**2)[:, None] * directions


def _boost(energy, vector, parent):
    m = _mass(parent)
    e = (parent[:, 0] * energy + (parent[:, 1:] * vector).sum(axis=1)) / m
    factor = ((e + energy) / (parent[:, 0] + m))[:, None]
    return np.column_stack([e, vector + factor * parent[:, 1:]])


def covariant(parent, m1, m2, directions):
    """it boosts the first product and gives the rest to the second."""
    first = _boost(*_at_rest(parent, m1, m2, directions), parent)
    return first, parent - first


def by_matrix(parent, m1, m2, directions):
    """it multiplies by the Lorentz matrix, which rounds differently."""
    e1, p1 = _at_rest(parent, m1, m2, directions)
    products = []
    for energy, vector in ((e1, p1), (_mass(parent) - e1, -p1)):
        rows = []
        for frame, e, p in zip(parent, energy, vector, strict=True):
            gamma = frame[0] / np.sqrt(frame[0] ** 2 - frame[1:] @ frame[1:])
            beta = frame[1:] / frame[0]
            squared = beta @ beta
            along = (gamma - 1) * (beta @ p) / squared if squared else 0.0
            rows.append([gamma * (e + beta @ p), *(p + (along + gamma * e) * beta)])
        products.append(np.array(rows))
    return tuple(products)


def not_boosted(parent, m1, m2, directions):
    """it leaves the products in the rest frame of the parent."""
    e1, p1 = _at_rest(parent, m1, m2, directions)
    return np.column_stack([e1, p1]), np.column_stack([_mass(parent) - e1, -p1])


def massless(parent, m1, m2, directions):
    """it treats both products as massless."""
    return covariant(parent, 0.0, 0.0, directions)


def masses_swapped(parent, m1, m2, directions):
    """it gives each product the mass of the other."""
    return covariant(parent, m2, m1, directions)


def boosted_backwards(parent, m1, m2, directions):
    """it boosts against the motion of the parent, which a parent at rest does not show."""
    mirrored = parent * np.array([1, -1, -1, -1])
    return covariant(mirrored, m1, m2, directions)


def galilean(parent, m1, m2, directions):
    """it adds velocities as Galilei does: the energies stay those of the rest frame."""
    e1, p1 = _at_rest(parent, m1, m2, directions)
    share = (e1 / _mass(parent))[:, None] * parent[:, 1:]
    first = np.column_stack([e1, p1 + share])
    return first, np.column_stack([_mass(parent) - e1, parent[:, 1:] - first[:, 1:]])


def second_not_boosted(parent, m1, m2, directions):
    """it boosts the first product only, so that momentum is lost."""
    e1, p1 = _at_rest(parent, m1, m2, directions)
    second = np.column_stack([_mass(parent) - e1, -p1])
    return _boost(e1, p1, parent), second


def direction_of_the_second(parent, m1, m2, directions):
    """it sends the second product along the direction, and the first one against it. Momentum and masses
    do not tell."""
    return covariant(parent, m1, m2, -directions)


def direction_in_the_laboratory(parent, m1, m2, directions):
    """it turns every direction half-way to the x axis. Momentum and masses do not tell."""
    turned = directions + np.array([1.0, 0.0, 0.0])
    turned = turned / np.linalg.norm(turned, axis=1, keepdims=True)
    return covariant(parent, m1, m2, turned)


def _moving(seed=1, count=5):
    rng = np.random.default_rng(seed)
    momentum = rng.normal(0, 60, size=(count, 3))
    parent = np.column_stack([np.sqrt(173.0**2 + (momentum**2).sum(1)), momentum])
    directions = rng.normal(size=(count, 3))
    return parent, directions / np.linalg.norm(directions, axis=1, keepdims=True)


def only_shapes(decay):
    """Your test calls the implementation and asserts nothing that a wrong one violates. Check that
    momentum is conserved, that the masses are right, and where the first product flies."""
    parent, directions = _moving()
    assert all(p.shape == parent.shape for p in decay(parent, 80.0, 5.0, directions))


def only_conservation(decay):
    """Your test seems to check only that the products add up to the parent. Products of any mass can do
    that: check E² − |p|² of each, and the direction."""
    parent, directions = _moving()
    first, second = decay(parent, 80.0, 5.0, directions)
    np.testing.assert_allclose(first + second, parent, rtol=1e-8, atol=1e-6)


def only_masses(decay):
    """Your test seems to check only the masses of the products. They are right in every frame, also in
    the wrong one: check that momentum is conserved, and the direction."""
    parent, directions = _moving()
    for product, m in zip(
        decay(parent, 80.0, 5.0, directions), (80.0, 5.0), strict=True
    ):
        np.testing.assert_allclose(_mass(product), m, rtol=1e-6)


def no_direction(decay):
    """Your test seems to check conservation and masses, and not where the first product flies. At rest it
    must fly along the direction."""
    only_conservation(decay)
    only_masses(decay)


def parents_at_rest(decay):
    """Your test seems to use parents at rest only. There a boost changes nothing, so one that is missing
    or goes the wrong way cannot show: let the parents move."""
    _, directions = _moving()
    still = np.tile([173.0, 0.0, 0.0, 0.0], (len(directions), 1))
    first, second = decay(still, 80.0, 5.0, directions)
    expected, _ = covariant(still, 80.0, 5.0, directions)
    np.testing.assert_allclose(first, expected, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(first + second, still, rtol=1e-8, atol=1e-6)


def massless_products(decay):
    """Your test seems to use massless products only. An implementation that ignores the masses, or swaps
    them, passes: use two different masses."""
    parent, directions = _moving()
    for got, expected in zip(
        decay(parent, 0.0, 0.0, directions),
        covariant(parent, 0.0, 0.0, directions),
        strict=True,
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-6)


def exact_equality(decay):
    """Your test seems to demand exact equality. A correct boost written in another way differs in the
    last digits: compare with a tolerance, for example rtol=1e-6."""
    parent, directions = _moving()
    got, expected = (
        function(parent, 80.0, 5.0, directions) for function in (decay, covariant)
    )
    assert all((a == b).all() for a, b in zip(got, expected, strict=True))


def against_a_known_decay(decay):
    """The same, against another implementation, on several masses."""
    for seed, (m1, m2) in enumerate([(80.0, 5.0), (10.0, 120.0)]):
        parent, directions = _moving(seed=seed, count=7)
        for got, expected in zip(
            decay(parent, m1, m2, directions),
            by_matrix(parent, m1, m2, directions),
            strict=True,
        ):
            assert (abs(got - expected) < 1e-6 * parent[:, :1]).all()


EXERCISE = PropertyExercise(
    id="higgs-property",
    chapter="training/higgs",
    title="A test for a decay",
    level="hard",
    reference=test_decay,
    why="Conservation, two masses and a direction determine a decay; each of the three lets other mistakes "
    "pass. A parent at rest hides the boost, and equal or zero masses hide a swap.",
    mistakes=variants(
        only_shapes,
        only_conservation,
        only_masses,
        no_direction,
        parents_at_rest,
        massless_products,
        exact_equality,
    ),
    alternatives=(against_a_known_decay,),
    hints=(
        "Three things must hold: the products add up to the parent, E² − |p|² of each is its mass squared, "
        "and at rest the first one flies along the direction.",
        "Use parents that move, and two different masses. In motion the part of the first product's momentum "
        "across the motion is the same as at rest, and the part along it is γ (p + v E). Or write a second "
        "implementation and compare.",
    ),
    correct=variants(covariant, by_matrix),
    mutants=variants(
        not_boosted,
        massless,
        masses_swapped,
        boosted_backwards,
        galilean,
        second_not_boosted,
        direction_of_the_second,
        direction_in_the_laboratory,
    ),
)
