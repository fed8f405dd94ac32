"""Sample images: a list inside a configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ._base import Count, Number, Seed, StrictModel, Text, setting

__all__ = ["Sample", "Side"]

Side = Annotated[int, Field(strict=True, ge=32, le=4096, multiple_of=8)]


class Sample(StrictModel):
    """An image to generate repeatedly during training, to show its progress."""

    prompt: Annotated[str, Field(min_length=1)] = setting(label="Prompt")
    """Content of the image."""

    negative_prompt: Text = setting("", label="Negative prompt")
    """Content to avoid in the image."""

    seed: Seed = setting(0, label="Seed")
    """Seed of the noise. The same seed makes images of different steps comparable."""

    steps: Annotated[Count, Field(ge=1, le=1000)] = setting(30, label="Steps")
    """Denoising steps. More are slower, and more than 50 are hardly better."""

    guidance: Annotated[Number, Field(ge=0, le=100)] = setting(5.0, label="CFG scale")
    """How closely the image follows the prompt; 1 turns guidance off."""

    width: Side | None = setting(
        None, label="Width", unset_means="the training resolution"
    )
    """Pixels, a multiple of 8."""

    height: Side | None = setting(
        None, label="Height", unset_means="the training resolution"
    )
    """Pixels, a multiple of 8."""
