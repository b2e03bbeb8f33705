"""The exhibits of the bug museum: what each bug looks like, where it was seen, what catches it."""

from collections.abc import Callable
from dataclasses import dataclass

from bnbook.foundations import museum_bugs as bugs
from bnbook.foundations import museum_invariants as invariants
from bnbook.foundations import museum_practice as practice
from bnbook.foundations.museum_invariants import Invariant
from bnbook.foundations.museum_practice import Implementation, Layer


@dataclass(frozen=True)
class Exhibit:
    """A bug, what it looks like, what catches it, and its mend.

    Attributes:
        id: its name in code, with hyphens.
        title: its name in words.
        symptom: what a user notices.
        thread: the public report, "owner/repository#number", or "" for a class of
            bugs without one.
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


EXHIBITS = (
    Exhibit(
        "detached",
        "statistics under no-grad",
        "the loss looks normal; weights whose length has no effect grow",
        "keras-team/keras#19102",
        "layer",
        bugs.DetachedStatistics,
        Layer.statistics,
        Invariant(
            "gradient = slope",
            "The gradient is the slope of the forward pass.",
            invariants.gradient_is_slope,
            1e-6,
        ),
    ),
    Exhibit(
        "one-pass",
        "one-pass variance",
        "NaN, or outputs of a wrong size, for features with a large mean",
        "tenstorrent/tt-metal#45968",
        "layer",
        bugs.OnePassVariance,
        Layer.variance,
        Invariant(
            "shift has no effect",
            "Adding a constant to a feature changes nothing.",
            invariants.shift_has_no_effect,
            0.05,
        ),
    ),
    Exhibit(
        "square",
        "square for root",
        "the output's spread changes with that of the input",
        "jax-ml/jax#442",
        "layer",
        bugs.SquareForRoot,
        Layer.deviation,
        Invariant(
            "unit variance",
            "The output has mean 0 and variance σ²/(σ² + ε).",
            invariants.output_has_unit_variance,
            1e-9,
        ),
    ),
    Exhibit(
        "outside-root",
        "ε outside the root",
        "one set of weights gives two answers in two frameworks",
        "keras-team/keras#10427",
        "layer",
        bugs.EpsilonOutsideRoot,
        Layer.deviation,
        Invariant(
            "units cancel",
            "Measured in other units, nothing changes.",
            invariants.units_cancel,
            1e-9,
        ),
    ),
    Exhibit(
        "one-example",
        "a batch of one",
        "a last batch of one example teaches nothing and poisons inference",
        "pytorch/pytorch#2961",
        "layer",
        bugs.AcceptsOneExample,
        Layer.accept,
        Invariant(
            "one example",
            "A single example is refused, or teaches something.",
            invariants.one_example_teaches_nothing,
            0.0,
        ),
    ),
    Exhibit(
        "epsilon-twice",
        "ε added twice",
        "inference shrinks quiet features more than training did",
        "chainer/chainer#4505",
        "layer",
        bugs.EpsilonRemembered,
        Layer.to_remember,
        Invariant(
            "a constant has no variance",
            "A constant adds no variance to the running variance.",
            invariants.constant_has_no_variance,
            1e-12,
        ),
    ),
    Exhibit(
        "momentum",
        "momentum inverted",
        "inference follows the last batches, and jumps from one step to the next",
        "d2l-ai/d2l-en#2213",
        "layer",
        bugs.MomentumOfThePast,
        Layer.blend,
        Invariant(
            "momentum is the newest",
            "The newest batch has the weight momentum.",
            invariants.momentum_is_the_newest,
            1e-12,
        ),
    ),
    Exhibit(
        "biased",
        "biased running variance",
        "inference outputs too large, the more so the smaller the batch",
        "ml-explore/mlx#3817",
        "layer",
        bugs.BiasedRunningVariance,
        Layer.to_remember,
        Invariant(
            "variance is unbiased",
            "Over all batches, the running variance is the population's.",
            invariants.running_variance_is_unbiased,
            1e-9,
        ),
    ),
    Exhibit(
        "evaluation",
        "training mode at evaluation",
        "scores change with the batch size and the order of the data",
        "milesial/Pytorch-UNet#31",
        "evaluate",
        bugs.evaluate_in_training_mode,
        practice.evaluate,
        Invariant(
            "company has no effect",
            "An answer does not depend on the rest of the batch.",
            invariants.answer_ignores_company,
            1e-9,
        ),
    ),
    Exhibit(
        "grad-mode",
        "mode from grad mode",
        "a model evaluated with gradients on still trains its statistics",
        "",
        "layer",
        bugs.ModeFromGradients,
        Layer.takes_from_batch,
        Invariant(
            "mode is explicit",
            "Switching gradients off changes no output.",
            invariants.mode_is_explicit,
            1e-12,
        ),
    ),
    Exhibit(
        "frozen",
        "frozen, yet learning",
        "a frozen backbone is no longer the one that was loaded",
        "pytorch/pytorch#86590",
        "freeze",
        bugs.freeze_parameters_only,
        practice.freeze,
        Invariant(
            "frozen stays frozen",
            "Using a frozen layer does not change it.",
            invariants.frozen_stays_frozen,
            0.0,
        ),
    ),
    Exhibit(
        "recomputed",
        "one batch counted twice",
        "the same run with and without checkpointing differs at inference",
        "pytorch/pytorch#96136",
        "recompute",
        bugs.recompute_and_count_twice,
        practice.recompute,
        Invariant(
            "one batch counts once",
            "One batch enters the running mean once.",
            invariants.one_batch_counts_once,
            1e-12,
        ),
    ),
    Exhibit(
        "shared",
        "one layer in many places",
        "statistics of one branch turn up in another",
        "dreamquark-ai/tabnet#76",
        "replicate",
        bugs.replicate_by_reference,
        practice.replicate,
        Invariant(
            "replicas are independent",
            "Training one copy leaves the other alone.",
            invariants.replicas_are_independent,
            0.0,
        ),
    ),
    Exhibit(
        "padding",
        "padding in the statistics",
        "an answer depends on the longest sequence in the batch",
        "pytorch/pytorch#70529",
        "normalize_padded",
        bugs.normalize_with_padding,
        practice.normalize_padded,
        Invariant(
            "padding has no effect",
            "More padding changes no true position.",
            invariants.padding_has_no_effect,
            1e-9,
        ),
    ),
    Exhibit(
        "unequal-parts",
        "parts weighted alike",
        "devices with unequal shares of a batch get wrong statistics",
        "pytorch/pytorch#22192",
        "synchronize",
        bugs.synchronize_unweighted,
        practice.synchronize,
        Invariant(
            "parts make the whole",
            "The parts give the statistics of the whole.",
            invariants.parts_make_the_whole,
            1e-9,
        ),
    ),
    Exhibit(
        "dead-bias",
        "a bias before normalization",
        "a parameter that never moves, and takes memory",
        "milesial/Pytorch-UNet#325",
        "linear",
        bugs.linear_with_bias,
        practice.linear,
        Invariant(
            "every parameter matters",
            "Every parameter has a gradient.",
            invariants.every_parameter_matters,
            0.0,
        ),
    ),
    Exhibit(
        "decay",
        "weight decay on γ",
        "γ of a feature that the loss ignores shrinks to 0",
        "facebookresearch/ClassyVision#177",
        "parameter_groups",
        bugs.decay_everything,
        practice.parameter_groups,
        Invariant(
            "no gradient, no change",
            "Without a gradient, γ stays as it is.",
            invariants.no_gradient_no_change,
            0.0,
        ),
    ),
)


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
