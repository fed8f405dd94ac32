"""Run a script of musubi-tuner itself on a Z-Image that is narrow.

    python musubi_launch.py DUMP SCRIPT ARGUMENTS...

Nothing of the checkout is changed. Factors, gradients and learning rates of every step
of Stiefel LoRA go to the file DUMP.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import loadable_torchvision  # noqa: F401
from musubi_model import narrow_z_image
from recorder import record

from stiefel_lora import StiefelLoRA

if __name__ == "__main__":
    narrow_z_image()
    record(StiefelLoRA, Path(sys.argv[1]))
    sys.argv = sys.argv[2:]
    runpy.run_path(sys.argv[0], run_name="__main__")
