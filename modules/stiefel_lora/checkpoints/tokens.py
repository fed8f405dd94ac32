"""Tokenization of captions as in the pipelines of diffusers."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Any

from torch import Tensor

__all__ = ["token_counts", "tokens_of"]

log = logging.getLogger("stiefel_lora")

# Maximum letters of a caption in the log.
_SHOWN = 2000


def tokens_of(
    tokenizer: Any, captions: Sequence[str], length: int | None = None
) -> Tensor:
    """Return padded token IDs, ``(captions, length)`` int64 on the CPU.

    Longer captions are truncated, and a message is logged once per caption.

    Args:
        tokenizer: tokenizer of transformers.
        captions: captions as text.
        length: number of tokens. If None, the maximum of the tokenizer is used.
    """
    length = length or tokenizer.model_max_length
    whole = tokenizer(list(captions), verbose=False).input_ids
    for caption, tokens in zip(captions, whole, strict=True):
        if len(tokens) > length:
            _log_cut(caption, length)
    return tokenizer(
        list(captions),
        padding="max_length",
        max_length=length,
        truncation=True,
        return_tensors="pt",
    ).input_ids


def token_counts(tokenizer: Any, captions: Sequence[str]) -> list[int]:
    """Return the number of tokens of captions, without the first and last ones."""
    found = tokenizer(list(captions), add_special_tokens=False, verbose=False)
    return [len(tokens) for tokens in found.input_ids]


@functools.cache
def _log_cut(caption: str, length: int) -> None:
    log.warning(
        "The following caption was truncated because the text encoder is limited to "
        "%d tokens: %s",
        length,
        caption if len(caption) <= _SHOWN else f"{caption[:_SHOWN]} ...",
    )
