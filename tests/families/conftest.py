from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"

from helpers.fixtures import tiny_flux, tiny_sd15, tiny_sdxl

__all__ = ["tiny_flux", "tiny_sd15", "tiny_sdxl"]
