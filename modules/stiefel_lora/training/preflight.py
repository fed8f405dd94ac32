"""Checks before a run, for ``train`` and ``validate``, and estimates of its resources.

Fast checks run first. Model weights and image pixels are not read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from torch import nn

from .._exceptions import ConfigError, OutputError
from ..adapters import (
    check_room,
    ranks_of,
    rate_factors,
    select_layers,
    select_text_layers,
)
from ..checkpoints import ModelSource
from ..checkpoints.supplied_parts import clip_token_counts
from ..config.concept import enabled_of
from ..config.violation import Violation
from ..data.buckets import Size, buckets_of, size_remark
from ..data.color_profiles import profile_remarks
from ..data.epoch_length import without_epochs
from ..data.folder import Scan
from ..data.folder_report import Decode, sizes_of
from ..data.long_captions import long_captions
from ..data.masks import has_alpha
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
    memory_problem,
)
from .distributed import ALONE, Processes
from .logging.tracker_sink import check_trackers
from .lora_start import read_start
from .optimizer_trial import check_optimizer
from .sharding import check_sharding

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = [
    "ModelLayers",
    "Preflight",
    "RunEstimate",
    "cut_captions",
    "estimate_run",
    "report_files",
    "run_preflight",
    "text_targets",
]


@dataclasses.dataclass(frozen=True)
class ModelLayers:
    """Base model and its layers that have a LoRA."""

    family: Family
    targets: list[str]
    """Names of the layers of the denoiser."""

    ranks: dict[str, int]
    """Rank of each layer."""

    text_targets: dict[str, list[str]]
    """Names of the layers of trained text encoders, by text encoder."""

    @property
    def count(self) -> int:
        """Number of layers with a LoRA, including text encoders."""
        return len(self.targets) + sum(map(len, self.text_targets.values()))


@dataclasses.dataclass(frozen=True)
class Preflight:
    """Images, device and base model after all checks."""

    config: TrainConfig
    """The configuration, with epochs converted to steps if there are images."""

    length: str
    """Line about that conversion, or ""."""

    train: Scan
    validation: Scan
    accelerator: Accelerator
    source: ModelSource | None
    """Location of the base model, or None if it has not been downloaded yet."""

    opened: ModelLayers | None
    """Layers with a LoRA. None if the base model has not been downloaded yet."""

    processes: Processes = ALONE

    @property
    def model(self) -> ModelLayers:
        """Base model and its layers. It is available if ``for_training`` was True."""
        assert self.opened is not None
        return self.opened


def run_preflight(
    config: TrainConfig, *, for_training: bool = True, processes: Processes = ALONE
) -> Preflight:
    """Check the configuration, images, device, base model and optimizer.

    Args:
        config: configuration of the run.
        for_training: whether images are required, and a missing base model is
            downloaded. If False, checks of missing settings and files are skipped.
        processes: processes of the training.

    Raises:
        InputError: If an input is invalid.
    """
    if for_training and not config.concepts:
        raise ConfigError("concepts is not set. Add a folder of images with captions.")
    if for_training and not enabled_of(config.concepts):
        raise ConfigError("concepts: all folders are disabled. Enable one of them.")
    check_hardware(config)
    check_quantization(config)
    check_trackers(config)
    train, validation = scan_all(config)
    config, length = without_epochs(config, train)
    named = for_training or config.base_model_name
    source = check_model(config) if named else None
    accelerator = make_accelerator(config, processes.local)
    device = accelerator.device
    check_attention(config, device)
    if config.compile:
        check_compiler(device)
    check_sharding(config)
    if for_training or source is not None:
        opened = _open_model(config, device, source)
    else:
        # The layers are unknown: the trial only uses matrices.
        check_optimizer(config, device)
        opened = None
    return Preflight(
        config, length, train, validation, accelerator, source, opened, processes
    )


def _open_model(
    config: TrainConfig, device: torch.device, source: ModelSource | None
) -> ModelLayers:
    """Select the layers on the meta device and test the optimizer."""
    family = open_family(config, device, source)
    skeleton = family.skeleton()
    targets = select_layers(
        skeleton,
        family=config.model_type,
        preset=config.layer_filter_preset,
        patterns=config.layer_filter,
        **config.rank_settings,
    )
    rate_factors(targets, config.learning_rate_pattern)
    layers = [skeleton.get_submodule(name) for name in targets]
    check_optimizer(config, device, _dimensions(config, layers))
    if config.lora_init == "loi":
        check_room(skeleton, targets, config.lora_rank)
    ranks = ranks_of(skeleton, targets, **config.rank_settings)
    return ModelLayers(family, targets, ranks, text_targets(config, family))


def _dimensions(config: TrainConfig, layers: Sequence[nn.Module]) -> set[int]:
    """Return the numbers of dimensions of the trained tensors."""
    found = {layer.get_parameter("weight").dim() for layer in layers}
    return {*found, 1} if config.use_dora else found


def text_targets(config: TrainConfig, family: Family) -> dict[str, list[str]]:
    """Return the layers with a LoRA of each trained text encoder.

    Raises:
        ConfigError: If the model does not have the text encoder, or the rank is too
            large for it.
    """
    found = {}
    for part in config.text_encoder_rates:
        if part not in family.text_models:
            raise ConfigError(
                f"train_{part}=true is not supported, because {family.facts.label} "
                f"models have no {part}. Remove it."
            )
        skeleton = family.text_skeleton(part)
        found[part] = select_text_layers(
            skeleton, family=family.name, part=part, skip=config.text_encoder_layer_skip
        )
        ranks_of(skeleton, found[part], rank=config.lora_rank)
    return found


def cut_captions(found: Preflight) -> list[str]:
    """Return a message about captions that are cut.

    Tokens of T5 are only counted if the base model is available.
    """
    config, opened = found.config, found.opened
    images = (*found.train.images, *found.validation.images)
    if opened is not None:
        limit, count = opened.family.caption_limit, opened.family.caption_tokens
    elif config.family.clip_states:
        limit, count = config.max_token_length, clip_token_counts
    else:
        return []
    weighted = config.weighted_captions
    return long_captions(images, limit, count, weighted=weighted).messages()


def _missing_masks(found: Preflight) -> list[str]:
    """Return a message if masks are used, but no image has one."""
    config = found.config
    images = (*found.train.images, *found.validation.images)
    if not config.masked_training or not images or any(x.mask for x in images):
        return []
    if config.alpha_mask and any(has_alpha(image.path) for image in images):
        return []
    keys = ["masked_training"]
    if config.masked_prior_preservation_weight:
        keys.append("masked_prior_preservation_weight")
    return [
        f"No image has a mask, so {' and '.join(keys)} "
        f"{'has' if len(keys) == 1 else 'have'} no effect. Masks are files beside the "
        "images, such as cat-masklabel.png for cat.png."
    ]


def report_files(found: Preflight) -> None:
    """Print notes on skipped files and missing captions in the image folders."""
    train = found.train
    if found.length:
        say(found.length)
    for remark in (
        *train.remarks,
        *found.validation.remarks,
        *_missing_masks(found),
        *cut_captions(found),
    ):
        say(remark)
    if train.without_caption:
        word = found.config.trigger_word
        instead = f"the trigger word {word!r} alone" if word else "an empty caption"
        say(
            f"{train.without_caption} of {len(train.images)} images have no caption "
            f"(.txt) and are trained with {instead}."
        )


@dataclasses.dataclass(frozen=True)
class RunEstimate:
    """Images, layers and estimated resources of a run."""

    config: TrainConfig
    """The configuration, with epochs converted to steps if there are images."""

    images: int
    held_out: int
    without_caption: int
    left_out: tuple[str, ...]
    """Training and validation images that cannot be used, each with its reason."""

    remarks: tuple[str, ...]
    """Messages about skipped files, masks and color profiles."""

    layers: int | None
    """Number of layers with a LoRA, or None if the base model is not available."""

    memory: MemoryEstimate
    memory_problem: Violation | None
    """Warning if the GPU has too little memory."""

    disk: DiskEstimate
    free: int
    """Free disk space in bytes."""


def estimate_run(
    config: TrainConfig, decode: Decode | None = None, processes: int = 1
) -> RunEstimate:
    """Run the checks of ``train``, and estimate GPU memory and disk space.

    Nothing is downloaded. If a model from the Hugging Face Hub has not been downloaded
    yet, its layers are not checked, and the estimates use the usual sizes of its
    family.

    Args:
        config: configuration of the run.
        decode: function that finds truncated images, see :mod:`..data.decode_check`.
            If None, only headers are read.
        processes: number of processes that share each batch. The memory is that of one
            of them.

    Raises:
        InputError: If an input is invalid.
    """
    found = run_preflight(config, for_training=False)
    if found.opened is not None:
        read_start(config, found.opened)
    train, validation_set, source = found.train, found.validation, found.source
    left_out: list[str] = []
    sizes: list[Size] = []
    for images in (train, validation_set):
        lines, own = _left_out(config, images, decode)
        left_out += lines
        sizes += own
    config = found.config
    small = size_remark(sizes, buckets_of(config))
    remarks = [
        *([small] if small else []),
        *([found.length] if found.length else []),
        *train.remarks,
        *validation_set.remarks,
        *_missing_masks(found),
        *cut_captions(found),
        *profile_remarks(p.path for p in (*train.images, *validation_set.images)),
    ]
    settings = part_settings(source) if source else usual_settings(config.model_type)
    usual = 1 + len(config.extra_resolutions)
    count = sum(
        len(image.concept.resolutions) or usual
        for image in (*train.images, *validation_set.images)
    )
    memory, disk = _estimates(config, settings, count, processes)
    free = free_space(config.output_dir)
    if disk.total > free:
        raise OutputError(
            f"The run requires about {disk.total / 1000000000.0:.1f} GB, but only "
            f"{free / 1000000000.0:.1f} GB are free at {config.output_dir}. Free "
            "disk space, or change output_dir."
        )
    return RunEstimate(
        config,
        len(train.images),
        len(validation_set.images),
        train.without_caption,
        tuple(left_out),
        tuple(remarks),
        found.opened.count if found.opened else None,
        memory,
        memory_problem(config, memory.total),
        disk,
        free,
    )


def _left_out(
    config: TrainConfig, scan: Scan, decode: Decode | None
) -> tuple[list[str], list[Size]]:
    """Return the images that training would skip, and the sizes of the others."""
    sizes, broken = sizes_of(scan.images, buckets_of(config), decode)
    found = [f"{path} ({reason})" for path, reason in broken.items()]
    check_some_readable(len(scan.images), found)
    return found, [size for size, _ in sizes.values()]


def _estimates(
    config: TrainConfig, settings: Mapping[str, Any], images: int, processes: int
) -> tuple[MemoryEstimate, DiskEstimate]:
    memory = estimate_memory(config, settings, processes)
    factors, state = memory.factors, memory.state
    return memory, estimate_disk(config, settings, images, factors, state)
