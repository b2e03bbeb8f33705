"""How far the estimates are from the true gradient in the networks of the table."""

from dataclasses import replace

import torch
from torch import nn

from bnbook.estimation.experiment import Part, build, copied, load_examples
from bnbook.estimation.methods import METHODS, Method, members_loss, method_loss
from bnbook.estimation.two_stage import two_stage_norms
from bnbook.experiments import Experiment, Row

SEEDS = tuple(range(8))
NETWORKS = ("plain 6", "plain 10", "residual 10")
EXACT = Method("the true gradient", "joint")
COMPARED = ("two_stage", "two_stage_no_sq", "single", "frozen")


def settle_statistics(model: nn.Module, x: torch.Tensor) -> None:
    """Make the running statistics those of x, layer after layer.

    A pass puts right at least the first statistic that is not: there are two in a layer.
    """
    norms = two_stage_norms(model)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum, norm.tower = 1.0, "joint"
    with torch.no_grad():
        for _ in range(2 * len(norms)):
            model(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum, norm.tower = momentum, None


def estimate(model: nn.Module, method: Method, part: Part) -> torch.Tensor:
    """The method's gradient of the kernels before the normalizations, (S, parameters).

    The running statistics stay.

    Args:
        model: made of `TwoStageConv2d`; it takes r_m, r_v and f_max of the method.
    """
    before = copied(model)
    for norm in two_stage_norms(model):
        norm.r_m, norm.r_v, norm.f_max = method.r_m, method.r_v, method.f_max
    kernels = [norm.conv.weight for norm in two_stage_norms(model)]
    loss = method_loss(method, model, part.x, part.t, members_loss)
    grads = torch.autograd.grad(loss, kernels, materialize_grads=True)
    model.load_state_dict(before)
    return torch.cat([g.reshape(model.members, -1) for g in grads], 1)


def bias_rows(
    *, network: str, steps: int, rate: float, data: str, examples: int
) -> list[Row]:
    """Errors of the estimates over a whole small population, for eight members.

    All examples are in the batch and their statistics are the running ones, so μ‡ and ν‡
    at every layer give the true gradient, and what is left of the others is bias.

    Args:
        network: plain or residual.
        steps: updates by the true gradient before the comparison.
        rate: their learning rate.
        data, examples: as for the table.

    Returns:
        A row for each seed and method: |estimate − true|/|true|, and the cosine of the
        angle, over all kernels together.
    """
    parts = load_examples(data, SEEDS, examples)
    part = Part(parts.train.x.double(), parts.train.t)
    side = part.x.shape[-1]
    model = build(network, EXACT, SEEDS, side, parts.classes).double().train()
    for norm in two_stage_norms(model):
        norm.u_max = None
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    for _ in range(steps):
        settle_statistics(model, part.x)
        optimizer.zero_grad()
        method_loss(EXACT, model, part.x, part.t, members_loss).backward()
        optimizer.step()
    settle_statistics(model, part.x)
    truth, rows = estimate(model, EXACT, part), []
    for name in COMPARED:
        method = METHODS[name]
        found = estimate(model, replace(method, rotation=False), part)
        error = (found - truth).norm(dim=1) / truth.norm(dim=1)
        cosine = torch.cosine_similarity(found, truth, dim=1)
        rows += [
            {
                "method": name,
                "seed": seed,
                "error": round(error[s].item(), 4),
                "cosine": round(cosine[s].item(), 4),
            }
            for s, seed in enumerate(SEEDS)
        ]
    return rows


BIAS = Experiment(
    "estimation",
    "experiment_bias",
    bias_rows,
    [
        {
            "network": network,
            "steps": steps,
            "rate": 0.1,
            "data": "digits",
            "examples": 64,
        }
        for network in NETWORKS
        for steps in (0, 20)
    ],
)
EXPERIMENTS = (BIAS,)
