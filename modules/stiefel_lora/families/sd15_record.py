"""Record of Stable Diffusion 1.5 and 1.4."""

from __future__ import annotations

from .record import FamilyRecord, HubModel, LoraFileFacts
from .unet_facts import UNET_CONVOLUTIONS, UNET_PRESETS, UNET_RELATIVES

__all__ = ["RECORD"]

RECORD = FamilyRecord(
    name="sd15",
    label="Stable Diffusion 1.5",
    own_short_label="SD 1.5",
    model="stiefel_lora.families.sd15:Sd15",
    denoiser="unet",
    memory="stiefel_lora.memory.unet_steps:UNET",
    layer_presets=UNET_PRESETS,
    text_width=768,
    relatives=UNET_RELATIVES,
    clip_states=("text_encoder",),
    text_readers={"text_encoder": ("attn2.to_k", "attn2.to_v")},
    hub_models={
        "stable-diffusion-v1-5/stable-diffusion-v1-5": HubModel(
            5.5, "CreativeML Open RAIL-M"
        ),
    },
    lora_files=LoraFileFacts(
        base_version="sd_v1",
        architecture="stable-diffusion-v1/lora",
        implementation="https://github.com/Stability-AI/generative-models",
        network="networks.lora",
        kohya="stiefel_lora.files.keys_sd15:SD15",
        spellings=("ComfyUI",),
        # Linear in later models.
        convolutions={**UNET_CONVOLUTIONS, r"\.proj_(in|out)": 1},
        notes=("sd_v1", "sd_1", "stable-diffusion-v1"),
        places=(
            r"^down_blocks_(0_attentions|3_)|^up_blocks_3_|"
            r"^input_blocks_[12]_1_|^(in|out)put_blocks_(9|1[01])_"
        ),
        # Its only text encoder has no number, and its blocks have the names of
        # diffusers, where SDXL's have the original ones.
        marks=(
            "lora_te_",
            *("lora_unet_down_blocks_", "lora_unet_mid_block_", "lora_unet_up_blocks_"),
        ),
    ),
)
