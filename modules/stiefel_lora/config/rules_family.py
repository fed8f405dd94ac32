"""Rules that hold for some families only."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .resolved import Settings
from .violation import Violation

__all__ = ["FAMILY_RULES"]

# FLUX.1 reads patches of 2 x 2 latents, which are 8 x 8 pixels each.
_FLUX_STEP = 16


def _flux_reads_patches(config: Settings) -> Violation | None:
    if config.model_type != "flux":
        return None
    for key, value in _sides(config):
        if value is not None and value % _FLUX_STEP:
            return Violation(
                key,
                f"must be a multiple of {_FLUX_STEP} with FLUX.1, not {value}",
                f"Write {max(value // _FLUX_STEP, 1) * _FLUX_STEP}",
            )
    return None


def _sides(config: Settings) -> Iterator[tuple[str, int | None]]:
    yield "resolution", config.resolution
    yield "bucket_step", config.bucket_step
    for number, sample in enumerate(config.samples):
        yield f"samples.{number}.width", sample.width
        yield f"samples.{number}.height", sample.height


def _flux_has_no_negative_prompt(config: Settings) -> Violation | None:
    if config.model_type != "flux":
        return None
    for number, sample in enumerate(config.samples):
        if sample.negative_prompt:
            return Violation(
                f"samples.{number}.negative_prompt",
                "does nothing with FLUX.1, which makes an image in one pass",
                "Leave it out",
            )
    return None


def _only_flux_has_t5(config: Settings) -> Violation | None:
    length = config.text_encoder_2_sequence_length
    if length is None or config.model_type == "flux":
        return None
    return Violation(
        "text_encoder_2_sequence_length",
        f"{length} is for T5 of FLUX.1; {config.model_type} has no T5",
        "Leave it out",
    )


def _flux_predicts_a_flow(config: Settings) -> Violation | None:
    if config.model_type != "flux" or config.prediction_type == "auto":
        return None
    return Violation(
        "prediction_type",
        f"{config.prediction_type!r} is for SDXL and SD 1.5; FLUX.1 always predicts a "
        f"flow",
        "Leave it out",
    )


FAMILY_RULES: tuple[Callable[[Settings], Violation | None], ...] = (
    _flux_reads_patches,
    _flux_has_no_negative_prompt,
    _only_flux_has_t5,
    _flux_predicts_a_flow,
)
