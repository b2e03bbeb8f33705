"""What the libraries mean by batch normalization, and how to translate.

A `Convention` states the choices of one library. `bnbook.foundations.convention_layers`
runs them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from types import MappingProxyType
from typing import Literal

import numpy as np

from bnbook.validation import require_float_array, require_shape


@dataclass(frozen=True)
class Convention:
    """The choices of one library.

    Attributes:
        name: key in `CONVENTIONS`.
        layer: the layer, as its users call it.
        weighs: what `momentum` multiplies: the "new" batch, the "old" running value;
            "equal" means that there is no momentum, because all batches weigh the same.
        momentum: its default, if there is one.
        corrected: whether a batch contributes M/(M − 1)·σ² to the running variance,
            instead of σ².
        eps: default ε, added to the variance under the root; None if the user has to
            choose.
        channel_axis: the axis of x that holds the features, 1 or −1.
        one_value: what training on one value per feature does: "refused", "accepted",
            or "undefined".
        empty: what training on an empty batch does: "ignored", "NaN" (in the running
            statistics), or "undefined".
        mode: how a user chooses between batch and running statistics.
        source: where all this is documented or discussed.
    """

    name: str
    layer: str
    weighs: Literal["new", "old", "equal"]
    momentum: float | None
    corrected: bool
    eps: float | None
    channel_axis: Literal[1, -1]
    one_value: Literal["refused", "accepted", "undefined"]
    empty: Literal["ignored", "NaN", "undefined"]
    mode: str
    source: tuple[str, ...]


_ALL = (
    Convention(
        name="paper",
        layer="Algorithms 1 and 2",
        weighs="equal",
        momentum=None,
        corrected=True,
        eps=None,
        channel_axis=1,
        one_value="undefined",
        empty="undefined",
        mode="Algorithm 1 trains, Algorithm 2 builds a second network for inference",
        source=("https://arxiv.org/abs/1502.03167",),
    ),
    Convention(
        name="pytorch",
        layer="torch.nn.BatchNorm2d",
        weighs="new",
        momentum=0.1,
        corrected=True,
        eps=1e-5,
        channel_axis=1,
        one_value="refused",
        empty="ignored",
        mode="state of the module: train() at first, eval() on request",
        source=(
            "https://pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html",
            "https://github.com/pytorch/pytorch/pull/2961",
            "https://github.com/pytorch/pytorch/issues/12013",
        ),
    ),
    Convention(
        name="keras",
        layer="keras.layers.BatchNormalization",
        weighs="old",
        momentum=0.99,
        corrected=False,
        eps=1e-3,
        channel_axis=-1,
        one_value="accepted",
        empty="NaN",
        mode="argument training of the call; trainable=False forces inference",
        source=(
            "https://www.tensorflow.org/api_docs/python/tf/keras/layers/"
            "BatchNormalization",
        ),
    ),
    Convention(
        name="tensorflow-fused",
        layer="tf.keras 2, fused kernel",
        weighs="old",
        momentum=0.99,
        corrected=True,
        eps=1e-3,
        channel_axis=-1,
        one_value="accepted",
        empty="NaN",
        mode="as Keras",
        source=(
            "https://github.com/tensorflow/tensorflow/issues/55545",
            "https://github.com/keras-team/keras/issues/10443",
            "https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/"
            "kernels/fused_batch_norm_op.cc",
        ),
    ),
    Convention(
        name="flax",
        layer="flax.linen.BatchNorm",
        weighs="old",
        momentum=0.99,
        corrected=False,
        eps=1e-5,
        channel_axis=-1,
        one_value="accepted",
        empty="NaN",
        mode="argument use_running_average, which has no default",
        source=(
            "https://flax.readthedocs.io/en/latest/api_reference/flax.linen/"
            "layers.html",
        ),
    ),
    Convention(
        name="onnx",
        layer="BatchNormalization, opset 15",
        weighs="old",
        momentum=0.9,
        corrected=False,
        eps=1e-5,
        channel_axis=1,
        one_value="accepted",
        empty="NaN",
        mode="attribute training_mode of the node, 0 unless set",
        source=("https://onnx.ai/onnx/operators/onnx__BatchNormalization.html",),
    ),
)
CONVENTIONS: Mapping[str, Convention] = MappingProxyType(
    {convention.name: convention for convention in _ALL}
)


def get_convention(name: str) -> Convention:
    """Look a convention up by its name.

    Raises:
        ValueError: there is none of that name; the message lists those there are.
    """
    if not isinstance(name, str) or name not in CONVENTIONS:
        raise ValueError(
            f"there is no convention {name!r}; use one of {', '.join(CONVENTIONS)}"
        )
    return CONVENTIONS[name]


def new_batch_weight(momentum: float, convention: str) -> float:
    """Weight of the newest batch in the running statistics, whatever its name.

    Raises:
        TypeError: momentum is not a real number.
        ValueError: momentum is outside [0, 1], or the convention is unknown or has no
            momentum.
    """
    chosen = get_convention(convention)
    if chosen.weighs == "equal":
        raise ValueError(
            f"{convention!r} has no momentum: it weighs all batches equally, the "
            "newest of T with 1/T; in PyTorch that is momentum=None"
        )
    _require_share("momentum", momentum)
    return float(momentum) if chosen.weighs == "new" else 1.0 - float(momentum)


def convert_momentum(momentum: float, *, source: str, target: str) -> float:
    """Find the momentum that means in `target` what `momentum` means in `source`.

    Args:
        momentum: as written in `source`, in [0, 1].
        source: name of a convention.
        target: name of a convention.

    Raises:
        TypeError: momentum is not a real number.
        ValueError: momentum is outside [0, 1]; or a convention is unknown, or has no
            momentum ("paper").
    """
    new_batch_weight(momentum, target)  # refuses a target without momentum
    weight = new_batch_weight(momentum, source)
    if get_convention(source).weighs == get_convention(target).weighs:
        return float(momentum)
    return weight if get_convention(target).weighs == "new" else 1.0 - weight


def convert_running_statistics(
    mean: np.ndarray,
    var: np.ndarray,
    *,
    source: str,
    target: str,
    batch_size: int,
    initial_weight: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Translate to what `target` would have collected from the same batches.

    The running variance is q·1 + (1 − q)·c·s: the initial value 1, whose weight has
    decayed to q, and an average s of biased batch variances, times c = M/(M − 1) where
    the convention corrects and 1 where it does not. Only the second part is converted.
    The running mean is the same in all conventions.

    This changes what the model computes at inference. To keep that, copy mean and var
    as they are, and ε too.

    Args:
        mean: running mean, any shape.
        var: running variance, the same shape.
        source: convention that collected them.
        target: convention to express them in.
        batch_size: M, the number of values behind each batch statistic (N·H·W for
            images), the same in every batch.
        initial_weight: q, the weight that the initial running variance 1 still has,
            which is (1 − w)^T after T batches of weight w. The default 0 is right
            after many batches, and where all batches weigh the same.

    Returns:
        New arrays: mean and var.

    Raises:
        TypeError: an array is not floating point, or batch_size is not an integer.
        ValueError: shapes differ; values are not finite, or a variance is negative; a
            convention is unknown; batch_size is below 1, or is 1 where M/(M − 1) is
            needed; initial_weight is outside [0, 1], or larger than a variance, which
            is then impossible.

    Source: the documentation in `CONVENTIONS`; Ioffe and Szegedy (2015), Algorithm 2,
    line 10.
    """
    require_float_array("mean", mean)
    require_shape(
        "var", require_float_array("var", var), mean.shape, "the shape of mean"
    )
    if np.iscomplexobj(mean) or np.iscomplexobj(var):
        raise TypeError("mean and var must be real, got complex numbers; pass .real")
    if (var < 0).any():
        raise ValueError(
            f"var must not be negative, got {var.min():.3g}; pass variances, not "
            "their logarithms"
        )
    corrected = get_convention(source).corrected, get_convention(target).corrected
    count = _require_count(batch_size)
    _require_share("initial_weight", initial_weight)
    if corrected[0] == corrected[1]:
        return mean.copy(), var.copy()
    if count == 1:
        raise ValueError(
            f"batch_size is 1: {source!r} and {target!r} differ by the factor "
            "M/(M − 1), which does not exist; collect the statistics again from larger batches"
        )
    factor = count / (count - 1) if corrected[1] else (count - 1) / count
    if (var < initial_weight * (1 - 1e-6)).any():
        raise ValueError(
            f"initial_weight {initial_weight} is larger than the variance "
            f"{var.min():.3g}, which contains it; pass (1 − w)^T for T batches of "
            "weight w"
        )
    return mean.copy(), initial_weight + (var - initial_weight) * factor


def _require_share(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(
            f"{name} must be a real number, got {type(value).__name__}; use for "
            "example 0.1"
        )
    if not 0 <= value <= 1:
        raise ValueError(
            f"{name} must lie in [0, 1], got {value}; it is a weight in an average"
        )


def _require_count(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(
            f"batch_size must be an integer, got {type(value).__name__}; pass M, "
            "N·H·W for images"
        )
    if value < 1:
        raise ValueError(
            f"batch_size must be at least 1, got {value}; pass M, N·H·W for images"
        )
    return int(value)
