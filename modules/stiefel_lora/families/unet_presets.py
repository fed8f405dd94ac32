"""Layer presets of all families with a U-Net; the names are OneTrainer's."""

from __future__ import annotations

__all__ = ["UNET_PRESETS"]

UNET_PRESETS: dict[str, tuple[str, ...]] = {
    "attn-only": ("attn",),
    "attn-mlp": ("attentions",),
    "full": (),
}
