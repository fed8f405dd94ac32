"""Frozen adapter that subtracts a nonzero initial product: W + s (B A - B0 A0).

A LoRA that is initialized with B0 A0 instead of zero would change the output of the
model. If the initial product were subtracted from the base weights, the LoRA could only
be used with the modified base model. Therefore it is subtracted by a second adapter,
and the saved LoRA is the difference of both.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor, nn

from ..optim.loi import Loi
from ..optim.pairs import Pair
from .adapter_names import OFFSET, TRAINED

__all__ = ["add_offset", "has_offset", "set_offset", "stack_offset"]


def add_offset(model: nn.Module, config: LoraConfig) -> None:
    """Add the frozen adapter, initialized to zero."""
    adaptable: Any = model
    with warnings.catch_warnings():
        # peft warns about a second adapter, which is intended here.
        warnings.filterwarnings("ignore", "Already found a `peft_config`")
        adaptable.add_adapter(config, adapter_name=OFFSET)
    adaptable.set_adapter([TRAINED, OFFSET])
    for name, parameter in model.named_parameters():
        if f".{OFFSET}." in name:
            parameter.requires_grad_(False).zero_()
            parameter.data = parameter.data.float()


@torch.no_grad()
def set_offset(model: nn.Module, starts: Iterable[Loi]) -> None:
    """Set the frozen adapter of each layer to B = -B0 and A = A0."""
    for start in starts:
        up, down = _offset_of(model, start.pair.name)
        up.copy_(-start.offset_up.view_as(up))
        down.copy_(start.offset_down.view_as(down))


def has_offset(model: nn.Module, pair: Pair) -> bool:
    """Return whether the layer has the frozen adapter."""
    layer: Any = model.get_submodule(pair.name)
    return OFFSET in layer.lora_A


def stack_offset(model: nn.Module, pair: Pair) -> Pair:
    """Return copies [B, -B0] and [A; A0] of rank 2r, whose product is the update."""
    up, down = _offset_of(model, pair.name)
    return Pair(
        pair.name,
        torch.cat([pair.up.detach(), up], dim=1),
        torch.cat([pair.down.detach(), down], dim=0),
    )


def _offset_of(model: nn.Module, name: str) -> tuple[Tensor, Tensor]:
    layer: Any = model.get_submodule(name)
    return layer.lora_B[OFFSET].weight.detach(), layer.lora_A[OFFSET].weight.detach()
