"""Training objective: noise, timesteps and loss."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .._base import Count, Flag, Number, StrictModel, setting
from ..enums import LossWeight, TimestepDistribution

__all__ = ["ObjectiveSettings"]

Strength = Annotated[Number, Field(ge=0, le=100)]
Weight = Annotated[Number, Field(ge=0, le=10)]
Share = Annotated[Number, Field(ge=0, le=1)]


class ObjectiveSettings(StrictModel):
    """Training objective: noise, timesteps and loss."""

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
    """Shape of the timestep distribution. For logit_normal, the standard deviation is 1
    + weight. For heavy_tail, sigmoid and inverted_parabola, it is the strength of the
    deviation from a uniform distribution.
    """

    noising_bias: Annotated[Number, Field(ge=-100, le=100)] = setting(
        0.0, label="Noising bias"
    )
    """Center of the timestep distribution for logit_normal, sigmoid and
    inverted_parabola. Values above 0 increase the noise, and values below 0 decrease
    it.
    """

    min_noising_strength: Share = setting(0.0, label="Min noising strength")
    """Lowest noise level to train, as a fraction of the whole range. For example, with
    0.5, the lower half is not trained, which affects fine details.
    """

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

    offset_noise_weight: Weight = setting(0.0, label="Offset noise weight")
    """Weight of additional noise that is constant over the image (offset noise). With
    0.05, the model can learn very dark and very bright images.
    """

    offset_noise_random_strength: Flag = setting(
        False, label="Offset noise random strength"
    )
    """Draw the weight of the offset noise for each batch, from 0 to
    offset_noise_weight."""

    adaptive_noise_scale: Annotated[Number, Field(ge=-10, le=10)] = setting(
        0.0, label="Adaptive noise scale"
    )
    """Factor of the mean of each channel of the image that is added to
    offset_noise_weight. For example, with 0.005, bright and dark images get more offset
    noise.
    """

    multires_noise_iterations: Annotated[Count, Field(le=64)] = setting(
        0, label="Multires noise iterations"
    )
    """Number of resolutions of the noise (multi-resolution noise). Values from 6 to 10
    are usual, and 0 disables it. It is an alternative to offset noise.
    """

    multires_noise_discount: Share = setting(0.3, label="Multires noise discount")
    """Weight of each resolution relative to the next higher one. Values from 0.1 to 0.3
    are usual. Higher values change large areas more."""

    perturbation_noise_weight: Weight = setting(0.0, label="Perturbation noise weight")
    """Weight of a second noise that is added to the noise, as in OneTrainer. The model
    learns to predict the sum."""

    ip_noise_gamma: Weight = setting(0.0, label="IP noise gamma")
    """Weight of a second noise that is added to the input of the model only (input
    perturbation). A value of 0.1 is usual."""

    ip_noise_gamma_random_strength: Flag = setting(
        False, label="IP noise gamma random strength"
    )
    """Draw the weight of the input perturbation for each batch, from 0 to
    ip_noise_gamma."""

    mse_strength: Strength = setting(1.0, label="MSE strength")
    """Weight of the squared error in the loss. The default is recommended for most
    runs.
    """

    mae_strength: Strength = setting(0.0, label="MAE strength")
    """Weight of the absolute error in the loss, which is less sensitive to outliers."""

    huber_strength: Strength = setting(0.0, label="Huber strength")
    """Weight of the Huber loss, which is quadratic for errors below huber_delta and
    linear above it.
    """

    huber_delta: Annotated[Number, Field(gt=0, le=1000)] = setting(
        1.0, label="Huber delta"
    )
    """Error above which the Huber loss is linear instead of quadratic."""

    loss_weight_fn: LossWeight = setting("constant", label="Loss weight function")
    """Weighting of the noise levels in the loss. min_snr_gamma and debiased_estimation
    are supported for SDXL and SD 1.5. sigma is supported for FLUX and increases the
    weight of high noise levels.
    """

    loss_weight_strength: Annotated[Number, Field(gt=0, le=1000)] = setting(
        5.0, label="Gamma"
    )
    """Gamma of min_snr_gamma. Lower values reduce the weight of low noise levels more.
    """

    unmasked_weight: Share = setting(0.1, label="Unmasked weight")
    """Weight of the loss in black areas of the mask."""

    masked_prior_preservation_weight: Strength = setting(
        0.0, label="Masked prior preservation weight"
    )
    """Weight of a loss outside of the mask whose target is the prediction of the base
    model. The model then stays the same there. Each step with a mask computes the
    prediction of the base model as well.
    """

    normalize_masked_area_loss: Flag = setting(
        False, label="Normalize masked area loss"
    )
    """Give images with small and large masks the same weight in the loss."""

    guidance_scale: Annotated[Number, Field(ge=0, le=100)] = setting(
        1.0, label="Guidance scale"
    )
    """Guidance value that FLUX dev receives as an input during training."""
