"""Load LoRA files with ComfyUI's own code into its own SDXL, at a small size.

    python comfyui_sdxl_files.py COMFYUI_ROOT FOLDER

Per file: the keys that it warns of, and the UNet's weights under diffusers' names.
"""

from __future__ import annotations

import sys

import torch
from comfyui_files import KeyWarnings, open_comfyui, patcher
from host_folder import HostFolder
from sdxl_sizes import sizes_of


def main(root: str, place: str) -> None:
    """Write what ComfyUI makes of every file."""
    open_comfyui(root)
    import logging

    import comfy.model_management
    import comfy.sd
    import comfy.utils
    from comfy import supported_models

    folder = HostFolder(place)
    warnings = KeyWarnings()
    logging.getLogger().addHandler(warnings)
    for file in folder.loras():
        warnings.keys = []
        sizes = {**sizes_of(folder), "image_size": 32, "legacy": False}
        sizes |= {"use_temporal_attention": False, "dtype": torch.float32}
        model = supported_models.SDXL(sizes).get_model({}, device="cpu")
        places = comfy.utils.unet_to_diffusers(sizes)
        weights = {places[n]: w for n, w in folder.denoiser("unet").items()}
        model.diffusion_model.load_state_dict(weights)
        lora = comfy.utils.load_torch_file(str(file), safe_load=True)
        patched, _ = comfy.sd.load_lora_for_models(patcher(model), None, lora, 1.0, 0)
        comfy.model_management.load_models_gpu([patched])
        found = patched.model.diffusion_model.state_dict()
        named = {n: found[places[n]] for n in folder.denoiser("unet")}
        folder.write(file, warnings.keys, named)


if __name__ == "__main__":
    main(*sys.argv[1:])
