"""How fast a layer is with its weights in bits, beside float32 in NumPy and in PyTorch.

All are timed on one thread, in turns, and told as ratios: float32 over packed. Each
session draws new weights and inputs. If there is a C compiler, the same loop compiled is
timed too. `--save` keeps the results, with a description of the machine, for the chapter
propagation/deploy. Takes about five minutes; `--quick` makes three short sessions.
"""

import argparse
import ctypes
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from bnbook.data.digits import digits
from bnbook.propagation.binary import BinaryLinear, Sign
from bnbook.propagation.deploy import pack_network
from bnbook.propagation.deploy_results import RESULTS
from bnbook.propagation.deploy_training import (
    LARGEST,
    bytes_of,
    inputs,
    predictions,
    train,
)
from bnbook.propagation.packing import (
    Ternary,
    pack_signs,
    pack_ternary,
    sign_dot,
    ternary_dot,
)
from bnbook.propagation.ternary import TernaryLinear
from bnbook.training import timing
from bnbook.training.timing import interleaved

WIDTHS, BATCHES = (256, 1024, 4096), (1, 16, 256)
LOOPS = """
#include <stdint.h>
void sign_dot(const uint64_t *a, const uint64_t *w, int32_t *s,
              long rows, long columns, long words, int length) {
  for (long m = 0; m < rows; m++)
    for (long d = 0; d < columns; d++) {
      int64_t differ = 0;
      for (long k = 0; k < words; k++)
        differ += __builtin_popcountll(a[m * words + k] ^ w[d * words + k]);
      s[m * columns + d] = length - 2 * (int32_t)differ;
    }
}
"""


