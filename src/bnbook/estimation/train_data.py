"""Which examples each process takes at each step, and the models by their names."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from bnbook.data.image_folder import ImageFolder
from bnbook.data.synthetic_images import SyntheticImages
from bnbook.estimation.small_nets import inception_style, resnet_style
from bnbook.estimation.train_settings import Settings

SMALL = {"inception_style": inception_style, "resnet_style": resnet_style}


def make_model(settings: Settings) -> nn.Module:
    """The model with `nn.BatchNorm2d`, weights drawn from the seed of the run.

    Raises:
        ValueError: the name is neither one of SMALL nor of a torchvision classifier, or
            torchvision is not installed.
    """
    state = torch.get_rng_state()
    torch.manual_seed(settings.seed)
    try:
        if settings.model in SMALL:
            width = settings.width or 8
            return SMALL[settings.model](
                settings.classes, width=width, dropout=settings.dropout
            )
        return _torchvision(settings)
    finally:
        torch.set_rng_state(state)


def _torchvision(settings: Settings) -> nn.Module:
    try:
        from torchvision import models
    except ImportError as error:
        raise ValueError(
            f"the model {settings.model} needs torchvision, which is not installed; install "
            f"it, or use model={' or model='.join(SMALL)}"
        ) from error
    if settings.model not in models.list_models(module=models):
        raise ValueError(
            f"unknown model {settings.model!r}; use one of {', '.join(SMALL)}, or a "
            "classifier of torchvision"
        )
    options = {"weights": None, "num_classes": settings.classes}
    if settings.model == "inception_v3":
        options |= {"aux_logits": False, "init_weights": True}
        options |= {"dropout": settings.dropout}
    return models.get_model(settings.model, **options)


def make_data(settings: Settings) -> tuple[Dataset, Dataset]:
    """The sets for training and validation.

    Raises:
        FileNotFoundError, ValueError: as `ImageFolder`; or the classes are not as many as
            the model's outputs.
    """
    if settings.data == "synthetic":
        count, other = settings.examples or 512, settings.validation or 256
        kind = {"classes": settings.classes, "size": settings.image_size}
        kind["seed"] = settings.seed
        return (
            SyntheticImages(count, **kind),
            SyntheticImages(other, first=count, **kind),
        )
    root = Path(settings.data).expanduser()
    parts = [
        ImageFolder(root / part, settings.image_size, train=train, seed=settings.seed)
        for part, train in (("train", True), ("val", False))
    ]
    if (
        parts[0].classes != parts[1].classes
        or len(parts[0].classes) != settings.classes
    ):
        raise ValueError(
            f"{root} has {len(parts[0].classes)} classes for training and "
            f"{len(parts[1].classes)} for validation, the settings say {settings.classes}; "
            "they must be the same folders, and as many as `classes`"
        )
    return tuple(parts)


class StepSampler(torch.utils.data.Sampler):
    """The batches of one process in one epoch, from any step on.

    The examples of a step are shared by `workers` workers, each with a
    `DistributedSampler` of its own; a process plays one or more of them, in turn. So the
    examples of a step do not depend on the number of processes, nor on where a run was
    interrupted. What is left at the end of an epoch is dropped.

    Args:
        dataset: what is sampled.
        workers, batch: number of workers, and examples of each in a step.
        mine: the workers that this process plays.
        seed, epoch: of the permutation.
        start: steps of this epoch that are done.

    Raises:
        ValueError: the dataset is smaller than one step.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        workers: int,
        batch: int,
        mine: range,
        seed: int,
        epoch: int,
        start: int = 0,
    ):
        """Draw nothing yet."""
        self.steps = steps_per_epoch(len(dataset), workers, batch)
        self.start, self.batch = start, batch
        self.samplers = [
            DistributedSampler(
                dataset, workers, worker, shuffle=True, seed=seed, drop_last=True
            )
            for worker in mine
        ]
        for sampler in self.samplers:
            sampler.set_epoch(epoch)

    def __len__(self) -> int:
        """Steps that are left of the epoch."""
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[int]]:
        """The indices of each step: those of the first worker, then of the second, …"""
        orders = [list(sampler) for sampler in self.samplers]
        for step in range(self.start, self.steps):
            part = slice(step * self.batch, (step + 1) * self.batch)
            yield [index for order in orders for index in order[part]]


def steps_per_epoch(examples: int, workers: int, batch: int) -> int:
    """How many whole steps an epoch has.

    Raises:
        ValueError: not one.
    """
    steps = examples // workers // batch
    if not steps:
        raise ValueError(
            f"{examples} examples are too few for one step of {workers} workers with "
            f"{batch} examples each; lower workers or batch"
        )
    return steps


def batches(
    dataset: Dataset, settings: Settings, mine: range, step: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The batches of one process from a step of the run on, without end."""
    count = steps_per_epoch(len(dataset), settings.workers, settings.batch)
    epoch, start = divmod(step, count)
    while True:
        dataset.epoch = epoch
        sampler = StepSampler(
            dataset,
            workers=settings.workers,
            batch=settings.batch,
            mine=mine,
            seed=settings.seed,
            epoch=epoch,
            start=start,
        )
        yield from DataLoader(
            dataset,
            batch_sampler=sampler,
            num_workers=settings.loader_processes,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # not the common one, which a resumed run lacks
        )
        epoch, start = epoch + 1, 0
