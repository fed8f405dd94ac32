"""The start of a Stiefel-type adapter: B random orthonormal, A zero."""

from __future__ import annotations

import torch

from .._exceptions import PairingError
from ._groups import Source
from .gauge import orthonormal_start
from .pairs import Pair, find_pairs

__all__ = ["init_stiefel_"]


@torch.no_grad()
def init_stiefel_(source: Source, seed: int = 0) -> list[Pair]:
    """Start every LoRA pair with orthonormal B and A = 0, in place.

    The product is zero, so the model computes what it computed without the adapter.
    Each B depends on its layer's name and the seed alone, not on order or device.

    Args:
        source: a model with trainable LoRA layers, named parameters or groups.
        seed: another seed gives other directions.

    Returns:
        The pairs, in order of appearance.

    Raises:
        PairingError: no pair found, or a rank that exceeds a side of its layer.
    """
    pairs = find_pairs(source).pairs
    if not pairs:
        raise PairingError(
            "No LoRA pairs were found among the trainable parameters; add LoRA layers "
            "first (for example model.add_adapter(LoraConfig(...)))."
        )
    for pair in pairs:
        if pair.too_wide:
            up, down = pair.matrices
            raise PairingError(
                f"Rank {pair.rank} exceeds the layer {pair.name!r} of "
                f"{up.shape[0]} x {down.shape[1]}; choose a rank of at most "
                f"{min(up.shape[0], down.shape[1])} or leave this layer out."
            )
        orthonormal_start(pair.up, pair.down, pair.name, seed)
    return pairs
