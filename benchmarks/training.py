"""What batch normalization costs in NumPy, beside a control and beside PyTorch.

Everything is measured in one run, in turns, and told as ratios with their quartiles.
`--save` keeps the results, with a description of the machine, for the chapter
training/cost. Takes about four minutes on a quiet machine; `--quick` makes few turns, to try it out.
"""

import argparse
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from tqdm import tqdm

from bnbook.training import cost_results, higgs, timing
from bnbook.training.blocks import aligned
from bnbook.training.cost import SOURCE_BATCH, SOURCE_SIZES
from bnbook.training.cost_results import FAIR, GROWTH
from bnbook.training.fast_network import FastStep, fold, predictor
from bnbook.training.ladder import STEPS, blocks
from bnbook.training.network import Network, training_step
from bnbook.training.sgd import SGD
from bnbook.training.timing import Spread, interleaved, ratio

BLAS = ThreadpoolController()
CORES = min(max(lib["num_threads"] for lib in BLAS.info()), torch.get_num_threads())
SHAPE = (1024, 1000)
RATE = 1e-3


def networks(sizes: tuple[int, ...]) -> dict[str, Network]:
    """The control and the normalized network, from the same weights."""
    kinds = {"control": False, "bn": True}
    loss = "logistic" if sizes[-1] == 1 else "softmax"
    return {
        name: Network(sizes, batch_norm=norm, loss=loss, seed=0)
        for name, norm in kinds.items()
    }


def batch(sizes: tuple[int, ...], rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Normal inputs and random labels."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, sizes[0])).astype(np.float32)
    return x, rng.integers(0, max(sizes[-1], 2), rows)


def fast_steps(
    sizes: tuple[int, ...], rows: int, threads: int
) -> dict[str, Callable[[], object]]:
    """A training step of both models, with reused buffers."""
    x, t = batch(sizes, rows)
    return {
        name: partial(
            FastStep(network, rows, threads=threads), x, t, learning_rate=RATE
        )
        for name, network in networks(sizes).items()
    }


def readable_steps(sizes: tuple[int, ...], rows: int) -> dict[str, Callable]:
    """A training step of both models as `bnbook.training.network` makes it."""
    x, t = batch(sizes, rows)
    return {
        f"readable {name}": partial(training_step, network, SGD(RATE), x, t)
        for name, network in networks(sizes).items()
    }


def predictions(sizes: tuple[int, ...], rows: int, threads: int) -> dict[str, Callable]:
    """Inference of the control, of the normalized network, and of the folded one."""
    x, t = batch(sizes, rows)
    models = networks(sizes)
    FastStep(models["bn"], rows)(x, t, learning_rate=RATE)  # running statistics
    models["folded"] = fold(models["bn"])
    return {
        name: partial(predictor(model, rows, threads=threads), x)
        for name, model in models.items()
    }


def layers(rows: int, columns: int, threads: int) -> dict[str, Callable]:
    """Forward and backward pass of one layer: every step of the ladder, and PyTorch."""
    rng = np.random.default_rng(0)
    # Aligned and in large pages for both: PyTorch reads the same x and dy.
    x, dy, y, dx = aligned([(rows, columns)] * 4, np.float32)
    x[:], dy[:] = rng.normal(size=(2, rows, columns))
    gamma, beta = rng.normal(size=(2, columns)).astype(np.float32)
    tensors = [torch.from_numpy(v).requires_grad_() for v in (x, gamma, beta)]
    upstream = torch.from_numpy(dy)

    def torch_layer() -> np.ndarray:
        y = torch.nn.functional.batch_norm(
            tensors[0], None, None, *tensors[1:], training=True
        )
        return torch.autograd.grad(y, tensors, upstream)[0].numpy()

    functions = {
        step.__name__: partial(step, x, gamma, beta, dy, (y, dx)) for step in STEPS
    }
    for name, arrays in (("blocks", (y, dx)), ("new", (None, None)), ("one", (dx, dx))):
        functions[name] = partial(blocks, x, gamma, beta, dy, arrays, threads)
    functions["torch"] = torch_layer
    for function in functions.values():
        np.testing.assert_allclose(function(), torch_layer(), rtol=1e-3, atol=1e-4)
    return functions


def bandwidth() -> float:
    """Bytes a second in the fastest copy of 64 MB, read and written together."""
    source, target = np.ones((2, 16 * 2**20), np.float32)
    seconds = interleaved({"copy": partial(np.copyto, target, source)}, 15)["copy"]
    return 2 * source.nbytes / float(seconds.min())


def peak() -> float:
    """Flops a second of the fastest float32 matrix product of the size of a layer."""
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(3, 1024, 1024)).astype(np.float32)
    seconds = interleaved({"product": partial(np.matmul, a, b, out=c)}, 25)["product"]
    return 2 * 1024**3 / float(seconds.min())


def extra_memory(sizes: tuple[int, ...], rows: int) -> float:
    """Peak memory of a step with batch normalization minus that of the control, in
    activation-sized arrays a hidden layer."""
    x, t = batch(sizes, rows)
    peaks = {}
    for name, network in networks(sizes).items():
        tracemalloc.start()
        FastStep(network, rows)(x, t, learning_rate=RATE)
        peaks[name] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return (peaks["bn"] - peaks["control"]) / (4 * rows * sum(sizes[1:-1]))


