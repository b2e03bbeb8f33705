"""`bnbook.figures`: the summary verifies every picture's data, and `show` gives a reader all of it."""

import io
import re
import struct
import warnings
from unittest import mock

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matplotlib import image as mpl_image
from matplotlib.figure import Figure
from PIL import Image

from bnbook import figures
from bnbook.figures import COLORS, draw_graph, figure, show, summary

GRID = np.arange(12.0).reshape(3, 4) + 1
TWO_D = {
    # How to draw the data, which a factor of 1 leaves as they are; what the summary says; how to style it.
    "line": (
        lambda ax, a=1, b=1, **k: ax.plot([a, 2 * a, 4 * a], [5 * b, 3 * b, 4 * b], label="loss", **k),
        "loss (line): n=3, x 1 to 4, first 5, last 4, min 3, max 5", {"color": "red", "linewidth": 3},
    ),
    "steps of a line": (
        lambda ax, a=1, b=1, **k: ax.step([a, 2 * a], [5 * b, 3 * b], **k),
        "line: n=2, x 1 to 2, first 5, last 3, min 3, max 5", {"linestyle": ":"},
    ),
    "errorbar": (
        lambda ax, a=1, b=1, **k: ax.errorbar([a, 2 * a], [3.0 * b, 4.0 * b], [0.5 * b, b], **k),
        "points with bars: n=2, x 1 to 2, first 3, last 4, min 3, max 4; "
        "y bars first 2.5 to 3.5, last 3 to 5, lengths min 1, max 2", {"capsize": 3, "marker": "o"},
    ),
    "errorbar, lower and upper, both ways": (
        lambda ax, a=1, b=1, **k: ax.errorbar([a, 2 * a], [3.0 * b, 4.0 * b], [[0, b], [b, 0]], 0.5 * a, **k),
        "points with bars: n=2, x 1 to 2, first 3, last 4, min 3, max 4; "
        "x bars first 0.5 to 1.5, last 1.5 to 2.5, lengths min 1, max 1; "
        "y bars first 3 to 4, last 3 to 4, lengths min 1, max 1", {"ecolor": "grey"},
    ),
    "bars": (
        lambda ax, a=1, b=1, **k: ax.bar([a, 3 * a], [2 * b, -b], label="gain", **k),
        "gain (bars): n=2, x 1 to 3, first 2, last -1, min -1, max 2", {"color": "red", "width": 0.3},
    ),
    "stacked bars": (
        lambda ax, a=1, b=1, **k: ax.bar([a, 3 * a], [2.0, 1.0], bottom=[b, 2 * b], **k),
        "bars: n=2, x 1 to 3, first 2, last 1, min 1, max 2, based at min 1, max 2", {"hatch": "/"},
    ),
    "bars with error bars": (
        lambda ax, a=1, b=1, **k: ax.bar([a, 3 * a], [2 * b, b], yerr=0.5 * b, **k),
        "error bars: n=2; y bars first 1.5 to 2.5, last 0.5 to 1.5, lengths min 1, max 1\n"
        "  bars: n=2, x 1 to 3, first 2, last 1, min 1, max 2", {"width": 0.3},
    ),
    "horizontal bars": (
        lambda ax, a=1, b=1, **k: ax.barh([b, 3 * b], [2 * a, a], **k),
        "horizontal bars: n=2, y 1 to 3, first 2, last 1, min 1, max 2", {"height": 0.2},
    ),
    "histogram": (
        lambda ax, a=1, b=1, **k: ax.hist([a, 2 * a, 2 * a], 2, weights=[b, b, b], **k),
        "bars: n=2, x 1.25 to 1.75, first 1, last 2, min 1, max 2", {"color": "red"},
    ),
    "outlined histogram": (
        lambda ax, a=1, b=1, **k: ax.hist([a, 2 * a], 2, weights=[b, b], histtype="step", **k),
        "shape: x min 1, max 2, y min 0, max 1", {"color": "red"},
    ),
    "scatter": (
        lambda ax, a=1, b=1, **k: ax.scatter([a, 2 * a, 3 * a], [6 * b, 4 * b, 5 * b], label="runs", **k),
        "runs (points): n=3, x 1 to 3, first 6, last 5, min 4, max 6", {"marker": "x", "s": 9},
    ),
    "image": (
        lambda ax, a=1, b=1, **k: ax.imshow(GRID * a * b, **k),
        "image: 3 × 4, first 1, last 12, min 1, max 12", {"cmap": "gray", "alpha": 0.5},
    ),
    "mesh": (
        lambda ax, a=1, b=1, **k: ax.pcolormesh(np.arange(5) * a, np.arange(4), GRID * b, **k),
        "mesh: 3 × 4, first 1, last 12, min 1, max 12; x min 0, max 4, y min 0, max 3", {"cmap": "gray"},
    ),
    "two-dimensional histogram": (
        lambda ax, a=1, b=1, **k: ax.hist2d([a, 2 * a, 2 * a], [b, 2 * b, 2 * b], 2, **k),
        "mesh: 2 × 2, first 1, last 2, min 0, max 2; x min 1, max 2, y min 1, max 2", {"cmap": "gray"},
    ),
    "hexagonal histogram": (
        lambda ax, a=1, b=1, **k: ax.hexbin([a, 2 * a, 2 * a], [b, b, 3 * b], gridsize=2, mincnt=1, **k),
        "cells: n=3, x min 1, max 2, y min 1, max 3, coloured by values min 1, max 1", {"cmap": "gray"},
    ),
    "contour": (
        lambda ax, a=1, b=1, **k: ax.contour(np.arange(4) * a, np.arange(3), GRID * b, [2.5, 8.5], **k),
        "contour levels: n=2, first 2.5, last 8.5, min 2.5, max 8.5, drawn from values min 1, max 12, "
        "x min 0, max 3, y min 0, max 1.88", {"cmap": "gray", "linewidths": 4},
    ),
    "filled contour": (
        lambda ax, a=1, b=1, **k: ax.contourf(np.arange(4) * a, np.arange(3), GRID * b, [2.5, 8.5], **k),
        "contour levels: n=2, first 2.5, last 8.5, min 2.5, max 8.5, drawn from values min 1, max 12, "
        "x min 0, max 3, y min 0, max 1.88", {"cmap": "gray"},
    ),
    "quiver": (
        lambda ax, a=1, b=1, **k: ax.quiver([0.0, a], [b, 2 * b], [3 * a, 0.0], [4 * b, 1.0], **k),
        "arrows: n=2, x min 0, max 1, y min 1, max 2, along x min 0, max 3, along y min 1, max 4, "
        "length min 1, max 5", {"color": "red", "width": 0.01},
    ),
    "band": (
        lambda ax, a=1, b=1, **k: ax.fill_between([a, 2 * a], [b, 2 * b], [4 * b, 3 * b], **k),
        "band: n=1, x min 1, max 2, y min 1, max 4", {"alpha": 0.2},
    ),
    "stairs": (
        lambda ax, a=1, b=1, **k: ax.stairs([5 * b, 3 * b], [a, 2 * a, 4 * a], label="count", **k),
        "count (steps): n=2, x 1 to 4, first 5, last 3, min 3, max 5", {"fill": True, "color": "red"},
    ),
    "stairs on a base": (
        lambda ax, a=1, b=1, **k: ax.stairs([5.0, 3.0], [a, 2 * a, 4 * a], baseline=2 * b, **k),
        "steps: n=2, x 1 to 4, first 5, last 3, min 3, max 5, based at min 2, max 2", {"fill": True},
    ),
    "stems": (
        lambda ax, a=1, b=1, **k: ax.stem([a, 2 * a], [3 * b, 4 * b], label="weight", **k),
        "weight (stems): n=2, x 1 to 2, first 3, last 4, min 3, max 4", {"linefmt": "r:"},
    ),
    "line across": (
        lambda ax, a=1, b=1, **k: ax.axhline(2 * a * b, label="limit", **k),
        "limit (horizontal line): y 2", {"color": "red", "xmin": 0.2},
    ),
    "line up": (
        lambda ax, a=1, b=1, **k: ax.axvline(0.001 * a * b, **k), "vertical line: x 0.001", {"color": "red"},
    ),
    "straight line by its slope": (
        lambda ax, a=1, b=1, **k: ax.axline((5 * a, 6 * a), slope=2 * b, **k),
        "straight line: through (5, 6), slope 2", {"color": "red"},
    ),
    "straight line by two points": (
        lambda ax, a=1, b=1, **k: ax.axline((5 * a, 6), (7, 9 * b), **k),
        "straight line: through (5, 6), through (7, 9)", {"color": "red"},
    ),
    "segments": (
        lambda ax, a=1, b=1, **k: ax.vlines([a, 2 * a], [0, b], [3 * b, 4 * b], **k),
        "segments: n=2, x min 1, max 2, y min 0, max 4", {"color": "red"},
    ),
    "span": (lambda ax, a=1, b=1, **k: ax.axvspan(a, 2 * b, **k), "shape: x min 1, max 2", {"alpha": 0.1}),
    "polygon": (
        lambda ax, a=1, b=1, **k: ax.fill([0, a, a], [0, 0, 2 * b], **k),
        "shape: x min 0, max 1, y min 0, max 2", {"color": "red"},
    ),
}


