"""Record of Stable Diffusion XL."""

from __future__ import annotations

from .record import FamilyRecord, HubModel, LoraFileFacts, Relative
from .unet_facts import UNET_CONVOLUTIONS, UNET_PRESETS, UNET_RELATIVES

__all__ = ["RECORD"]

RECORD = FamilyRecord(
    name="sdxl",
    label="SDXL",
    model="stiefel_lora.families.sdxl:Sdxl",
    denoiser="unet",
    memory="stiefel_lora.memory.unet_steps:UNET",
    layer_presets=UNET_PRESETS,
    text_width=2048,
    relatives=(
        *UNET_RELATIVES,
        Relative("the SDXL refiner", context=1280, reads_sizes=True),
    ),
    # The penultimate hidden states are used, and also the projected last output of the
    # second encoder.
    unread_text_layers={"text_encoder": 1},
    clip_states=("text_encoder", "text_encoder_2"),
    text_readers={
        "text_encoder": ("attn2.to_k", "attn2.to_v"),
        "text_encoder_2": ("add_embedding.linear_1", "attn2.to_k", "attn2.to_v"),
    },
    hub_models={
        "stabilityai/stable-diffusion-xl-base-1.0": HubModel(
            13.9, "CreativeML Open RAIL++-M"
        ),
    },
    lora_files=LoraFileFacts(
        # A1111 only offers a LoRA for SDXL if this name starts with "sdxl_".
        base_version="sdxl_base_v1-0",
        architecture="stable-diffusion-xl-v1-base/lora",
        implementation="https://github.com/Stability-AI/generative-models",
        network="networks.lora",
        kohya="stiefel_lora.files.keys_sdxl:SDXL",
        spellings=("kohya (diffusers names)", "ComfyUI"),
        convolutions=UNET_CONVOLUTIONS,
        notes=("sdxl", "stable-diffusion-xl"),
        places=(
            r"^(in|out)put_blocks_|^middle_block_|^(label_emb|add_embedding)|"
            r"^up_blocks_0_attentions|_transformer_blocks_[1-9]"
        ),
    ),
)
