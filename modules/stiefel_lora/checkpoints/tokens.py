"""Tokenization of captions as in diffusers' pipelines, and of weighted prompts."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from .._prompt_weights import WeightedPrompt

__all__ = ["Caption", "token_counts", "token_weights", "tokens_of"]

Caption: TypeAlias = str | WeightedPrompt
"""A caption, or a prompt with weights."""

log = logging.getLogger("stiefel_lora")

# Maximum letters of a caption in the log.
_SHOWN = 2000


def tokens_of(
    tokenizer: Any, captions: Sequence[Caption], length: int | None = None
) -> Tensor:
    """Return padded token IDs, ``(captions, length)`` int64 on the CPU.

    Longer captions are truncated, and a message is logged once per caption.

    Args:
        tokenizer: tokenizer of transformers.
        captions: captions as text, or weighted prompts.
        length: number of tokens. If None, the maximum of the tokenizer is used.
    """
    length = length or tokenizer.model_max_length
    plain = [caption for caption in captions if isinstance(caption, str)]
    if len(plain) < len(captions):
        rows = [_weighted_row(tokenizer, caption, length)[0] for caption in captions]
        return torch.tensor(rows)
    whole = tokenizer(plain, verbose=False).input_ids
    for caption, tokens in zip(plain, whole, strict=True):
        if len(tokens) > length:
            _log_cut(caption, length)
    return tokenizer(
        plain,
        padding="max_length",
        max_length=length,
        truncation=True,
        return_tensors="pt",
    ).input_ids


def token_weights(
    tokenizer: Any, captions: Sequence[Caption], length: int | None = None
) -> Tensor | None:
    """Return the weights of the tokens of prompts, ``(captions, length)`` in float32.

    They are 1 for the first, the last and padding tokens. None if there is no weighted
    prompt.
    """
    if all(isinstance(caption, str) for caption in captions):
        return None
    length = length or tokenizer.model_max_length
    return torch.tensor([_weighted_row(tokenizer, c, length)[1] for c in captions])


def _weighted_row(
    tokenizer: Any, caption: Caption, length: int
) -> tuple[list[int], list[float]]:
    """Return the padded tokens of a prompt and their weights."""
    pieces = ((caption, 1.0),) if isinstance(caption, str) else caption.pieces
    tokens: list[int] = []
    weights: list[float] = []
    for text, weight in pieces:
        found = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        tokens += found
        weights += [weight] * len(found)
    room = length - 2
    if len(tokens) > room:
        _log_cut(str(caption), length)
    free = max(room - len(tokens), 0)
    first, last = tokenizer.bos_token_id, tokenizer.eos_token_id
    row = [first, *tokens[:room], last, *[tokenizer.pad_token_id] * free]
    return row, [1.0, *weights[:room], *[1.0] * (free + 1)]


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
