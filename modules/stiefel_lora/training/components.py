"""What is trained: the denoiser alone, or text encoders beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .._exceptions import ConfigError
from ..adapters import add_lora, ranks_of, select_text_layers
from ..families import Family
from ..families.text_training import checkpoint_layers
from ..optim.alpha import ALPHA_IS_RANK
from ..optim.factory import create_optimizer
from ..optim.foreign import create_foreign

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["add_text_loras", "make_optimizer", "text_targets"]


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


def add_text_loras(
    config: TrainConfig,
    family: Family,
    targets: Mapping[str, list[str]],
    denoiser: nn.Module,
) -> nn.Module:
    """Put LoRAs into text encoders; they stay in evaluation mode (T5 has dropout).

    Returns:
        The denoiser if it is all that is trained, else all parts by their names.
    """
    if not targets:
        return denoiser
    whole = nn.ModuleDict({family.component: denoiser})
    for number, (part, layers) in enumerate(targets.items(), start=1):
        encoder = family.text_encoder(part)
        add_lora(
            encoder,
            rank=config.lora_rank,
            alpha=config.resolved_alpha,
            targets=layers,
            method=config.optimizer.method,
            seed=config.seed + number,
            init=config.lora_init,
        )
        if config.gradient_checkpointing:
            checkpoint_layers(encoder)
        whole[part] = encoder
    return whole


def make_optimizer(
    config: TrainConfig, family: Family, model: nn.Module
) -> torch.optim.Optimizer:
    """Build the optimizer, with a group for each part where there are several.

    Args:
        config: the configuration.
        family: of the base model.
        model: what ``add_text_loras`` returned.

    Raises:
        ConfigError: an optimizer of the user's own refuses its options.
    """
    options, rate = config.optimizer.arguments(), config.learning_rate
    rates = config.text_encoder_rates
    entry = config.optimizer.method
    # Groups do not show it; for methods that own it, it is a rule of the configuration.
    is_rank = config.resolved_alpha == config.lora_rank
    seen_to = {ALPHA_IS_RANK: is_rank} if entry else {}
    groups: list[dict[str, Any]] = [
        {
            "params": [
                (f"{part}.{name}", parameter)
                for name, parameter in model.get_submodule(part).named_parameters()
                if parameter.requires_grad
            ],
            "lr": rates.get(part, rate),
            **seen_to,
        }
        for part in ((family.component, *rates) if rates else ())
    ]
    if config.optimizer.name != "custom":
        source = groups or model
        return create_optimizer(config.optimizer.name, source, lr=rate, **options)
    for group in groups:
        group["params"] = [parameter for _, parameter in group["params"]]
    kind = config.optimizer.load()  # type: ignore[attr-defined]
    path = config.optimizer.class_path  # type: ignore[attr-defined]
    parameters = [p for p in model.parameters() if p.requires_grad]
    return create_foreign(kind, path, groups or parameters, lr=rate, options=options)
