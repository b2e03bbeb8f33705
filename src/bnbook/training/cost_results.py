"""The committed measurements of the chapter on cost, refused unless they are complete."""

from collections.abc import Mapping
from pathlib import Path

from bnbook.training import ladder, timing

BATCHES = (128, 256, 512, 1024, 2048, 4096)
WIDTHS = (100, 200, 500, 1000, 2000)
DEPTHS = (1, 2, 4, 8)
GROWTH = {"batch": BATCHES, "width": WIDTHS, "depth": DEPTHS}
LEAST_TURNS, LEAST_GROWTH_TURNS = 15, 10
# What the last step of the ladder writes into: "new" is what PyTorch does.
ARRAYS = {
    "blocks": "two arrays, kept",
    "new": "two arrays, new each time",
    "one": "one array, kept",
}
FAIR = "new"
SLOWER, LATER = (
    0.9,
    1.2,
)  # what more threads may lose of the peak, and of PyTorch's time


def check(results: Mapping) -> None:
    """Refuse measurements of a short or a disturbed run.

    Raises:
        ValueError: a value of the growth or an implementation is missing, there are too
            few turns, or more threads made matrix products or PyTorch slower.
    """
    runs = results["runs"]
    if [run["threads"] for run in runs] not in ([1], [1, runs[-1]["threads"]]):
        _refuse("the runs must be on one thread, then on all")
    for run in runs:
        if set(run["layer"]) != {step.__name__ for step in ladder.STEPS} | set(ARRAYS):
            _refuse(f"the implementations of a layer are {sorted(run['layer'])}")
        names = ("step", "readable_step", "inference_bn", "inference_folded")
        spreads = [*(run[name] for name in names), *run["layer"].values()]
        _require_turns(spreads, LEAST_TURNS)
    for name, values in GROWTH.items():
        found = results["growth"][name]
        if [case["value"] for case in found] != list(values):
            _refuse(f"the growth by {name} must have the values {values}")
        _require_turns(found, LEAST_GROWTH_TURNS)
    _require_turns(results["experiments"].values(), LEAST_TURNS)
    one, full = runs[0], runs[-1]
    if full["flops"] < SLOWER * one["flops"]:
        _refuse("matrix products are slower on all threads than on one")
    if full["torch_seconds"]["median"] > LATER * one["torch_seconds"]["median"]:
        _refuse("PyTorch's layer is slower on all threads than on one")


def load(folder: Path = timing.RESULTS) -> dict:
    """Read the measurements.

    Raises:
        FileNotFoundError, ValueError: they are missing, or `check` refuses them.
    """
    results = timing.load("cost", folder)
    check(results)
    return results


def _require_turns(spreads, least: int) -> None:
    fewest = min(spread["turns"] for spread in spreads)
    if fewest < least:
        _refuse(f"a ratio has {fewest} turns, fewer than {least}")


def _refuse(why: str) -> None:
    raise ValueError(f"{why}; measure again on a quiet machine: make bench ARGS=--save")
