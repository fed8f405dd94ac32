"""Captions that are longer than CLIP: encoded in chunks of 75 tokens, then joined.

The chunks are those of sd-scripts, so that its LoRAs and those of this package are
trained with the same inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["CHUNK", "into_chunks", "joined_chunks"]

CHUNK = 75
"""Tokens of a chunk, without its first and last one."""


def into_chunks(tokens: Tensor, end: int, padding: int) -> Tensor:
    """Split the tokens of captions into chunks with a first and a last token each.

    If the padding is the end token, every chunk ends with it. Otherwise (second encoder
    of SDXL), a chunk ends with the end token only if it is full, and a chunk without
    words begins with it.

    Args:
        tokens: token IDs ``(batch, 75 n + 2)``.
        end: ID of the end token.
        padding: ID of the padding token.

    Returns:
        Token IDs ``(batch * n, 77)``, the chunks of a caption one after another.
    """
    words = tokens[:, 1:-1].unflatten(1, (-1, CHUNK))
    count = words.shape[1]
    first, last = (edge[:, None].expand(-1, count, 1) for edge in _edges(tokens))
    if padding != end:
        final = words[..., -1:]
        full = (final != end) & (final != padding)
        last = torch.where(full, end, last)
        start = words[..., :1]
        start = torch.where(start == padding, end, start)
        words = torch.cat([start, words[..., 1:]], dim=-1)
    return torch.cat([first, words, last], dim=-1).flatten(0, 1)


def joined_chunks(states: Tensor, count: int) -> Tensor:
    """Join the outputs of chunks, with the first and last state of a caption only.

    Args:
        states: outputs ``(batch * count, 77, width)``.
        count: number of chunks of a caption.

    Returns:
        Outputs ``(batch, 75 count + 2, width)``.
    """
    whole = states.unflatten(0, (-1, count))
    words = whole[:, :, 1:-1].flatten(1, 2)
    return torch.cat([whole[:, 0, :1], words, whole[:, -1, -1:]], dim=1)


def _edges(tokens: Tensor) -> tuple[Tensor, Tensor]:
    return tokens[:, :1], tokens[:, -1:]
