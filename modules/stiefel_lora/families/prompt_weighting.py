"""Weights of words in prompts: hidden states of CLIP are scaled."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["weighted_states"]

_RESOLVED = 1e-5
"""Smallest mean that is used, relative to the root mean square of the states."""


def weighted_states(
    states: Tensor, weights: Tensor, *, keeps_mean: bool = True
) -> Tensor:
    """Multiply the states of tokens by their weights, and restore the mean.

    The formula is that of A1111 (emphasis "Original") and of samples of sd-scripts: the
    result is scaled so that the mean of all states of a prompt stays the same. It is
    not scaled if the mean is only a rounding error, as that of normalized states
    without a bias. sd-scripts does not restore it for captions.

    Args:
        states: hidden states ``(batch, tokens, width)``.
        weights: weights of the tokens ``(batch, tokens)``.
        keeps_mean: whether the mean is restored.

    Returns:
        States with the shape and dtype of ``states``, computed in float32.
    """
    before = states.float()
    after = before * weights.to(before)[..., None]
    if not keeps_mean:
        return after.to(states.dtype)
    means = torch.stack([before.mean(dim=(1, 2)), after.mean(dim=(1, 2))])
    size = before.square().mean(dim=(1, 2)).sqrt()
    ratio = torch.where((means.abs() > _RESOLVED * size).all(0), means[0] / means[1], 1)
    return (after * ratio[:, None, None]).to(states.dtype)
