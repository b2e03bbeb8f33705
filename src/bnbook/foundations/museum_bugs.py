"""Bugs of batch normalization, re-created: each replaces one decision of
`museum_practice`, and nothing else.

None of this code is meant to be used. `bnbook.foundations.museum` says where each bug
was seen.
"""

import torch
from torch import nn

from bnbook.foundations.museum_practice import Layer


class DetachedStatistics(Layer):
    """Treats the statistics as constants in the backward pass."""

    def statistics(self, x):
        """Cut μ and σ² off from the batch they came from."""
        mean, var = super().statistics(x)
        return mean.detach(), var.detach()


class OnePassVariance(Layer):
    """Subtracts two large numbers."""

    def variance(self, x, mean):
        """E[x²] − E[x]², in the precision of x."""
        return x.square().mean(0) - mean.square()


class SquareForRoot(Layer):
    """Divides by the square where the square root is meant."""

    def deviation(self, var):
        """Return (σ² + ε)²."""
        return (var + self.eps) ** 2


class EpsilonOutsideRoot(Layer):
    """Adds ε, which has the units of a variance, to a standard deviation."""

    def deviation(self, var):
        """Return σ + ε."""
        return torch.sqrt(var) + self.eps


class AcceptsOneExample(Layer):
    """Trains on a batch of one."""

    def accept(self, x):
        """Take anything."""


class EpsilonRemembered(Layer):
    """Adds ε to the running variance, and again when it is used."""

    def to_remember(self, var, count):
        """Return M/(M − 1) · σ² + ε."""
        return super().to_remember(var, count) + self.eps


class MomentumOfThePast(Layer):
    """Gives the weight `momentum` to the past, and the rest to the newest batch."""

    def blend(self, old, new):
        """Swap the two weights."""
        return self.momentum * old + (1 - self.momentum) * new


class BiasedRunningVariance(Layer):
    """Remembers the variance of the batch instead of an estimate of the population's."""

    def to_remember(self, var, count):
        """Return σ² as it is."""
        return var


class ModeFromGradients(Layer):
    """Takes "gradients are on" for "we are training"."""

    def takes_from_batch(self):
        """Ask autograd for the mode."""
        return torch.is_grad_enabled()


def linear_with_bias(inputs, outputs, dtype):
    """Keep the bias, as `nn.Linear` does unless told otherwise."""
    return nn.Linear(inputs, outputs, dtype=dtype)


def evaluate_in_training_mode(model, x):
    """Turn the gradients off, and nothing else."""
    with torch.no_grad():
        return model(x)


def recompute_and_count_twice(model, x, dy):
    """Run the forward pass again, in training mode, side effects included."""
    with torch.no_grad():
        model(x)
    x = x.detach().requires_grad_()
    (dx,) = torch.autograd.grad(model(x), x, dy)
    return dx


def replicate_by_reference(layer, count):
    """Put the same layer into the list several times."""
    return [layer] * count


def freeze_parameters_only(layer):
    """Stop the gradients; running statistics do not need any."""
    return layer.requires_grad_(False)


def normalize_with_padding(layer, x, lengths):
    """Normalize all positions, whether they hold data or padding."""
    return layer(x.flatten(0, 1)).reshape(x.shape)


def synchronize_unweighted(means, variances, counts):
    """Average over the parts as if they were equally large."""
    mean = means.mean(0)
    return mean, (variances + (means - mean) ** 2).mean(0)


def decay_everything(model, decay):
    """Hand all parameters to the optimizer in one group."""
    return [{"params": list(model.parameters()), "weight_decay": decay}]
