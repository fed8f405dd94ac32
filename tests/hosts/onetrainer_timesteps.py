"""Let OneTrainer draw timesteps for FLUX.1 with some configurations.

    python onetrainer_timesteps.py ONETRAINER_ROOT FOLDER COUNT

FOLDER holds ``cases.json``, a list of names with a configuration ``NAME.json`` each.
The timesteps go to ``timesteps.safetensors``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import loadable_torchvision  # noqa: F401
import torch
from safetensors.torch import save_file


def main(folder: Path, count: int) -> None:
    """Draw the timesteps of all cases."""
    from modules.modelSetup.FluxLoRASetup import FluxLoRASetup
    from modules.util.config.TrainConfig import TrainConfig

    device = torch.device("cpu")
    found = {}
    for name in json.loads((folder / "cases.json").read_text("utf-8")):
        config = TrainConfig.default_values()
        config.from_dict(json.loads((folder / f"{name}.json").read_text("utf-8")))
        setup = FluxLoRASetup(device, device, False)
        generator = torch.Generator().manual_seed(1)
        found[name] = setup._get_timestep_discrete(
            1000, False, generator, count, config, shift=config.timestep_shift
        )
    save_file(found, folder / "timesteps.safetensors")


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    main(Path(sys.argv[2]), int(sys.argv[3]))
