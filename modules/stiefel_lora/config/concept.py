"""Settings of a folder of images (concept)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from ._base import Count, Flag, FolderPath, Number, Text, broken_rule, setting
from .caption_extension import TEXT, CaptionExtension
from .parts import Sides, listed_twice
from .variation import CaptionVariation, ImageVariation
from .violation import Violation

__all__ = ["Concept", "Concepts", "enabled_of", "spell_out_concepts"]


class Concept(ImageVariation, CaptionVariation):
    """A folder of images with captions."""

    path: FolderPath = setting(label="Path")
    """Folder with the images. The caption of cat.png is read from cat.txt, or from its
    line in metadata.jsonl."""

    enabled: Flag = setting(True, label="Enabled")
    """Use this folder. If disabled, it is skipped, and its settings are kept."""

    include_subdirectories: Flag = setting(False, label="Include subdirectories")
    """Also use the images in subfolders."""

    subfolder_repeats: Flag = setting(False, label="Repeats from subfolder names")
    """Use each subfolder with a name such as 10_cat as a separate folder with 10
    repeats, as in kohya's trainers. The rest of the name is the caption of images
    without one, unless default_caption is set. Other subfolders are skipped.
    """

    repeats: Annotated[Count, Field(ge=1, le=10_000)] = setting(1, label="Repeats")
    """Number of times that each image is used per epoch. Use a higher number to give a
    small folder the same weight as a large one.
    """

    balancing: Annotated[Number, Field(gt=0, le=1e6)] | None = setting(
        None, label="Balancing"
    )
    """Replaces repeats and can be a fraction. With balancing_strategy REPEATS, it is
    the number of times that each image is used per epoch. For example, with 0.5, each
    image is used in every second epoch. With SAMPLES, it is the number of images to use
    per epoch.
    """

    balancing_strategy: Literal["REPEATS", "SAMPLES"] = setting(
        "REPEATS", label="Balancing strategy"
    )
    """Unit of balancing. With REPEATS, it is the number of times that each image is
    used per epoch. With SAMPLES, it is the number of images of this folder to use per
    epoch.
    """

    resolutions: Sides = setting(
        (), label="Resolutions", unset_means="resolution and extra_resolutions"
    )
    """Resolutions at which the images of this folder are trained, instead of those of
    the other folders."""

    loss_weight: Annotated[Number, Field(ge=0, le=100)] = setting(
        1.0, label="Loss weight"
    )
    """Weight of these images in the loss."""

    is_reg: Flag = setting(False, label="Regularization")
    """Use these images as regularization images, to preserve the abilities of the base
    model. The number of regularization images per epoch is the same as that of all
    other images, also with several such folders, unless repeats or balancing is set.
    loss_weight is the prior loss weight of other trainers.
    """

    prior_prediction: Flag = setting(False, label="Prior prediction")
    """Use the prediction of the base model as the target for these images, instead of
    the images themselves. Their captions then keep their effect, and any images can be
    used. Each step with such an image computes the prediction of the base model as
    well.
    """

    prompt_source: Literal["sample", "concept", "filename"] = setting(
        "sample", label="Prompt source"
    )
    """Source of the captions. With sample, the caption of cat.png is read from cat.txt
    or metadata.jsonl. With concept, each line of the file prompt_path is a caption, and
    they are used in turn for all images. With filename, the caption is the file name of
    the image without its extension.
    """

    prompt_path: FolderPath | None = setting(None, label="Prompt file")
    """Text file with one caption per line, for prompt_source concept."""

    caption_extension: CaptionExtension = setting(TEXT, label="Caption extension")
    """Extension of caption files, such as .caption, for prompt_source sample."""

    default_caption: Text | None = setting(
        None, label="Default caption", unset_means="an empty caption"
    )
    """Caption of images that have none."""

    @model_validator(mode="after")
    def _rules(self) -> Concept:
        found = (
            _set_twice(self)
            or _numbered_twice(self)
            or _prompt_path_fits(self)
            or _captions_are_files(self)
            or _separators_differ(self)
            or _special_tags_are_given(self)
            or _resolutions_differ(self)
        )
        if found:
            raise broken_rule(found)
        return self


def _set_twice(concept: Concept) -> Violation | None:
    if concept.balancing is None or concept.repeats == 1:
        return None
    return Violation(
        "balancing",
        f"balancing={concept.balancing:g} and repeats={concept.repeats} both set "
        "how often an image is used",
        "Remove one of them",
    )


def _numbered_twice(concept: Concept) -> Violation | None:
    if not concept.subfolder_repeats:
        return None
    for key, is_set in (
        ("repeats", concept.repeats != 1),
        ("balancing", concept.balancing is not None),
    ):
        if is_set:
            return Violation(
                key,
                f"{getattr(concept, key):g} is not supported with subfolder_repeats, "
                "because the names of the subfolders contain their repeats",
                "Remove one of them",
            )
    return None


def _captions_are_files(concept: Concept) -> Violation | None:
    if concept.prompt_source == "sample":
        return None
    for key, default in (("default_caption", None), ("caption_extension", TEXT)):
        if getattr(concept, key) != default:
            return Violation(
                key,
                f"has no effect if prompt_source is {concept.prompt_source!r}, because "
                "captions are not read from a file for each image",
                "Set prompt_source to 'sample', or remove it",
            )
    return None


def _resolutions_differ(concept: Concept) -> Violation | None:
    return listed_twice("resolutions", concept.resolutions)


def _separators_differ(concept: Concept) -> Violation | None:
    used = {concept.tag_delimiter: "tag_delimiter"}
    for key in ("keep_tags_separator", "secondary_separator"):
        text = getattr(concept, key)
        if text in used:
            return Violation(
                key, f"{text!r} is also {used[text]}", "Use another text for one"
            )
        if text is not None:
            used[text] = key
    return None


def _special_tags_are_given(concept: Concept) -> Violation | None:
    mode = concept.tag_dropout_special_tags_mode
    text = concept.tag_dropout_special_tags
    if mode == "NONE":
        return None
    if not text.strip():
        return Violation(
            "tag_dropout_special_tags",
            f"is required if tag_dropout_special_tags_mode is {mode!r}",
            "List the tags, separated by tag_delimiter",
        )
    if not concept.tag_dropout_special_tags_regex:
        return None
    for part in text.split(concept.tag_delimiter):
        try:
            re.compile(part.strip())
        except re.error as error:
            return Violation(
                "tag_dropout_special_tags",
                f"{part.strip()!r} is not a regular expression ({error})",
                "Correct it, or disable tag_dropout_special_tags_regex",
            )
    return None


def _prompt_path_fits(concept: Concept) -> Violation | None:
    given, wanted = concept.prompt_path is not None, concept.prompt_source == "concept"
    if given == wanted:
        return None
    if wanted:
        return Violation(
            "prompt_source",
            "is required if prompt_source is 'concept'. It is a text file with one "
            "caption per line",
            "Set prompt_path",
        )
    return Violation(
        "prompt_path",
        f"has no effect if prompt_source is {concept.prompt_source!r}",
        "Set prompt_source to 'concept', or remove it",
    )


def enabled_of(concepts: Iterable[Concept]) -> tuple[Concept, ...]:
    """Return the concepts that are enabled."""
    return tuple(concept for concept in concepts if concept.enabled)


def spell_out_concepts(value: Any) -> Any:
    """Convert a folder, or a list of folders and objects, to a list of objects.

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
