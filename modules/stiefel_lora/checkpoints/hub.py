"""Models and components from the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .._exceptions import ModelError
from ..config.path_text import is_hub_name
from ..families.hub_models import access_hint, cached_folder, download_note
from ..runs.progress import say

__all__ = ["model_from_hub", "part_from_hub"]


def model_from_hub(name: str, *, download: bool) -> Path | None:
    """Return the folder of a model in the cache of huggingface_hub.

    Args:
        name: name of the model on the Hugging Face Hub.
        download: whether to download a missing model. If False, None is returned.

    Raises:
        ModelError: If the name is not valid or not available.
    """
    if not is_hub_name(name):
        raise ModelError(
            f"The base model {name} does not exist. Correct base_model_name."
        )
    cached = cached_folder(name)
    if not download:
        return cached
    if cached is None:
        say(f"Downloading {name} from the Hugging Face Hub. {download_note(name)}")
    import diffusers

    pipeline: Any = diffusers.DiffusionPipeline
    try:
        return Path(pipeline.download(name))
    except Exception as error:
        # The hub's client raises a dozen unrelated classes, all for the same reason.
        raise ModelError(
            f"The base model {name!r} is not a local folder and cannot be loaded "
            f"from the Hugging Face Hub ({_reason(error)}). "
            f"{access_hint(name) or 'Correct base_model_name.'}"
        ) from error


def part_from_hub(part: str, name: str, *, download: bool) -> Path | None:
    """Return the folder of a component in the cache of huggingface_hub.

    Raises:
        ModelError: If the name is not valid or not available.
    """
    if not is_hub_name(name):
        raise ModelError(
            f"{part}_model_name: the file or folder {name} does not exist. Correct "
            "the path."
        )
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.txt", "*.model"]
    if not part.startswith("tokenizer"):
        patterns.append("*.safetensors")
    try:
        folder = snapshot_download(
            name, allow_patterns=patterns, local_files_only=not download
        )
    except Exception as error:
        if not download:
            return None
        raise ModelError(
            f"{part}_model_name: {name!r} is not a local file or folder and cannot "
            f"be loaded from the Hugging Face Hub ({_reason(error)}). Correct it."
        ) from error
    return Path(folder)


def _reason(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
