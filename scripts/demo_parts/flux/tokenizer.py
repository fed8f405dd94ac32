"""A small T5 tokenizer: one unigram piece for each word of the captions."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

from transformers import T5Tokenizer

# T5's ids: padding 0, end 1, unknown 2.
SPECIAL = ("<pad>", "</s>", "<unk>")
SPACE = "\u2581"
PRINTABLE = [chr(code) for code in range(33, 127)]
LONGEST = 512


def write_t5_tokenizer(captions: list[str], target: Path) -> None:
    """Save a T5 tokenizer of the words in `captions` into the folder `target`."""
    made = T5Tokenizer(vocab=pieces(captions), extra_ids=0, model_max_length=LONGEST)
    made.save_pretrained(target)


def pieces(captions: list[str]) -> list[tuple[str, float]]:
    """Pieces and their log-probabilities: words by frequency, then characters.

    Captions hold few words, so each is a piece of its own. Printable ASCII characters
    spell the others; they are rarer than any word.
    """
    words = Counter(SPACE + word for caption in captions for word in caption.split())
    ordered = sorted(words, key=lambda word: (-words[word], word))
    total = words.total()
    special = [(name, 0.0) for name in SPECIAL]
    known = [(word, math.log(words[word] / total)) for word in ordered]
    rarest = math.log(1 / total) - 1
    return special + known + [(letter, rarest) for letter in (SPACE, *PRINTABLE)]