def measure(turns: int, threads: int, bar: tqdm) -> dict:
    """All measurements on so many threads."""
    torch.set_num_threads(threads)
    found: dict = {"threads": threads}
    with BLAS.limit(limits=threads, user_api="blas"):
        found["flops"], found["bandwidth"] = peak(), bandwidth()
        bar.update()
        functions = fast_steps(SOURCE_SIZES, SOURCE_BATCH, threads)
        functions |= readable_steps(SOURCE_SIZES, SOURCE_BATCH)
        step = interleaved(functions, turns, lead=1)
        found["step_seconds"] = asdict(Spread.of(step["control"]))
        found["step"] = asdict(ratio(step, "bn", "control"))
        found["readable_step"] = asdict(ratio(step, "readable bn", "readable control"))
        found["speedup_control"] = asdict(ratio(step, "readable control", "control"))
        bar.update()
        inference = interleaved(
            predictions(SOURCE_SIZES, SOURCE_BATCH, threads), 2 * turns, lead=1
        )
        for name in ("bn", "folded"):
            found[f"inference_{name}"] = asdict(ratio(inference, name, "control"))
        bar.update()
        layer = interleaved(layers(*SHAPE, threads), 2 * turns, lead=2)
        found["torch_seconds"] = asdict(Spread.of(layer["torch"]))
        found["layer"] = {
            name: asdict(ratio(layer, name, "torch"))
            for name in layer
            if name != "torch"
        }
        bar.update()
    return found


def growth(turns: int, bar: tqdm) -> dict[str, list[dict]]:
    """How the ratio of the training steps depends on M, D and depth, on one thread."""
    found: dict[str, list[dict]] = {}
    cases = {
        "batch": [(SOURCE_SIZES, n, n) for n in GROWTH["batch"]],
        "width": [((28, *[n] * 4, 1), SOURCE_BATCH, n) for n in GROWTH["width"]],
        "depth": [((28, *[1000] * n, 1), SOURCE_BATCH, n) for n in GROWTH["depth"]],
    }
    for name, settings in cases.items():
        found[name] = []
        for sizes, rows, value in settings:
            with BLAS.limit(limits=1, user_api="blas"):
                step = interleaved(fast_steps(sizes, rows, 1), turns)
            found[name].append({"value": value, **asdict(ratio(step, "bn", "control"))})
            bar.update()
    return found


def experiments(turns: int, bar: tqdm) -> dict[str, dict]:
    """Ratio of the training steps at the sizes of the experiments on convergence, on one
    thread."""
    hidden = [higgs.WIDTH] * higgs.LAYERS
    few = [higgs.DIGITS_WIDTH] * higgs.LAYERS
    settings = {
        "collisions": ((28, *hidden, 1), higgs.BATCH),
        "digits": ((64, *few, 10), higgs.DIGITS_BATCH),
    }
    found = {}
    for name, (sizes, rows) in settings.items():
        with BLAS.limit(limits=1, user_api="blas"):
            step = interleaved(fast_steps(sizes, rows, 1), 10 * turns)
        found[name] = asdict(ratio(step, "bn", "control"))
        bar.update()
    return found


def report(results: dict) -> None:
    """Print what was measured."""
    print("; ".join(f"{name} {value}" for name, value in results["machine"].items()))
    source = ("1.55", "1.34", "", "")
    for run in results["runs"]:
        print(f"\n{run['threads']} thread(s), medians and quartiles of the ratios")
        rows = (
            ("training step, BN over control", run["step"]),
            ("inference, BN over control", run["inference_bn"]),
            ("inference, folded over control", run["inference_folded"]),
            ("layer, NumPy over PyTorch", run["layer"][FAIR]),
        )
        for (name, spread), theirs in zip(rows, source, strict=True):
            beside = f"   source {theirs}" if theirs else ""
            print(f"  {name:<32} {Spread(**spread)}{beside}")
        steps = ", ".join(
            f"{name} {spread['median']:.2f}" for name, spread in run["layer"].items()
        )
        print(f"  layer over PyTorch, step by step: {steps}")
        print(f"  readable network, BN over control {Spread(**run['readable_step'])}")
        print(
            f"  peak {run['flops'] / 1e9:.0f} Gflop/s, copy {run['bandwidth'] / 1e9:.1f} GB/s"
        )
    print(
        f"\nextra memory of BN in training: {results['extra_memory']:.2f} activations a layer"
    )
    for name, spread in results["experiments"].items():
        print(f"training step, sizes of the {name}: {Spread(**spread)}")
    for name, cases in results["growth"].items():
        listed = ", ".join(f"{case['value']}: {case['median']:.2f}" for case in cases)
        print(f"training step by {name}: {listed}")


def main() -> int:
    """Measure, print, and save if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--save", action="store_true", help="keep the results")
    parser.add_argument("--quick", action="store_true", help="few turns")
    options = parser.parse_args()
    turns = 3 if options.quick else 21
    threads = sorted({1, CORES})
    cases = sum(map(len, GROWTH.values()))
    with tqdm(total=4 * len(threads) + cases + 2, disable=None) as bar:
        runs = [measure(turns, count, bar) for count in threads]
        results = {
            "machine": timing.machine(),
            "runs": runs,
            "growth": growth(max(3, turns // 2), bar),
            "experiments": experiments(turns, bar),
            "extra_memory": extra_memory(SOURCE_SIZES, SOURCE_BATCH),
        }
    report(results)
    if options.save:
        cost_results.check(results)
        print(f"\nsaved as {timing.save('cost', results).name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
