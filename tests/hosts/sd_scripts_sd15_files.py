"""Load LoRA files with sd-scripts' own code into its own SD 1.5, at a small size.

    python sd_scripts_sd15_files.py SD_SCRIPTS_ROOT FOLDER

Its UNet has diffusers' names; its sizes are constants of the module, set here.
"""

from __future__ import annotations

import sys

import loadable_torchvision  # noqa: F401
import torch
from host_folder import HostFolder


def main(folder: HostFolder) -> None:
    """Write what sd-scripts makes of every file in kohya's format, the one it reads."""
    from networks import lora

    given = folder.inputs()
    for file in folder.loras():
        if file.stem.endswith("_peft"):
            continue
        unet, clip = _unet(folder), _clip(folder)
        network, weights = lora.create_network_from_weights(
            1.0, str(file), None, clip, unet
        )
        network.apply_to(clip, unet)
        found = network.load_state_dict(weights, False)
        assert not found.missing_keys, found.missing_keys
        inputs = (given["latents"], given["timestep"], given["context"])
        with torch.no_grad():
            tensors = {"output": unet(*inputs).sample}
        unet, clip = _unet(folder), _clip(folder)
        network, weights = lora.create_network_from_weights(
            1.0, str(file), None, clip, unet, for_inference=True
        )
        network.merge_to(clip, unet, weights, torch.float32, "cpu")
        with torch.no_grad():
            tensors["merged output"] = unet(*inputs).sample
        tensors |= {f"clip.{path}": w for path, w in clip.state_dict().items()}
        folder.write(file, found.unexpected_keys, tensors)


def _unet(folder: HostFolder) -> torch.nn.Module:
    from library import original_unet

    config = folder.config("unet")
    widths = tuple(config["block_out_channels"])
    original_unet.BLOCK_OUT_CHANNELS = widths
    original_unet.TIMESTEP_INPUT_DIM = widths[0]
    original_unet.TIME_EMBED_DIM = 4 * widths[0]
    model = original_unet.UNet2DConditionModel(
        sample_size=config["sample_size"],
        attention_head_dim=config["attention_head_dim"],
        cross_attention_dim=config["cross_attention_dim"],
    )
    model.load_state_dict(folder.denoiser("unet"))
    return model


def _clip(folder: HostFolder) -> torch.nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel

    model = CLIPTextModel(CLIPTextConfig(**folder.config("text_encoder")))
    found = model.load_state_dict(folder.encoder("clip"), strict=False)
    assert not found.unexpected_keys, found.unexpected_keys
    return model


if __name__ == "__main__":
    root, place = sys.argv[1:]
    sys.path.insert(0, root)
    main(HostFolder(place))
