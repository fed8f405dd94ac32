"""Captions of the base model and the three ways a training step may see them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPTokenizer, T5Tokenizer

from demo_parts.concepts import Concept

BASE_STYLES = ("noto", "twemoji")
EMPTY_SHARE, PLAIN_SHARE = 0.1, 0.1


def caption_of(style: str, concept: Concept) -> str:
    """Style word and name, as in `noto red apple`."""
    return f"{style} {concept.name}"


def base_captions(concepts: list[Concept]) -> list[tuple[str, Concept]]:
    """(style, concept) of every base image: all Noto, then all Twemoji."""
    return [
        (style, concept)
        for style in BASE_STYLES
        for concept in concepts
        if concept.image(style) is not None
    ]


def tokenizer_corpus(concepts: list[Concept]) -> list[str]:
    """Training texts of the tokenizers: all captions and the word `fluent`."""
    pairs = base_captions(concepts)
    return [caption_of(style, concept) for style, concept in pairs] + ["fluent"]


def token_table(
    tokenizer: CLIPTokenizer | T5Tokenizer,
    pairs: list[tuple[str, Concept]],
    length: int | None = None,
) -> Tensor:
    """Token ids (image, 3, length): full caption, without style word, empty.

    `length` is the tokenizer's own unless given.
    """
    texts = [text for style, c in pairs for text in (caption_of(style, c), c.name, "")]
    ids = tokenizer(
        texts,
        padding="max_length",
        max_length=length or tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    return ids.view(len(pairs), 3, -1)


def draw_variants(rng: np.random.Generator, count: int) -> Tensor:
    """Draw the column of `token_table` for each image of a batch, as int64."""
    shares = [1 - PLAIN_SHARE - EMPTY_SHARE, PLAIN_SHARE, EMPTY_SHARE]
    return torch.from_numpy(rng.choice(3, size=count, p=shares))
