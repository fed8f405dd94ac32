"""Settings of the components of the base model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..families.catalogue import record_of

if TYPE_CHECKING:
    from ..checkpoints import ModelSource

__all__ = ["part_settings", "usual_settings"]

PARTS = ("unet", "transformer", "vae", "text_encoder", "text_encoder_2")


def part_settings(source: ModelSource) -> dict[str, dict[str, Any]]:
    """Read ``config.json`` of the denoiser, VAE and text encoders.

    Raises:
        ModelError: If one of the files is damaged.
    """
    return {part: source.config(part) for part in PARTS if source.has(part)}


def usual_settings(family: str) -> dict[str, dict[str, Any]]:
    """Return the usual settings of a family, for models that are not local."""
    folder = record_of(family).stock_folder
    files = {part: folder / f"{part}.json" for part in PARTS}
    return {
        part: json.loads(path.read_text(encoding="utf-8"))
        for part, path in files.items()
        if path.is_file()
    }
