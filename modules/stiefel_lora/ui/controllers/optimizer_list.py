"""Optimizers in the drop-down list, with their descriptions."""

from __future__ import annotations

from ...methods import CATALOGUE, CUSTOM, PACKAGED, find_record

__all__ = ["optimizer_label", "optimizer_names", "optimizer_summary", "optimizer_unit"]

_CUSTOM = "Another class…"
_CUSTOM_SUMMARY = "Any subclass of torch.optim.Optimizer."


def optimizer_names() -> list[str]:
    """Return the names of all optimizers, with those of loaded plugins."""
    return [*CATALOGUE, *PACKAGED, CUSTOM]


def optimizer_label(name: str) -> str:
    """Return the label of an optimizer, such as ``Stiefel LoRA``."""
    entry = find_record(name)
    return entry.label if entry else _CUSTOM


def optimizer_summary(name: str) -> str:
    """Return the description of an optimizer."""
    entry = find_record(name)
    return entry.summary if entry else _CUSTOM_SUMMARY


def optimizer_unit(name: str) -> str:
    """Return the default learning rate of an optimizer and its unit as text."""
    entry = find_record(name)
    if entry is None:
        return "The unit of the learning rate depends on this class."
    return (
        f"Default learning rate: {entry.default_lr:g} (for alpha = rank). Unit: "
        f"{entry.lr_unit}."
    )
