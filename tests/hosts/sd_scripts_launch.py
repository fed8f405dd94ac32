"""Run a script of sd-scripts itself on a model that is narrow.

    python sd_scripts_launch.py SD_SCRIPTS_ROOT DUMP SCRIPT ARGUMENTS...

Nothing of the checkout is changed. The sizes of its models are constants of modules of
the host, set here before a model is built. Factors, gradients and learning rates of
every step of Stiefel LoRA go to the file DUMP.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import loadable_torchvision  # noqa: F401
from recorder import record
from sd_scripts_flux_model import narrow_flux
from sd_scripts_model import narrow_sdxl

from stiefel_lora import StiefelLoRA

if __name__ == "__main__":
    root, dump = Path(sys.argv[1]), Path(sys.argv[2])
    sys.path.insert(0, str(root))
    narrow_sdxl()
    # Copies that other programs bring along may be too old for FLUX.
    if sys.argv[3].startswith("flux"):
        narrow_flux()
    record(StiefelLoRA, dump)
    sys.argv = [str(root / sys.argv[3]), *sys.argv[4:]]
    runpy.run_path(sys.argv[0], run_name="__main__")
