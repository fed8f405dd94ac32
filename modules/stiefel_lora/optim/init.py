"""Initialization of LoRA adapters, and orthonormalization of B."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from .._exceptions import PairingError
from ..methods import method as find_method
from .gauge import enter_where_needed, orthonormal_start
from .groups import Source
from .pairs import Pair, find_pairs
from .riemannion import tiny_right_factor
from .stella import random_right_frame

__all__ = [
    "STARTS",
    "init_lora_",
    "init_plain_",
    "init_riemannion_",
    "init_stella_",
    "init_stiefel_",
    "orthonormalize_",
    "startable_pairs",
]


@torch.no_grad()
def init_stiefel_(source: Source, seed: int = 0) -> list[Pair]:
    """Initialize every LoRA pair with orthonormal B and A = 0, in place.

    The product is zero, so the output of the model is unchanged. Each B depends only on
    the name of its layer and the seed, not on the order of the layers or the device.

    Args:
        source: a model with trainable LoRA layers, named parameters or groups.
        seed: seed of the random directions.

    Returns:
        The pairs, in order of appearance.

    Raises:
        PairingError: If no pair is found, or a rank exceeds a side of its layer.
    """
    pairs = startable_pairs(source)
    for pair in pairs:
        orthonormal_start(pair.up, pair.down, pair.name, seed)
    return pairs


@torch.no_grad()
def orthonormalize_(source: Source) -> list[Pair]:
    """Make every B orthonormal without changing the product B A, in place.

    With B = Q R, (B, A) becomes (Q, R A). Use this for factors that were averaged
    (EMA), rounded or trained by another optimizer. Pairs that are orthonormal to 1e-4
    are not modified. If B = 0, it is replaced by a random orthonormal matrix and A is
    set to 0. Optimizers that need an orthonormal B do this at their first step and
    after loading a state.

    Args:
        source: a model with trainable LoRA layers, named parameters or groups.

    Returns:
        The pairs that were changed.

    Raises:
        PairingError: If no pair is found, or a rank exceeds a side of its layer.
    """
    return enter_where_needed(startable_pairs(source))


@torch.no_grad()
def init_stella_(source: Source, seed: int = 0) -> list[Pair]:
    """Initialize every LoRA pair to U S V^T with S = I, as in the StelLA paper.

    U and V are random frames, so the product has r singular values of 1, which
    **changes the model's output**. To keep the output unchanged, use
    :func:`init_stiefel_`, which corresponds to S = 0.

    Args, Returns, Raises: as :func:`init_stiefel_`.
    """
    pairs = init_stiefel_(source, seed)
    for pair in pairs:
        width = pair.matrices[1].shape[1]
        frame = random_right_frame(pair.name, pair.rank, width, seed)
        pair.down.copy_(frame.view_as(pair.down))
    return pairs


@torch.no_grad()
def init_riemannion_(source: Source, seed: int = 0) -> list[Pair]:
    """Initialize every LoRA pair with orthonormal B and a tiny A with orthogonal rows.

    The manifold of rank-r matrices does not contain 0. All singular values of the
    product are 1e-7, which is much smaller than one update and than the resolution of
    half precision.

    Args, Returns, Raises: as :func:`init_stiefel_`.
    """
    pairs = init_stiefel_(source, seed)
    for pair in pairs:
        width = pair.matrices[1].shape[1]
        factor = tiny_right_factor(pair.name, pair.rank, width, seed)
        pair.down.copy_(factor.view_as(pair.down))
    return pairs


@torch.no_grad()
def init_plain_(source: Source, seed: int = 0) -> list[Pair]:
    """Initialize every LoRA pair as plain LoRA: A uniform in +-1/sqrt(in), B zero.

    Args, Returns: as :func:`init_stiefel_`. A depends only on the seed and the order of
    the layers.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    pairs = find_pairs(source).pairs
    for pair in pairs:
        # Not in the default dtype: in bfloat16, these would be other numbers.
        down = torch.empty(pair.down.shape, dtype=torch.float32)
        # The initialization of peft and kohya: kaiming uniform with a = sqrt(5).
        nn.init.kaiming_uniform_(down, a=math.sqrt(5), generator=generator)
        pair.down.copy_(down)
        pair.up.zero_()
    return pairs


STARTS: dict[str, Callable[..., list[Pair]]] = {
    "lora": init_plain_,
    "stiefel": init_stiefel_,
    "riemannion": init_riemannion_,
    "stella": init_stella_,
}
"""Initialization functions by ``Method.start``. ``stella`` is used on request only."""


def init_lora_(
    source: Source, method: str = "stiefel_lora", *, seed: int = 0
) -> list[Pair]:
    """Initialize every LoRA pair in place as the given method requires.

    The model's output does not change: the product is zero (``riemannion``: at most
    1e-7).

    Args:
        source: a model with trainable LoRA layers, named parameters or groups.
        method: name in the catalogue.
        seed: seed of the random numbers.

    Returns:
        The pairs, in order of appearance.

    Raises:
        OptionError: If no method has this name.
        PairingError: If no pair is found, or a rank exceeds a side of its layer and the
            method requires an orthonormal B.
    """
    return STARTS[find_method(method).start](source, seed=seed)


def startable_pairs(source: Source) -> list[Pair]:
    """Find the LoRA pairs of a source and check their ranks.

    Raises:
        PairingError: If no pair is found, or a rank exceeds a side of its layer.
    """
    pairs = find_pairs(source).pairs
    if not pairs:
        raise PairingError(
            "params: there are no LoRA pairs in the trainable parameters. Add LoRA "
            "layers first, for example with model.add_adapter(LoraConfig(...))."
        )
    for pair in pairs:
        if pair.too_wide:
            up, down = pair.matrices
            raise PairingError(
                f"The rank {pair.rank} exceeds the size of the layer {pair.name!r} "
                f"({up.shape[0]} x {down.shape[1]}). Use a rank of at most "
                f"{min(up.shape[0], down.shape[1])}, or exclude this layer."
            )
    return pairs
