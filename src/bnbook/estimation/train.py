"""Train a network with any method of this part, on one process or many.

    torchrun --nproc-per-node 2 -m bnbook.estimation.train laptop --output runs/first

The same command resumes the run if it was interrupted. `--help` says the rest.
"""

import argparse
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from inspect import signature
from pathlib import Path

import torch
import torch.distributed as dist
import yaml
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from tqdm import tqdm

from bnbook.estimation.convert import convert_normalization
from bnbook.estimation.example_noise import ExampleNoise, Keyed, step_keys
from bnbook.estimation.train_data import batches, make_data, make_model
from bnbook.estimation.train_settings import Settings, load_settings, same_run
from bnbook.estimation.train_state import Log, load_checkpoint, save_checkpoint
from bnbook.estimation.two_stage import tower, two_stage_backward
from bnbook.estimation.workers import StatisticsMean, sum_gradients, sum_over_workers


class Training:
    """One run: model, optimizer, and the steps.

    Args:
        settings: of the run.
        folder: of its checkpoint and log; all processes must see the same one.

    Raises:
        ValueError: the processes find different checkpoints, the workers cannot be shared
            out among them, "sync" would see a part of the batch only, the checkpoint is of
            another run, or as `convert_normalization`, `make_model` and `make_data`.
    """

    def __init__(self, settings: Settings, folder: Path):
        """Build everything, and take up the checkpoint if there is one."""
        self.settings, self.folder = settings, folder
        self.rank, self.world = _place()
        if settings.workers % self.world:
            raise ValueError(
                f"{settings.workers} workers cannot be shared out evenly among {self.world} "
                "processes; start as many processes as divide the workers"
            )
        if settings.method == "sync" and settings.workers != self.world:
            raise ValueError(
                f"sync normalizes over all workers at once, so it needs {settings.workers} "
                f"processes, got {self.world}; start as many, or set workers={self.world}"
            )
        share = settings.workers // self.world
        self.mine = range(self.rank * share, (self.rank + 1) * share)
        self.device = _device()
        self.data, self.validation = make_data(settings)
        self._build()
        self.step = 0
        self._resume()

    def _build(self) -> None:
        s = self.settings
        model = make_model(s)
        if s.precision == "float64":
            model = model.double()
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = s.statistics_rate
        model = convert_normalization(model, s.method, **s.options)
        self.model = model.to(self.device).train()
        half = torch.float16 if self.device.type == "cuda" else torch.bfloat16
        self.noise = ExampleNoise(scale=s.noise_scale, shift=s.noise_shift)
        self.noise.attach(self.model)
        mixed = s.precision == "mixed"
        self.half = half if mixed else None
        self.keyed = Keyed(self.model, self.noise, self.half)
        self.optimizer = make_optimizer(self.model, s)
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=mixed and half is torch.float16
        )
        self.parallel = self.keyed
        # Two stages run backward several times a step, between which the gradients of the
        # shared nodes are exchanged; DDP would send the parameters' after each, and waits
        # for parameters that the moments do not depend on. There they are summed once, at
        # the end of the step.
        if self.world > 1 and s.method != "two_stage":
            self.parallel = _in_parallel(self.keyed, self.device)

    def run(self, after_step: Callable[[int], None] | None = None) -> None:
        """Make the steps that are left; `after_step` is called with the number of steps."""
        s = self.settings
        if self.step >= s.steps:
            return
        main = self.rank == 0
        log = Log(self.folder, self.step) if main else None
        # Its own lock is one between processes, which a killed process would leave behind.
        tqdm.set_lock(threading.RLock())
        bar = tqdm(
            total=s.steps,
            initial=self.step,
            desc=s.method,
            unit="step",
            disable=None if main else True,
        )
        with contextlib.closing(log) if main else contextlib.nullcontext(), bar:
            for x, t in batches(self.data, s, self.mine, self.step):
                loss = self.make_step(self._to_device(x), t.to(self.device))
                update = s.updates_before(self.step)
                self.step += 1
                bar.update()
                if loss is not None and main:
                    bar.set_postfix(loss=f"{loss:.3f}")
                    rate = s.rate(update)
                    log.write(step=self.step, update=update + 1, loss=loss, rate=rate)
                last = self.step == s.steps
                if last or (loss is not None and (update + 1) % s.evaluate_every == 0):
                    accuracy = self.accuracy()
                    if main:
                        log.write(step=self.step, accuracy=accuracy)
                if last or self.step % s.checkpoint_every == 0:
                    self.save()
                if after_step is not None:
                    after_step(self.step)
                if last:
                    break

    def make_step(self, x: torch.Tensor, t: torch.Tensor) -> float | None:
        """Move the statistics, and in an update the weights; return the mean loss then."""
        s = self.settings
        # For modules that draw from the common generator: the same after resuming.
        mixed = (s.seed * 2_147_483_647 + self.step) * 4096 + self.rank
        torch.manual_seed(mixed % 2**63)
        first = self.mine.start * s.batch
        slots = torch.arange(first, first + len(x))
        keys = step_keys(s.seed, self.step, slots)
        statistics = StatisticsMean(self.model)
        loss = None
        if not s.is_update(self.step):
            self._only_statistics(x, keys, statistics)
        else:
            self.optimizer.zero_grad(set_to_none=True)
            if s.method == "two_stage":
                loss = self._two_stages(x, t, keys, statistics)
            else:
                loss = self._one_stage(x, t, keys, statistics)
            self._update(s.updates_before(self.step))
        statistics.finish()
        if loss is None:
            return None
        sum_over_workers([loss])
        return loss.item()

    def _parts(self, *values: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
        return zip(*(v.split(self.settings.batch) for v in values), strict=True)

    @torch.no_grad()
    def _only_statistics(self, x, keys, statistics) -> None:
        two = self.settings.method == "two_stage"
        with tower(self.model, "first") if two else contextlib.nullcontext():
            for some, of_some in self._parts(x, keys):
                self.keyed.begin(of_some)
                self.keyed(some)
                statistics.add(len(some))

    def _one_stage(self, x, t, keys, statistics) -> torch.Tensor:
        """One backward pass a worker; DDP exchanges the gradients in the last one."""
        total, left = 0.0, len(self.mine)
        for some, targets, of_some in self._parts(x, t, keys):
            left -= 1
            wait = left and self.parallel is not self.keyed
            with self.parallel.no_sync() if wait else contextlib.nullcontext():
                self.keyed.begin(of_some)
                loss = F.cross_entropy(self.parallel(some), targets) / len(self.mine)
                self.scaler.scale(loss).backward()
            statistics.add(len(some))
            total = total + loss.detach() / self.world  # in the dtype of the loss
        return total

    def _two_stages(self, x, t, keys, statistics) -> torch.Tensor:
        """Both stages, streamed by microbatches; the moments' gradients go in between."""

        def scaled(y, targets):
            return self.scaler.scale(F.cross_entropy(y, targets))

        self.keyed.begin(keys)
        loss = two_stage_backward(
            self.keyed,
            x,
            t,
            scaled,
            chunk=self.settings.batch,
            reduce=sum_over_workers,
        )
        statistics.add(len(x))
        sum_gradients(self.model)
        return loss / self.scaler.get_scale()

    def _update(self, update: int) -> None:
        s = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = s.rate(update, bias=group["bias"], last=group["last"])
        if s.clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), s.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _to_device(self, x: torch.Tensor) -> torch.Tensor:
        wide = torch.float64 if self.settings.precision == "float64" else torch.float32
        return x.to(self.device, wide)

    @torch.no_grad()
    def accuracy(self) -> float:
        """Share of the validation images that the model, in evaluation mode, gets right."""
        part = torch.utils.data.Subset(
            self.validation, range(self.rank, len(self.validation), self.world)
        )
        loader = DataLoader(
            part, self.settings.batch, num_workers=self.settings.loader_processes
        )
        right = torch.zeros((), device=self.device)
        self.model.eval()
        for x, t in loader:
            best = self.keyed.eval()(self._to_device(x)).argmax(1)
            right += (best == t.to(self.device)).sum()
        self.keyed.train()
        sum_over_workers([right])
        return right.item() / len(self.validation)

    def save(self) -> None:
        """Write the checkpoint; all processes wait until it is there."""
        if self.rank == 0:
            save_checkpoint(
                self.folder,
                {
                    "step": self.step,
                    "settings": asdict(self.settings),
                    "model": self.model.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "scaler": self.scaler.state_dict(),
                    "made with": self._made_with(),
                },
            )
        if self.world > 1:
            dist.barrier()

    def _made_with(self) -> dict[str, int | str | list[str]]:
        """What a run depends on beside its settings."""
        names = getattr(self.data, "classes", None)
        return {
            "autocast": str(self.half),
            "number of training images": len(self.data),
            "names of the classes": list(names) if isinstance(names, tuple) else [],
        }

    def _require_one_folder(self, step: int) -> None:
        """Refuse to start if the processes see different checkpoints."""
        if self.world == 1:
            return
        own = torch.tensor([step], device=self.device)
        steps = [torch.empty_like(own) for _ in range(self.world)]
        dist.all_gather(steps, own)
        found = [int(value) for value in steps]
        if len(set(found)) > 1:
            told = ", ".join(
                f"rank {r}: {'none' if n < 0 else f'step {n}'}"
                for r, n in enumerate(found)
            )
            raise ValueError(
                f"the processes find different checkpoints in {self.folder} ({told}); "
                "--output must be one folder that all machines see"
            )

    def _resume(self) -> None:
        state = load_checkpoint(self.folder)
        self._require_one_folder(-1 if state is None else state["step"])
        if state is None:
            return
        same_run(state["settings"], self.settings)
        kept, now = state.get("made with", {}), self._made_with()
        for name in kept:
            if kept[name] != now[name]:
                raise ValueError(
                    f"the checkpoint is of a run with another {name} ({kept[name]!r}, now "
                    f"{now[name]!r}); go on with the same data on the same kind of device, "
                    "or name another folder"
                )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.step = state["step"]


