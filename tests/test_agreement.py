"""`bnbook.agreement`: the table stands only where every computation agrees."""

from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnbook.agreement import Agreement, compare

EXPECTED = np.array([[1.0, -2.0], [0.5, 0.25]])


def off_by(difference):
    changed = EXPECTED.copy()
    changed[1, 0] += difference
    return changed


def test_plain_text_states_the_bound_not_the_difference():
    table = compare("NumPy", EXPECTED, {"SymPy": off_by(1e-15), "PyTorch's kernel": EXPECTED}, bound=1e-12)
    assert repr(table) == (
        "largest difference from NumPy, relative to its largest entry:\n"
        "  SymPy             (2, 2)         < 1e-12\n"
        "  PyTorch's kernel  (2, 2)         < 1e-12"
    )
    again = compare("NumPy", EXPECTED, {"SymPy": EXPECTED, "PyTorch's kernel": off_by(1e-14)}, bound=1e-12)
    assert repr(table) == repr(again)


def test_html_has_a_row_for_each_computation_and_is_escaped():
    html = compare("a < b", EXPECTED, {"x & y": EXPECTED, "<b>": EXPECTED}, bound=1e-9)._repr_html_()
    cells, parser = [], HTMLParser()
    parser.handle_data = cells.append
    parser.feed(html)
    assert cells == ["Computed by", "Shape", "Largest difference from a < b, relative to its largest entry",
                     "x & y", "(2, 2)", "< 1e-09", "<b>", "(2, 2)", "< 1e-09"]
    assert "<b>" not in html and html.count("<tr>") == 3


@given(
    factor=st.floats(0.0, 2.0), bound=st.sampled_from([1e-3, 1e-6]), scale=st.sampled_from([1e-6, 1.0, 1e6])
)
def test_differences_count_relative_to_the_largest_entry(factor, bound, scale):
    expected = np.array([-scale, scale / 2, 0.0])
    other = expected + np.array([0.0, 0.0, factor * bound * scale])
    if factor < 0.999:
        assert compare("a", expected, {"b": other}, bound=bound).rows == (("b", (3,), bound),)
    elif factor > 1.001:
        with pytest.raises(AssertionError, match="b differs from a by"):
            compare("a", expected, {"b": other}, bound=bound)


@pytest.mark.parametrize("difference", [1e-3, -1e-3, np.nan, np.inf, -np.inf, 1e-3j])
def test_one_computation_that_differs_fails_the_table(difference):
    other = EXPECTED + np.array([[0, 0], [0, difference]])
    with pytest.raises(AssertionError, match="PyTorch differs from NumPy by"):
        compare("NumPy", EXPECTED, {"SymPy": EXPECTED, "PyTorch": other}, bound=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_reference_that_is_not_finite_fails_the_table(value):
    expected = off_by(value)
    with pytest.raises(AssertionError, match="not finite"):
        compare("NumPy", expected, {"the same": expected}, bound=1e-6)
    with pytest.raises(AssertionError, match="not finite"):
        compare("NumPy", expected, {"another": EXPECTED}, bound=1e-6)


@pytest.mark.parametrize("other", [
    EXPECTED[0], EXPECTED[None], EXPECTED.ravel(), np.float64(1.0), EXPECTED[:, :1],
], ids=lambda other: str(other.shape))
def test_another_shape_fails_the_table_even_where_it_would_broadcast(other):
    with pytest.raises(AssertionError, match=r"has shape .*, NumPy has"):
        compare("NumPy", EXPECTED, {"other": other}, bound=1e3)


def test_bound_itself_is_too_much_also_where_every_entry_is_0():
    with pytest.raises(AssertionError, match="differs"):
        compare("a", np.zeros(2), {"b": np.array([0.0, 0.5])}, bound=0.5)


@pytest.mark.parametrize("bound", [0.0, -1.0, np.nan, np.inf])
def test_refuses_a_bound_that_decides_nothing(bound):
    with pytest.raises(ValueError, match="bound must be positive and finite"):
        compare("a", EXPECTED, {"b": EXPECTED}, bound=bound)


@pytest.mark.parametrize(("expected", "others"), [
    (EXPECTED, {}), (np.zeros((0, 3)), {"b": np.zeros((0, 3))}),
])
def test_refuses_to_compare_nothing(expected, others):
    with pytest.raises(ValueError, match="nothing to compare"):
        compare("a", expected, others, bound=1e-6)


def test_lists_and_scalars_are_arrays():
    assert compare("a", [1.0, 2.0], {"b": [1, 2]}, bound=1e-6) == Agreement("a", (("b", (2,), 1e-6),))
    assert compare("a", 1.0, {"b": np.float32(1)}, bound=1e-6).rows == (("b", (), 1e-6),)
