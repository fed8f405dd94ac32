"""Load LoRA files with ComfyUI's own code into its own FLUX.1, at a small size.

    python comfyui_flux_files.py COMFYUI_ROOT FOLDER

The base weights go through ComfyUI's converter from diffusers. Per file: the keys that
it warns of, the output of the transformer, the weights of the text encoders.
"""

from __future__ import annotations

import sys

import torch
from comfyui_files import apply_files, open_comfyui, patcher
from flux_folder import FluxFolder


def _transformer(folder: FluxFolder) -> object:
    from comfy import model_detection, supported_models

    channels = folder.latent_channels()
    sizes = {
        "image_model": "flux",
        "in_channels": channels,
        "out_channels": channels,
        "patch_size": 2,
        "dtype": torch.float32,
        **folder.sizes(),
    }
    model = supported_models.Flux(sizes).get_model({}, device="cpu")
    weights = model_detection.convert_diffusers_mmdit(
        folder.denoiser("transformer"), ""
    )
    model.diffusion_model.load_state_dict(weights)
    return patcher(model)


def _encoders(folder: FluxFolder) -> object:
    from comfy import sd, supported_models_base
    from comfy.text_encoders import flux

    clip, t5 = folder.encoder_configs()
    # Its name of what transformers calls gelu_new.
    t5 |= {"model_type": "t5", "dense_act_fn": "gelu_pytorch_tanh"}
    options = {
        "clip_l_model_config": clip,
        "t5xxl_model_config": t5,
        "dtype": torch.float32,
    }
    target = supported_models_base.ClipTarget(
        flux.FluxTokenizer, flux.flux_clip(dtype_t5=torch.float32)
    )
    made = sd.CLIP(target, model_options=options)
    model = made.cond_stage_model
    model.clip_l.transformer.load_state_dict(folder.encoder("clip"), strict=False)
    model.t5xxl.transformer.load_state_dict(folder.encoder("t5"), strict=False)
    return made


def main(root: str, place: str) -> None:
    """Write what ComfyUI makes of every file."""
    open_comfyui(root)
    folder = FluxFolder(place)
    given = folder.inputs()
    apply_files(
        folder,
        lambda: _transformer(folder),
        lambda: _encoders(folder),
        lambda model: model(
            given["latents"],
            given["timestep"],
            given["context"],
            y=given["pooled"],
            guidance=given["guidance"],
        ),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
