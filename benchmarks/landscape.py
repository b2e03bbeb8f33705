"""The ten largest Hessian eigenvalues of a network for digits: Lanczos beside power iteration.

Both seek them to a relative accuracy of 1e-3, one after the other in one run on one thread,
with the same rule for when an estimate is good enough; the errors are measured against
Lanczos at 1e-10. Told are the Hessian-vector products and the ratios power over Lanczos.
`--save` keeps the results, with a description of the machine, for the chapter
optimization/landscape. Takes about two minutes; `--quick` makes three runs of each network.
"""

import argparse
import sys
import time
from collections.abc import Callable

import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from bnbook.data.digits import digits
from bnbook.optimization.dense import BatchNorm, DenseNetwork
from bnbook.optimization.descent import descend, tensors
from bnbook.optimization.hessian import (
    Hessian,
    Spectrum,
    classifier_loss,
    lanczos,
    power_iteration,
)
from bnbook.optimization.landscape_results import RESULTS, product_ratio
from bnbook.training import timing

WIDTHS, STEPS, K, RTOL = (64, 40, 40, 10), 50, 10, 1e-3
KINDS = {"norm": BatchNorm, "plain": None}


def timed(
    find: Callable[..., Spectrum], hessian: Hessian, seed: int
) -> tuple[Spectrum, float]:
    """The eigenvalues, and the seconds they took."""
    start = time.perf_counter()
    found = find(hessian, K, rtol=RTOL, seed=seed)
    return found, time.perf_counter() - start


def measure(runs: int, bar: tqdm) -> list[dict]:
    """One row for each network and seed."""
    x, t = tensors(digits().standardized().train)
    rows = []
    for kind, normalization in KINDS.items():
        for seed in range(runs):
            network = DenseNetwork(WIDTHS, normalization=normalization, seed=seed)
            descend(network, x, t, rate=0.1, steps=STEPS)
            hessian = Hessian(*classifier_loss(network, x, t))
            exact = lanczos(hessian, K, rtol=1e-10).values
            row = {"kind": kind, "seed": seed, "parameters": hessian.size}
            for name, find in (("lanczos", lanczos), ("power", power_iteration)):
                found, seconds = timed(find, hessian, seed)
                error = abs(found.values / exact - 1).max()
                if not error <= RTOL:
                    raise AssertionError(f"{name} errs by {error:.2g} for {row}")
                row[f"{name}_products"], row[f"{name}_error"] = (
                    found.products,
                    float(error),
                )
                row[f"{name}_seconds"] = seconds
            rows.append(row)
            bar.update()
    return rows


def report(results: dict) -> None:
    """Print what was measured."""
    print("; ".join(f"{name} {value}" for name, value in results["machine"].items()))
    print(f"\nten largest eigenvalues to {RTOL:g}: Hessian-vector products")
    for row in results["runs"]:
        slower = row["power_seconds"] / row["lanczos_seconds"]
        print(
            f"  {row['kind']:6} seed {row['seed']}, {row['parameters']} parameters: "
            f"Lanczos {row['lanczos_products']}, power {row['power_products']} "
            f"({row['power_products'] / row['lanczos_products']:.1f}x, "
            f"time {slower:.1f}x)"
        )
    least = min(product_ratio(row) for row in results["runs"])
    print(f"\nat least {least:.1f} times fewer products (wanted: 3)")


def main() -> int:
    """Measure, print, and save if asked to; 1 if Lanczos saves less than a factor 3."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--save", action="store_true", help="keep the results")
    parser.add_argument(
        "--quick", action="store_true", help="three runs of each network"
    )
    options = parser.parse_args()
    runs = 3 if options.quick else 8
    torch.set_num_threads(1)
    with threadpool_limits(1), tqdm(total=runs * len(KINDS), disable=None) as bar:
        results = {"machine": timing.machine(), "runs": measure(runs, bar)}
    report(results)
    if options.save:
        print(f"\nsaved as {timing.save('landscape', results, RESULTS).name}")
    return 0 if min(product_ratio(row) for row in results["runs"]) >= 3 else 1


if __name__ == "__main__":
    sys.exit(main())
