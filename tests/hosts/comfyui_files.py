"""ComfyUI's way from a LoRA file to patched models; runs in its environment."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

import loadable_torchvision  # noqa: F401
import torch
from host_folder import HostFolder, joint_encoders

__all__ = ["apply_files", "open_comfyui", "patcher"]


class KeyWarnings(logging.Handler):
    """Keeps the keys of ``lora key not loaded: KEY`` and ``NOT LOADED KEY``."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.keys: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if "not loaded" in message.lower():
            self.keys.append(message.rsplit(" ", 1)[-1])


def open_comfyui(root: str) -> None:
    """Make its code importable, on the CPU."""
    sys.path.insert(0, root)
    sys.argv = ["main.py", "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()


def patcher(model: torch.nn.Module) -> object:
    """What ComfyUI's loader makes of a model."""
    from comfy.model_patcher import ModelPatcher

    cpu = torch.device("cpu")
    return ModelPatcher(model, load_device=cpu, offload_device=cpu)


def apply_files(
    folder: HostFolder,
    make_model: Callable[[], object],
    make_clip: Callable[[], object],
    output: Callable[[torch.nn.Module], torch.Tensor],
) -> None:
    """Write what ComfyUI makes of every file, each with new models."""
    import comfy.model_management
    import comfy.sd
    import comfy.utils

    warnings = KeyWarnings()
    logging.getLogger().addHandler(warnings)
    for file in folder.loras():
        warnings.keys = []
        lora = comfy.utils.load_torch_file(str(file), safe_load=True)
        model, clip = comfy.sd.load_lora_for_models(
            make_model(), make_clip(), lora, 1.0, 1.0
        )
        comfy.model_management.load_models_gpu([model, clip.patcher])
        with torch.no_grad():
            tensors = {"output": output(model.model.diffusion_model)}
        tensors |= joint_encoders(clip.cond_stage_model)
        folder.write(file, warnings.keys, tensors)
