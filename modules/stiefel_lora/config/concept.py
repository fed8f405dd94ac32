"""A folder of images: where it is, how much it counts, where captions come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from ._base import Count, Flag, FolderPath, Number, broken_rule, setting
from .variation import CaptionVariation, ImageVariation
from .violation import Violation

__all__ = ["Concept", "Concepts", "spell_out_concepts"]


class Concept(ImageVariation, CaptionVariation):
    """A folder of images with captions."""

    path: FolderPath = setting(label="Path")
    """Folder with the images; the caption of cat.png is the text in cat.txt, or that
    of its line in metadata.jsonl."""

    include_subdirectories: Flag = setting(False, label="Include subdirectories")
    """Take the images of folders inside the folder too."""

    repeats: Annotated[Count, Field(ge=1, le=10_000)] = setting(1, label="Repeats")
    """How often each image comes up in one pass; more for a small folder that should
    count as much as a large one."""

    balancing: Annotated[Number, Field(gt=0, le=1e6)] | None = setting(
        None, label="Balancing"
    )
    """In place of repeats, and any number: how often each image comes up in one pass
    (0.5: half of them, in turns), or how many images do; see balancing_strategy."""

    balancing_strategy: Literal["REPEATS", "SAMPLES"] = setting(
        "REPEATS", label="Balancing strategy"
    )
    """What balancing counts. REPEATS: how often each image comes up in one pass;
    SAMPLES: how many images of this folder do."""

    loss_weight: Annotated[Number, Field(ge=0, le=100)] = setting(
        1.0, label="Loss weight"
    )
    """How much the loss on these images counts."""

    is_reg: Flag = setting(False, label="Regularization")
    """Regularization images, which show what the model should not forget: as many in
    one pass as of all other folders together, unless repeats or balancing say
    otherwise. Their loss_weight is what others call prior loss weight."""

    prompt_source: Literal["sample", "concept", "filename"] = setting(
        "sample", label="Prompt source"
    )
    """Where captions come from. sample: cat.txt beside cat.png, or metadata.jsonl;
    concept: the lines of the file prompt_path, in turns, for every image; filename:
    the name of the image without its ending."""

    prompt_path: FolderPath | None = setting(None, label="Prompt file")
    """Text file of captions, one a line, for prompt_source concept."""

    @model_validator(mode="after")
    def _rules(self) -> Concept:
        found = _set_twice(self) or _prompt_path_fits(self)
        if found:
            raise broken_rule(found)
        return self


def _set_twice(concept: Concept) -> Violation | None:
    if concept.balancing is None or concept.repeats == 1:
        return None
    return Violation(
        "balancing",
        f"{concept.balancing:g} and repeats={concept.repeats} both set how often an "
        f"image comes up",
        "Leave one of them out",
    )


def _prompt_path_fits(concept: Concept) -> Violation | None:
    given, wanted = concept.prompt_path is not None, concept.prompt_source == "concept"
    if given == wanted:
        return None
    if wanted:
        return Violation(
            "prompt_source",
            "'concept' needs prompt_path, a text file with a caption a line",
            "Set prompt_path",
        )
    return Violation(
        "prompt_path",
        f"has no effect with prompt_source={concept.prompt_source!r}",
        "Write prompt_source 'concept', or leave it out",
    )


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
