"""Any normalization of this part in the place of any batch normalization, and back.

A method says how a network is trained; what it computes at inference, with given
parameters and running statistics, does not depend on it. So a network can be converted at
any time: both stay as they are, and only the class of the layer that holds them changes.
"""

import copy

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parallel import DistributedDataParallel

from bnbook.estimation.minibatch import BatchRenorm
from bnbook.estimation.population_norm import PopulationNorm
from bnbook.estimation.rotation import hadamard_rotation
from bnbook.estimation.running_norm import RunningNorm
from bnbook.estimation.sync_norm import SyncNorm
from bnbook.estimation.two_stage import TwoStageNorm

_GRADIENTS = ("r_m", "r_v", "f_max", "u_max", "rotation", "seed")
OPTIONS = {
    "batch": ("dimensions",),
    "sync": (),
    "renorm": ("r_max", "d_max", "microbatch"),
    "improved_renorm": (*_GRADIENTS, "microbatch"),
    "single_example": _GRADIENTS,
    "two_stage": (*_GRADIENTS, "seen_by", "nu_about"),
    "frozen": ("u_max", "rotation", "seed"),
}
METHODS = tuple(OPTIONS)
BATCH_NORMS = {nn.BatchNorm1d: 1, nn.BatchNorm2d: 2, nn.BatchNorm3d: 3}
CONVERTIBLE = (
    *BATCH_NORMS,
    nn.SyncBatchNorm,
    SyncNorm,
    BatchRenorm,
    PopulationNorm,
    TwoStageNorm,
)
HOOKS = (
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
    *("_state_dict_hooks", "_state_dict_pre_hooks"),
    *("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
)
BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "rotation")
RECORD = "normalization"  # the entry in the metadata of a state dict


def convert_normalization(model: nn.Module, method: str, **options) -> nn.Module:
    """A copy of the model in which every batch normalization is of this method.

    The layers of the copy keep their identity, so that whatever refers to one, as a list
    or a tuple that the model keeps, refers to the converted one.

    Taken over as they are: γ and β, running statistics and their count, ε, momentum, mode,
    dtype, device, `requires_grad`, the names in the state dict, and who shares a
    layer or a parameter with whom. In evaluation mode the copy computes the same, unless
    a rotation is added or dropped.

    `nn.BatchNorm` keeps the unbiased variance about the mean of each batch, the
    normalizations by running statistics a second moment about the running mean, without
    n/(n − 1). The number is taken over; it moves to what the method keeps as training
    goes on.

    The state dict of a converted model records its method, in the metadata where PyTorch
    keeps the versions of layers. One of another method is refused; one without a record,
    as from a plain `nn.BatchNorm`, is loaded.

    Args:
        model: any module, itself a normalization or not. Its `nn.BatchNorm1d` to `3d`,
            `nn.SyncBatchNorm` and normalizations of this part are converted.
        method: one of METHODS.
        options: of the layers, as in OPTIONS[method]. For `rotation` also
            "hadamard_or_random": Hadamard's matrix where the channels are a power of two.
            Without it a rotation is kept, and `rotation=None` drops it. Random rotations
            have the seeds `seed`, `seed` + 1, … from layer to layer. `nu_about` stays
            "mean", which the chapter measures to be closer over all layers. `dimensions`, 1 to
            3: of the `nn.BatchNorm` made from a layer that does not tell. Options that are
            not given have their defaults, even if the layer is of this method already and had
            others.

    Raises:
        TypeError: the model is wrapped, compiled or scripted; a normalization is of a kind that
            cannot be converted.
        ValueError: the method or an option is unknown or out of range; there is nothing
            to convert; a layer keeps no running statistics, carries hooks, buffers or
            modules of its own, holds a rotation that the method has no place for, or has the
            wrong number of channels for Hadamard's matrix; the model keeps a bound method of
            a layer. The message names the layer.
    """
    _require_options(method, options)
    if isinstance(model, (DistributedDataParallel, nn.DataParallel)):
        raise TypeError(
            f"convert the model before it is wrapped in {type(model).__name__}: "
            "pass model.module, and wrap the result"
        )
    _require_eager(model)
    for name, module in model.named_modules():
        if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():
            raise TypeError(
                f"{name or 'the model itself'} is a {type(module).__name__} that does not "
                "know its size yet; run the model on one batch first"
            )
    model = copy.deepcopy(model)
    new: dict[nn.Module, nn.Module] = {}
    for name, module in model.named_modules():
        if isinstance(module, (nn.modules.batchnorm._BatchNorm, RunningNorm)):
            where = name or "the model itself"
            new[module] = _converted(where, module, method, options, len(new))
    if not new:
        raise ValueError(
            f"{type(model).__name__} has no batch normalization to convert; look at "
            "model.named_modules()"
        )
    _require_no_methods(model, new)
    for old, layer in new.items():
        if old is not layer:
            old.__class__, old.__dict__ = type(layer), layer.__dict__
            old.register_state_dict_post_hook(_record)
            old.register_load_state_dict_pre_hook(_refuse_other)
    return model


