"""Estimate of the disk space of a run: caches, checkpoints and LoRA files."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..families.catalogue import record_of
from .steps import Architecture
from .trained_text import has_frozen_text
from .weight_bytes import PLAIN

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["DiskEstimate", "estimate_disk", "free_space"]

FLOAT = 4
# Header, checksum and names of a file in the cache.
HEAD = 1024


@dataclasses.dataclass(frozen=True)
class DiskEstimate:
    """Estimated disk space of a run in bytes."""

    cache: int
    """Size of the caches of encoded images and captions."""

    checkpoints: int
    """Size of the stored checkpoints, including one that is being written."""

    files: int
    """Size of the LoRA files."""

    @property
    def total(self) -> int:
        """Sum of caches, checkpoints and LoRA files."""
        return self.cache + self.checkpoints + self.files


def estimate_disk(
    config: TrainConfig,
    settings: Mapping[str, Mapping[str, Any]],
    images: int,
    factors: int,
    state: int,
) -> DiskEstimate:
    """Estimate the disk space from the number of images and the size of the state.

    An image counts once for each of its resolutions.
    """
    vae = settings["vae"]
    shrink = 2 ** (len(vae["block_out_channels"]) - 1)
    side = math.ceil(config.largest_resolution / shrink)
    latents = vae["latent_channels"] * side**2 * FLOAT
    width = PLAIN[config.plain_weight_dtype]
    cached = has_frozen_text(config, settings)
    caption = width * _text_numbers(config, settings) if cached else 0
    widths = [
        PLAIN[name] for name in (config.output_dtype, *config.extra_output_dtypes)
    ]
    files = len(config.output_formats) * (sum(widths) * factors // FLOAT)
    return DiskEstimate(
        cache=images * (latents + caption + 2 * HEAD),
        checkpoints=(config.keep_checkpoints + 1) * (factors + state),
        files=files * (1 + _saved_at_interval(config)),
    )


def _saved_at_interval(config: TrainConfig) -> int:
    """Return how often the LoRA is on the disk because of ``save_every``."""
    if not config.save_every:
        return 0
    if not isinstance(config.save_every, int):
        # Minutes and epochs are unknown here.
        return config.keep_saved or 1
    written = (config.steps - 1) // config.save_every
    # One is written before the oldest one is removed.
    return written if config.keep_saved is None else min(written, config.keep_saved + 1)


def free_space(folder: Path) -> int:
    """Return the free disk space in bytes. The folder does not have to exist."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return shutil.disk_usage(there).free


def _text_numbers(
    config: TrainConfig, settings: Mapping[str, Mapping[str, Any]]
) -> int:
    """Return the number of elements of an encoded caption."""
    record = record_of(config.model_type)
    architecture: Architecture = record.load(record.memory)
    return architecture.caption_numbers(config, settings[record.denoiser])
