"""General settings of a run: name, output folder, seed and device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from .._base import FolderPath, Seed, StrictModel, Text, setting

__all__ = ["SCHEMA_VERSION", "GeneralSettings"]

SCHEMA_VERSION = 3


class GeneralSettings(StrictModel):
    """General settings of a run: name, output folder, seed and device."""

    schema_version: Literal[3] = setting(SCHEMA_VERSION, label="Format version")
    """Version of the config format. Do not change it. Older files are converted
    automatically."""

    comment: Text = setting("", label="Comment")
    """Comments, which have no effect on training."""

    run_name: Annotated[str, Field(min_length=1, max_length=100)] = setting(
        "run",
        label="Run name",
        unset_means="the name of the config file",
    )
    """Name of the run folder and the LoRA file."""

    output_dir: FolderPath = setting(
        Path("runs"), label="Output directory", unset_means="runs in the current folder"
    )
    """Folder in which the run folders are created."""

    seed: Seed = setting(42, label="Seed")
    """Seed for all random numbers. The same seed reproduces a run."""

    device: Annotated[
        str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d{1,3})?|xpu(:\d{1,3})?)$")
    ] = setting("auto", label="Train device")
    """Training device: auto, cpu, cuda, cuda:1, mps or xpu. auto uses a GPU if one is
    available.
    """