def surface_data(a, b):
    x, y = np.meshgrid(np.arange(4.0), np.arange(3.0))
    return a * x, a * y, b * x * y


THREE_D = {
    "line": (
        lambda ax, a=1, b=1, **k: ax.plot([a, 2 * a], [3 * a, 5 * a], [6 * b, 8 * b], label="path", **k),
        "path (line): n=2, x 1 to 2, y 3 to 5, first 6, last 8, min 6, max 8", {"color": "red"},
    ),
    "scatter": (
        lambda ax, a=1, b=1, **k: ax.scatter([a, 2 * a], [3 * a, 5 * a], [8 * b, 6 * b], **k),
        "points: n=2, x 1 to 2, y 3 to 5, first 8, last 6, min 6, max 8", {"color": "red", "s": 4},
    ),
    "surface": (
        lambda ax, a=1, b=1, **k: ax.plot_surface(*surface_data(a, b), label="loss", **k),
        "loss (surface): n=6, x min 0, max 3, y min 0, max 2, z min 0, max 6", {"color": "red", "alpha": 0.3},
    ),
    "wireframe": (
        lambda ax, a=1, b=1, **k: ax.plot_wireframe(*surface_data(a, b), **k),
        "segments: n=7, x min 0, max 3, y min 0, max 2, z min 0, max 6", {"color": "red"},
    ),
    "triangles": (
        lambda ax, a=1, b=1, **k: ax.plot_trisurf([0, a, 0, a], [0, 0, a, a], [b, 2 * b, 3 * b, 5 * b], **k),
        "surface: n=2, x min 0, max 1, y min 0, max 1, z min 1, max 5", {"color": "red"},
    ),
    "bars": (
        lambda ax, a=1, b=1, **k: ax.bar3d([a], [a], [0], 1, 1, 3 * b, **k),
        "surface: n=6, x min 1, max 2, y min 1, max 2, z min 0, max 3", {"color": "red"},
    ),
    "flat bars": (
        lambda ax, a=1, b=1, **k: ax.bar([a], [3 * b], zs=1, zdir="y", **k),
        "shape: n=1, x min 0.6, max 1.4, y min 1, max 1, z min 0, max 3", {"color": "red"},
    ),
    "stems": (
        lambda ax, a=1, b=1, **k: ax.stem([a], [2 * a], [3 * b], **k),
        "segments: n=1, x min 1, max 1, y min 2, max 2, z min 0, max 3", {"linefmt": "r:"},
    ),
    "contour": (
        lambda ax, a=1, b=1, **k: ax.contour(*surface_data(a, b), [1 * a, 2 * a], **k),
        "contour levels: n=2, first 1, last 2, min 1, max 2, drawn from values min 0, max 6",
        {"cmap": "gray"},
    ),
    "arrows": (
        lambda ax, a=1, b=1, **k: ax.quiver([0], [0], [0], [a], [2 * a], [3 * b], arrow_length_ratio=0, **k),
        "segments: n=3, x min 0, max 1, y min 0, max 2, z min 0, max 3", {"color": "red"},
    ),
}
KINDS = [(None, name) for name in TWO_D] + [("3d", name) for name in THREE_D]


