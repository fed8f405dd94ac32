"""Look at everything that a run needs, as far as that goes without training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._exceptions import OutputError
from ..data.buckets import buckets_of
from ..data.color_profiles import profile_remarks
from ..data.folder import Scan, scan_all
from ..data.report import sizes_of
from ..data.unreadable import check_some_readable
from ..families import check_model
from ..memory import (
    DiskEstimate,
    MemoryEstimate,
    estimate_disk,
    estimate_memory,
    free_space,
    part_settings,
    usual_settings,
)
from .backend import (
    check_attention,
    check_hardware,
    check_quantisation,
    make_accelerator,
)
from .build import check_inputs
from .optimizer_trial import check_optimizer

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["Preflight", "look_over"]


@dataclasses.dataclass(frozen=True)
class Preflight:
    """What was found to be in order, and what the run will take."""

    pictures: int
    held_out: int
    without_caption: int
    left_out: tuple[str, ...]
    """Pictures of either kind that can not be used, each with its reason."""

    remarks: tuple[str, ...]
    """Sentences on files that are passed over, masks and color profiles."""

    layers: int | None
    """Layers that get a LoRA; None where the base model is not on this machine."""

    memory: MemoryEstimate
    disk: DiskEstimate
    free: int
    """Bytes free where the run writes."""


def look_over(config: TrainConfig) -> Preflight:
    """Check what ``train`` checks before anything expensive, and estimate.

    Nothing is downloaded: a model on the hub that is not on this machine is taken for
    one of the usual sizes of its family, and its own layers are not checked.

    Raises:
        InputError: one sentence on what can not work.
    """
    check_hardware(config)
    source = check_model(config) if config.base_model_name else None
    if source is None or not config.concepts:
        check_quantisation(config)
        device = make_accelerator(config).device
        check_attention(config, device)
        check_optimizer(config, device)
        train, held_out = scan_all(config)
        layers = None
    else:
        inputs = check_inputs(config, source)
        train, held_out = inputs.train, inputs.validation
        texts = inputs.text_targets.values()
        layers = len(inputs.targets) + sum(map(len, texts))
    left_out = (*_left_out(config, train), *_left_out(config, held_out))
    remarks = [
        *train.remarks,
        *held_out.remarks,
        *profile_remarks(p.path for p in (*train.pictures, *held_out.pictures)),
    ]
    settings = part_settings(source) if source else usual_settings(config.model_type)
    count = len(train.pictures) + len(held_out.pictures)
    memory, disk = _estimates(config, settings, count)
    free = free_space(config.output_dir)
    if disk.total > free:
        raise OutputError(
            f"The run will write about {disk.total / 1e9:.1f} GB, but there are "
            f"{free / 1e9:.1f} GB free at {config.output_dir}; make room, or set "
            f"output_dir."
        )
    return Preflight(
        len(train.pictures),
        len(held_out.pictures),
        train.without_caption,
        left_out,
        tuple(remarks),
        layers,
        memory,
        disk,
        free,
    )


def _left_out(config: TrainConfig, scan: Scan) -> list[str]:
    """Those that training would leave out, by their headers alone."""
    _, broken = sizes_of(scan.pictures, buckets_of(config))
    found = [f"{path} ({reason})" for path, reason in broken.items()]
    check_some_readable(len(scan.pictures), found)
    return found


def _estimates(
    config: TrainConfig, settings: Mapping[str, Any], pictures: int
) -> tuple[MemoryEstimate, DiskEstimate]:
    memory = estimate_memory(config, settings)
    factors, state = memory.factors, memory.state
    return memory, estimate_disk(config, settings, pictures, factors, state)
