"""Look at a base model in diffusers layout before it is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .._exceptions import ModelError
from .facts import FamilyFacts
from .folder_part import has_weights
from .model_files import read_model_json
from .relatives import check_relative

__all__ = ["check_folder"]


def check_folder(
    folder: Path,
    facts: FamilyFacts,
    others: Sequence[FamilyFacts],
    elsewhere: Sequence[str] = (),
) -> None:
    """Check that a folder holds a whole model of this family.

    Args:
        folder: in diffusers layout.
        facts: of the family that the configuration says.
        others: of families that a wrong model may be of.
        elsewhere: parts that the folder need not have.

    Raises:
        ModelError: damaged, incomplete, of another family, or not in this layout.
    """
    index = folder / "model_index.json"
    if not index.is_file():
        raise ModelError(
            f"The base model folder {folder} has no model_index.json, so it is not in "
            f"diffusers layout; give the folder that holds unet, vae and text_encoder."
        )
    kind = read_model_json(index).get("_class_name")
    if facts.denoiser not in elsewhere:
        _check_denoiser(folder, facts)
    if not isinstance(kind, str):
        raise ModelError(f"{index} is damaged: it names no _class_name.")
    if not facts.is_pipeline(kind):
        other = next((family for family in others if family.is_pipeline(kind)), None)
        what = f"a {other.label} model" if other else "another kind of model"
        raise ModelError(
            f"The base model {folder} is {what} ({kind}), but model_type is "
            f"{facts.name!r}; give a model of {facts.label}."
        )
    for part in facts.parts:
        if part not in elsewhere:
            _check_part(folder, part)


def _check_denoiser(folder: Path, facts: FamilyFacts) -> None:
    """Refuse relatives before a part is missed that they do not have."""
    settings = folder / facts.denoiser / "config.json"
    if settings.is_file():
        check_relative(folder, facts, {}, read_model_json(settings))


def _check_part(folder: Path, part: str) -> None:
    inside = folder / part
    if not inside.is_dir():
        raise ModelError(
            f"The base model {folder} is incomplete: its part {part} is missing."
        )
    if part.startswith("tokenizer"):
        return
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    read_model_json(inside / name)
    if part != "scheduler" and not has_weights(inside):
        raise ModelError(
            f"The base model {folder} is incomplete: {part} has no weights."
        )
