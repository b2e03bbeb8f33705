"""Two processes against one: the same step, and the same run after a worker was killed."""

import copy
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from bnbook.estimation.communication import counted
from bnbook.estimation.convert import convert_normalization, method_of
from bnbook.estimation.train import train
from bnbook.estimation.train_settings import Settings
from bnbook.estimation.train_state import load_checkpoint
from bnbook.estimation.two_stage import two_stage_backward
from bnbook.estimation.workers import (
    StatisticsMean,
    run_workers,
    sum_gradients,
    sum_over_workers,
)

KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has one way only


@dataclass(frozen=True)
class Step:
    """What a worker holds after one step.

    Attributes:
        loss: mean over the examples of all workers.
        gradients: of the parameters, by name.
        statistics: means, variances and counts, by name.
        within: how many numbers this worker sent in each round of messages within the
            passes.
        after: and in each round after them.
    """

    loss: torch.Tensor
    gradients: dict[str, torch.Tensor]
    statistics: dict[str, torch.Tensor]
    within: list[int]
    after: list[int]

    def flat(self, what: str) -> torch.Tensor:
        """The "gradients" or "statistics" in one row, float64."""
        values = getattr(self, what).values()
        return torch.cat([value.flatten().double() for value in values])


def step_of_workers(
    model: nn.Module, x: torch.Tensor, t: torch.Tensor, shares: Sequence[int]
) -> list[Step]:
    """One step with a batch that several processes share.

    Args:
        model: with the normalizations of one method, in training mode.
        x, t: the whole batch.
        shares: how many examples each process takes, in order.

    Returns:
        The step as each worker sees it.

    Raises:
        ValueError: the shares do not add up to the batch.
    """
    if sum(shares) != len(x) or min(shares) < 1:
        raise ValueError(
            f"shares must be positive and add up to {len(x)} examples, got {list(shares)}"
        )
    return run_workers(_own_step, model, x, t, tuple(shares), workers=len(shares))


def _own_step(model, x, t, shares) -> Step:
    rank = dist.get_rank()
    x, t = x.split(shares)[rank], t.split(shares)[rank]
    return make_step(model, x, t, examples=sum(shares))


def make_step(
    model: nn.Module, x: torch.Tensor, t: torch.Tensor, *, examples: int
) -> Step:
    """The step of one worker, or, without a process group, of the only one.

    The loss of each worker is its share of the mean over all `examples`, so the gradients
    are added up, whatever the shares.

    Args:
        model: with the normalizations of one method, in training mode.
        x, t: the examples of this worker.
        examples: those of all workers.
    """
    model = copy.deepcopy(model)
    statistics = StatisticsMean(model)
    grouped = dist.is_initialized()
    with counted() as within:
        if method_of(model) == "two_stage":
            add_up = sum_over_workers if grouped else None
            loss = two_stage_backward(model, x, t, F.cross_entropy, reduce=add_up)
        else:
            loss = F.cross_entropy(model(x), t, reduction="sum") / examples
            loss.backward()
    statistics.add(len(x))
    with counted() as after:
        sum_gradients(model)
        statistics.finish()
    total = loss.detach().clone()
    sum_over_workers([total])
    gradients = {n: p.grad for n, p in model.named_parameters()}
    statistics_now = dict(model.named_buffers())
    return Step(total, gradients, statistics_now, within.calls, after.calls)


def step_of_one(model: nn.Module, x: torch.Tensor, t: torch.Tensor) -> Step:
    """The same step in one process with the whole batch; "sync" is batch normalization."""
    if method_of(model) == "sync":
        model = convert_normalization(model, "batch", dimensions=2)
    return make_step(model, x, t, examples=len(x))


def killed_and_resumed(
    settings: Settings, folder: Path, *, kill_at: int, workers: int = 2
) -> tuple[dict, dict, int]:
    """Train twice: without interruption, and with the last worker killed on the way.

    After the kill the run is started again with the same settings.

    Args:
        settings: of the run.
        folder: for the files of both.
        kill_at: number of steps after which the worker gets SIGKILL.
        workers: number of processes.

    Returns:
        The final checkpoint of the uninterrupted run, that of the resumed run, and the
        step from which it resumed.

    Raises:
        RuntimeError: the worker survived.
    """
    whole, broken = Path(folder) / "whole", Path(folder) / "broken"
    run_workers(_train_until, settings, whole, None, workers=workers)
    try:
        run_workers(_train_until, settings, broken, kill_at, workers=workers)
    except RuntimeError:
        pass  # as it should be: a worker is dead, and the others cannot go on
    else:
        raise RuntimeError("the worker survived; kill_at must be a step of the run")
    state = load_checkpoint(broken)
    resumed_from = 0 if state is None else state["step"]
    run_workers(_train_until, settings, broken, None, workers=workers)
    return load_checkpoint(whole), load_checkpoint(broken), resumed_from


def _train_until(settings: Settings, folder: Path, kill_at: int | None) -> None:
    last = dist.get_rank() == dist.get_world_size() - 1

    def after_step(step: int) -> None:
        if step == kill_at and last:
            os.kill(os.getpid(), KILL)

    train(settings, folder, after_step=after_step)


def largest_difference(one: dict, other: dict) -> float:
    """Largest difference of two checkpoints' models and optimizers, entry by entry.

    Raises:
        ValueError: they do not hold the same entries.
    """
    first, second = dict(_tensors(one)), dict(_tensors(other))
    if first.keys() != second.keys():
        raise ValueError(
            f"the checkpoints differ in {sorted(first.keys() ^ second.keys())[:5]}"
        )
    return max(
        float((first[n].double() - second[n].double()).abs().max()) for n in first
    )


def _tensors(value, name: str = ""):
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _tensors(part, f"{name}.{key}")
    elif isinstance(value, list):
        for key, part in enumerate(value):
            yield from _tensors(part, f"{name}.{key}")
