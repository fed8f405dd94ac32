"""Load LoRA files with Forge's own code into its own SDXL, at a small size.

    python forge_sdxl_files.py FORGE_ROOT FOLDER

Per file: the keys that it does not match, and the UNet's weights under diffusers'
names.
"""

from __future__ import annotations

import sys
import types

import loadable_torchvision  # noqa: F401
import torch
from host_folder import HostFolder
from sdxl_sizes import sizes_of


def main(folder: HostFolder) -> None:
    """Write what Forge makes of every file."""
    from backend.nn.unet import IntegratedUNet2DConditionModel
    from backend.patcher import lora
    from backend.patcher.unet import UnetPatcher
    from backend.utils import load_torch_file
    from packages_3rdparty.comfyui_lora_collection import utils

    for file in folder.loras():
        sizes = sizes_of(folder)
        model = IntegratedUNet2DConditionModel(**sizes)
        places = utils.unet_to_diffusers(sizes)
        weights = {places[n]: w for n, w in folder.denoiser("unet").items()}
        model.load_state_dict(weights)
        # What its loader sets.
        model.storage_dtype = model.computation_dtype = torch.float32
        model.load_device = model.offload_device = torch.device("cpu")
        model.initial_device = torch.device("cpu")
        repository = types.SimpleNamespace(
            huggingface_repo="stabilityai/stable-diffusion-xl-base-1.0",
            unet_config=sizes,
        )
        patcher = UnetPatcher.from_model(
            model,
            diffusers_scheduler=None,
            config=repository,
            k_predictor=torch.nn.Module(),
        )
        keys = lora.model_lora_keys_unet(patcher.model, {})
        patches, left = lora.load_lora(load_torch_file(str(file)), keys)
        loaded = patcher.add_patches(filename=str(file), patches=patches)
        left |= dict.fromkeys(patches.keys() - loaded)
        patcher.refresh_loras()
        found = patcher.model.diffusion_model.state_dict()
        named = {n: found[places[n]] for n in folder.denoiser("unet")}
        folder.write(file, [str(key) for key in left], named)


if __name__ == "__main__":
    root, place = sys.argv[1:]
    sys.path[:0] = [root, f"{root}/packages_3rdparty"]
    sys.argv = ["launch.py", "--always-cpu", "--all-in-fp32"]
    main(HostFolder(place))