def _require_eager(model: nn.Module) -> None:
    for name, module in model.named_modules():
        kind = type(module).__name__
        scripted = isinstance(module, torch.jit.ScriptModule)
        compiled = kind == "OptimizedModule" or module._compiled_call_impl is not None
        if scripted or compiled:
            raise TypeError(
                f"{name or 'the model itself'} is {'scripted' if scripted else 'compiled'} "
                f"({kind}); convert the model before, and "
                f"{'script' if scripted else 'compile'} the result"
            )


def _require_no_methods(model: nn.Module, norms: dict[nn.Module, nn.Module]) -> None:
    """Refuse attributes such as `self.f = self.norm.forward`, which would stay as they are."""
    for where, module in model.named_modules():
        for name, value in vars(module).items():
            parts = value if isinstance(value, (list, tuple)) else (value,)
            for part in parts:
                owner = getattr(part, "__self__", None)
                if isinstance(owner, nn.Module) and owner in norms:
                    raise ValueError(
                        f"{where or 'the model itself'} keeps {part.__name__} of a "
                        f"normalization as {name}, which would not be converted; call the "
                        "layer instead"
                    )


def method_of(module: nn.Module) -> str:
    """The method of a normalization, or the one that all of a model have.

    A layer with r_m = r_v = 0 lets no gradient through the statistics: it is "frozen",
    whatever it was made as.

    Raises:
        ValueError: there is no normalization, or there are several methods.
    """
    found = {
        _method(m)
        for m in module.modules()
        if isinstance(m, (nn.modules.batchnorm._BatchNorm, RunningNorm))
    }
    if len(found) != 1:
        raise ValueError(
            f"expected one method in the model, found {sorted(found) or 'none'}; "
            "convert_normalization gives every layer the same"
        )
    return found.pop()


def _method(norm: nn.Module) -> str:
    if isinstance(norm, (SyncNorm, nn.SyncBatchNorm)):
        return "sync"
    if isinstance(norm, BatchRenorm):
        return "renorm"
    if isinstance(norm, TwoStageNorm):
        return "two_stage"
    if not isinstance(norm, PopulationNorm):
        return "batch"
    if norm.r_m == norm.r_v == 0:
        return "frozen"
    return "improved_renorm" if norm.interaction == "batch" else "single_example"


def _require_options(method: str, options: dict) -> None:
    if method not in OPTIONS:
        raise ValueError(f"method must be one of {METHODS}, got {method!r}")
    # Dropping a rotation makes sense for every method.
    allowed = (*OPTIONS[method], *(["rotation"] if _drops(options) else []))
    if unknown := sorted(set(options) - set(allowed)):
        raise ValueError(
            f"{method} has no option {', '.join(unknown)}; it has "
            f"{', '.join(OPTIONS[method]) or 'none'}"
        )
    if options.get("dimensions") not in (None, 1, 2, 3):
        raise ValueError(f"dimensions must be 1, 2 or 3, got {options['dimensions']!r}")


def _drops(options: dict) -> bool:
    return "rotation" in options and options["rotation"] is None


def _converted(
    where: str, norm: nn.Module, method: str, options: dict, number: int
) -> nn.Module:
    """The new layer, which takes over the parameters and buffers of the old one."""
    _require_convertible(where, norm, method, options)
    dimensions = getattr(norm, "_dimensions", BATCH_NORMS.get(type(norm)))
    if norm.running_mean is None:
        return norm
    place = {"device": norm.running_var.device, "dtype": norm.running_var.dtype}
    shared = norm.num_features, norm.eps, norm.momentum, norm.weight is not None, True
    try:
        if method == "batch":
            new = _batch_norm(dimensions or options.get("dimensions"))(*shared, **place)
        else:
            made = _layer_options(norm, method, options, number)
            new = _kind(method)(*shared, **place, **made)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    for name in (
        "weight",
        "bias",
        "running_mean",
        "running_var",
        "num_batches_tracked",
    ):
        setattr(new, name, getattr(norm, name))
    new._dimensions = dimensions
    return new.train(norm.training)


