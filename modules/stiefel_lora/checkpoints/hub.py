"""Whole models and single parts from the Hugging Face hub, through its own client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .._exceptions import ModelError
from ..config.path_text import is_hub_name

__all__ = ["model_from_hub", "part_from_hub"]


def model_from_hub(name: str, *, download: bool) -> Path | None:
    """Find a model's folder in the cache of the hub's client.

    Args:
        name: name of the model on the hub.
        download: download a missing model; if False, return None.

    Raises:
        ModelError: not a valid name, or not available.
    """
    if not is_hub_name(name):
        raise ModelError(
            f"There is no base model file or folder {name}; correct base_model_name."
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
        # The hub's client raises a dozen unrelated classes, all for the same reason.
        raise ModelError(
            f"The base model {name!r} is neither a folder here nor available from the "
            f"hub ({_reason(error)}); correct base_model_name."
        ) from error


def part_from_hub(part: str, name: str, *, download: bool) -> Path | None:
    """Find the folder of one part in the cache of the hub's client.

    Raises:
        ModelError: not a valid name, or not available.
    """
    if not is_hub_name(name):
        raise ModelError(
            f"{part}_model_name: there is no file or folder {name}; correct it."
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
            f"{part}_model_name: {name!r} is neither a file or folder here nor "
            f"available from the hub ({_reason(error)}); correct it."
        ) from error
    return Path(folder)


def _reason(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
