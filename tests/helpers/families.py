"""A family opened on a folder, without a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from stiefel_lora.checkpoints import folder_source
from stiefel_lora.families.flux import Flux
from stiefel_lora.families.sd15 import Sd15
from stiefel_lora.families.sdxl import Sdxl

__all__ = ["open_flux", "open_sd15", "open_sdxl"]


def open_sdxl(folder: Path, dtype: torch.dtype = torch.float32) -> Sdxl:
    """On the CPU; weights are read when first needed."""
    source = folder_source(folder, Sdxl.facts.parts)
    return Sdxl(source, dtype, torch.device("cpu"))


def open_sd15(folder: Path, dtype: torch.dtype = torch.float32) -> Sd15:
    """On the CPU; weights are read when first needed."""
    source = folder_source(folder, Sd15.facts.parts)
    return Sd15(source, dtype, torch.device("cpu"))


def open_flux(
    folder: Path, dtype: torch.dtype = torch.float32, **settings: Any
) -> Flux:
    """On the CPU; weights are read when first needed."""
    source = folder_source(folder, Flux.facts.parts)
    return Flux(source, dtype, torch.device("cpu"), **settings)
