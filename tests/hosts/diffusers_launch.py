"""Run a script where torchvision was built for another torch.

python diffusers_launch.py SCRIPT ARGUMENTS...
"""

from __future__ import annotations

import runpy
import sys

import loadable_torchvision  # noqa: F401

if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
