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
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.quiver import Quiver

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
    "axes.prop_cycle": mpl.cycler(
        color=[COLORS[c] for c in ("blue", "vermillion", "green", "purple", "sky", "orange", "black")]
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


def figure(rows: int = 1, columns: int = 1, **options) -> tuple[Figure, Axes | np.ndarray]:
    """Make a figure in the book's style; `options` go to `Figure.subplots` except `figsize` and `projection`.

    Returns:
        The figure, and its axes: one, or an array of shape (rows, columns) without axes of length 1.
    """
    size = options.pop("figsize", None)
    projection = options.pop("projection", None)
    with mpl.rc_context(_STYLE):
        picture = Figure(figsize=size)
        axes = picture.subplots(rows, columns, subplot_kw={"projection": projection}, **options)
    return picture, axes


def show(picture: Figure, *, caption: str, alt: str) -> None:
    """Display a figure with its caption, alternative text and data summary.

    Args:
        picture: a figure made by `figure`, with data in it.
        caption: what to see in it, in a sentence or two.
        alt: what a reader who cannot see it needs to know.

    Raises:
        ValueError: caption or alt is empty, or the figure shows no data.
    """
    for name, text in (("caption", caption), ("alt", alt)):
        if not text.strip():
            raise ValueError(f"{name} is empty; say in a sentence what the figure shows")
    facts = summary(picture)
    buffer = io.BytesIO()
    with mpl.rc_context(_STYLE):
        picture.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    width = round(picture.get_figwidth() * _SCREEN_DPI)
    display(
        {"image/png": buffer.getvalue(), "text/plain": facts},
        metadata={"image/png": {"width": width, "alt": alt}},
        raw=True,
    )
    block = (
        f'<div class="bn-figure" data-alt="{html.escape(alt)}"><p>{html.escape(caption)}</p>'
        f"<details><summary>The data in words and numbers</summary><pre>{html.escape(facts)}</pre></details></div>"
    )
    display({"text/html": block, "text/plain": caption}, raw=True)


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
        ValueError: an edge names a node that has no position.
    """
    highlight = set(highlight)
    for start, end in edges:
        if not {start, end} <= set(positions):
            raise ValueError(f"edge {start} → {end} names a node without a position; add it to positions")
        thick = (start, end) in highlight
        color = COLORS["vermillion"] if thick else COLORS["grey"]
        (x0, y0), (x1, y1) = positions[start], positions[end]
        axes.plot([x0, x1], [y0, y1], alpha=0, label=f"{start} → {end}" + (" (highlighted)" if thick else ""))
        axes.annotate("", (x1, y1), (x0, y0), arrowprops={
            "arrowstyle": "-|>", "color": color, "linewidth": 2.4 if thick else 1.1, "shrinkA": 17, "shrinkB": 17,
        })
    for name, (x, y) in positions.items():
        axes.annotate(name, (x, y), ha="center", va="center", fontsize=12, bbox={
            "boxstyle": "round,pad=0.35", "facecolor": "#F3F6FA", "edgecolor": COLORS["black"], "linewidth": 0.9,
        })
    axes.margins(0.12)
    axes.axis("off")


def summary(picture: Figure) -> str:
    """Describe the plotted data: a line of text for each line, scatter, bar chart, image, contour or arrow set.

    Numbers are rounded to three significant digits.

    Raises:
        ValueError: the figure shows no data.
    """
    lines = []
    for number, axes in enumerate(picture.axes, start=1):
        described = list(_describe(axes))
        if described:
            title = axes.get_title(loc="left") or axes.get_title() or axes.get_ylabel() or f"panel {number}"
            lines.append(f"{title}:")
            lines.extend(f"  {line}" for line in described)
    if not lines:
        raise ValueError("the figure shows no data; plot something in it first")
    return "\n".join(lines)


def _describe(axes: Axes):
    in_containers = {
        id(child) for container in axes.containers for child in container.get_children() if child is not None
    }
    for container in axes.containers:
        if isinstance(container, BarContainer):
            yield _series(container.get_label(), "bars", [], [patch.get_height() for patch in container])
        elif isinstance(container, ErrorbarContainer):
            yield _series(container.get_label(), "points with bars", *container[0].get_data())
    for line in axes.lines:
        if id(line) not in in_containers:
            yield _series(line.get_label(), "line", *line.get_data())
    for item in [*axes.collections, *axes.images]:
        if id(item) in in_containers:
            continue
        label = item.get_label()
        if isinstance(item, PathCollection):
            offsets = np.asarray(item.get_offsets())
            yield _series(label, "points", offsets[:, 0], offsets[:, 1])
        elif isinstance(item, QuadContourSet):
            yield _series(label, "contour levels", [], item.levels)
        elif isinstance(item, AxesImage):
            yield f"{_name(label, 'image')}: {' × '.join(map(str, item.get_array().shape))}, " + _range(item.get_array())
        elif isinstance(item, Quiver):
            yield f"{_name(label, 'arrows')}: n={len(item.U)}, length {_range(np.hypot(item.U, item.V))}"
        elif isinstance(item, PolyCollection):
            vertices = np.concatenate([path.vertices for path in item.get_paths()])
            yield f"{_name(label, 'band')}: {_range(vertices[:, 1])}"


def _name(label: object, kind: str) -> str:
    text = str(label)
    return kind if not text or text.startswith("_") else f"{text} ({kind})"


def _series(label: object, kind: str, x, y) -> str:
    x, y = (np.ma.filled(np.ma.asarray(values, dtype=float), np.nan) for values in (x, y))
    text = f"{_name(label, kind)}: n={len(y)}"
    if len(x):
        text += f", x {_number(x[0])} to {_number(x[-1])}"
    if len(y):
        text += f", first {_number(y[0])}, last {_number(y[-1])}, {_range(y)}"
    return text


def _range(values) -> str:
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    return f"min {_number(finite.min())}, max {_number(finite.max())}" if finite.size else "no finite value"


def _number(value: float) -> str:
    """Three significant digits; rounding noise around zero is printed as 0."""
    if abs(value) < 1e-12:
        return "0"
    return f"{value:.3g}"
