"""A small CLIP tokenizer: byte-level pairs learnt from the captions."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

from transformers import CLIPTokenizer

MAX_LENGTH = 32
MERGES = 1600
START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
# CLIPTokenizer cuts the text into letters, single digits and punctuation runs.
WORD = re.compile(r"[a-z]+|[0-9]|[^\sa-z0-9]+")
Pair = tuple[str, str]


def byte_symbols() -> list[str]:
    """The printable stand-ins of the 256 bytes that byte-level BPE uses.

    Printable Latin-1 bytes stand for themselves, the others for code points from 256
    on, in byte order.
    """
    spare = iter(range(256, 512))
    own = {*range(33, 127), *range(161, 173), *range(174, 256)}
    return [chr(byte if byte in own else next(spare)) for byte in range(256)]


def learn_merges(words: Counter[str], count: int) -> list[Pair]:
    """Learn at most `count` merges; ties go to the pair that sorts first."""
    pieces = {word: (*word[:-1], word[-1] + WORD_END) for word in words}
    merges: list[Pair] = []
    while len(merges) < count:
        pairs: Counter[Pair] = Counter()
        for word, symbols in pieces.items():
            for pair in pairwise(symbols):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        pieces = {word: _merge(symbols, best) for word, symbols in pieces.items()}
    return merges


def write_tokenizers(captions: list[str], targets: dict[Path, str]) -> None:
    """Learn from `captions` and save a CLIPTokenizer into each folder of `targets`.

    Args:
        captions: lower-case ASCII captions.
        targets: folder -> the token that fills short prompts.
    """
    words = Counter(word for caption in captions for word in WORD.findall(caption))
    merges = learn_merges(words, MERGES)
    symbols = byte_symbols()
    tokens = [*symbols, *(symbol + WORD_END for symbol in symbols)]
    tokens += ["".join(pair) for pair in merges]
    tokens = list(dict.fromkeys([*tokens, START, END]))
    for folder, pad in targets.items():
        folder.mkdir(parents=True, exist_ok=True)
        vocabulary = {token: index for index, token in enumerate(tokens)}
        vocab_file, merges_file = folder / "vocab.json", folder / "merges.txt"
        vocab_file.write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
        lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
        merges_file.write_text("\n".join(lines) + "\n", "utf-8")
        tokenizer = CLIPTokenizer(
            vocab=str(vocab_file),
            merges=str(merges_file),
            bos_token=START,
            eos_token=END,
            unk_token=END,
            pad_token=pad,
            model_max_length=MAX_LENGTH,
        )
        tokenizer.save_pretrained(folder)


def _merge(symbols: tuple[str, ...], pair: Pair) -> tuple[str, ...]:
    merged: list[str] = []
    index = 0
    while index < len(symbols):
        if symbols[index : index + 2] == pair:
            merged.append("".join(pair))
            index += 2
        else:
            merged.append(symbols[index])
            index += 1
    return tuple(merged)
