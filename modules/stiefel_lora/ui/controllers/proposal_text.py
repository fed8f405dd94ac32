"""Reasons for the settings that were proposed for a folder of images."""

from __future__ import annotations

from collections.abc import Mapping

from .pages import label_of

__all__ = ["REASONS_TITLE", "reasons_text"]

REASONS_TITLE = "The settings were chosen for your images:"
# Keys without a field.
_LABELS = {"extends": "Preset", "optimizer": "Optimizer"}


def reasons_text(reasons: Mapping[str, str]) -> str:
    """Return proposed values and their reasons, with the labels of fields.

    The same as ``stiefel-lora new`` prints.

    Args:
        reasons: reasons by the key of the setting.
    """
    return "\n\n".join(
        f"{_LABELS.get(key) or label_of(key, '')}: {reason}"
        for key, reason in reasons.items()
    )
