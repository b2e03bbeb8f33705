"""One look for every figure of the book, and one way to show it.

`show` displays a picture together with a caption, alternative text, and a plain-text summary of the
plotted data. nbval compares the summary, so a picture's data is verified although its pixels are not,
and a screen reader gets the same facts.
"""

import html
import io
from collections.abc import Iterable, Mapping

import matplotlib as mpl
import numpy as np
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from bnbook.figure_summary import summary

__all__ = ["COLORS", "draw_graph", "figure", "show", "summary"]

# Okabe and Ito's palette: distinguishable with every common form of colour blindness.
COLORS = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "orange": "#E69F00",
    "black": "#222222",
    "grey": "#8A8A8A",
}

_STYLE = {
    # An opaque white ground keeps one picture legible on light and on dark pages.
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.transparent": False,
    "axes.facecolor": "white",
    "axes.prop_cycle": mpl.cycler(
        color=[
            COLORS[c]
            for c in ("blue", "vermillion", "green", "purple", "sky", "orange", "black")
        ]
    ),
    "figure.figsize": (7.0, 3.2),
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "mathtext.fontset": "cm",
}
_DPI = 200
_SCREEN_DPI = 100  # twice as many pixels as the page shows, for sharp screens


def figure(
    rows: int = 1, columns: int = 1, **options
) -> tuple[Figure, Axes | np.ndarray]:
    """Make a figure in the book's style; `options` go to `Figure.subplots` except `figsize` and `projection`.

    Returns:
        The figure, and its axes: one, or an array of shape (rows, columns) without axes of length 1.
    """
    size = options.pop("figsize", None)
    projection = options.pop("projection", None)
    with mpl.rc_context(_STYLE):
        picture = Figure(figsize=size)
        axes = picture.subplots(
            rows, columns, subplot_kw={"projection": projection}, **options
        )
    return picture, axes


def show(picture: Figure, *, caption: str, alt: str) -> None:
    """Display a figure with its caption, alternative text and data summary.

    Args:
        picture: a figure made by `figure`, with data in it.
        caption: what to see in it, in a sentence or two.
        alt: what a reader who cannot see it needs to know.

    Raises:
        ValueError: caption or alt is empty, or the figure shows no data or data that `summary` refuses.
    """
    for name, text in (("caption", caption), ("alt", alt)):
        if not text.strip():
            raise ValueError(
                f"{name} is empty; say in a sentence what the figure shows"
            )
    facts = summary(picture)
    buffer = io.BytesIO()
    with mpl.rc_context(_STYLE):
        picture.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    image = with_palette(buffer.getvalue())
    width = round(picture.get_figwidth() * _SCREEN_DPI)
    display(
        {"image/png": image, "text/plain": facts},
        metadata={"image/png": {"width": width, "alt": alt}},
        raw=True,
    )
    block = (
        f'<div class="bn-figure" data-alt="{html.escape(alt)}"><p>{html.escape(caption)}</p>'
        f"<details><summary>The data in words and numbers</summary><pre>{html.escape(facts)}</pre></details>"
        "</div>"
    )
    display({"text/html": block, "text/plain": caption}, raw=True)


def with_palette(png: bytes) -> bytes:
    """The same picture with a palette of at most 256 colours, a third of the bytes.

    A drawing has a few colours and the shades between them at the edges, so that the eye
    sees no difference. The palette covers the whole range of colours: one that few pixels
    have stays, for it may be that of the only point.
    """
    image = Image.open(io.BytesIO(png)).convert("RGB")
    few = image.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    few.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def draw_graph(
    axes: Axes,
    positions: Mapping[str, tuple[float, float]],
    edges: Iterable[tuple[str, str]],
    *,
    highlight: Iterable[tuple[str, str]] = (),
) -> None:
    """Draw a directed graph: a box for each node (its name may hold mathematics), an arrow for each edge.

    Args:
        axes: where to draw.
        positions: centre of each node, in units of a typical distance between neighbours.
        edges: (from, to) pairs of node names.
        highlight: edges to draw thick and in colour.

    Raises:
        ValueError: an edge names a node that has no position, or an edge to highlight does not exist.
    """
    edges, highlight = list(edges), set(highlight)
    for start, end in highlight.difference(edges):
        raise ValueError(
            f"highlight names {start} → {end}, which is not an edge; add it to edges"
        )
    for start, end in edges:
        if not {start, end} <= set(positions):
            raise ValueError(
                f"edge {start} → {end} names a node without a position; add it to positions"
            )
        thick = (start, end) in highlight
        color = COLORS["vermillion"] if thick else COLORS["grey"]
        (x0, y0), (x1, y1) = positions[start], positions[end]
        label = f"{start} → {end}" + (" (highlighted)" if thick else "")
        axes.plot([x0, x1], [y0, y1], alpha=0, label=label)
        axes.annotate(
            "",
            (x1, y1),
            (x0, y0),
            arrowprops={
                "arrowstyle": "-|>",
                "color": color,
                "linewidth": 2.4 if thick else 1.1,
                "shrinkA": 17,
                "shrinkB": 17,
            },
        )
    for name, (x, y) in positions.items():
        axes.annotate(
            name,
            (x, y),
            ha="center",
            va="center",
            fontsize=12,
            bbox={
                "boxstyle": "round,pad=0.35",
                "facecolor": "#F3F6FA",
                "edgecolor": COLORS["black"],
                "linewidth": 0.9,
            },
        )
    axes.margins(0.12)
    axes.axis("off")
