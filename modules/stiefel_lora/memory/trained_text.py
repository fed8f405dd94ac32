"""Memory of trained text encoders."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..adapters.text_targets import select_text_layers
from ..families.catalogue import record_of
from .activations import Kind, activation_bytes
from .selection import stand_in_model
from .steps import Layer, Step, Unit, layers_of
from .text import clip_steps, is_t5, t5_steps

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = [
    "PARTS",
    "TrainedText",
    "conditioned_layers",
    "has_frozen_text",
    "text_steps",
    "trained_text",
]

Settings = Mapping[str, Mapping[str, Any]]
PARTS = ("text_encoder", "text_encoder_2")
"""Text encoders by their names in diffusers."""


@dataclasses.dataclass(frozen=True)
class TrainedText:
    """Text encoder with the layers that have a LoRA."""

    steps: Sequence[Step | Unit]
    targets: Mapping[Layer, int]
    """Ranks of the layers that have a LoRA, by name."""

    unread: int
    """Number of last blocks whose output is not used and not stored."""

    def activation_bytes(self, kind: Kind) -> int:
        """Return the activation memory in bytes. ``targets`` of ``kind`` is ignored."""
        own = dataclasses.replace(
            kind, targets={layer.name: rank for layer, rank in self.targets.items()}
        )
        units = [step for step in self.steps if isinstance(step, Unit)]
        end = units[: len(units) - self.unread] if self.unread else self.steps
        return activation_bytes(end, own)


def trained_text(config: TrainConfig, settings: Settings) -> list[TrainedText]:
    """Return the text encoders that a run trains."""
    found = []
    for part in (part for part in config.text_encoder_rates if part in settings):
        steps = text_steps(config, settings, part)
        layers, family = layers_of(steps), config.model_type
        skip = config.text_encoder_layer_skip
        names = select_text_layers(
            stand_in_model(layers), family=family, part=part, skip=skip
        )
        unread = record_of(family).unread_after(part, skip)
        targets = {layers[name]: config.lora_rank for name in names}
        found.append(TrainedText(steps, targets, unread))
    return found


def text_steps(config: TrainConfig, settings: Settings, part: str) -> list[Step | Unit]:
    """List the operations of a text encoder."""
    if is_t5(settings[part]):
        record = record_of(config.model_type)
        assert record.t5_tokens is not None, "T5 in a family without it"
        denoiser = settings.get(record.denoiser, {})
        tokens = record.t5_tokens(denoiser, config.text_encoder_2_sequence_length)
        return t5_steps(settings[part], tokens)
    return clip_steps(
        settings[part],
        projection=part == "text_encoder_2",
        chunks=config.max_token_length // 75,
    )


def conditioned_layers(config: TrainConfig, model: Sequence[Step | Unit]) -> set[str]:
    """Return the denoiser layers that use the output of trained text encoders."""
    readers = record_of(config.model_type).text_readers
    parts = [part for part in config.text_encoder_rates if part in readers]
    pieces = [piece for part in parts for piece in readers[part]]
    return {name for name in layers_of(model) if any(piece in name for piece in pieces)}


def has_frozen_text(config: TrainConfig, settings: Settings) -> bool:
    """Return whether there is a frozen text encoder, whose output is cached."""
    return any(p in settings and p not in config.text_encoder_rates for p in PARTS)
