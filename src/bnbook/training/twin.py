"""The same network in PyTorch, and both trained side by side.

The twin is made of `torch.nn` modules and `torch.optim.SGD` and shares no code with the
network in NumPy.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from bnbook.training.architecture import Network
from bnbook.training.network import training_step
from bnbook.training.sgd import SGD, minibatches


def torch_twin(network: Network) -> nn.Sequential:
    """The network as `torch.nn` modules in training mode, with copies of its parameters.

    Weights are transposed, as PyTorch stores them. PyTorch's momentum of the running
    statistics is the weight of the new batch, 1 − alpha.

    Raises:
        ValueError: the running statistics are corrected for their initial value, which
            PyTorch's are not.
    """
    if any(running.bias_correction for running in network.running):
        raise ValueError(
            "PyTorch's running statistics start from mean 0 and variance 1; make the "
            "network with bias_correction=False"
        )
    dtype = torch.from_numpy(np.empty(0, network.dtype)).dtype
    modules = []
    for i in range(1, network.depth + 1):
        w, b = (network.parameters.get(f"{name}{i}") for name in "Wb")
        layer = nn.Linear(*w.shape, bias=b is not None, dtype=dtype)
        pairs = [(layer.weight, w.T), (layer.bias, b)]
        modules.append(layer)
        if i < network.depth and network.batch_norm:
            norm = nn.BatchNorm1d(
                w.shape[1], eps=network.eps, momentum=1 - network.alpha, dtype=dtype
            )
            running = network.running[i - 1]
            pairs += [
                (norm.weight, network.parameters[f"gamma{i}"]),
                (norm.bias, network.parameters[f"beta{i}"]),
                (norm.running_mean, running.mean),
                (norm.running_var, running.var),
            ]
            modules.append(norm)
        if i < network.depth:
            modules.append(nn.ReLU())
        with torch.no_grad():
            for theirs, ours in pairs:
                if theirs is not None:
                    theirs.copy_(torch.from_numpy(np.ascontiguousarray(ours)))
    return nn.Sequential(*modules)


def twin_optimizer(
    twin: nn.Sequential, *, learning_rate: float, momentum: float, l2: float
) -> torch.optim.SGD:
    """`torch.optim.SGD` that decays the weights of the linear layers, and nothing else."""
    weights = [m.weight for m in twin if isinstance(m, nn.Linear)]
    kept = {id(w) for w in weights}
    others = [p for p in twin.parameters() if id(p) not in kept]
    groups = [{"params": weights, "weight_decay": l2}, {"params": others}]
    return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum)


def twin_loss(
    network: Network, twin: nn.Sequential, x: np.ndarray, t: np.ndarray
) -> torch.Tensor:
    """PyTorch's loss of a batch, without penalty, by the loss function that fits."""
    logits = twin(torch.from_numpy(x))
    if network.loss == "logistic":
        target = torch.from_numpy(t).to(logits.dtype)
        return nn.functional.binary_cross_entropy_with_logits(logits[:, 0], target)
    return nn.functional.cross_entropy(logits, torch.from_numpy(t).long())


def twin_arrays(
    twin: nn.Sequential,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Parameters of the twin, and its running statistics, under the names of the network."""
    parameters, running, i = {}, {}, 0
    for module in twin:
        i += isinstance(module, nn.Linear)
        if isinstance(module, nn.Linear):
            parameters[f"W{i}"] = module.weight.T
            if module.bias is not None:
                parameters[f"b{i}"] = module.bias
        elif isinstance(module, nn.BatchNorm1d):
            parameters |= {f"gamma{i}": module.weight, f"beta{i}": module.bias}
            running[f"mean{i}"], running[f"var{i}"] = (
                module.running_mean,
                module.running_var,
            )
    return tuple(
        {name: value.detach().numpy().copy() for name, value in group.items()}
        for group in (parameters, running)
    )


@dataclass(frozen=True)
class Distance:
    """Largest difference from PyTorch after each step, relative to the largest entry of
    the array it is in; one entry a step. `running` is 0 without batch normalization."""

    loss: np.ndarray
    parameters: np.ndarray
    running: np.ndarray


def train_beside_twin(
    network: Network,
    x: np.ndarray,
    t: np.ndarray,
    *,
    learning_rate: float,
    momentum: float = 0.0,
    l2: float = 0.0,
    epochs: int,
    batch_size: int,
    seed: int,
) -> Distance:
    """Train the network and its twin on the same batches, and compare after every step.

    Args as for `train`, with x in the dtype of the network. The network is trained in
    place.
    """
    twin = torch_twin(network)
    optimizers = (
        SGD(learning_rate, momentum),
        twin_optimizer(twin, learning_rate=learning_rate, momentum=momentum, l2=l2),
    )
    rng, rows = np.random.default_rng(seed), []
    for _ in range(epochs):
        for index in minibatches(len(x), batch_size, rng):
            ours = training_step(network, optimizers[0], x[index], t[index], l2=l2)
            optimizers[1].zero_grad()
            theirs = twin_loss(network, twin, x[index], t[index])
            theirs.backward()
            optimizers[1].step()
            parameters, running = twin_arrays(twin)
            own = {}
            for i, statistics in enumerate(network.running, 1):
                own |= {f"mean{i}": statistics.mean, f"var{i}": statistics.var}
            rows.append(
                (
                    abs(ours - theirs.item()) / abs(theirs.item()),
                    _farthest(network.parameters, parameters),
                    _farthest(own, running),
                )
            )
    return Distance(*np.array(rows).T)


def _farthest(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> float:
    if ours.keys() != theirs.keys():
        raise ValueError(f"the arrays are {list(ours)} here and {list(theirs)} there")
    far = 0.0
    for name, value in theirs.items():
        scale = np.abs(value).max() or 1.0
        far = max(far, float(np.abs(ours[name] - value).max() / scale))
    return far