def described(draw, projection=None, **options):
    """Summary of a figure with one panel, drawn by `draw`."""
    picture, axes = figure(projection=projection)
    draw(axes, **options)
    return summary(picture)


@pytest.fixture(params=KINDS, ids=[f"{projection or '2d'} {name}" for projection, name in KINDS])
def kind(request):
    projection, name = request.param
    return projection, *(THREE_D if projection else TWO_D)[name]


class TestSummaryOfEachKind:
    def test_text(self, kind):
        projection, draw, expected, _ = kind
        assert f"  {expected}\n" in described(draw, projection) + "\n"

    @pytest.mark.parametrize("change", [{"a": 1.01}, {"b": 1.01}, {"a": 0.99, "b": 0.99}])
    def test_changes_with_the_data(self, kind, change):
        projection, draw, _, _ = kind
        assert described(draw, projection, **change) != described(draw, projection)

    def test_does_not_change_with_the_style(self, kind):
        projection, draw, _, style = kind
        styled = described(draw, projection, **style)
        assert styled == described(draw, projection)

    @pytest.mark.parametrize(("projection", "name"), [
        *(("3d", name) for name in THREE_D), (None, "band"), (None, "quiver"), (None, "contour"),
    ])
    def test_does_not_change_when_the_figure_is_drawn(self, projection, name):
        draw = (THREE_D if projection else TWO_D)[name][0]
        picture, axes = figure(projection=projection)
        draw(axes)
        before = summary(picture)
        picture.savefig(io.BytesIO(), format="png", dpi=20)
        assert summary(picture) == before


