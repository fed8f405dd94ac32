"""CLIP's tokenizer with no merges, one token for each byte, made without a network."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import CLIPTokenizer

__all__ = ["TOKENS", "byte_tokenizer"]

TOKENS = 77


def byte_tokenizer(folder: Path) -> CLIPTokenizer:
    """Write its ``vocab.json`` and ``merges.txt`` to ``folder`` and load them."""
    folder.mkdir(parents=True)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in printable]
    letters += [chr(256 + i) for i in range(256 - len(printable))]
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=TOKENS
    )
