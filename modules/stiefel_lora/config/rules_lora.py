"""Rules about the training of LoRA layers."""

from __future__ import annotations

from collections.abc import Callable

from .resolved import Settings
from .violation import Violation

__all__ = ["DROPOUTS", "LORA_RULES"]

DROPOUTS = ("lora_dropout", "rank_dropout", "module_dropout")
"""Settings of dropout in LoRA layers."""


def _dropout_has_plain_layers(config: Settings) -> Violation | None:
    others = (("use_dora", True), ("lora_init", "loi"), ("compile", True))
    for key in DROPOUTS:
        for other, value in others:
            if getattr(config, key) and getattr(config, other) == value:
                return Violation(
                    key,
                    f"is not supported with {other}={str(value).lower()}",
                    "Remove one of them",
                )
    return None


def _norms_are_those_of_the_file(config: Settings) -> Violation | None:
    if not config.scale_weight_norms or config.lora_init != "loi":
        return None
    return Violation(
        "scale_weight_norms",
        "is not supported with lora_init='loi', because the product of the factors "
        "includes the initial product, which is subtracted in the LoRA file",
        "Remove one of them",
    )


def _base_passes_are_not_compiled(config: Settings) -> Violation | None:
    keys = {"masked_prior_preservation_weight": config.masked_prior_preservation_weight}
    for number, concept in enumerate(config.concepts):
        used = concept.enabled and concept.prior_prediction
        keys[f"concepts.{number}.prior_prediction"] = used
    for key, is_set in keys.items():
        if is_set and config.compile:
            return Violation(
                key, "is not supported with compile=true", "Remove one of them"
            )
    return None


def _divided_weights_are_not_read(config: Settings) -> Violation | None:
    others = (
        ("weight_dtype", "int8", ", because bitsandbytes keeps scales in its weights"),
        ("use_dora", True, ", because DoRA reads whole weights of the base model"),
        ("compile", True, ""),
    )
    for other, value, reason in others:
        if config.shard_base_model and getattr(config, other) == value:
            return Violation(
                "shard_base_model",
                f"is not supported with {other}={str(value).lower()}{reason}",
                f"Set shard_base_model to false, or change {other}",
            )
    return None


LORA_RULES: tuple[Callable[[Settings], Violation | None], ...] = (
    _dropout_has_plain_layers,
    _norms_are_those_of_the_file,
    _base_passes_are_not_compiled,
    _divided_weights_are_not_read,
)