class TestSummary:
    @pytest.mark.parametrize("projection", [None, "3d"])
    def test_a_figure_without_data_is_refused(self, projection):
        picture, axes = figure(1, 2, projection=projection)
        axes[0].set(title="nothing here", xlim=(0, 1))
        axes[0].text(*[0.0] * (3 if projection else 2), "words")
        with pytest.raises(ValueError, match="shows no data"):
            summary(picture)

    @pytest.mark.parametrize("draw", [
        lambda ax: ax.plot([], [], label="only a legend entry"), lambda ax: ax.scatter([], []),
        lambda ax: ax.fill_between([0, 1], [0, 1], [1, 2], where=[False, False]),
        lambda ax: ax.vlines([], 0, 1),
        lambda ax: ax.plot([0, 1], [0, 1], transform=ax.transAxes),
        lambda ax: ax.annotate("", (0, 0), (1, 1)),
    ])
    def test_artists_without_data_are_no_data(self, draw):
        with pytest.raises(ValueError, match="shows no data"):
            described(draw)

    @pytest.mark.parametrize("draw", [
        lambda ax: ax.table([["1", "2"]]),
        lambda ax: ax.barbs([1.0], [1.0], [3.0], [4.0]),
        lambda ax: ax.add_artist(mpl_image.BboxImage(ax.bbox, data=GRID)),
        lambda ax: ax.add_artist(mpl.offsetbox.AnnotationBbox(mpl.offsetbox.OffsetImage(GRID), (0, 0))),
    ], ids=["table", "barbs", "image of another kind", "image in a box"])
    def test_data_that_it_cannot_describe_are_refused_not_left_out(self, draw):
        picture, axes = figure()
        axes.plot([1, 2])
        draw(axes)
        with pytest.raises(ValueError, match="no summary for"):
            summary(picture)

    @pytest.mark.parametrize("values", [
        np.array([1.0, np.nan, 3.0]), np.ma.array([1.0, 99.0, 3.0], mask=[False, True, False]),
    ], ids=["NaN", "masked"])
    def test_missing_values_count_but_do_not_enter_the_range(self, values):
        facts = "first 1, last 3, min 1, max 3"
        assert f"line: n=3, x 0 to 2, {facts}" in described(lambda ax: ax.plot(values))
        assert f"points: n=3, x 0 to 2, {facts}" in described(lambda ax: ax.scatter(range(3), values))
        assert f"bars: n=3, x 0 to 2, {facts}" in described(lambda ax: ax.errorbar(range(3), values, values))
        assert f"image: 1 × 3, {facts}" in described(lambda ax: ax.imshow(values[None]))
        assert f"mesh: 1 × 3, {facts}" in described(lambda ax: ax.pcolormesh(values[None]))
        places = range(3), range(3)
        assert "along x min 1, max 3" in described(lambda ax: ax.quiver(*places, values, np.ones(3)))
        if not np.ma.isMaskedArray(values):  # of which Matplotlib itself drops the mask here
            assert f"bars: n=3, x 0 to 2, {facts}" in described(lambda ax: ax.bar(range(3), values))
            assert f"steps: n=3, x 0 to 3, {facts}" in described(lambda ax: ax.stairs(values))

    def test_missing_values_of_a_surface(self):
        x, y, z = surface_data(1, 1)
        z[0, 0] = np.nan
        assert "surface: n=6, x min 0, max 3, y min 0, max 2, z min 0, max 6" in described(
            lambda ax: ax.plot_surface(x, y, z), "3d")

    def test_nothing_but_missing_values(self):
        text = described(lambda ax: ax.plot([np.nan, np.nan]))
        assert "line: n=2, x 0 to 1, first nan, last nan, no finite value" in text

    def test_infinite_values_do_not_enter_the_range(self):
        assert "first inf, last 2, min 2, max 2" in described(lambda ax: ax.plot([np.inf, 2.0]))

    def test_scales_of_the_axes_do_not_matter(self):
        def draw(axes, scale):
            axes.errorbar([1, 10, 1000], [1e-3, 1.0, 1e4], [1e-4, 0.1, 1e3])
            axes.axvline(10)
            axes.stairs([1, 2], [1, 10, 100])
            axes.set(xscale=scale, yscale=scale)
        assert len({described(draw, scale=scale) for scale in ("linear", "log", "symlog")}) == 1

    def test_categories(self):
        text = described(lambda ax: ax.plot(["SGD", "Adam"], [1.0, 2.0]))
        assert "line: n=2, x 0 to 1, first 1, last 2" in text

    def test_sizes_and_colours_that_carry_data(self):
        text = described(lambda ax: ax.scatter([1, 2], [3, 4], s=[10, 20], c=[0.5, 0.7]))
        assert text.endswith("max 4, sizes min 10, max 20, coloured by values min 0.5, max 0.7")
        text = described(lambda ax: ax.scatter([1, 2], [3, 4], [5, 6], c=[0.5, 0.7]), "3d")
        assert text.endswith("max 6, coloured by values min 0.5, max 0.7")

    def test_panels_insets_and_twins_are_told_apart(self):
        picture, axes = figure(2, 2)
        axes[0, 0].set_title("on the left")
        axes[0, 1].set_title("in the middle", loc="center")
        axes[1, 0].set_ylabel("by its axis")
        for panel in axes.flat:
            panel.plot([1, 2])
        axes[1, 1].inset_axes([0.5, 0.5, 0.4, 0.4]).plot([7, 8])
        axes[1, 1].twinx().plot([9, 10])
        titles = [line for line in summary(picture).splitlines() if not line.startswith("  ")]
        assert titles[:3] == ["on the left:", "in the middle:", "by its axis:"]
        assert titles[3:] == ["panel 4:", "panel 5:", "panel 6:"]
        assert summary(picture).count("first 7, last 8") == summary(picture).count("first 9, last 10") == 1

    def test_a_colour_bar_is_no_panel(self):
        picture, axes = figure()
        shown = axes.imshow(GRID)
        before = summary(picture)
        picture.colorbar(shown, ax=axes)
        assert summary(picture) == before

    def test_hidden_labels_are_not_shown(self):
        text = described(lambda ax: (ax.plot([1, 2], label="_nolegend_"), ax.errorbar([1], [1], 1)))
        assert "_" not in text and "None" not in text

    @pytest.mark.parametrize(("value", "text"), [
        (0.123456, "0.123"), (1e-13, "0"), (-1e-13, "0"), (-0.0, "0"), (1234.5, "1.23e+03"), (2e-12, "2e-12"),
    ])
    def test_numbers_have_three_digits_and_no_rounding_noise(self, value, text):
        assert f"first {text}, last {text}," in described(lambda ax: ax.plot([value, value]))

    numbers = st.floats(-1e6, 1e6).filter(lambda value: abs(value) > 1e-6)

    @settings(max_examples=25, deadline=None)
    @given(values=hnp.arrays(float, st.integers(1, 6), elements=numbers), place=st.integers(0, 3))
    def test_a_change_by_a_percent_shows_at_either_end_and_in_the_extremes(self, values, place):
        at = [0, -1, values.argmin(), values.argmax()][place]
        changed = values.copy()
        changed[at] *= 1.01 if place != 3 or values[at] > 0 else 0.99
        assert described(lambda ax: ax.plot(values)) != described(lambda ax: ax.plot(changed))

    def test_two_runs_give_the_same_text(self):
        def draw(axes):
            rng = np.random.default_rng(3)
            axes.scatter(*rng.normal(size=(2, 50)))
            axes.hist(rng.normal(size=50))
            axes.contourf(rng.normal(size=(6, 6)))
        assert described(draw) == described(draw)


