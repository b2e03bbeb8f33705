"""`bnbook.tables`: the same facts in text and in HTML."""

import pytest

from bnbook.tables import table


def test_text_and_html():
    shown = table(["", "value"], [["a", 1], ["longer", "<b> & [1](https://x.org/y)"]])
    assert repr(shown) == (
        "        value\na       1\nlonger  <b> & [1](https://x.org/y)"
    )
    page = shown._repr_html_()
    assert '<th scope="col">value</th>' in page
    assert '&lt;b&gt; &amp; <a href="https://x.org/y">1</a>' in page
    assert page.count("<tr>") == 3
    assert "white-space" not in page


def test_long_cells_may_break():
    assert "white-space: normal" in table(["a"], [["word " * 8]])._repr_html_()
    links = "[1](https://example.org/some/long/path) [2](https://example.org/another)"
    assert "white-space" not in table(["a"], [[links]])._repr_html_()


def test_bad_input():
    with pytest.raises(ValueError, match="no rows"):
        table(["a"], [])
    with pytest.raises(ValueError, match="2 columns and a row has 1"):
        table(["a", "b"], [["c"]])
