"""Find a base model in diffusers layout and look at it before it is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .._exceptions import ModelError
from .facts import FamilyFacts
from .reading import WEIGHT_SUFFIXES, read_json

__all__ = ["check_folder", "from_hub"]


def from_hub(name: str, *, download: bool) -> Path | None:
    """Find the folder that the hub's client keeps for a model.

    Args:
        name: of the model on the Hugging Face hub.
        download: fetch a model that is not on this machine; False returns None.

    Raises:
        ModelError: neither a name nor to be had.
    """
    # A path that has more than one slash or starts like one is never a hub name.
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or "\\" in name:
        raise ModelError(
            f"There is no base model folder {name}; correct base_model_name."
        )
    import diffusers
    from huggingface_hub import try_to_load_from_cache

    pipeline: Any = diffusers.DiffusionPipeline

    if not download:
        cached = try_to_load_from_cache(name, "model_index.json")
        return Path(cached).parent if isinstance(cached, str) else None
    try:
        return Path(pipeline.download(name))
    except Exception as error:
        # The hub's client raises a dozen unrelated classes; all mean: not here.
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"The base model {name!r} is neither a folder here nor to be had from the "
            f"hub ({reason}); correct base_model_name."
        ) from error


def check_folder(
    folder: Path, facts: FamilyFacts, others: Sequence[FamilyFacts]
) -> None:
    """Check that a folder holds a whole model of this family.

    Args:
        folder: in diffusers layout.
        facts: of the family that the configuration says.
        others: of families that a wrong model may be of.

    Raises:
        ModelError: damaged, incomplete, of another family, or not in this layout.
    """
    index = folder / "model_index.json"
    if not index.is_file():
        raise ModelError(
            f"The base model folder {folder} has no model_index.json, so it is not in "
            f"diffusers layout; give the folder that holds unet, vae and text_encoder."
        )
    kind = read_json(index).get("_class_name")
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
        _check_part(folder, part)


def _check_part(folder: Path, part: str) -> None:
    inside = folder / part
    if not inside.is_dir():
        raise ModelError(
            f"The base model {folder} is incomplete: its part {part} is missing."
        )
    if part.startswith("tokenizer"):
        return
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    read_json(inside / name)
    if part != "scheduler" and not _has_weights(inside):
        raise ModelError(
            f"The base model {folder} is incomplete: {part} has no weights."
        )


def _has_weights(folder: Path) -> bool:
    return any(path.suffix in WEIGHT_SUFFIXES for path in folder.iterdir())
