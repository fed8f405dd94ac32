"""Run the launcher, and write factors, gradients and rates of every step to a file.

python onetrainer_launch.py DUMP CHECKOUT VERB ARGUMENTS...
"""

from __future__ import annotations

import sys
from pathlib import Path

import loadable_torchvision  # noqa: F401
from recorder import record

from stiefel_lora import StiefelLoRA
from stiefel_lora.integrations.onetrainer.launch import main

if __name__ == "__main__":
    record(StiefelLoRA, Path(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
