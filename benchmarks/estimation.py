"""What a training step costs by each estimate of the gradient, beside batch normalization.

Time: all methods take turns in one run, on one thread, and only ratios within a turn are
told, of the processor's time. Each method finds the gradients of the same network and
batch; all but "streamed" hold the whole batch in memory. Memory: the most that PyTorch
holds at a time, by batch size. `--save` keeps the results, with a description of the
machine, for the chapter estimation/two_stage. Takes about two minutes; `--quick` makes
fewer turns.
"""

import argparse
import time

import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from bnbook.estimation.two_stage_cost import (
    METHODS,
    PLAIN,
    RESULTS,
    TARGETS,
    peak_bytes,
    training_step,
)
from bnbook.training import timing

WIDTHS, BATCH = (128, 32), 32
BATCHES = (8, 16, 32, 64, 128)
REMEMBERED = (PLAIN, "two towers", "one forward pass", "streamed")


def measure_time(turns: int, bar: tqdm) -> list[dict]:
    """One row for each width and method: the ratio of its time to that of PLAIN."""
    rows = []
    for width in WIDTHS:
        steps = {m: training_step(m, width=width, batch=BATCH) for m in METHODS}
        seconds = timing.interleaved(steps, turns, clock=time.process_time)
        for method in METHODS:
            spread = timing.ratio(seconds, method, PLAIN)
            rows.append(
                {
                    "width": width,
                    "method": method,
                    "ratio": spread.median,
                    "low": spread.low,
                    "high": spread.high,
                    "turns": turns,
                }
            )
        bar.update()
    return rows


def measure_memory(bar: tqdm) -> list[dict]:
    """One row for each method and batch size."""
    rows = []
    for method in REMEMBERED:
        for batch in BATCHES:
            step = training_step(method, width=32, batch=batch)
            step()  # the gradients' own memory and first-call buffers
            rows.append({"method": method, "batch": batch, "bytes": peak_bytes(step)})
        bar.update()
    return rows


def report(results: dict) -> None:
    """Print what was measured, and which targets are missed."""
    print("; ".join(f"{name} {value}" for name, value in results["machine"].items()))
    missed = []
    for row in results["time"]:
        target = TARGETS.get(row["method"]) if row["width"] == WIDTHS[0] else None
        wanted = "" if target is None else f", wanted at most {target}"
        if target is not None and row["ratio"] > target:
            missed.append(row["method"])
        print(
            f"  {row['width']:3} channels, {row['method']:28} {row['ratio']:.2f} "
            f"({row['low']:.2f} to {row['high']:.2f}){wanted}"
        )
    for row in results["memory"]:
        print(
            f"  batch {row['batch']:3}, {row['method']:28} {row['bytes'] / 2**20:.1f} MiB"
        )
    print("\ntarget missed:", ", ".join(missed) or "none")


def main() -> None:
    """Measure, print, and save if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--save", action="store_true", help="keep the results")
    parser.add_argument("--quick", action="store_true", help="five turns")
    options = parser.parse_args()
    turns = 5 if options.quick else 21
    torch.set_num_threads(1)
    total = len(WIDTHS) + len(REMEMBERED)
    with threadpool_limits(1), tqdm(total=total, disable=None) as bar:
        results = {
            "machine": timing.machine(),
            "time": measure_time(turns, bar),
            "memory": measure_memory(bar),
        }
    report(results)
    if options.save:
        print(f"\nsaved as {timing.save('two_stage', results, RESULTS).name}")


if __name__ == "__main__":
    main()
