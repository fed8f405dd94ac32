"""Settings of sample images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from ._base import Count, Number, Seed, StrictModel, Text, setting
from .enums import SamplerName
from .violation import Violation

__all__ = ["Sample", "Side", "Sides", "listed_twice"]

Side = Annotated[int, Field(strict=True, ge=32, le=4096, multiple_of=8)]

Sides = Annotated[tuple[Side, ...], Field(max_length=16)]


def listed_twice(key: str, sides: Sequence[int]) -> Violation | None:
    """Return the violation of a list of resolutions in which one occurs twice."""
    double = next((side for side in sides if sides.count(side) > 1), None)
    if double is None:
        return None
    return Violation(key, f"contains {double} twice", "Remove one of them")


class Sample(StrictModel):
    """Sample image that is generated repeatedly during training."""

    prompt: Annotated[str, Field(min_length=1)] = setting(label="Prompt")
    """Prompt of the image."""

    negative_prompt: Text = setting("", label="Negative prompt")
    """Negative prompt of the image."""

    seed: Seed = setting(0, label="Seed")
    """Seed of the initial noise. The same seed is used each time, so that images
    can be compared.
    """

    steps: Annotated[Count, Field(ge=1, le=1000)] = setting(30, label="Steps")
    """Number of denoising steps. More than 50 steps rarely improve the image."""

    guidance: Annotated[Number, Field(ge=0, le=100)] = setting(5.0, label="CFG scale")
    """Guidance scale. Images follow the prompt more closely with higher values. 1
    disables guidance.
    """

    width: Side | None = setting(
        None, label="Width", unset_means="the training resolution"
    )
    """Width of the image in pixels. Must be a multiple of 8."""

    height: Side | None = setting(
        None, label="Height", unset_means="the training resolution"
    )
    """Height of the image in pixels. Must be a multiple of 8."""

    sampler: SamplerName | None = setting(
        None, label="Sampler", unset_means="the one of the base model"
    )
    """Sampler, by its name in ComfyUI. FLUX only supports euler."""
