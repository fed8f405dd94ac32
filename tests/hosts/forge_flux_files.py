"""Load LoRA files with Forge's own code into its own FLUX.1, at a small size.

    python forge_flux_files.py FORGE_ROOT FOLDER

Per file: the keys that it does not match (with more than twelve of them its LoRA tab
refuses the file), the output of the transformer, the weights of the text encoders.
"""

from __future__ import annotations

import sys
import types

import loadable_torchvision  # noqa: F401
import torch
from flux_folder import FluxFolder
from host_folder import joint_encoders


def main(folder: FluxFolder) -> None:
    """Write what Forge makes of every file."""
    from backend.patcher import lora
    from backend.utils import load_torch_file

    for file in folder.loras():
        model, clip = _transformer(folder), _encoders(folder)
        left = load_torch_file(str(file), safe_load=True)
        # Its own default for the second argument is shared by all calls.
        for patcher, keys in (
            (model, lora.model_lora_keys_unet(model.model, {})),
            (clip.patcher, lora.model_lora_keys_clip(clip.cond_stage_model, {})),
        ):
            patches, left = lora.load_lora(left, keys)
            loaded = patcher.add_patches(filename=str(file), patches=patches)
            left |= dict.fromkeys(patches.keys() - loaded)
            patcher.refresh_loras()
        tensors = {"output": _output(model.model.diffusion_model, folder)}
        tensors |= joint_encoders(clip.cond_stage_model)
        folder.write(file, [str(key) for key in left], tensors)


def _transformer(folder: FluxFolder) -> object:
    from backend.modules.k_prediction import PredictionFlux
    from backend.nn.flux import IntegratedFluxTransformer2DModel
    from backend.patcher.unet import UnetPatcher
    from packages_3rdparty.comfyui_lora_collection import utils

    sizes = {"in_channels": folder.latent_channels(), **folder.sizes()}
    model = IntegratedFluxTransformer2DModel(**sizes)
    places = utils.flux_to_diffusers(sizes)
    _fill(model, {places[n]: w for n, w in folder.denoiser("transformer").items()})
    # What its loader sets.
    model.config = sizes
    model.storage_dtype = model.computation_dtype = torch.float32
    model.load_device = model.offload_device = torch.device("cpu")
    model.initial_device = torch.device("cpu")
    repository = types.SimpleNamespace(
        huggingface_repo="black-forest-labs/FLUX.1-dev", unet_config=sizes
    )
    return UnetPatcher.from_model(
        model, diffusers_scheduler=None, config=repository, k_predictor=PredictionFlux()
    )


def _fill(model: torch.nn.Module, weights: dict) -> None:
    """Put diffusers' weights where Forge's table says: name, rows, function."""
    held, seen = model.state_dict(), set()
    with torch.no_grad():
        for place, weight in weights.items():
            name, rows, *change = (place, None) if isinstance(place, str) else place
            target = held[name] if rows is None else held[name].narrow(*rows)
            target.copy_(change[0](weight) if change else weight)
            seen.add(name)
    assert seen == held.keys(), held.keys() ^ seen


def _encoders(folder: FluxFolder) -> object:
    from backend.nn.clip import IntegratedCLIP
    from backend.nn.t5 import IntegratedT5
    from backend.patcher.clip import CLIP
    from transformers import CLIPTextConfig, CLIPTextModel

    clip, t5 = folder.encoder_configs()
    # Its name of what transformers calls gelu_new.
    t5 |= {"model_type": "t5", "dense_act_fn": "gelu_pytorch_tanh"}
    first = IntegratedCLIP(CLIPTextModel, CLIPTextConfig(**clip), True)
    second = IntegratedT5(t5)
    first.transformer.load_state_dict(folder.encoder("clip"), strict=False)
    second.transformer.load_state_dict(folder.encoder("t5"), strict=False)
    return CLIP({"clip_l": first, "t5xxl": second}, {})


def _output(model: torch.nn.Module, folder: FluxFolder) -> torch.Tensor:
    given = folder.inputs()
    with torch.no_grad():
        return model(
            given["latents"],
            given["timestep"],
            given["context"],
            given["pooled"],
            guidance=given["guidance"],
        )


if __name__ == "__main__":
    root, place = sys.argv[1:]
    sys.path[:0] = [root, f"{root}/packages_3rdparty"]
    sys.argv = ["launch.py", "--always-cpu", "--all-in-fp32"]
    main(FluxFolder(place))
