"""A picture of a network, drawn from the network itself."""

import itertools

from matplotlib.axes import Axes

from bnbook.figures import COLORS
from bnbook.training.architecture import Network

FACES = {
    "linear": "#DCE9F5",
    "batch norm": "#F9DCC9",
    "ReLU": "#E6E6E6",
}


def diagram_rows(network: Network) -> list[tuple[float, str]]:
    """Place and text of the box of each layer.

    Places are those of the network with batch normalization, counted from 0 at the
    input, so that a network without it leaves its rows empty.
    """
    rows, place = [], 0
    previous = network.sizes[0]
    for kind, size in network.layers:
        if kind == "ReLU" and not network.batch_norm:
            place += 1  # where batch normalization would be
        text = f"{kind} {size}"
        if kind == "linear":
            bias = f"b{_count(rows) + 1}" in network.parameters
            text = f"linear {previous} → {size}{', with bias' if bias else ''}"
        rows.append((float(place), text))
        previous, place = size, place + 1
    return rows


def draw_network(axes: Axes, network: Network, *, title: str) -> None:
    """Draw the layers from top to bottom, an arrow from each to the next."""
    rows = diagram_rows(network)
    axes.plot(
        [0.0] * len(rows),
        [-place for place, _ in rows],
        alpha=0,
        label=f"{len(rows)} layers: " + "; ".join(text for _, text in rows),
    )
    for (start, _), (end, _) in itertools.pairwise(rows):
        axes.annotate(
            "",
            (0, -end + 0.31),
            (0, -start - 0.31),
            arrowprops={
                "arrowstyle": "-|>",
                "color": COLORS["black"],
                "linewidth": 1.1,
                "shrinkA": 0,
                "shrinkB": 0,
            },
        )
    for place, text in rows:
        kind = next((kind for kind in FACES if text.startswith(kind)), None)
        axes.text(
            0,
            -place,
            text,
            ha="center",
            va="center",
            fontsize=9.5,
            bbox={
                "boxstyle": "round,pad=0.25",
                "facecolor": FACES.get(kind, "white"),
                "edgecolor": COLORS["black"],
                "linewidth": 0.9,
            },
        )
    axes.set(xlim=(-1, 1), ylim=(-rows[-1][0] - 0.6, 0.6), title=title)
    axes.axis("off")


def _count(rows: list[tuple[float, str]]) -> int:
    return sum(text.startswith("linear") for _, text in rows)
