"""What kind of node an operation of a traced graph is, decided by the definitions.

An operation on batch nodes is a batch node if it commutes with taking one example, and a
reduction if its value is the mean of its values on single examples.

Source: Anonymous (2022), §2.1.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import fx, nn

BATCH, REDUCTION, PARAMETER = "batch", "reduction", "parameter"
DERIVED, CONSTANT = "derived", "constant"
_SINGLE = (
    "node {!r} ({}) has no value for one example alone: it needs more of them, or the size of "
    "the batch is built in; use -1 in place of the size, and means over examples"
)


def classify(
    node: fx.Node, kinds: Mapping[str, str], results: Mapping[str, torch.Tensor]
) -> tuple[str, torch.Tensor]:
    """Kind and value of an operation, from the definitions of the two kinds of node.

    Args:
        node: the operation.
        kinds: of the nodes before it, by name.
        results: their values.

    Raises:
        ValueError: it mixes examples and is no mean over them, cannot be applied to one
            example, draws random numbers, writes into its input, or returns something
            other than a finite tensor.
    """
    whole = checked_call(node, results)
    own = {kinds[n.name] for n in node.all_input_nodes}
    if BATCH not in own:
        return (DERIVED if own - {CONSTANT} else CONSTANT), whole
    batch = [n.name for n in node.all_input_nodes if kinds[n.name] == BATCH]
    possible = {BATCH, REDUCTION}
    for seed in range(3):  # the batch itself, then two others of its shape
        values = dict(results)
        for name in batch if seed else ():
            values[name] = _other(results[name], seed)
        total = checked_call(node, values)
        if not torch.isfinite(total).all():
            if seed:
                continue  # left the domain of, for example, a logarithm
            raise ValueError(f"node {node.name!r} is not finite; mend the input")
        possible &= kinds_on(node, values, batch, total)
    if len(possible) != 1:
        raise ValueError(
            f"node {node.name!r} ({_target(node)}) mixes examples and is no mean over "
            "them, so the S-graph has no place for it; write it with means, for example a "
            "variance as ((x - x.mean(0))**2).mean(0), and a sum as a mean"
        )
    return possible.pop(), whole


def kinds_on(
    node: fx.Node,
    values: Mapping[str, torch.Tensor],
    batch: Sequence[str],
    total: torch.Tensor,
) -> set[str]:
    """What the operation can be: "batch" if it commutes with taking one example,
    "reduction" if its value is the mean of its values on single examples.

    Args:
        node: the operation.
        values: of the nodes that it reads, by name.
        batch: names of the batch nodes among them.
        total: its value.

    Raises:
        ValueError: it cannot be applied to one example.
    """
    found, parts = {BATCH, REDUCTION}, []
    for n in range(len(values[batch[0]])):
        rows = {name: values[name][n : n + 1] for name in batch}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of one example, as std() gives
                parts.append(checked_call(node, {**values, **rows}))
        except (RuntimeError, ValueError, IndexError) as error:
            raise ValueError(_SINGLE.format(node.name, _target(node))) from error
    if len({part.shape for part in parts}) > 1:
        return set()
    if total.shape != (len(parts), *parts[0].shape[1:]) or not parts[0].ndim:
        found.discard(BATCH)
    if total.shape != parts[0].shape or not total.is_floating_point():
        found.discard(REDUCTION)
    size = max(float(values[name].double().abs().max()) for name in batch)
    for kind in tuple(found):
        apart = torch.cat(parts) if kind == BATCH else torch.stack(parts).mean(0)
        if not _close(apart, total, parts, size):
            found.discard(kind)
    return found


def _close(apart, total, parts: list[torch.Tensor], size: float) -> bool:
    """Whether both agree up to half of the digits of the largest value in `parts`. Where
    all are rounding errors of inputs of this size, they contradict nothing."""
    if not total.is_floating_point():
        return bool((apart == total).all())
    if not total.numel():
        return True
    eps = torch.finfo(total.dtype).eps
    largest = torch.stack(parts).abs().max()
    within = (apart - total).abs().max() <= math.sqrt(eps) * largest
    cancelled = max(largest, total.abs().max()) <= 100 * eps * size
    return bool(within or cancelled)


def _other(x: torch.Tensor, seed: int) -> torch.Tensor:
    if not x.is_floating_point():
        return x
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x + (0.1 + x.abs().mean()) * noise.to(x.device)


def checked_call(node: fx.Node, results: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The value of an operation; refuses what is not a fixed function of its inputs."""
    arguments = [results[n.name] for n in node.all_input_nodes]
    versions = [a._version for a in arguments]
    with torch.no_grad():
        value = call(node, lambda n: results[n.name])
        if [a._version for a in arguments] != versions:
            raise ValueError(
                f"node {node.name!r} writes into its input; use inplace=False"
            )
        if not isinstance(value, torch.Tensor):
            raise ValueError(
                f"node {node.name!r} ({_target(node)}) returns {type(value).__name__}, not "
                "a tensor; use for example x.flatten(1) in place of the size of x"
            )
        again = call(node, lambda n: results[n.name])
    if not torch.equal(value.nan_to_num(), again.nan_to_num()):
        raise ValueError(
            f"node {node.name!r} draws random numbers; remove it, or use evaluation mode"
        )
    return value


def call(node: fx.Node, value: Callable[[fx.Node], torch.Tensor]):
    """Execute an operation; `value` gives the values of the nodes it reads."""
    args = fx.map_arg(node.args, value)
    kwargs = fx.map_arg(node.kwargs, value)
    if node.op == "call_method":
        return getattr(args[0], node.target)(*args[1:], **kwargs)
    return node.target(*args, **kwargs)


def attribute(module: nn.Module, path: str) -> torch.Tensor:
    """The parameter or buffer at a path such as "0.weight"."""
    for part in path.split("."):
        module = getattr(module, part)
    return module


def _target(node: fx.Node) -> str:
    return getattr(node.target, "__name__", str(node.target))
