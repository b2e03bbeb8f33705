"""Pictures of a base graph and of its S-graph: ovals are shared nodes, boxes batch nodes."""

from collections.abc import Iterable, Mapping, Sequence

from matplotlib.axes import Axes

from bnbook.estimation.node_kinds import BATCH, CONSTANT
from bnbook.estimation.s_graph import INPUT, SGraph
from bnbook.figures import draw_graph

FACES = {"batch": "#DCE9F5", "shared": "#F9DCC9"}
Edge = tuple[str, str]


def base_edges(graph: SGraph) -> list[Edge]:
    """Edges of the base graph, without constants."""
    return [
        (start.name, end.name)
        for end in graph.base.graph.nodes
        if end.op != "output"
        for start in end.all_input_nodes
        if graph.kinds[start.name] != CONSTANT
    ]


def layered(
    nodes: Sequence[str], edges: Iterable[Edge]
) -> dict[str, tuple[float, float]]:
    """Positions from top to bottom: a node stands one row below the lowest node that
    leads to it, and a node without inputs one row above the highest it leads to.

    Args:
        nodes: inputs before outputs.
        edges: (from, to) pairs.
    """
    edges = list(edges)
    row: dict[str, int] = {}
    for node in nodes:
        row[node] = max((row[a] + 1 for a, b in edges if b == node), default=0)
    fed = {b for _, b in edges}
    for node in nodes:
        if node not in fed:
            row[node] = max(
                min((row[b] for a, b in edges if a == node), default=1) - 1, 0
            )
    column: dict[str, float] = {}
    for level in sorted(set(row.values())):
        members = [n for n in nodes if row[n] == level]
        wish = {}
        for node in members:
            known = [column[a] for a, b in edges if b == node and a in column]
            wish[node] = sum(known) / len(known) if known else 1.5
        members.sort(key=lambda n: wish[n])
        middle = sum(wish.values()) / len(members)
        for place, node in enumerate(members):
            column[node] = middle + place - (len(members) - 1) / 2
    return {n: (column[n], -float(row[n])) for n in nodes}


def draw_base_graph(
    axes: Axes,
    graph: SGraph,
    labels: Mapping[str, str] | None = None,
    positions: Mapping[str, tuple[float, float]] | None = None,
) -> None:
    """Draw the base graph.

    Args:
        axes: where.
        graph: of a small model.
        labels: text of a node, by its name in the base graph; the name itself otherwise.
        positions: of the nodes by name; `layered` otherwise.

    Raises:
        ValueError: two nodes have the same label, or a label or position is of no node.
    """
    kinds = {n: k for n, k in graph.kinds.items() if k != CONSTANT}
    batch = {n for n, kind in kinds.items() if kind == BATCH}
    _draw(axes, list(kinds), base_edges(graph), batch, labels, positions, ())


def draw_s_graph(
    axes: Axes,
    graph: SGraph,
    labels: Mapping[str, str] | None = None,
    positions: Mapping[str, tuple[float, float]] | None = None,
    *,
    highlight: Iterable[Edge] = (),
) -> None:
    """Draw the S-graph; arguments as for `draw_base_graph`, with names of the S-graph.

    Raises:
        ValueError: as `draw_base_graph`; or an edge to highlight does not exist.
    """
    nodes, edges = list(graph.nodes), list(graph.edges)
    _draw(axes, nodes, edges, {INPUT}, labels, positions, highlight)


def _draw(axes, nodes, edges, batch, labels, positions, highlight):
    labels, positions = dict(labels or {}), dict(positions or layered(nodes, edges))
    if unknown := (set(labels) | set(positions)) - set(nodes):
        raise ValueError(f"{sorted(unknown)} are no nodes; the nodes are {nodes}")
    text = {n: labels.get(n, n) for n in nodes}
    if len(set(text.values())) < len(nodes):
        raise ValueError(f"every node needs its own label, got {text}")
    draw_graph(
        axes,
        {text[n]: positions[n] for n in nodes},
        [(text[a], text[b]) for a, b in edges],
        highlight=[(text[a], text[b]) for a, b in highlight],
    )
    boxes = {text[n] for n in batch}
    for written in axes.texts:
        patch = written.get_bbox_patch()
        if patch is None or written.get_text() not in text.values():
            continue
        is_batch = written.get_text() in boxes
        written.set_fontsize(10)
        patch.set_boxstyle("square,pad=0.3" if is_batch else "ellipse,pad=0.15")
        patch.set_facecolor(FACES["batch" if is_batch else "shared"])
