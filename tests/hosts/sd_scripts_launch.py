"""Run sd-scripts' own sdxl_train_network.py on a UNet of 32 channels.

    python sd_scripts_launch.py SD_SCRIPTS_ROOT DUMP ARGUMENTS...

Nothing of the checkout is changed. The width of the UNet is a constant of a module of
the host, set here before the UNet is built; torchvision, of which training uses two
transforms, is stood in for where no build fits the torch that is installed. Factors,
gradients and learning rates of every step go to the file DUMP.
"""

from __future__ import annotations

import importlib.machinery
import runpy
import sys
import types
from pathlib import Path

import torch


def main() -> None:
    """Prepare, then hand over to the host's script."""
    root, dump = Path(sys.argv[1]), Path(sys.argv[2])
    sys.path.insert(0, str(root))
    # Before the stand-in: diffusers and transformers, which this imports, are to find
    # out for themselves what is installed.
    from recorder import record
    from sd_scripts_model import CHANNELS

    _stand_in_for_torchvision()
    from library import sdxl_original_unet

    import stiefel_lora

    sdxl_original_unet.MODEL_CHANNELS = CHANNELS
    sdxl_original_unet.TIME_EMBED_DIM = 4 * CHANNELS
    record(stiefel_lora.StiefelLoRA, dump)
    script = root / "sdxl_train_network.py"
    sys.argv = [str(script), *sys.argv[3:]]
    runpy.run_path(str(script), run_name="__main__")


def _stand_in_for_torchvision() -> None:
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        module = types.ModuleType("torchvision")
        module.__spec__ = importlib.machinery.ModuleSpec("torchvision", None)
        module.transforms = types.ModuleType("torchvision.transforms")
        module.transforms.Compose = _Compose
        module.transforms.ToTensor = lambda: _to_tensor
        module.transforms.Normalize = lambda mean, std: (
            lambda picture: (picture - mean[0]) / std[0]
        )
        sys.modules["torchvision"] = module
        sys.modules["torchvision.transforms"] = module.transforms


class _Compose:
    def __init__(self, steps: list) -> None:
        self.steps = steps

    def __call__(self, picture: object) -> object:
        for step in self.steps:
            picture = step(picture)
        return picture


def _to_tensor(picture: object) -> torch.Tensor:
    return torch.as_tensor(picture).permute(2, 0, 1).float() / 255


if __name__ == "__main__":
    main()
