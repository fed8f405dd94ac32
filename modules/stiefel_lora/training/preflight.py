"""The checks before a run, shared by ``train`` and ``validate``, and an estimate.

Each check runs once, the cheap ones first; no weights and no pixels are read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from torch import nn

from .._exceptions import ConfigError, OutputError
from ..adapters import check_room, ranks_of, select_layers, select_text_layers
from ..checkpoints import ModelSource
from ..data.buckets import buckets_of
from ..data.color_profiles import profile_remarks
from ..data.folder import Scan
from ..data.folder_report import sizes_of
from ..data.split import scan_all
from ..data.unreadable import check_some_readable
from ..families import Family, check_model, open_family
from ..memory import (
    DiskEstimate,
    MemoryEstimate,
    estimate_disk,
    estimate_memory,
    free_space,
    part_settings,
    usual_settings,
)
from ..runs.progress import say
from .backend import (
    check_attention,
    check_compiler,
    check_hardware,
    check_quantization,
    make_accelerator,
)
from .optimizer_trial import check_optimizer

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = [
    "ModelLayers",
    "Preflight",
    "RunEstimate",
    "estimate_run",
    "report_files",
    "run_preflight",
    "text_targets",
]


@dataclasses.dataclass(frozen=True)
class ModelLayers:
    """The base model, opened, and its layers that get a LoRA."""

    family: Family
    targets: list[str]
    """Layers of the denoiser."""

    ranks: dict[str, int]
    """Rank of each of them."""

    text_targets: dict[str, list[str]]
    """Text encoders that are trained, and their layers."""

    @property
    def count(self) -> int:
        """Layers in all parts."""
        return len(self.targets) + sum(map(len, self.text_targets.values()))


@dataclasses.dataclass(frozen=True)
class Preflight:
    """Images, device and base model, found to be in order."""

    train: Scan
    validation: Scan
    accelerator: Accelerator
    source: ModelSource | None
    """Where the base model was found; None where it is not on this machine yet."""

    opened: ModelLayers | None
    """None only for ``validate``, where the base model is not on this machine."""

    @property
    def model(self) -> ModelLayers:
        """The opened base model of a run that will train."""
        assert self.opened is not None
        return self.opened


def run_preflight(config: TrainConfig, *, for_training: bool = True) -> Preflight:
    """Check everything that the user gave, each part once, the cheap ones first.

    Args:
        config: the whole configuration.
        for_training: refuse a configuration without images, and download a base model
            that is not on this machine. Otherwise what is not set or not here is
            passed over.

    Raises:
        InputError: one sentence on what cannot work.
    """
    if for_training and not config.concepts:
        raise ConfigError(
            "concepts is not set; name a folder of captioned images to learn from."
        )
    check_hardware(config)
    check_quantization(config)
    train, validation = scan_all(config)
    named = for_training or config.base_model_name
    source = check_model(config) if named else None
    accelerator = make_accelerator(config)
    device = accelerator.device
    check_attention(config, device)
    if config.compile:
        check_compiler(device)
    if for_training or source is not None:
        opened = _open_model(config, device, source)
    else:
        # Layers are not known: the trial is on matrices alone.
        check_optimizer(config, device)
        opened = None
    return Preflight(train, validation, accelerator, source, opened)


def _open_model(
    config: TrainConfig, device: torch.device, source: ModelSource | None
) -> ModelLayers:
    """Select the layers on a model without weights, and try the optimizer on them."""
    family = open_family(config, device, source)
    skeleton = family.skeleton()
    targets = select_layers(
        skeleton,
        family=config.model_type,
        preset=config.layer_filter_preset,
        patterns=config.layer_filter,
        **config.rank_settings,
    )
    layers = [skeleton.get_submodule(name) for name in targets]
    check_optimizer(config, device, _dimensions(config, layers))
    if config.lora_init == "loi":
        check_room(skeleton, targets, config.lora_rank)
    ranks = ranks_of(skeleton, targets, **config.rank_settings)
    return ModelLayers(family, targets, ranks, text_targets(config, family))


def _dimensions(config: TrainConfig, layers: Sequence[nn.Module]) -> set[int]:
    """How many dimensions the trained tensors have: those of weights, 1 with DoRA."""
    found = {layer.get_parameter("weight").dim() for layer in layers}
    return {*found, 1} if config.use_dora else found


def text_targets(config: TrainConfig, family: Family) -> dict[str, list[str]]:
    """Text encoder -> its layers that get a LoRA: attention and feed-forward.

    Raises:
        ConfigError: the model has no such encoder, or the rank is too large for it.
    """
    found = {}
    for part in config.text_encoder_rates:
        if part not in family.text_models:
            raise ConfigError(
                f"train_{part}=true, but a model of {family.facts.label} has no "
                f"{part}: leave it out."
            )
        skeleton = family.text_skeleton(part)
        found[part] = select_text_layers(skeleton, family=family.name, part=part)
        ranks_of(skeleton, found[part], rank=config.lora_rank)
    return found


def report_files(found: Preflight) -> None:
    """Print what the folders hold beside images with captions; not in ``validate``."""
    train = found.train
    for remark in (*train.remarks, *found.validation.remarks):
        say(remark)
    if train.without_caption:
        say(
            f"{train.without_caption} of {len(train.images)} images have no "
            f"caption (.txt); they are learned with an empty one."
        )


@dataclasses.dataclass(frozen=True)
class RunEstimate:
    """What a run would learn from, and what it will take."""

    images: int
    held_out: int
    without_caption: int
    left_out: tuple[str, ...]
    """Images of either kind that cannot be used, each with its reason."""

    remarks: tuple[str, ...]
    """Sentences on files that are passed over, masks and color profiles."""

    layers: int | None
    """Layers that get a LoRA; None where the base model is not on this machine."""

    memory: MemoryEstimate
    disk: DiskEstimate
    free: int
    """Bytes free where the run writes."""


def estimate_run(config: TrainConfig) -> RunEstimate:
    """Run the checks of ``train`` and estimate memory and disk.

    Nothing is downloaded: a model on the hub that is not on this machine is taken for
    one of the usual sizes of its family, and its own layers are not checked.

    Raises:
        InputError: one sentence on what cannot work.
    """
    found = run_preflight(config, for_training=False)
    train, held_out, source = found.train, found.validation, found.source
    left_out = (*_left_out(config, train), *_left_out(config, held_out))
    remarks = [
        *train.remarks,
        *held_out.remarks,
        *profile_remarks(p.path for p in (*train.images, *held_out.images)),
    ]
    settings = part_settings(source) if source else usual_settings(config.model_type)
    count = len(train.images) + len(held_out.images)
    memory, disk = _estimates(config, settings, count)
    free = free_space(config.output_dir)
    if disk.total > free:
        raise OutputError(
            f"The run will write about {disk.total / 1e9:.1f} GB, but there are "
            f"{free / 1e9:.1f} GB free at {config.output_dir}; make room, or set "
            f"output_dir."
        )
    return RunEstimate(
        len(train.images),
        len(held_out.images),
        train.without_caption,
        left_out,
        tuple(remarks),
        found.opened.count if found.opened else None,
        memory,
        disk,
        free,
    )


def _left_out(config: TrainConfig, scan: Scan) -> list[str]:
    """Those that training would leave out, by their headers alone."""
    _, broken = sizes_of(scan.images, buckets_of(config))
    found = [f"{path} ({reason})" for path, reason in broken.items()]
    check_some_readable(len(scan.images), found)
    return found


def _estimates(
    config: TrainConfig, settings: Mapping[str, Any], images: int
) -> tuple[MemoryEstimate, DiskEstimate]:
    memory = estimate_memory(config, settings)
    factors, state = memory.factors, memory.state
    return memory, estimate_disk(config, settings, images, factors, state)
