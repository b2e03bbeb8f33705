"""Several processes of one machine as workers, and what they tell each other."""

import io
import multiprocessing
import os
import re
import tempfile
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing.connection import wait
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from bnbook.estimation.running_norm import RunningNorm

AFTERMATH = 5.0  # seconds for the other workers to say what went wrong
PRELOAD = ["bnbook.estimation.at_scale"]  # by the server that workers are forked from


def run_workers(
    function: Callable, *args, workers: int = 2, timeout: float = 60.0
) -> list:
    """Call `function(*args)` in new processes that form a gloo group; return the results.

    What the processes print is dropped; what they raise is not.

    Args:
        function: of a module that the processes can import; it may use
            `torch.distributed`.
        args: its arguments, the same in each worker.
        workers: number of processes, each with one thread.
        timeout: seconds after which they are ended.

    Returns:
        The result of each worker, by rank.

    Raises:
        ValueError: workers is below 1.
        RuntimeError: a worker raised or died, with its traceback.
        TimeoutError: they took too long.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    # A server that has imported what takes seconds; Windows has none.
    server = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if server else "spawn")
    if server:
        context.set_forkserver_preload(PRELOAD)
    with tempfile.TemporaryDirectory() as folder:
        meeting = (Path(folder) / "meeting").as_uri()
        ends, processes = [], []
        for rank in range(workers):
            here, there = context.Pipe(duplex=False)
            job = there, rank, workers, meeting, timeout, function, args
            process = context.Process(target=_work, args=job, daemon=True)
            process.start()
            there.close()
            ends.append(here)
            processes.append(process)
        try:
            results = _all_received(ends, timeout)
        except BaseException:
            for process in processes:
                process.kill()  # they wait for each other
            raise
        finally:
            for process in processes:
                process.join()
    return results


def _work(pipe, rank, workers, meeting, timeout, function, args) -> None:
    torch.set_num_threads(1)
    with open(os.devnull, "w") as nowhere:  # gloo and others print to the file itself
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    try:
        dist.init_process_group(
            "gloo",
            init_method=meeting,
            rank=rank,
            world_size=workers,
            timeout=timedelta(seconds=timeout),
        )
        dist.barrier()  # who fails now does not break the meeting of the others
        buffer = io.BytesIO()
        torch.save(function(*args), buffer)
        pipe.send_bytes(b"+" + buffer.getvalue())
        dist.barrier()
        dist.destroy_process_group()
    except BaseException:
        pipe.send_bytes(b"-" + traceback.format_exc().encode())


def _all_received(ends, timeout: float) -> list:
    """The results by rank; of several failures the cause rather than what followed."""
    results, failures = [], []
    for rank, end in enumerate(ends):
        if failures and not wait([end], AFTERMATH):
            continue
        try:
            results.append(_received(end, rank, timeout))
        except RuntimeError as error:
            failures.append(error)
    if failures:
        raise min(failures, key=_is_aftermath)
    return results


def _is_aftermath(error: RuntimeError) -> bool:
    last = str(error).strip().rsplit("\n", 1)[-1]
    return bool(re.search(r"connect|gloo|peer|timed out", last, re.IGNORECASE))


def _received(end, rank: int, timeout: float):
    if not wait([end], timeout):
        raise TimeoutError(f"worker {rank} has not answered within {timeout:g} seconds")
    try:
        answer = end.recv_bytes()
    except EOFError as error:
        raise RuntimeError(f"worker {rank} died without an answer") from error
    if answer[:1] == b"-":
        raise RuntimeError(f"worker {rank} raised:\n{answer[1:].decode()}")
    return torch.load(io.BytesIO(answer[1:]), weights_only=False)


def world() -> int:
    """Number of workers; 1 without a process group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def sum_over_workers(tensors: Sequence[torch.Tensor]) -> None:
    """Replace each tensor by its sum over the workers, in one round; no group: as it is.

    All workers must pass tensors of the same shapes in the same order.
    """
    if world() == 1 or not tensors:
        return
    by_type: dict[torch.dtype, list[torch.Tensor]] = {}
    for tensor in tensors:
        by_type.setdefault(tensor.dtype, []).append(tensor)
    for group in by_type.values():
        flat = torch.cat([tensor.detach().flatten() for tensor in group])
        dist.all_reduce(flat)
        sizes = [tensor.numel() for tensor in group]
        for tensor, total in zip(group, flat.split(sizes), strict=True):
            tensor.detach().copy_(total.reshape(tensor.shape))


def sum_gradients(model: nn.Module) -> None:
    """Replace every `.grad` by its sum over the workers, in one round.

    A parameter that has none on this worker may have one on another, so it counts as 0.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    sum_over_workers([parameter.grad for parameter in parameters])


class StatisticsMean:
    """The running statistics after one step, as the mean over its microbatches and workers.

    A step of W workers, with several microbatches each, starts from one state. `add` takes
    in where a microbatch has moved the statistics and puts them back to that state, so
    that the next sees the same; `finish` sets the mean over all microbatches of all
    workers. Every update is linear in the statistics of the microbatch, so with the same
    number of examples this is one update with the mean of the microbatches' statistics.

    Args:
        model: its `nn.BatchNorm` and normalizations of this part are looked after.
    """

    def __init__(self, model: nn.Module):
        """Remember the state."""
        kinds = nn.modules.batchnorm._BatchNorm, RunningNorm
        norms = [m for m in model.modules() if isinstance(m, kinds)]
        norms = [m for m in norms if m.running_mean is not None]
        self.statistics = [v for m in norms for v in (m.running_mean, m.running_var)]
        self.counts = [m.num_batches_tracked for m in norms]
        self.before = [v.clone() for v in (*self.statistics, *self.counts)]
        self.sums = [torch.zeros_like(v) for v in self.statistics]
        self.weight = (
            torch.zeros_like(self.sums[0][0]) if self.sums else torch.zeros(())
        )

    @torch.no_grad()
    def add(self, examples: int) -> None:
        """Take in what a microbatch of so many examples has done, and undo it."""
        for total, value in zip(self.sums, self.statistics, strict=True):
            total.add_(value, alpha=examples)
        self.weight += examples
        for value, old in zip(
            (*self.statistics, *self.counts), self.before, strict=True
        ):
            value.copy_(old)

    @torch.no_grad()
    def finish(self) -> None:
        """Set the statistics to the mean, the same on all workers, and count one batch.

        Raises:
            ValueError: nothing was added.
        """
        sum_over_workers([*self.sums, self.weight])
        if not self.weight:
            raise ValueError("no microbatch was added to the mean; call add first")
        for value, total in zip(self.statistics, self.sums, strict=True):
            value.copy_(total / self.weight.to(total))
        for count in self.counts:
            count += 1