def compiled() -> Callable | None:
    """`sign_dot` as the C compiler of this machine makes it; None if there is none."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "dot.c"), Path(folder, "dot.so")
        source.write_text(LOOPS, encoding="utf-8")
        flags = ["-O3", "-march=native", "-shared", "-fPIC"]
        subprocess.run([compiler, *flags, source, "-o", library], check=True)
        function = ctypes.CDLL(str(library)).sign_dot

    def run(a: np.ndarray, w: np.ndarray, s: np.ndarray, length: int) -> np.ndarray:
        pointers = (ctypes.c_void_p(array.ctypes.data) for array in (a, w, s))
        sizes = (ctypes.c_long(n) for n in (len(a), len(w), a.shape[1]))
        function(*pointers, *sizes, ctypes.c_int(length))
        return s

    return run


def layer(
    rows: int, width: int, seed: int, loop: Callable | None
) -> dict[str, Callable[[], np.ndarray]]:
    """One layer with `width` inputs and outputs, by every method, after a comparison."""
    rng = np.random.default_rng(seed)
    x = rng.choice(np.array([-1, 1], np.float32), (rows, width))
    w = rng.choice(np.array([-1, 1], np.float32), (width, width))
    t = rng.integers(-1, 2, (width, width)).astype(np.float32)
    a, bits, planes = pack_signs(x), pack_signs(w), pack_ternary(t)
    stored = np.asfortranarray(bits)
    planes = Ternary(*map(np.asfortranarray, planes))
    x_torch, w_torch = torch.from_numpy(x), torch.from_numpy(w)
    functions = {
        "numpy": lambda: x @ w.T,
        "torch": lambda: torch.nn.functional.linear(x_torch, w_torch).numpy(),
        "packed": partial(sign_dot, a, stored, width),
        "ternary": partial(ternary_dot, a, planes),
    }
    if loop is not None:
        s = np.empty((rows, width), np.int32)
        functions["compiled"] = partial(loop, a, bits, s, width)
    for name, function in functions.items():
        expected = x @ t.T if name == "ternary" else x @ w.T
        np.testing.assert_array_equal(function(), expected, err_msg=name)
    return functions


def layers(sessions: int, turns: int, bar: tqdm) -> list[dict]:
    """Medians of the seconds and of the ratios to both float32 layers, by session."""
    loop, found = compiled(), []
    for session in range(sessions):
        for width in WIDTHS:
            for rows in BATCHES:
                seconds = interleaved(
                    layer(rows, width, session, loop), turns, seed=session
                )
                for method in seconds:
                    row = {"session": session, "width": width, "rows": rows}
                    row |= {"method": method}
                    row["seconds"] = float(np.median(seconds[method]))
                    for base in ("numpy", "torch"):
                        ratio = np.median(seconds[base] / seconds[method])
                        row[f"{base}_over"] = float(ratio)
                    found.append(row)
                bar.update()
    return found


class PlainSign(torch.nn.Module):
    """The sign without a straight-through estimator."""

    def forward(self, s: torch.Tensor) -> torch.Tensor:
        """−1 and +1."""
        return torch.where(s >= 0, 1.0, -1.0)


@torch.no_grad()
def plain(model: torch.nn.Sequential) -> torch.nn.Sequential:
    """The network as one would run it in float32: fixed weights in `nn.Linear`, and no
    latent ones from which each call takes the signs anew."""
    parts = []
    for part in model:
        if isinstance(part, BinaryLinear | TernaryLinear):
            ternary = isinstance(part, TernaryLinear)
            w = part.ternary_weight() if ternary else part.binary_weight()
            layer = torch.nn.Linear(w.shape[1], w.shape[0], bias=False)
            layer.weight.copy_(w)
            parts.append(layer)
        else:
            parts.append(PlainSign() if isinstance(part, Sign) else part)
    return torch.nn.Sequential(*parts).eval()


def networks(sessions: int, turns: int, bar: tqdm) -> list[dict]:
    """The trained networks on one image and on the test set: medians of the seconds."""
    data, found = digits().test, []
    for session in range(sessions):
        for kind in ("binary", "ternary"):
            trained = train(kind, seed=session)
            packed, model = pack_network(trained, largest=LARGEST), plain(trained)
            x, _ = inputs(data, kind)
            np.testing.assert_array_equal(
                predictions(model, x), packed.predict(x.numpy())
            )
            for rows in (1, len(x)):
                some, pixels = x[:rows], x[:rows].numpy()
                functions = {
                    "torch": partial(predictions, model, some),
                    "packed": partial(packed.predict, pixels),
                }
                seconds = interleaved(functions, turns, seed=session)
                row = {"session": session, "kind": kind, "rows": rows}
                row |= {n: float(np.median(s)) for n, s in seconds.items()}
                row["torch_over"] = float(
                    np.median(seconds["torch"] / seconds["packed"])
                )
                row |= {"float_bytes": bytes_of(model), "bytes": packed.nbytes}
                found.append(row)
            bar.update()
    return found


def report(results: dict) -> None:
    """Print what was measured: medians over the sessions."""
    print("; ".join(f"{name} {value}" for name, value in results["machine"].items()))
    print("\nfloat32 over packed, one layer, median of the sessions")
    cases = {(r["width"], r["rows"], r["method"]) for r in results["layers"]}
    for width, rows, method in sorted(cases):
        if method in ("numpy", "torch"):
            continue
        chosen = [
            r
            for r in results["layers"]
            if (r["width"], r["rows"], r["method"]) == (width, rows, method)
        ]
        ratios = {
            base: np.median([r[f"{base}_over"] for r in chosen])
            for base in ("numpy", "torch")
        }
        text = ", ".join(f"{base} {value:.2f}" for base, value in ratios.items())
        print(f"  width {width:5} batch {rows:4} {method:9} {text}")
    print("\nwhole network, PyTorch over packed")
    for row in results["networks"]:
        print(
            f"  {row['kind']:8} session {row['session']}, {row['rows']:4} images: "
            f"{row['torch_over']:.2f}"
        )


def main() -> int:
    """Measure, print, and save if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--save", action="store_true", help="keep the results")
    parser.add_argument("--quick", action="store_true", help="three short sessions")
    options = parser.parse_args()
    sessions, turns = (3, 3) if options.quick else (5, 15)
    torch.set_num_threads(1)  # the packed layers use one
    total = sessions * (len(WIDTHS) * len(BATCHES) + 2)
    with threadpool_limits(1), tqdm(total=total, disable=None) as bar:
        results = {
            "machine": timing.machine(),
            "layers": layers(sessions, turns, bar),
            "networks": networks(sessions, turns, bar),
        }
    report(results)
    if options.save:
        print(f"\nsaved as {timing.save('deploy_speed', results, RESULTS).name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
