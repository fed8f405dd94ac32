"""Facts shared by all families with a U-Net. Their records use them."""

from __future__ import annotations

from .record import Relative

__all__ = ["UNET_CONVOLUTIONS", "UNET_PRESETS", "UNET_RELATIVES"]

UNET_PRESETS: dict[str, tuple[str, ...]] = {
    "attn-only": ("attn",),
    "attn-mlp": ("attentions",),
    "full": (),
}
"""Layer presets. The names are OneTrainer's."""

UNET_RELATIVES = (
    Relative("Stable Diffusion 2", context=1024),
    Relative("a depth-to-image model", channels=5),
    Relative("an upscaler", channels=7),
    Relative("an InstructPix2Pix model", channels=8),
    Relative("an inpainting model", channels=9),
)
"""From the published configs of these models."""

UNET_CONVOLUTIONS = {
    r"\.(conv|conv1|conv2|conv_in|conv_out)": 3,
    r"\.conv_shortcut": 1,
}
"""Kernels of residual blocks, samplers, and the first and last layer."""
