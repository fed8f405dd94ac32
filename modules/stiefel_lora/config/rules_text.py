"""Rules about text encoders that are trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .schema import TrainConfig

__all__ = ["TEXT_RULES"]


def _a_rate_has_its_encoder(config: TrainConfig) -> str | None:
    for part in ("text_encoder", "text_encoder_2"):
        rate = getattr(config, f"{part}_learning_rate")
        if rate is not None and part not in config.text_encoder_rates:
            return (
                f"{part}_learning_rate={rate:g} does nothing without "
                f"train_{part}=true: write both or none."
            )
    return None


def _text_starts_at_the_model(config: TrainConfig) -> str | None:
    if not config.text_encoder_rates:
        return None
    for key, value in (("lora_init", "loi"), ("use_dora", True)):
        if getattr(config, key) == value:
            shown = str(value).lower()
            return (
                f"train_text_encoder does not go with {key}={shown}: leave one of "
                f"them out."
            )
    return None


TEXT_RULES: tuple[Callable[[TrainConfig], str | None], ...] = (
    _a_rate_has_its_encoder,
    _text_starts_at_the_model,
)
