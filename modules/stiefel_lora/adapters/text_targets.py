"""The layers of a text encoder that get a LoRA."""

from __future__ import annotations

import re

from torch import nn

__all__ = ["select_text_layers"]

# Where CLIP and T5 keep all attention and feed-forward layers.
_LEVEL = re.compile(r"\bencoder\.(?:layers|block)\.(\d+)\.")


def select_text_layers(encoder: nn.Module, unread: int = 0) -> list[str]:
    """Names of the attention and feed-forward layers, in the order of the model.

    Args:
        encoder: of CLIP's or T5's kind.
        unread: how many of the last blocks the denoiser is never told of; nothing
            would move there.
    """
    levels = {
        name: int(level[1])
        for name, layer in encoder.named_modules()
        if isinstance(layer, nn.Linear) and (level := _LEVEL.search(name))
    }
    last = max(levels.values()) - unread
    return [name for name, level in levels.items() if level <= last]
