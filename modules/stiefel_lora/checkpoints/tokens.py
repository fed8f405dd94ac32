"""Captions as the numbers of their tokens, as the stock pipelines make them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Any

from torch import Tensor

__all__ = ["tokens_of"]

log = logging.getLogger("stiefel_lora")

# Letters of a caption that the log shows.
_SHOWN = 2000


def tokens_of(
    tokenizer: Any, captions: Sequence[str], length: int | None = None
) -> Tensor:
    """Numbers of the tokens, ``(captions, length)`` int64 on the CPU, filled up.

    What is longer is cut off and said in the log, once for each caption.

    Args:
        tokenizer: of transformers.
        captions: the texts.
        length: of all; None for what the tokenizer itself takes.
    """
    length = length or tokenizer.model_max_length
    whole = tokenizer(list(captions), verbose=False).input_ids
    for caption, tokens in zip(captions, whole, strict=True):
        if len(tokens) > length:
            _tell(caption, length)
    return tokenizer(
        list(captions),
        padding="max_length",
        max_length=length,
        truncation=True,
        return_tensors="pt",
    ).input_ids


@functools.cache
def _tell(caption: str, length: int) -> None:
    log.warning(
        "A text encoder reads %d tokens; the end of this caption is cut off: %s",
        length,
        caption if len(caption) <= _SHOWN else f"{caption[:_SHOWN]} ...",
    )