def make_optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """SGD or RMSProp, with biases and the last layer in groups of their own.

    β counts as a bias, γ as a weight. The last layer is the last `nn.Linear`.
    """
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    last = {id(p) for p in linear[-1].parameters()} if linear else set()
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        key = name.rpartition(".")[2] == "bias", id(parameter) in last
        groups.setdefault(key, []).append(parameter)
    parameters = [
        {"params": members, "bias": bias, "last": is_last}
        for (bias, is_last), members in groups.items()
    ]
    common = {"lr": settings.learning_rate, "momentum": settings.inertia}
    common["weight_decay"] = settings.weight_decay
    if settings.optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, alpha=0.9, eps=1.0, **common)
    return torch.optim.SGD(parameters, **common)


def train(
    settings: Settings,
    folder: Path | str,
    *,
    after_step: Callable[[int], None] | None = None,
) -> nn.Module:
    """Train, or go on training, in this process, as a worker if there is a process group.

    Args:
        settings: of the run.
        folder: of its checkpoint and log.
        after_step: called with the number of steps made.

    Returns:
        The trained model.

    Raises:
        ValueError: as `Training`.
    """
    training = Training(settings, Path(folder))
    training.run(after_step)
    return training.model


def _built(settings: Settings, folder: Path) -> Training:
    """The run; what is wrong with its settings ends the program with one line."""
    try:
        return Training(settings, folder)
    except (OSError, TypeError, ValueError) as error:
        rank, world = _place()
        print(f"{f'rank {rank}: ' if world > 1 else ''}error: {error}", file=sys.stderr)
        sys.exit(2)


