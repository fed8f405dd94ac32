"""Selection of the layers of a text encoder for LoRA."""

from __future__ import annotations

import re

from torch import nn

from ..families.catalogue import record_of

__all__ = ["select_text_layers"]

# Path of all attention and feed-forward layers in CLIP and T5.
_LEVEL = re.compile(r"\bencoder\.(?:layers|block)\.(\d+)\.")


def select_text_layers(
    encoder: nn.Module, *, family: str, part: str, skip: int = 0
) -> list[str]:
    """Select the attention and feed-forward layers, in the order of the model.

    Layers whose output is not used by the denoiser are not selected.

    Args:
        encoder: CLIP or T5 text encoder.
        family: name of the model family.
        part: name of the text encoder.
        skip: number of additional last layers that are skipped.
    """
    unread = record_of(family).unread_after(part, skip)
    levels = {
        name: int(level[1])
        for name, layer in encoder.named_modules()
        if isinstance(layer, nn.Linear) and (level := _LEVEL.search(name))
    }
    last = max(levels.values()) - unread
    return [name for name, level in levels.items() if level <= last]
