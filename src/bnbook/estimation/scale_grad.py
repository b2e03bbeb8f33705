"""A value from one place, a gradient to another: the operation behind all estimators."""

import torch


def scale_grad(
    s: torch.Tensor, q: torch.Tensor, r: torch.Tensor | float
) -> torch.Tensor:
    """Return s, and pass the gradient to q, multiplied by r; s itself receives none.

    The source writes StopGradient(r) q + StopGradient(s − r q). Here the value is s to
    the last bit, because q − StopGradient(q) is exactly 0.

    Args:
        s: the value, for example a running statistic.
        q: what the gradient goes to; its shape and that of s broadcast.
        r: factor, a number or a tensor that broadcasts; no gradient goes to it.

    Raises:
        ValueError: q is not finite, where its difference from itself is no number.

    Source: Anonymous (2022), §3.1.
    """
    if not torch.isfinite(q.detach()).all():
        raise ValueError(
            "q must be finite, got NaN or infinity; lower the learning rate or mend "
            "the input"
        )
    factor = r.detach() if isinstance(r, torch.Tensor) else r
    return s.detach() + factor * (q - q.detach())