def _require_convertible(where, norm, method, options) -> None:
    if type(norm) not in CONVERTIBLE:
        raise TypeError(
            f"{where} is a {type(norm).__name__}, which does more than a batch "
            "normalization, so that converting it would lose something; convertible are "
            f"{', '.join(kind.__name__ for kind in CONVERTIBLE)}"
        )
    hooks = [hook for kind in HOOKS for hook in getattr(norm, kind, {}).values()]
    if any(
        getattr(hook, "hook", hook) not in (_record, _refuse_other) for hook in hooks
    ):
        raise ValueError(
            f"{where} carries hooks, which would be lost; remove them first"
        )
    if own := sorted({*norm._buffers, *norm._modules} - {*BUFFERS}):
        raise ValueError(
            f"{where} holds {', '.join(own)}, which would be lost; keep it in another module"
        )
    if (norm.running_mean is None) != (norm.running_var is None):
        raise ValueError(
            f"{where} has only one of running mean and variance; give it both or none"
        )
    if norm.running_mean is None and method != "batch":
        raise ValueError(
            f"{where} keeps no running statistics (track_running_stats=False), and "
            f"{method} is made of them; build the model with track_running_stats=True"
        )
    if (norm.weight is None) != (norm.bias is None):
        raise ValueError(f"{where} has only one of γ and β; give it both or none")
    turned = getattr(norm, "rotation", None) is not None
    if turned and "rotation" not in OPTIONS[method] and not _drops(options):
        raise ValueError(
            f"{where} has a rotation, which {method} has no place for; fold() it into the "
            "layer before, or pass rotation=None to drop it, after which the model "
            "computes something else"
        )


def _batch_norm(dimensions: int | None) -> type[nn.Module]:
    if dimensions is None:
        raise ValueError(
            "this layer does not tell how many dimensions its BatchNorm has; pass "
            "dimensions=1, 2 or 3"
        )
    return getattr(nn, f"BatchNorm{dimensions}d")


def _kind(method: str) -> type[RunningNorm]:
    kinds = {"sync": SyncNorm, "renorm": BatchRenorm, "two_stage": TwoStageNorm}
    return kinds.get(method, PopulationNorm)


def _layer_options(norm: nn.Module, method: str, options: dict, number: int) -> dict:
    """The options of one layer: its interaction, its rotation, and the seed of that."""
    made = {k: v for k, v in options.items() if k not in ("rotation", "seed")}
    if method == "improved_renorm":
        made["interaction"] = "batch"
    if method == "frozen":
        made |= {"r_m": 0.0, "r_v": 0.0}
    if "rotation" not in OPTIONS[method]:
        return made
    rotation = options.get("rotation", getattr(norm, "rotation", None))
    if isinstance(rotation, str) and rotation == "hadamard_or_random":
        power = norm.num_features & (norm.num_features - 1) == 0
        rotation = "hadamard" if power else "random"
    if isinstance(rotation, str) and rotation == "hadamard":
        hadamard_rotation(norm.num_features)  # its error offers the random rotation
    return made | {"rotation": rotation, "seed": options.get("seed", 0) + number}


def _record(module, state_dict, prefix, local_metadata) -> None:
    local_metadata[RECORD] = _method(module)


def _refuse_other(module, state_dict, prefix, local_metadata, *_) -> None:
    own, other = _method(module), local_metadata.get(RECORD)
    if other is None or other == own:
        return
    raise ValueError(
        f"the checkpoint is of the method {other}, and {prefix[:-1] or 'the model'} is of "
        f"{own}: load it into convert_normalization(model, {other!r}), and convert that to "
        f"{own!r}"
    )


def recorded_method(state_dict: dict[str, torch.Tensor]) -> str | None:
    """The method that a state dict records, or None.

    Raises:
        ValueError: it records several.
    """
    metadata = getattr(state_dict, "_metadata", {}).values()
    found = {entry[RECORD] for entry in metadata if RECORD in entry}
    if len(found) > 1:
        raise ValueError(f"the state dict records several methods: {sorted(found)}")
    return found.pop() if found else None
