"""Make a tiny random FLUX pipeline; runs in the environment of diffusers, with tests/
in PYTHONPATH.

    python diffusers_flux_model.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import loadable_torchvision  # noqa: F401

from helpers.tiny_flux import build_tiny_flux

if __name__ == "__main__":
    build_tiny_flux(Path(sys.argv[1]))
