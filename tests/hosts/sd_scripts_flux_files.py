"""Load LoRA files with sd-scripts' own code into its own FLUX.1, at a small size.

    python sd_scripts_flux_files.py SD_SCRIPTS_ROOT FOLDER

The base weights go through its converter from diffusers. Per file: the keys that it
does not match, the output with the LoRA beside the layers and with the LoRA merged
into them, the merged weights of the text encoders.
"""

from __future__ import annotations

import dataclasses
import sys

import loadable_torchvision  # noqa: F401
import torch
from flux_folder import FluxFolder


def main(folder: FluxFolder) -> None:
    """Write what sd-scripts makes of every file in kohya's format, the one it reads."""
    from networks import lora_flux

    for file in folder.loras():
        if file.stem.endswith("_peft"):
            continue
        flux, encoders = _transformer(folder), _encoders(folder)
        network, weights = lora_flux.create_network_from_weights(
            1.0, str(file), None, encoders, flux
        )
        network.apply_to(encoders, flux)
        found = network.load_state_dict(weights, False)
        assert not found.missing_keys, found.missing_keys
        tensors = {"output": _output(flux, folder)}
        flux, encoders = _transformer(folder), _encoders(folder)
        network, weights = lora_flux.create_network_from_weights(
            1.0, str(file), None, encoders, flux, for_inference=True
        )
        network.merge_to(encoders, flux, weights)
        tensors["merged output"] = _output(flux, folder)
        for name, encoder in zip(("clip", "t5"), encoders, strict=True):
            state = encoder.state_dict()
            tensors |= {f"{name}.{path}": weight for path, weight in state.items()}
        folder.write(file, found.unexpected_keys, tensors)


def _transformer(folder: FluxFolder) -> torch.nn.Module:
    from library import flux_models, flux_utils

    params = dataclasses.replace(
        flux_models.configs["dev"].params,
        in_channels=4 * folder.latent_channels(),
        **folder.sizes(),
    )
    model = flux_models.Flux(params)
    depths = (params.depth, params.depth_single_blocks)
    model.load_state_dict(
        flux_utils.convert_diffusers_sd_to_bfl(folder.denoiser("transformer"), *depths)
    )
    return model


def _encoders(folder: FluxFolder) -> list[torch.nn.Module]:
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    clip, t5 = folder.encoder_configs()
    made = [CLIPTextModel(CLIPTextConfig(**clip)), T5EncoderModel(T5Config(**t5))]
    for name, encoder in zip(("clip", "t5"), made, strict=True):
        found = encoder.load_state_dict(folder.encoder(name), strict=False)
        assert not found.unexpected_keys, found.unexpected_keys
    return made


def _output(model: torch.nn.Module, folder: FluxFolder) -> torch.Tensor:
    from library import flux_utils

    given = folder.inputs()
    high, wide = (side // 2 for side in given["latents"].shape[2:])
    count, tokens = given["context"].shape[:2]
    with torch.no_grad():
        packed = model(
            img=flux_utils.pack_latents(given["latents"]),
            img_ids=flux_utils.prepare_img_ids(count, high, wide),
            txt=given["context"],
            txt_ids=torch.zeros(count, tokens, 3),
            timesteps=given["timestep"],
            y=given["pooled"],
            guidance=given["guidance"],
        )
    return flux_utils.unpack_latents(packed, high, wide)


if __name__ == "__main__":
    root, place = sys.argv[1:]
    sys.path.insert(0, root)
    main(FluxFolder(place))
