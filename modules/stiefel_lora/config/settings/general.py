"""The run itself: its name, its place, its random numbers, its device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from .._base import FolderPath, Seed, StrictModel, Text, setting

__all__ = ["SCHEMA_VERSION", "GeneralSettings"]

SCHEMA_VERSION = 2


class GeneralSettings(StrictModel):
    """The run itself: its name, its place, its random numbers, its device."""

    schema_version: Literal[2] = setting(SCHEMA_VERSION, label="Format version")
    """Version of this format; leave it alone, older files are converted."""

    comment: Text = setting("", label="Comment")
    """Notes for people; training ignores them."""

    run_name: Annotated[str, Field(min_length=1, max_length=100)] = setting(
        "run",
        label="Run name",
        unset_means="the name of the file that holds these settings",
    )
    """Name of the run's folder and of the LoRA file."""

    output_dir: FolderPath = setting(
        Path("runs"), label="Output directory", unset_means="runs in the current folder"
    )
    """Folder that holds the folders of all runs."""

    seed: Seed = setting(42, label="Seed")
    """Start of all random numbers: the same seed repeats a run."""

    device: Annotated[
        str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d{1,3})?|xpu(:\d{1,3})?)$")
    ] = setting("auto", label="Train device")
    """Where to compute: auto, cpu, cuda, cuda:1, mps, xpu. auto takes a GPU if there is
    one."""
