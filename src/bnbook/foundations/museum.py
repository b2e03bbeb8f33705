"""The bug museum: bugs of batch normalization that shipped, the invariant that catches each, and the mend.

An exhibit pairs a bug from `museum_bugs` with the right decision from `museum_practice` and with an
invariant from `museum_invariants`. `examine` runs one, `catches` runs all invariants on all bugs.
"""

import html
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import nn

from bnbook.foundations import museum_bugs as bugs
from bnbook.foundations import museum_invariants as invariants
from bnbook.foundations import museum_practice as practice
from bnbook.foundations.forward import BatchNorm
from bnbook.foundations.museum_invariants import Invariant, Setting
from bnbook.foundations.museum_practice import Implementation, Layer


@dataclass(frozen=True)
class Exhibit:
    """A bug, what it looks like, what catches it, and its mend.

    Attributes:
        id: its name in code, with hyphens.
        title: its name in words.
        symptom: what a user notices.
        thread: the public report, "owner/repository#number", or "" for a class of bugs without one.
        decision: the field of `Implementation` that is wrong.
        buggy: the wrong decision: a class or a function.
        mended: the right one: a method or a function.
        invariant: what the bug violates and every correct implementation satisfies.
    """

    id: str
    title: str
    symptom: str
    thread: str
    decision: str
    buggy: Callable
    mended: Callable
    invariant: Invariant

    @property
    def implementation(self) -> Implementation:
        """Everything right except this one decision."""
        return Implementation(**{self.decision: self.buggy})

    @property
    def url(self) -> str:
        """Address of the thread, or "" where there is none."""
        repository, _, number = self.thread.partition("#")
        return f"https://github.com/{repository}/issues/{number}" if self.thread else ""


def _exhibit(
    id, title, symptom, thread, decision, buggy, mended, name, residual, tolerance
) -> Exhibit:
    statement = residual.__name__.replace("_", " ").capitalize() + "."
    return Exhibit(
        id,
        title,
        symptom,
        thread,
        decision,
        buggy,
        mended,
        Invariant(name, statement, residual, tolerance),
    )


EXHIBITS = (
    _exhibit(
        "detached",
        "statistics under no-grad",
        "the loss looks normal; weights whose length has no effect grow",
        "keras-team/keras#19102",
        "layer",
        bugs.DetachedStatistics,
        Layer.statistics,
        "gradient = slope",
        invariants.gradient_is_slope,
        1e-6,
    ),
    _exhibit(
        "one-pass",
        "one-pass variance",
        "NaN, or outputs of a wrong size, for features with a large mean",
        "tenstorrent/tt-metal#45968",
        "layer",
        bugs.OnePassVariance,
        Layer.variance,
        "shift has no effect",
        invariants.shift_has_no_effect,
        0.05,
    ),
    _exhibit(
        "square",
        "square for root",
        "the output's spread changes with that of the input",
        "jax-ml/jax#442",
        "layer",
        bugs.SquareForRoot,
        Layer.deviation,
        "unit variance",
        invariants.output_has_unit_variance,
        1e-9,
    ),
    _exhibit(
        "outside-root",
        "ε outside the root",
        "one set of weights gives two answers in two frameworks",
        "keras-team/keras#10427",
        "layer",
        bugs.EpsilonOutsideRoot,
        Layer.deviation,
        "units cancel",
        invariants.units_cancel,
        1e-9,
    ),
    _exhibit(
        "one-example",
        "a batch of one",
        "a last batch of one example teaches nothing and poisons inference",
        "pytorch/pytorch#2961",
        "layer",
        bugs.AcceptsOneExample,
        Layer.accept,
        "one example",
        invariants.one_example_teaches_nothing,
        0.0,
    ),
    _exhibit(
        "epsilon-twice",
        "ε added twice",
        "inference shrinks quiet features more than training did",
        "chainer/chainer#4505",
        "layer",
        bugs.EpsilonRemembered,
        Layer.to_remember,
        "a constant has no variance",
        invariants.constant_has_no_variance,
        1e-12,
    ),
    _exhibit(
        "momentum",
        "momentum inverted",
        "inference follows the last batches, and jumps from one step to the next",
        "d2l-ai/d2l-en#2213",
        "layer",
        bugs.MomentumOfThePast,
        Layer.blend,
        "momentum is the newest",
        invariants.momentum_is_the_newest,
        1e-12,
    ),
    _exhibit(
        "biased",
        "biased running variance",
        "inference outputs too large, the more so the smaller the batch",
        "ml-explore/mlx#3817",
        "layer",
        bugs.BiasedRunningVariance,
        Layer.to_remember,
        "variance is unbiased",
        invariants.running_variance_is_unbiased,
        1e-9,
    ),
    _exhibit(
        "evaluation",
        "training mode at evaluation",
        "scores change with the batch size and the order of the data",
        "milesial/Pytorch-UNet#31",
        "evaluate",
        bugs.evaluate_in_training_mode,
        practice.evaluate,
        "company has no effect",
        invariants.answer_ignores_company,
        1e-9,
    ),
    _exhibit(
        "grad-mode",
        "mode from grad mode",
        "a model evaluated with gradients on still trains its statistics",
        "",
        "layer",
        bugs.ModeFromGradients,
        Layer.takes_from_batch,
        "mode is explicit",
        invariants.mode_is_explicit,
        1e-12,
    ),
    _exhibit(
        "frozen",
        "frozen, yet learning",
        "a frozen backbone is no longer the one that was loaded",
        "pytorch/pytorch#86590",
        "freeze",
        bugs.freeze_parameters_only,
        practice.freeze,
        "frozen stays frozen",
        invariants.frozen_stays_frozen,
        0.0,
    ),
    _exhibit(
        "recomputed",
        "one batch counted twice",
        "the same run with and without checkpointing differs at inference",
        "pytorch/pytorch#96136",
        "recompute",
        bugs.recompute_and_count_twice,
        practice.recompute,
        "one batch counts once",
        invariants.one_batch_counts_once,
        1e-12,
    ),
    _exhibit(
        "shared",
        "one layer in many places",
        "statistics of one branch turn up in another",
        "dreamquark-ai/tabnet#76",
        "replicate",
        bugs.replicate_by_reference,
        practice.replicate,
        "replicas are independent",
        invariants.replicas_are_independent,
        0.0,
    ),
    _exhibit(
        "padding",
        "padding in the statistics",
        "an answer depends on the longest sequence in the batch",
        "pytorch/pytorch#70529",
        "normalize_padded",
        bugs.normalize_with_padding,
        practice.normalize_padded,
        "padding has no effect",
        invariants.padding_has_no_effect,
        1e-9,
    ),
    _exhibit(
        "unequal-parts",
        "parts weighted alike",
        "devices with unequal shares of a batch get wrong statistics",
        "pytorch/pytorch#22192",
        "synchronize",
        bugs.synchronize_unweighted,
        practice.synchronize,
        "parts make the whole",
        invariants.parts_make_the_whole,
        1e-9,
    ),
    _exhibit(
        "dead-bias",
        "a bias before normalization",
        "a parameter that never moves, and takes memory",
        "milesial/Pytorch-UNet#325",
        "linear",
        bugs.linear_with_bias,
        practice.linear,
        "every parameter matters",
        invariants.every_parameter_matters,
        0.0,
    ),
    _exhibit(
        "decay",
        "weight decay on γ",
        "γ of a feature that the loss ignores shrinks to 0",
        "facebookresearch/ClassyVision#177",
        "parameter_groups",
        bugs.decay_everything,
        practice.parameter_groups,
        "no gradient, no change",
        invariants.no_gradient_no_change,
        0.0,
    ),
)


