"""Download size, license and access conditions of base models on the Hugging Face Hub.

The values are in the records of the families. No network access is required.
"""

from __future__ import annotations

from pathlib import Path

from .._exceptions import ModelError
from .catalogue import records
from .record import HubModel

__all__ = ["access_hint", "cached_folder", "download_gigabytes", "download_note"]


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
    known = _known(name)
    if known is None:
        return f"Size and license: {_page(name)}."
    parts = [
        f"About {known.gigabytes:g} GB, license: {known.license}.",
        access_hint(name),
    ]
    return " ".join(filter(None, parts))


def download_gigabytes(name: str) -> float:
    """Return the download size of a model in GB, or 0 if it is unknown."""
    known = _known(name)
    return 0.0 if known is None else known.gigabytes


def access_hint(name: str) -> str:
    """Return how to get access to a gated model, or "" for other models."""
    known = _known(name)
    if known is None or not known.gated:
        return ""
    return (
        f"Access must be requested at {_page(name)}, and a token is required: log in "
        "with hf auth login, or set HF_TOKEN."
    )


def _page(name: str) -> str:
    return f"https://huggingface.co/{name}"


def _known(name: str) -> HubModel | None:
    found = (record.hub_models.get(name) for record in records())
    return next(filter(None, found), None)
