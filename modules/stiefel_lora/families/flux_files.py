"""How a FLUX.1 model lies in files; ``families.flux`` puts it into its facts.

Checkpoints of Black Forest Labs hold the transformer alone, ComfyUI's "all in one"
files the other parts too, under its own prefixes.
"""

from __future__ import annotations

from typing import Any

import diffusers
import transformers

from ..checkpoints.facts import InFiles
from ..checkpoints.header import Header
from ..checkpoints.layouts import CLIP, LDM_VAE, T5
from .layout_bfl import BFL, flux_config

__all__ = ["FLUX_FILES", "flux_scheduler", "is_flux_file"]

_PREFIXES = ("model.diffusion_model.", "")


def is_flux_file(header: Header) -> bool:
    """FLUX.1, and not a relative whose blocks have no modulation of their own."""
    return any(
        header.any(f"{prefix}{name}")
        for prefix in _PREFIXES
        for name in (
            "double_blocks.0.img_mod.",
            "double_blocks.1.img_mod.",
            "single_transformer_blocks.",
        )
    )


def flux_scheduler(known: dict[str, Any], header: Header) -> dict[str, Any]:
    """Shift the noise levels as dev does, or not at all for schnell (no guidance)."""
    if any("guidance" in name for name in header.entries):
        return known
    return {**known, "shift": 1.0, "use_dynamic_shifting": False}


def _adapt(config: dict[str, Any], header: Header, prefix: str) -> dict[str, Any]:
    names = [name[len(prefix) :] for name in header.entries if name.startswith(prefix)]
    return flux_config(config, dict.fromkeys(names))


FLUX_FILES = {
    "transformer": InFiles(
        diffusers.FluxTransformer2DModel, ("model.diffusion_model.",), BFL, _adapt
    ),
    "vae": InFiles(diffusers.AutoencoderKL, ("vae.", "first_stage_model."), LDM_VAE),
    "text_encoder": InFiles(
        transformers.CLIPTextModel, ("text_encoders.clip_l.transformer.",), CLIP
    ),
    "text_encoder_2": InFiles(
        transformers.T5EncoderModel, ("text_encoders.t5xxl.transformer.",), T5
    ),
}
