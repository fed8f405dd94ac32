"""Addition of the trigger word to the captions of a scan."""

from __future__ import annotations

import dataclasses

from .._wording import counted
from ..config.trigger import PLACEHOLDER, with_trigger
from .folder import CaptionedImage, Scan
from .wildcards import lines_of

__all__ = ["add_trigger"]


def add_trigger(scan: Scan, word: str | None) -> Scan:
    """Put the trigger word into all captions, except for regularization images.

    Args:
        scan: the images.
        word: the trigger word. Without one, the placeholder is removed from captions,
            with a remark.
    """
    with_placeholder = sum(
        any(PLACEHOLDER in text for text in image.captions) for image in scan.images
    )
    if not word and not with_placeholder:
        return scan
    remarks = scan.remarks
    if not word:
        count = counted(with_placeholder, "caption contains", "captions contain")
        remarks = (
            *remarks,
            f"{count} {PLACEHOLDER}, which is removed because trigger_word is not set.",
        )
    images = tuple(_with_word(image, word) for image in scan.images)
    return dataclasses.replace(scan, images=images, remarks=remarks)


def _with_word(image: CaptionedImage, word: str | None) -> CaptionedImage:
    # Regularization images stand for the model without the word. A placeholder in
    # their captions is there on purpose.
    concept = image.concept

    def named(text: str) -> str:
        if concept.is_reg and PLACEHOLDER not in text:
            return text
        # With wildcards, one of the lines is used.
        lines = lines_of(text) if concept.enable_wildcard else [text]
        changed = [with_trigger(line, word, concept.tag_delimiter) for line in lines]
        return "\n".join(changed) or with_trigger("", word)

    texts = tuple(map(named, image.captions))
    return dataclasses.replace(image, captions=texts, trigger=word or "")
