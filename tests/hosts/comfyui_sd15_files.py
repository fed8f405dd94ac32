"""Load LoRA files with ComfyUI's own code into its own SD 1.5, at a small size.

    python comfyui_sd15_files.py COMFYUI_ROOT FOLDER

The base weights go where ComfyUI's table of diffusers' names says.
"""

from __future__ import annotations

import sys

import torch
from comfyui_files import apply_files, open_comfyui, patcher
from host_folder import HostFolder


def _unet(folder: HostFolder) -> object:
    from comfy import supported_models, utils

    config = folder.config("unet")
    widths = config["block_out_channels"]
    layers = config["layers_per_block"]
    down = [int("CrossAttn" in kind) for kind in config["down_block_types"]]
    sizes = {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": widths[0],
        "channel_mult": [width // widths[0] for width in widths],
        "num_res_blocks": [layers] * len(widths),
        "transformer_depth": [depth for depth in down for _ in range(layers)],
        "transformer_depth_output": [x for x in down for _ in range(layers + 1)],
        "transformer_depth_middle": 1,
        "use_spatial_transformer": True,
        "legacy": False,
        "context_dim": config["cross_attention_dim"],
        "use_linear_in_transformer": False,
        "adm_in_channels": None,
        "use_temporal_attention": False,
        "dtype": torch.float32,
    }
    model = supported_models.SD15(sizes).get_model({}, device="cpu")
    places = utils.unet_to_diffusers(sizes)
    weights = {places[n]: w for n, w in folder.denoiser("unet").items()}
    model.diffusion_model.load_state_dict(weights)
    return patcher(model)


def _clip(folder: HostFolder) -> object:
    from comfy import sd, sd1_clip, supported_models_base

    config = folder.config("text_encoder")
    options = {"clip_l_model_config": config, "dtype": torch.float32}
    target = supported_models_base.ClipTarget(
        sd1_clip.SD1Tokenizer, sd1_clip.SD1ClipModel
    )
    made = sd.CLIP(target, model_options=options)
    transformer = made.cond_stage_model.clip_l.transformer
    transformer.load_state_dict(folder.encoder("clip"), strict=False)
    return made


def main(root: str, place: str) -> None:
    """Write what ComfyUI makes of every file."""
    open_comfyui(root)
    folder = HostFolder(place)
    given = folder.inputs()
    apply_files(
        folder,
        lambda: _unet(folder),
        lambda: _clip(folder),
        lambda model: model(given["latents"], given["timestep"], given["context"]),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
