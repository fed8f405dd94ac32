"""Make LoRA alpha equal to the rank where a model shows its alpha.

A Stiefel-type method owns the scale of the product, so a scale alpha / r beside it
would only hide in the learning rate. PEFT layers carry the scale as ``scaling``; it is
recognised by attribute names, so that peft itself is not imported.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ._groups import Source

__all__ = ["ALPHA_IS_RANK", "fold_alpha_", "settle_alpha"]

log = logging.getLogger("stiefel_lora")

ALPHA_IS_RANK = "alpha_is_rank"
"""Key of a parameter group by which a host adapter says that it has seen to alpha."""


def settle_alpha(source: Source, groups: Sequence[Mapping[str, Any]]) -> None:
    """Make alpha the rank where ``source`` shows it; say once where it does not.

    Args:
        source: what the optimizer was given.
        groups: the same as groups.
    """
    if isinstance(source, nn.Module):
        fold_alpha_(source)
    elif not all(group.get(ALPHA_IS_RANK) for group in groups):
        _warn_of_hidden_alpha()


@functools.cache
def _warn_of_hidden_alpha() -> None:
    log.warning(
        "LoRA alpha can not be seen from parameters alone; set alpha equal to the rank "
        "in your trainer, because this optimizer owns the scale of the product."
    )


@torch.no_grad()
def fold_alpha_(model: nn.Module) -> int:
    """Fold every PEFT scale alpha / r into A and set alpha to the rank, in place.

    What the model computes stays the same to rounding.

    Returns:
        How many adapters had another alpha than their rank.
    """
    folded = 0
    layers: list[Any] = [layer for layer in model.modules() if _is_lora_layer(layer)]
    for layer in layers:
        for adapter, scale in list(layer.scaling.items()):
            if scale == 1.0 or adapter not in layer.lora_A:
                continue
            layer.lora_A[adapter].weight.mul_(scale)
            layer.scaling[adapter] = 1.0
            layer.lora_alpha[adapter] = layer.r[adapter]
            folded += 1
    if folded:
        _fix_configs(model)
        log.warning(
            "LoRA alpha was not the rank in %d layers; the scale was folded into A and "
            "alpha set to the rank. The model computes the same as before.",
            folded,
        )
    return folded


def _is_lora_layer(layer: Any) -> bool:
    names = ("scaling", "lora_A", "lora_alpha", "r")
    return all(isinstance(getattr(layer, n, None), dict | nn.ModuleDict) for n in names)


def _fix_configs(model: nn.Module) -> None:
    """Keep saved adapter configs in step with the layers."""
    for config in (getattr(model, "peft_config", None) or {}).values():
        config.lora_alpha = config.r
        config.alpha_pattern = dict(config.rank_pattern or {})
