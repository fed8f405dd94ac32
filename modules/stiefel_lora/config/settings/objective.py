"""The training objective: noise, timesteps and loss."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .._base import Flag, Number, StrictModel, setting
from ..enums import LossWeight, TimestepDistribution

__all__ = ["ObjectiveSettings"]

Strength = Annotated[Number, Field(ge=0, le=100)]
Share = Annotated[Number, Field(ge=0, le=1)]


class ObjectiveSettings(StrictModel):
    """The training objective: noise, timesteps and loss."""

    timestep_distribution: TimestepDistribution | None = setting(
        None,
        label="Timestep distribution",
        unset_means="uniform for SDXL and SD 1.5, logit_normal for FLUX",
    )
    """Distribution of the sampled timesteps. heavy_tail, cos_map, sigmoid and
    inverted_parabola are the same as in OneTrainer."""

    noising_weight: Annotated[Number, Field(ge=-100, le=100)] = setting(
        0.0, label="Noising weight"
    )
    """Shape of the timestep distribution. logit_normal has a width of 1 + weight.
    heavy_tail, sigmoid and inverted_parabola favor one side or the middle more
    strongly."""

    noising_bias: Annotated[Number, Field(ge=-100, le=100)] = setting(
        0.0, label="Noising bias"
    )
    """Center of the timestep distribution for logit_normal, sigmoid and
    inverted_parabola. Values above 0 favor more noise, and values below 0 less
    noise."""

    min_noising_strength: Share = setting(0.0, label="Min noising strength")
    """Lowest noise level to train, as a fraction of the whole range. For example, 0.5
    skips the lower half, which determines fine details."""

    max_noising_strength: Share = setting(1.0, label="Max noising strength")
    """Highest noise level to train, as a fraction of the whole range."""

    timestep_shift: Annotated[Number, Field(gt=0, le=100)] = setting(
        1.0, label="Timestep shift"
    )
    """Shift of the noise levels. Values above 1 give more noise, and values below 1
    less noise. A value of 3 is usual for FLUX at 1024 pixels."""

    dynamic_timestep_shifting: Flag = setting(False, label="Dynamic timestep shifting")
    """Compute the shift from the image size, as the sampler of FLUX does, instead of
    using timestep_shift. This is usual for FLUX."""

    offset_noise_weight: Annotated[Number, Field(ge=0, le=10)] = setting(
        0.0, label="Offset noise weight"
    )
    """Strength of noise that is constant over a whole image. With 0.05, the model can
    learn very dark and very bright images."""

    mse_strength: Strength = setting(1.0, label="MSE strength")
    """Weight of the squared error in the loss. Beginners should leave it at 1."""

    mae_strength: Strength = setting(0.0, label="MAE strength")
    """Weight of the absolute error in the loss, which is less sensitive to outliers."""

    huber_strength: Strength = setting(0.0, label="Huber strength")
    """Weight of the Huber loss, which is squared for small errors and absolute for
    errors above huber_delta."""

    huber_delta: Annotated[Number, Field(gt=0, le=1000)] = setting(
        1.0, label="Huber delta"
    )
    """Error at which the Huber loss changes from squared to absolute."""

    loss_weight_fn: LossWeight = setting("constant", label="Loss weight function")
    """Weighting of the noise levels in the loss. Use min_snr_gamma and
    debiased_estimation for SDXL and SD 1.5. Use sigma, which gives more weight to high
    noise, for FLUX."""

    loss_weight_strength: Annotated[Number, Field(gt=0, le=1000)] = setting(
        5.0, label="Gamma"
    )
    """Gamma of min_snr_gamma. A lower value reduces the weight of low noise levels
    further."""

    unmasked_weight: Share = setting(0.1, label="Unmasked weight")
    """Weight of the loss outside the mask of an image."""

    normalize_masked_area_loss: Flag = setting(
        False, label="Normalize masked area loss"
    )
    """Give images with small and large masks the same weight in the loss."""

    guidance_scale: Annotated[Number, Field(ge=0, le=100)] = setting(
        1.0, label="Guidance scale"
    )
    """Guidance value that FLUX dev receives as an input during training."""
