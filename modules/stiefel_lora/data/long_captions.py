"""Captions that have more tokens than the text encoder reads.

This module does not import torch. The tokenizer is that of the caller.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from .._prompt_weights import parse_weights
from .._wording import counted
from .caption_variants import caption_variants, plain_caption
from .folder import CaptionedImage

__all__ = ["LongCaptions", "long_captions"]

# Maximum number of files in a message.
_SHOWN = 3
_CLIP_LENGTHS = (75, 150, 225)


@dataclasses.dataclass(frozen=True)
class LongCaptions:
    """Images whose captions are cut."""

    limit: int
    """Number of tokens that are used."""

    tokens: Mapping[Path, int]
    """Number of tokens of the longest caption of each image, if it is cut."""

    def messages(self) -> list[str]:
        """Return a message about all of them, or none."""
        if not self.tokens:
            return []
        one, many = "caption is", "captions are"
        files = [f"{path.name} ({n} tokens)" for path, n in self.tokens.items()]
        shown = ", ".join(files[:_SHOWN]) + (" ..." if len(files) > _SHOWN else "")
        return [
            f"{counted(len(files), one, many)} cut after {self.limit} tokens: {shown}."
            f"{self._fix()}"
        ]

    def lines(self) -> dict[Path, str]:
        """Return the problem of each file."""
        return {
            path: f"caption of {count} tokens, of which {self.limit} are used"
            for path, count in self.tokens.items()
        }

    def _fix(self) -> str:
        if self.limit not in _CLIP_LENGTHS:
            return ""
        most = max(self.tokens.values())
        longer = [length for length in _CLIP_LENGTHS if length > self.limit]
        enough = [length for length in longer if length >= most] or longer[-1:]
        return f" Set max_token_length to {enough[0]}." if enough else ""


def long_captions(
    images: Sequence[CaptionedImage],
    limit: int,
    count: Callable[[Sequence[str]], Sequence[int]],
    *,
    weighted: bool = False,
) -> LongCaptions:
    """Find the captions that are cut.

    Args:
        images: images with their captions.
        limit: number of tokens that are used, without the first and last one.
        count: function that returns the number of tokens of texts. It is not called if
            all captions are short.
        weighted: whether weights such as ``(word:1.2)`` are no text.
    """
    # A token has at least one byte, so most captions need not be tokenized.
    texts = [
        (image.path, text)
        for image in images
        for text in map(str, map(parse_weights if weighted else str, _texts(image)))
        if len(text.encode("utf-8", "surrogatepass")) > limit
    ]
    if not texts:
        return LongCaptions(limit, {})
    found: dict[Path, int] = {}
    for (path, _), number in zip(texts, count([t for _, t in texts]), strict=True):
        if number > limit:
            found[path] = max(number, found.get(path, 0))
    return LongCaptions(limit, found)


def _texts(image: CaptionedImage) -> Iterable[str]:
    """Return the captions as they are used. Shuffled tags have the same length."""
    if image.concept.enable_wildcard:
        return caption_variants(image)
    return (plain_caption(image, text) for text in image.captions)
