"""Estimate of the GPU memory of a run, without loading a model.

The sizes of weights, factors, gradients and optimizer state are exact, because they are
computed from shapes. The sizes of activations (module ``activations``) and the peak
memory of the VAE (module ``vae``) are estimated. The memory of the CUDA context and
libraries is an empirical value.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..families.catalogue import record_of
from .activations import Kind, activation_bytes
from .optimizer_state import state_bytes, work_bytes
from .selection import trained_layers
from .steps import Architecture, Layer, Step, Unit
from .trained_text import (
    PARTS,
    TrainedText,
    conditioned_layers,
    has_frozen_text,
    text_steps,
    trained_text,
)
from .vae import decoding_bytes, encoding_bytes, vae_parameters
from .weight_bytes import (
    PLAIN,
    denoiser_bytes,
    divided_bytes,
    gathered_bytes,
    parameters_of,
)

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["GB", "MemoryEstimate", "Part", "estimate_memory", "walk"]

GB = 1_000_000_000
CONTEXT = 600_000_000
"""Size of the CUDA context, kernels and library workspaces (empirical value)."""

FLOAT = 4
Settings = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Part:
    """GPU memory of one component (weights, activations, ...) during training."""

    name: str
    bytes: int
    exact: bool
    """Whether the value is exact, that is, computed from shapes."""


@dataclasses.dataclass(frozen=True)
class MemoryEstimate:
    """Estimated GPU memory of a run in bytes.

    Attributes:
        parts: memory of each component during training.
        encoding: peak memory while images and captions are encoded, before the denoiser
            is loaded.
        sampling: peak memory while a sample is decoded. 0 without samples.
    """

    parts: tuple[Part, ...]
    encoding: int
    sampling: int
    factors: int
    """Size of the LoRA factors, which is also included in ``parts``."""

    state: int

    @property
    def training(self) -> int:
        """Memory during training: sum of all parts."""
        return sum(part.bytes for part in self.parts)

    @property
    def total(self) -> int:
        """Peak memory of the run: maximum of caching, training and sampling."""
        return max(self.training, self.encoding, self.sampling)


def estimate_memory(
    config: TrainConfig, settings: Mapping[str, Settings], processes: int = 1
) -> MemoryEstimate:
    """Estimate the GPU memory from the settings of the components of the base model.

    Args:
        config: configuration of the run.
        settings: content of ``config.json`` of the ``unet`` or ``transformer``, the
            ``vae`` and the text encoders.
        processes: number of processes that share each batch. The estimate is that of
            one of them.

    Raises:
        ConfigError: If a layer filter matches no layer, or the rank is too large.
    """
    model, texts = walk(config, settings), trained_text(config, settings)
    own = trained_layers(config, model)
    targets = [*own.items(), *(pair for text in texts for pair in text.targets.items())]
    numbers = sum(rank * (t.outputs + t.inputs) for t, rank in targets)
    if config.use_dora:
        numbers += sum(layer.outputs for layer, _ in targets)
    width = PLAIN[config.train_dtype]
    batch = config.batch_size // processes
    kept = _activations(config, model, own, texts, batch)
    shapes = [(layer.outputs, layer.inputs, rank) for layer, rank in targets]
    state, work = state_bytes(config, shapes), work_bytes(config, shapes)
    # Autocast also keeps the factors in train_dtype while a batch is computed.
    copies = numbers * width if width < FLOAT else 0
    plain = config.plain_weight_dtype
    staying = sum(PLAIN[plain] * parameters_of(text.steps) for text in texts)
    context = 0 if config.device == "cpu" else CONTEXT
    average = numbers * FLOAT if config.ema == "gpu" else 0
    # Gradients are averaged in one buffer, after the backward pass.
    exchange = numbers * FLOAT if processes > 1 else 0
    parts = (
        *_base_parts(config, model, processes),
        *([Part(f"trained text encoders, {plain}", staying, True)] if texts else []),
        Part("LoRA, float32", numbers * FLOAT, True),
        Part("gradients", numbers * FLOAT, True),
        Part(f"optimizer state ({config.optimizer.name})", state, True),
        *([Part("EMA weights", average, True)] if average else []),
        Part(
            "activations or optimizer step", max(kept + copies, work, exchange), False
        ),
        Part("CUDA context and libraries", context, False),
    )
    resident = sum(part.bytes for part in parts if part.exact) + context
    return MemoryEstimate(
        parts,
        encoding=context + _encoding(config, settings),
        sampling=resident + _sampling(config, settings) if _samples(config) else 0,
        factors=numbers * FLOAT,
        state=state,
    )


def _base_parts(
    config: TrainConfig, model: Sequence[Step | Unit], processes: int
) -> list[Part]:
    dtypes = config.weight_dtype, config.plain_weight_dtype
    name = f"base model, {config.weight_dtype}"
    if not config.shard_base_model or processes == 1:
        return [Part(name, denoiser_bytes(model, *dtypes), True)]
    share = divided_bytes(model, *dtypes, processes)
    return [
        Part(f"{name}, divided by {processes}", share, True),
        Part("base model, gathered blocks", gathered_bytes(model, *dtypes), False),
    ]


def walk(config: TrainConfig, settings: Mapping[str, Settings]) -> list[Step | Unit]:
    """Return the operations of the denoiser at the resolution of the run."""
    shrink = 2 ** (len(settings["vae"]["block_out_channels"]) - 1)
    side = math.ceil(config.largest_resolution / shrink)
    record = record_of(config.model_type)
    architecture: Architecture = record.load(record.memory)
    return architecture.walk(config, settings[record.denoiser], side)


def _activations(
    config: TrainConfig,
    model: Sequence[Step | Unit],
    targets: Mapping[Layer, int],
    texts: Sequence[TrainedText],
    batch: int,
) -> int:
    """Return the activation memory of the denoiser and the trained text encoders."""
    kind = Kind(
        targets={layer.name: rank for layer, rank in targets.items()},
        batch=batch,
        width=PLAIN[config.train_dtype],
        checkpointing=config.gradient_checkpointing,
        dora=config.use_dora,
        conditioned=conditioned_layers(config, model),
    )
    of_texts = sum(text.activation_bytes(kind) for text in texts)
    return activation_bytes(model, kind) + of_texts


def _samples(config: TrainConfig) -> bool:
    return bool(config.samples and config.sample_every)


def _encoding(config: TrainConfig, settings: Mapping[str, Settings]) -> int:
    """Return the peak memory of encoding images and captions."""
    texts = 0
    if has_frozen_text(config, settings):
        steps = [
            text_steps(config, settings, part) for part in PARTS if part in settings
        ]
        texts = PLAIN[config.plain_weight_dtype] * sum(map(parameters_of, steps))
    vae = settings["vae"]
    image = encoding_bytes(vae, config.largest_resolution)
    return texts + FLOAT * vae_parameters(vae) + image


def _sampling(config: TrainConfig, settings: Mapping[str, Settings]) -> int:
    vae = settings["vae"]
    side = max(
        math.isqrt((s.width or config.resolution) * (s.height or config.resolution))
        for s in config.samples
    )
    return FLOAT * vae_parameters(vae) + decoding_bytes(vae, side)