class TorchLayer(nn.BatchNorm1d):
    """PyTorch's own layer, with γ and β under the names that the invariants use."""

    gamma = property(lambda self: self.weight)
    beta = property(lambda self: self.bias)


CORRECT = {
    "the mend": Implementation(),
    "the book's BatchNorm": Implementation(layer=BatchNorm),
    "torch.nn.BatchNorm1d": Implementation(layer=TorchLayer),
}


def exhibit(exhibit_id: str) -> Exhibit:
    """Return the exhibit with this id.

    Raises:
        ValueError: there is none; the message lists all ids.
    """
    for found in EXHIBITS:
        if found.id == exhibit_id:
            return found
    raise ValueError(
        f"no exhibit has the id {exhibit_id!r}; there are {', '.join(e.id for e in EXHIBITS)}"
    )


@dataclass(frozen=True)
class Examination:
    """Whether each implementation satisfies an exhibit's invariant; shown as a table in a notebook."""

    exhibit: Exhibit
    verdicts: tuple[tuple[str, bool], ...]

    def __repr__(self) -> str:
        """Plain text, which nbval compares."""
        width = max(len(name) for name, _ in self.verdicts)
        lines = [
            f"  {name:<{width}}  {self._word(holds)}" for name, holds in self.verdicts
        ]
        return "\n".join([self.exhibit.invariant.statement, *lines])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{self._word(holds)}</td></tr>"
            for name, holds in self.verdicts
        )
        head = html.escape(self.exhibit.invariant.statement)
        return (
            f'<table class="bn-agreement"><thead><tr><th>{head}</th><th>Holds?</th></tr></thead>'
            f"<tbody>{rows}</tbody></table>"
        )

    @staticmethod
    def _word(holds: bool) -> str:
        return "✓ holds" if holds else "✗ violated"


def examine(exhibit_id: str, setting: Setting | None = None) -> Examination:
    """Run an exhibit's invariant on its bug and on each correct implementation.

    Args:
        exhibit_id: for example "one-pass".
        setting: sizes, constants and seed.

    Raises:
        AssertionError: the bug satisfies the invariant, or another one violates it: the museum is wrong.
        ValueError: there is no such exhibit.
    """
    shown = exhibit(exhibit_id)
    tried = {"the bug": shown.implementation, **CORRECT}
    verdicts = tuple(
        (name, shown.invariant.holds(tried[name], setting)) for name in tried
    )
    for name, holds in verdicts:
        if holds == (name == "the bug"):
            raise AssertionError(
                f"{shown.id}: {name} {'satisfies' if holds else 'violates'} the invariant"
            )
    return Examination(shown, verdicts)


def catches(setting: Setting | None = None) -> np.ndarray:
    """Which invariant catches which bug: booleans, bugs in rows and invariants in columns, as in EXHIBITS."""
    return np.array(
        [
            [
                not column.invariant.holds(row.implementation, setting)
                for column in EXHIBITS
            ]
            for row in EXHIBITS
        ]
    )
