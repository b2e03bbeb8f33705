"""When two workers compute and when they wait for each other, drawn as two lanes."""

from matplotlib.axes import Axes

from bnbook.figures import COLORS

TITLES = {
    "sync": "synchronized BN: twice in every layer",
    "two_stage": "two stages: a count, and once between the stages",
    "single_example": "single example, frozen, renorm: not before the end",
}


def draw_lanes(axes: Axes, method: str, layers: int = 4) -> None:
    """Draw one step of two workers: lanes of computation, bars where all must wait.

    A layer takes one unit of time forward and two backward. The gradients of the
    parameters are drawn after the passes, although they can be sent during the last.

    Args:
        axes: where to draw.
        method: a name in TITLES.
        layers: number of normalized layers.

    Raises:
        ValueError: there is no such method.
    """
    if method not in TITLES:
        raise ValueError(f"method must be one of {tuple(TITLES)}, got {method!r}")
    step = 3.0 * layers
    within: list[float] = []
    if method == "sync":
        within = [k - 0.5 for k in range(1, layers + 1)]
        within += [layers + 2 * k - 1.0 for k in range(1, layers + 1)]
    end = 2 * step if method == "two_stage" else step
    if method == "two_stage":
        within = [step]
    for lane, worker in ((1, 1), (0, 2)):
        axes.plot(
            [0, end],
            [lane, lane],
            color=COLORS["grey"],
            linewidth=9,
            solid_capstyle="butt",
            label=f"worker {worker} computes",
            zorder=1,
        )
    if within:
        label = "exchange of sums for the statistics"
        axes.vlines(within, 0, 1, COLORS["vermillion"], linewidth=3, label=label)
    if method == "two_stage":
        label = "exchange of the numbers of examples"
        axes.vlines([0], 0, 1, COLORS["orange"], linewidth=1.5, label=label)
    label = "exchange of parameter gradients"
    axes.vlines([end], 0, 1, COLORS["blue"], linewidth=3, label=label)
    label = "exchange of running statistics"
    axes.vlines([end + 0.5], 0, 1, COLORS["green"], linewidth=1.5, label=label)
    axes.set(title=TITLES[method], xlim=(-0.5, 6 * layers + 1.3), ylim=(-0.6, 1.6))
    axes.set_yticks([0, 1], ["worker 2", "worker 1"])
    axes.set_xticks([])
    axes.grid(False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
