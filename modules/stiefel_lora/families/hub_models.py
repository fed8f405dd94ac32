"""Download size, license and access conditions of base models on the Hugging Face Hub.

No network access is required. The sizes are those of the files that are downloaded by
``DiffusionPipeline.download``: the .safetensors weights of all parts. If a repository
contains several precisions, the full precision is downloaded.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from .._exceptions import ModelError

__all__ = [
    "HUB_MODELS",
    "HubModel",
    "access_hint",
    "cached_folder",
    "download_note",
]


@dataclasses.dataclass(frozen=True)
class HubModel:
    """Download size, license and access conditions of a model."""

    gigabytes: float
    license: str
    gated: bool = False
    """True if access must be requested on the page of the model."""


HUB_MODELS = {
    "stabilityai/stable-diffusion-xl-base-1.0": HubModel(
        13.9, "CreativeML Open RAIL++-M"
    ),
    "stable-diffusion-v1-5/stable-diffusion-v1-5": HubModel(
        5.5, "CreativeML Open RAIL-M"
    ),
    "black-forest-labs/FLUX.1-dev": HubModel(
        33.7, "FLUX.1 [dev] Non-Commercial License", gated=True
    ),
}
"""Base models of the presets by their names on the Hugging Face Hub."""


def cached_folder(name: str) -> Path | None:
    """Return the folder of a model in the cache of the Hugging Face Hub, or None.

    Raises:
        ModelError: If the name is invalid.
    """
    # Here, as this takes a moment and most configurations name a folder.
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(name, "model_index.json")
    except HFValidationError:
        raise ModelError(
            f"The base model {name!r} is neither a file or folder nor a valid name on "
            "the Hugging Face Hub. Correct base_model_name."
        ) from None
    return Path(cached).parent if isinstance(cached, str) else None


def download_note(name: str) -> str:
    """Return the download size and license of a model, and how to get access."""
    known = HUB_MODELS.get(name)
    if known is None:
        return f"Size and license: {_page(name)}."
    parts = [
        f"About {known.gigabytes:g} GB, license: {known.license}.",
        access_hint(name),
    ]
    return " ".join(filter(None, parts))


def access_hint(name: str) -> str:
    """Return how to get access to a gated model, or "" for other models."""
    known = HUB_MODELS.get(name)
    if known is None or not known.gated:
        return ""
    return (
        f"Access must be requested at {_page(name)}, and a token is required: log in "
        "with hf auth login, or set HF_TOKEN."
    )


def _page(name: str) -> str:
    return f"https://huggingface.co/{name}"