@pytest.fixture
def shown(monkeypatch):
    """What `show` displays: a list of (data, metadata)."""
    displays = []

    def display(data, metadata=None, raw=False):
        displays.append((data, metadata))

    monkeypatch.setattr(figures, "display", display)
    return displays


@pytest.fixture
def picture():
    picture, axes = figure(figsize=(4.0, 2.5))
    axes.plot([1, 2], label="a < b")
    return picture


def pixels(png):
    return mpl_image.imread(io.BytesIO(png), format="png")


class TestShow:
    def test_picture_then_caption(self, shown, picture):
        show(picture, caption="It rises.", alt="A rising line.")
        (data, metadata), (block, _) = shown
        assert set(data) == {"image/png", "text/plain"} and data["text/plain"] == summary(picture)
        assert metadata == {"image/png": {"width": 400, "alt": "A rising line."}}
        assert set(block) == {"text/html", "text/plain"} and block["text/plain"] == "It rises."
        assert "<p>It rises.</p>" in block["text/html"] and 'data-alt="A rising line."' in block["text/html"]
        assert "<pre>panel 1:\n  a &lt; b (line): n=2" in block["text/html"]

    def test_is_what_ipython_displays(self, picture, monkeypatch):
        from IPython.core.displaypub import CapturingDisplayPublisher
        from IPython.core.interactiveshell import InteractiveShell

        publisher = CapturingDisplayPublisher()
        monkeypatch.setattr(InteractiveShell, "_instance", None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shell = InteractiveShell.instance()
        monkeypatch.setattr(shell, "display_pub", publisher)
        show(picture, caption="It rises.", alt="A line.")
        InteractiveShell.clear_instance()
        assert [sorted(output["data"]) for output in publisher.outputs] == [
            ["image/png", "text/plain"], ["text/html", "text/plain"],
        ]

    def test_escapes_caption_and_alt(self, shown, picture):
        show(picture, caption="a < b & <b>c</b>", alt='say "<hi>" & go')
        block = shown[1][0]["text/html"]
        assert "<p>a &lt; b &amp; &lt;b&gt;c&lt;/b&gt;</p>" in block
        assert 'data-alt="say &quot;&lt;hi&gt;&quot; &amp; go"' in block

    @pytest.mark.parametrize("empty", ["", "  ", "\n"])
    @pytest.mark.parametrize("name", ["caption", "alt"])
    def test_refuses_an_empty_text(self, shown, picture, name, empty):
        with pytest.raises(ValueError, match=f"{name} is empty"):
            show(picture, **({"caption": "c", "alt": "a"} | {name: empty}))
        assert shown == []

    def test_refuses_an_empty_figure(self, shown):
        with pytest.raises(ValueError, match="shows no data"):
            show(figure()[0], caption="c", alt="a")
        assert shown == []

    def test_has_twice_the_pixels_that_the_page_shows(self, shown, picture):
        show(picture, caption="c", alt="a")
        png, width = shown[0][0]["image/png"], shown[0][1]["image/png"]["width"]
        assert struct.unpack(">II", png[16:24]) == (2 * width, 500)

    @pytest.mark.parametrize("dark", [False, True])
    def test_ground_is_opaque_and_white(self, shown, dark):
        with mpl.rc_context({"figure.facecolor": "black", "savefig.transparent": dark}):
            picture, axes = figure()
            axes.plot([1, 2])
            show(picture, caption="c", alt="a")
        image = pixels(shown[0][0]["image/png"])
        corners = image[[0, 0, -1, -1], [0, -1, 0, -1]]
        assert (corners == 1).all() and (image.shape[-1] == 3 or (image[..., 3] == 1).all())

    def test_bytes_do_not_name_the_version_of_matplotlib(self, shown, picture):
        show(picture, caption="c", alt="a")
        assert b"atplotlib" not in shown[0][0]["image/png"]

    def test_pictures_and_text_are_the_same_in_every_run(self, shown, picture):
        for _ in range(2):
            show(picture, caption="c", alt="a")
        assert shown[:2] == shown[2:]


class TestFigure:
    def test_leaves_the_settings_of_matplotlib_alone(self, shown):
        before = dict(mpl.rcParams)
        picture, axes = figure(2, 2, figsize=(3, 3), sharex=True)
        axes[0, 0].plot([1, 2])
        show(picture, caption="c", alt="a")
        assert dict(mpl.rcParams) == before

    def test_shapes_of_the_axes(self):
        assert isinstance(figure()[1], mpl.axes.Axes)
        assert figure(1, 3)[1].shape == (3,) and figure(2, 3)[1].shape == (2, 3)

    def test_options(self):
        picture, axes = figure(1, 2, figsize=(5, 2), sharey=True, width_ratios=[1, 2], projection="polar")
        assert tuple(picture.get_size_inches()) == (5, 2) and {panel.name for panel in axes} == {"polar"}
        assert axes[0].get_shared_y_axes().joined(*axes)

    def test_first_colours_are_the_palette_and_differ(self):
        _, axes = figure()
        drawn = [axes.plot([1, 2])[0].get_color() for _ in range(7)]
        assert len(set(drawn)) == 7 and set(drawn) <= set(COLORS.values())

    def test_is_not_kept_alive_by_pyplot(self):
        from matplotlib import pyplot

        figure()
        assert pyplot.get_fignums() == []


NODES = {"$x$": (0, 0), "y": (1, 0), "z": (2, 1)}


class TestDrawGraph:
    def test_summary_lists_every_edge_with_its_ends(self):
        edges = [("$x$", "y"), ("y", "z")]
        text = described(draw_graph, positions=NODES, edges=edges, highlight=edges[1:])
        assert text.splitlines()[1:] == [
            "  $x$ → y (line): n=2, x 0 to 1, first 0, last 0, min 0, max 0",
            "  y → z (highlighted) (line): n=2, x 1 to 2, first 0, last 1, min 0, max 1",
        ]

    def test_every_node_is_drawn(self):
        _, axes = figure()
        draw_graph(axes, NODES, [("$x$", "y")])
        assert [text.get_text() for text in axes.texts if text.get_text()] == list(NODES)
        assert not axes.axison

    def test_edges_and_highlight_may_be_iterators(self):
        edges = [("$x$", "y"), ("y", "z")]
        _, axes = figure()
        draw_graph(axes, NODES, iter(edges), highlight=iter(edges))
        assert sum("highlighted" in line.get_label() for line in axes.lines) == 2

    @pytest.mark.parametrize("edge", [("$x$", "w"), ("w", "y")])
    def test_refuses_an_edge_to_a_node_without_a_place(self, edge):
        _, axes = figure()
        with pytest.raises(ValueError, match=re.escape(f"edge {edge[0]} → {edge[1]} names a node")):
            draw_graph(axes, NODES, [edge])

    def test_refuses_to_highlight_what_is_no_edge(self):
        _, axes = figure()
        with pytest.raises(ValueError, match="names y → z, which is not an edge"):
            draw_graph(axes, NODES, [("$x$", "y")], highlight=[("y", "z")])

    def test_is_shown(self, shown):
        picture = Figure()
        draw_graph(picture.subplots(), NODES, [("$x$", "y")])
        show(picture, caption="c", alt="a")
        assert "$x$ → y" in shown[0][0]["text/plain"]


class TestPalette:
    def drawn(self):
        picture, axes = figures.figure()
        x = np.linspace(0, 6, 400)
        for k, color in enumerate(figures.COLORS.values()):
            if k < 4:  # the others show as a dot only
                axes.plot(x, np.sin(x + k), color=color)
            axes.plot(0.2 * k, 1.5, ".", color=color, markersize=3)
        buffer = io.BytesIO()
        picture.savefig(buffer, format="png", dpi=200)
        return buffer.getvalue()

    def test_is_smaller_and_looks_the_same(self):
        before = self.drawn()
        after = figures.with_palette(before)
        assert len(after) < len(before) / 2
        pictures = [Image.open(io.BytesIO(png)).convert("RGB") for png in (before, after)]
        a, b = (np.asarray(picture, dtype=float) for picture in pictures)
        assert a.shape == b.shape
        assert abs(a - b).mean() < 0.5  # of 255
        assert np.quantile(abs(a - b).max(axis=2), 0.999) < 24
        # A colour that few pixels have is not merged into another: it may carry the point.
        for color in figures.COLORS.values():
            wanted = 255 * np.array(mpl.colors.to_rgb(color))
            assert abs(b - wanted).max(axis=2).min() < 10, color

    def test_shown_figures_have_one(self):
        picture, axes = figures.figure()
        axes.plot([0, 1], label="a")
        shown = []
        with mock.patch.object(figures, "display", lambda data, **_: shown.append(data)):
            figures.show(picture, caption="A line.", alt="A line.")
        assert Image.open(io.BytesIO(shown[0]["image/png"])).mode == "P"
