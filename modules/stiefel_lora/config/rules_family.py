"""Rules that hold for some families only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .schema import TrainConfig

__all__ = ["FAMILY_RULES"]

# FLUX.1 reads patches of 2 x 2 latents, which are 8 x 8 pixels each.
_FLUX_STEP = 16


def _flux_reads_patches(config: TrainConfig) -> str | None:
    if config.model_type != "flux":
        return None
    for key, value in _sides(config):
        if value is not None and value % _FLUX_STEP:
            return (
                f"{key}={value} must be a multiple of {_FLUX_STEP} with FLUX.1: write "
                f"{max(value // _FLUX_STEP, 1) * _FLUX_STEP}."
            )
    return None


def _sides(config: TrainConfig) -> Iterator[tuple[str, int | None]]:
    yield "resolution", config.resolution
    yield "bucket_step", config.bucket_step
    for number, sample in enumerate(config.samples):
        yield f"samples.{number}.width", sample.width
        yield f"samples.{number}.height", sample.height


def _flux_has_no_negative_prompt(config: TrainConfig) -> str | None:
    if config.model_type != "flux":
        return None
    for number, sample in enumerate(config.samples):
        if sample.negative_prompt:
            return (
                f"samples.{number}.negative_prompt does nothing with FLUX.1, which "
                f"makes a picture in one pass: leave it out."
            )
    return None


def _only_flux_has_t5(config: TrainConfig) -> str | None:
    length = config.text_encoder_2_sequence_length
    if length is None or config.model_type == "flux":
        return None
    return (
        f"text_encoder_2_sequence_length={length} is for T5 of FLUX.1; "
        f"{config.model_type} has no T5: leave it out."
    )


def _flux_predicts_a_flow(config: TrainConfig) -> str | None:
    if config.model_type != "flux" or config.prediction_type == "auto":
        return None
    return (
        f"prediction_type={config.prediction_type!r} is for SDXL and SD 1.5; FLUX.1 "
        f"always predicts a flow: leave it out."
    )


FAMILY_RULES: tuple[Callable[[TrainConfig], str | None], ...] = (
    _flux_reads_patches,
    _flux_has_no_negative_prompt,
    _only_flux_has_t5,
    _flux_predicts_a_flow,
)