def _in_parallel(model: nn.Module, device: torch.device) -> DistributedDataParallel:
    """The model in DDP, which leaves the buffers to `StatisticsMean`."""
    options = signature(DistributedDataParallel).parameters
    newer = "forward_sync_buffers"  # what PyTorch 2.13 calls it
    return DistributedDataParallel(
        model,
        device_ids=[device.index] if device.type == "cuda" else None,
        **{newer if newer in options else "broadcast_buffers": False},
    )


def _place() -> tuple[int, int]:
    if dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def _device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def _store_of_restart() -> dist.Store:
    """torchrun's store, with names of its own for each restart.

    After a restart it still holds the addresses of the processes before, and without
    other names the new ones would try those (PyTorch issue 135712). The restarts are
    counted on each machine; where machines are replaced, set
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 instead.
    """
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(host, port, is_master=False)
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return dist.PrefixStore(f"restart {restart}", store)


def main(
    arguments: Sequence[str] | None = None,
    *,
    after_step: Callable[[int], None] | None = None,
) -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(
        description="Train with any normalization of the part Estimation. Start several "
        "processes with torchrun; the same command resumes an interrupted run."
    )
    parser.add_argument("settings", help="laptop, imagenet, or a YAML file like them")
    parser.add_argument("--output", required=True, help="folder of checkpoint and log")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="change settings, as in batch=8 options.r_m=0.5",
    )
    options = parser.parse_args(arguments)
    try:
        settings = load_settings(options.settings, options.set)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    if "RANK" in os.environ:  # set by torchrun
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(_device())
        meeting = {}
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
            meeting = {"store": _store_of_restart(), "rank": rank, "world_size": world}
        dist.init_process_group("nccl" if cuda else "gloo", **meeting)
    folder = Path(options.output)
    try:
        training = _built(settings, folder)
        try:
            training.run(after_step)
        except KeyboardInterrupt:
            if training.rank == 0:
                state = load_checkpoint(folder)
                stored = state["step"] if state else 0
                print(
                    f"\nInterrupted; stored up to step {stored} of {settings.steps}. "
                    "The same command goes on from there.",
                    file=sys.stderr,
                )
            sys.exit(130)
        if training.rank == 0:
            text = yaml.safe_dump(asdict(settings), sort_keys=False)
            (folder / "settings.yml").write_text(text, encoding="utf-8")
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


if __name__ == "__main__":
    main()
