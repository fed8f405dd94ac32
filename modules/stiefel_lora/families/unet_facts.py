"""Properties that are common to the families with a U-Net."""

from __future__ import annotations

from .record import Relative

__all__ = ["UNET_CONVOLUTIONS", "UNET_PRESETS", "UNET_RELATIVES"]

UNET_PRESETS: dict[str, tuple[str, ...]] = {
    "attn-only": ("attn",),
    "attn-mlp": ("attentions",),
    "full": (),
}
"""Layer filter presets, with the names of OneTrainer."""

UNET_RELATIVES = (
    Relative("Stable Diffusion 2", context=1024),
    Relative("a depth-to-image model", channels=5),
    Relative("an upscaler", channels=7),
    Relative("an InstructPix2Pix model", channels=8),
    Relative("an inpainting model", channels=9),
)
"""Similar models that are not supported."""

UNET_CONVOLUTIONS = {
    r"\.(conv|conv1|conv2|conv_in|conv_out)": 3,
    r"\.conv_shortcut": 1,
}
"""Kernel sizes of convolutions, by regular expressions for their names."""
