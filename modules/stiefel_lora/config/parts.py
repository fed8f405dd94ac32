"""Folders of pictures and sample pictures: the lists inside a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from ._base import Count, FolderPath, Number, Seed, StrictModel

__all__ = ["Concept", "Concepts", "Sample", "spell_out_concepts"]

Side = Annotated[int, Field(strict=True, ge=32, le=4096, multiple_of=8)]


class Concept(StrictModel):
    """A folder of pictures with captions in .txt files of the same name."""

    path: FolderPath
    """Folder with the pictures; the caption of cat.png is the text in cat.txt."""

    repeats: Annotated[Count, Field(ge=1, le=10_000)] = 1
    """How often each picture comes up in one pass; more for a small folder that should
    count as much as a large one."""


class Sample(StrictModel):
    """A picture to make again and again during training, to see what changes."""

    prompt: Annotated[str, Field(min_length=1)]
    """What the picture shows."""

    negative_prompt: str = ""
    """What the picture should not show."""

    seed: Seed = 0
    """Starting noise; the same seed makes pictures of different steps comparable."""

    steps: Annotated[Count, Field(ge=1, le=1000)] = 30
    """Denoising steps; more are slower, and above 50 hardly better."""

    guidance: Annotated[Number, Field(ge=0, le=100)] = 5.0
    """How strictly the picture follows the prompt; 1 switches guidance off."""

    width: Side | None = None
    """Pixels, a multiple of 8. Empty: the training resolution."""

    height: Side | None = None
    """Pixels, a multiple of 8. Empty: the training resolution."""


def spell_out_concepts(value: Any) -> Any:
    """Write a folder, or a list of folders and objects, as a list of objects.

    >>> spell_out_concepts("cats")
    [{'path': 'cats'}]
    """
    if isinstance(value, str | Path | Mapping | Concept):
        value = [value]
    if not isinstance(value, list | tuple):
        return value
    return [{"path": item} if isinstance(item, str | Path) else item for item in value]


Concepts = Annotated[
    tuple[Concept, ...],
    BeforeValidator(
        spell_out_concepts, json_schema_input_type=str | list[str | Concept]
    ),
]
