"""Rules about trained text encoders."""

from __future__ import annotations

from collections.abc import Callable

from .interval import is_in
from .resolved import Settings
from .violation import Violation

__all__ = ["TEXT_RULES"]


def _a_rate_has_its_encoder(config: Settings) -> Violation | None:
    for part in ("text_encoder", "text_encoder_2"):
        rate = getattr(config, f"{part}_learning_rate")
        if rate is not None and part not in config.text_encoder_rates:
            return Violation(
                f"{part}_learning_rate",
                f"{rate:g} has no effect if train_{part} is not true",
                "Set both, or remove both",
            )
    return None


def _a_stop_has_its_encoder(config: Settings) -> Violation | None:
    for part in ("text_encoder", "text_encoder_2"):
        key = f"{part}_stop_training_after"
        after = getattr(config, key)
        if is_in(after, "minutes"):
            return Violation(
                key,
                f"{after!r} is not supported, because the trained numbers would "
                "depend on the speed of the machine",
                "Use steps or epochs",
            )
        if after and part not in config.text_encoder_rates:
            return Violation(
                key,
                f"{after} has no effect if train_{part} is not true",
                "Set both, or remove both",
            )
    return None


def _text_starts_at_the_model(config: Settings) -> Violation | None:
    # Either encoder may be trained, or both: the first one is named in the error.
    for part in config.text_encoder_rates:
        for key, value in (("lora_init", "loi"), ("use_dora", True)):
            if getattr(config, key) == value:
                return Violation(
                    f"train_{part}",
                    f"is not supported with {key}={str(value).lower()}",
                    "Remove one of them",
                )
    return None


TEXT_RULES: tuple[Callable[[Settings], Violation | None], ...] = (
    _a_rate_has_its_encoder,
    _a_stop_has_its_encoder,
    _text_starts_at_the_model,
)
