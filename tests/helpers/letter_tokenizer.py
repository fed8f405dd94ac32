"""T5's tokenizer with one token for each printable letter, made without a network."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.processors import TemplateProcessing
from transformers import T5TokenizerFast

__all__ = ["letter_tokenizer"]

_SPECIAL = ("<pad>", "</s>", "<unk>")


def letter_tokenizer(folder: Path) -> T5TokenizerFast:
    """Save it to ``folder`` and load it from there."""
    letters = ["\u2581", *map(chr, range(33, 127))]
    pieces = [(name, 0.0) for name in _SPECIAL] + [(letter, -3.0) for letter in letters]
    tokenizer = Tokenizer(Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = Metaspace()
    tokenizer.post_processor = TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    made = T5TokenizerFast(tokenizer_object=tokenizer, extra_ids=0)
    made.save_pretrained(folder)
    return T5TokenizerFast.from_pretrained(folder)
