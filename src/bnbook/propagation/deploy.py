"""A trained binary or ternary network, turned into bits and integers."""

import json
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bnbook.propagation.binary import BinaryConv2d, BinaryLinear, Sign
from bnbook.propagation.packed_layers import ARRAYS, PackedLayer, pack_weights
from bnbook.propagation.ternary import TernaryConv2d, TernaryLinear
from bnbook.propagation.thresholds import Scores, fold_scores, fold_sign

LINEAR, CONVOLUTION = (BinaryLinear, TernaryLinear), (BinaryConv2d, TernaryConv2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_SETTINGS = ("length", "levels", "window", "stride", "padding", "pad")


@dataclass(frozen=True, eq=False)
class PackedNetwork:
    """A classifier without a floating-point number in it.

    Attributes:
        layers: the layers in order; the last one has scores, the others thresholds.
        largest: the largest integer in the input.
    """

    layers: tuple[PackedLayer, ...]
    largest: int

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of the weights, the thresholds, the scores and their exceptions."""
        kinds = {
            "weights": ("positive", "nonzero"),
            "thresholds": ("threshold",),
            "scores": ("multiplier", "offset"),
            "exceptions": ("feature", "at", "score"),
        }
        arrays = [item for layer in self.layers for item in layer.arrays.items()]
        return {
            kind: sum(array.nbytes for name, array in arrays if name in names)
            for kind, names in kinds.items()
        }

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(self.sizes.values())

    def hidden(self, x: np.ndarray) -> list[np.ndarray]:
        """The packed signs behind every layer but the last.

        Args:
            x: (N, K) or (N, channels, height, width), integers from 0 to `largest`, in
                any real dtype.

        Raises:
            TypeError: x is not an array of real numbers.
            ValueError: x has another shape, or holds something else.
        """
        self._require_input(x)
        signs = [x]
        for layer in self.layers[:-1]:
            signs.append(layer.bits(signs[-1]))
        return signs[1:]

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The class of each example, (N,), int64: the first of those with the best score.

        Args and raises: as `hidden`.
        """
        signs = self.hidden(x)
        return self.layers[-1].scores(signs[-1] if signs else x).argmax(axis=1)

    def save(self, path: Path) -> None:
        """Write all arrays to an uncompressed .npz file, with a line of settings."""
        arrays, settings = {}, []
        for number, layer in enumerate(self.layers):
            settings.append({name: getattr(layer, name) for name in _SETTINGS})
            for name, array in layer.arrays.items():
                arrays[f"{number}_{name}"] = array
        note = json.dumps({"largest": self.largest, "layers": settings})
        np.savez(path, settings=np.frombuffer(note.encode(), np.uint8), **arrays)

    @classmethod
    def load(cls, path: Path) -> "PackedNetwork":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            note = json.loads(file["settings"].tobytes())
            layers = []
            for number, settings in enumerate(note["layers"]):
                window = settings.pop("window")
                arrays = {
                    name: file[f"{number}_{name}"]
                    for name in (*ARRAYS, *(field.name for field in fields(Scores)))
                    if f"{number}_{name}" in file
                }
                packed = {name: arrays.pop(name, None) for name in ARRAYS}
                layers.append(
                    PackedLayer(
                        **settings,
                        **packed,
                        window=window and tuple(window),
                        last=Scores(**arrays) if arrays else None,
                    )
                )
        return cls(tuple(layers), note["largest"])

    def _require_input(self, x: np.ndarray) -> None:
        if type(x) is not np.ndarray or x.dtype.kind not in "iuf":
            got = getattr(x, "dtype", type(x).__name__)
            raise TypeError(f"x must be an array of real numbers, got {got}")
        first = self.layers[0]
        if first.window is None:
            fits = x.ndim >= 2 and x[:1].size == first.length * len(x[:1])
            wanted = f"(N, {first.length})"
        else:
            channels = first.length // (first.window[0] * first.window[1])
            fits = x.ndim == 4 and x.shape[1] == channels
            wanted = f"(N, {channels}, height, width)"
        if not fits or not len(x):
            raise ValueError(
                f"x must have shape {wanted} with N at least 1, got {x.shape}; reshape it"
            )
        if not ((x >= 0) & (x <= self.largest)).all():
            raise ValueError(
                f"x must hold integers from 0 to {self.largest}; the thresholds were "
                "found for those. Do not standardize it"
            )


@torch.no_grad()
def pack_network(model: nn.Sequential, *, largest: int) -> PackedNetwork:
    """Turn a trained network into bits and integers that decide as it does.

    Args:
        model: in evaluation mode: layer, normalization and `Sign`, repeated, then a last
            layer and normalization, whose largest output names the class; `nn.Flatten`
            may stand between. A layer is a `BinaryLinear`, `BinaryConv2d`,
            `TernaryLinear` or `TernaryConv2d` without bias and scale.
        largest: its input consists of integers from 0 to this.

    Returns:
        A network with the same predictions, bit for bit.

    Raises:
        TypeError: model is no `nn.Sequential`, or holds another module.
        ValueError: the modules come in another order or do not fit, a layer has a bias or
            a scale, or a normalization cannot be folded (see `fold_sign`).
    """
    if not isinstance(model, nn.Sequential):
        raise TypeError(f"expected an nn.Sequential, got {type(model).__name__}")
    if isinstance(largest, bool) or not isinstance(largest, int) or largest < 1:
        raise ValueError(f"largest must be an integer of at least 1, got {largest!r}")
    stages = _stages(model)
    layers, channels = [], None
    for number, (layer, norm) in enumerate(stages):
        top, levels = (1, 0) if number else (largest, largest.bit_length())
        last = number == len(stages) - 1
        layers.append(_pack_layer(layer, norm, top, levels, channels, last))
        channels = getattr(layer, "out_channels", None)
    return PackedNetwork(tuple(layers), largest)


def _stages(model: nn.Sequential) -> list[tuple[nn.Module, nn.Module]]:
    parts = [part for part in model if not isinstance(part, nn.Flatten)]
    expected = (*LINEAR, *CONVOLUTION), NORMS, (Sign,)
    for position, part in enumerate(parts):
        if type(part) not in expected[position % 3]:
            names = ", ".join(kind.__name__ for kind in expected[position % 3])
            raise TypeError(
                f"module {position} (without nn.Flatten) must be one of {names}, "
                f"got {type(part).__name__}"
            )
    if len(parts) % 3 != 2:
        raise ValueError(
            "the network must end with a layer and a normalization, whose largest output "
            f"names the class, got {[type(part).__name__ for part in parts[-3:]]}"
        )
    return list(zip(parts[0::3], parts[1::3], strict=True))


def _pack_layer(
    layer: nn.Module,
    norm: nn.Module,
    top: int,
    levels: int,
    channels: int | None,
    last: bool,
) -> PackedLayer:
    if layer.bias is not None:
        raise ValueError(
            "a layer has a bias, which makes its sums no integers; leave it out, since "
            "batch normalization subtracts it again"
        )
    if getattr(layer, "scale", "none") != "none":
        raise ValueError(
            f"a layer has the scale {layer.scale!r}, which makes its sums no integers; use "
            "scale='none', since batch normalization divides it out again"
        )
    ternary = isinstance(layer, TernaryLinear | TernaryConv2d)
    w = layer.ternary_weight() if ternary else layer.binary_weight()
    w = w.numpy()
    convolution = isinstance(layer, CONVOLUTION)
    if not convolution:  # the input of a linear layer has as many channels as before
        w = w.reshape(len(w), channels or w.shape[1], -1, 1)
    if len(w) != norm.num_features:
        raise ValueError(
            f"a layer has {len(w)} outputs and the normalization behind it "
            f"{norm.num_features} features"
        )
    length = int(np.prod(w.shape[1:]))
    settings = {"length": length, "levels": levels}
    if convolution:
        pad = getattr(layer, "pad_value", 0.0)
        if layer.padding and pad not in ((0,) if levels else (-1, 0, 1)):
            raise ValueError(
                f"the padding holds {pad:g}; use 0 in the first layer, and −1, 0 or 1 "
                "where the input is signs"
            )
        settings |= {
            "window": layer.kernel_size,
            "stride": layer.stride,
            "padding": layer.padding,
            "pad": int(pad),
        }
    low, high = -top * length, top * length
    if last:
        positive, nonzero = pack_weights(w, levels=levels)
        all_signs = nonzero is None and not levels and not settings.get("padding")
        scores = fold_scores(norm, low, high, 2 if all_signs else 1)
        return PackedLayer(positive=positive, nonzero=nonzero, last=scores, **settings)
    rule = fold_sign(norm, low, high)
    # Where the rule is flipped, all weights change sign: s < at becomes -s >= 1 - at.
    w = np.where(rule.flip[:, None, None, None], -w, w)
    at = np.where(rule.flip, 1 - rule.at, rule.at)
    at = at.astype(np.int16 if high < np.iinfo(np.int16).max else np.int32)
    positive, nonzero = pack_weights(w, levels=levels)
    return PackedLayer(positive=positive, nonzero=nonzero, threshold=at, **settings)
