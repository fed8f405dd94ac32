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
    inverted_parabola are OneTrainer's."""

    noising_weight: Annotated[Number, Field(ge=-100, le=100)] = setting(
        0.0, label="Noising weight"
    )
    """Shape of the distribution: logit_normal has the width 1 + weight; heavy_tail,
    sigmoid and inverted_parabola favor one side or the middle more strongly."""

    noising_bias: Annotated[Number, Field(ge=-100, le=100)] = setting(
        0.0, label="Noising bias"
    )
    """Center of the distribution: above 0 for more noise, below 0 for less. For
    logit_normal, sigmoid and inverted_parabola."""

    min_noising_strength: Share = setting(0.0, label="Min noising strength")
    """Lowest noise level that is trained on, as a fraction of the whole range; 0.5
    leaves out the lower half, which determines fine details."""

    max_noising_strength: Share = setting(1.0, label="Max noising strength")
    """Highest noise level that is trained on, as a fraction of the whole range."""

    timestep_shift: Annotated[Number, Field(gt=0, le=100)] = setting(
        1.0, label="Timestep shift"
    )
    """Shifts the noise levels: above 1 more noise, below 1 less. 3 is usual for FLUX at
    1024 pixels."""

    dynamic_timestep_shifting: Flag = setting(False, label="Dynamic timestep shifting")
    """Compute the shift from the size of the images, as FLUX's own sampler does,
    instead of timestep_shift. Usual for FLUX."""

    offset_noise_weight: Annotated[Number, Field(ge=0, le=10)] = setting(
        0.0, label="Offset noise weight"
    )
    """Strength of noise that is constant over a whole image; 0.05 lets the model learn
    very dark and very bright images."""

    mse_strength: Strength = setting(1.0, label="MSE strength")
    """Weight of the squared error in the loss. Beginners should leave it at 1."""

    mae_strength: Strength = setting(0.0, label="MAE strength")
    """Weight of the absolute error in the loss; less sensitive to outliers."""

    huber_strength: Strength = setting(0.0, label="Huber strength")
    """Weight of the Huber loss: squared for small errors, absolute above
    huber_delta."""

    huber_delta: Annotated[Number, Field(gt=0, le=1000)] = setting(
        1.0, label="Huber delta"
    )
    """Error at which the Huber loss changes from squared to absolute."""

    loss_weight_fn: LossWeight = setting("constant", label="Loss weight function")
    """Weighting of the noise levels in the loss. min_snr_gamma and debiased_estimation
    are for SDXL and SD 1.5; sigma (more weight on high noise) is for FLUX."""

    loss_weight_strength: Annotated[Number, Field(gt=0, le=1000)] = setting(
        5.0, label="Gamma"
    )
    """Gamma of min_snr_gamma; a lower value reduces the weight of low noise levels
    more."""

    unmasked_weight: Share = setting(0.1, label="Unmasked weight")
    """Weight of the loss outside the mask of an image that has one."""

    normalize_masked_area_loss: Flag = setting(
        False, label="Normalize masked area loss"
    )
    """Give images with small and large masks the same weight in the loss."""

    guidance_scale: Annotated[Number, Field(ge=0, le=100)] = setting(
        1.0, label="Guidance scale"
    )
    """Guidance value that FLUX dev receives as input during training."""
