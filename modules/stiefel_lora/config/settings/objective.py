"""What is learned: noise, the noise levels that are drawn, and the loss."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .._base import Flag, Number, StrictModel, setting
from ..enums import LossWeight, TimestepDistribution

__all__ = ["ObjectiveSettings"]

Strength = Annotated[Number, Field(ge=0, le=100)]
Share = Annotated[Number, Field(ge=0, le=1)]


class ObjectiveSettings(StrictModel):
    """What is learned: noise, the noise levels that are drawn, and the loss."""

    timestep_distribution: TimestepDistribution | None = setting(
        None,
        label="Timestep distribution",
        unset_means="uniform for SDXL and SD 1.5, logit_normal for FLUX",
    )
    """How noise levels are drawn. heavy_tail, cos_map, sigmoid and inverted_parabola
    are OneTrainer's."""

    noising_weight: Annotated[Number, Field(ge=-100, le=100)] = setting(
        0.0, label="Noising weight"
    )
    """Shape of the distribution: logit_normal has the width 1 + weight, heavy_tail,
    sigmoid and inverted_parabola lean more on one side or the middle."""

    noising_bias: Annotated[Number, Field(ge=-100, le=100)] = setting(
        0.0, label="Noising bias"
    )
    """Middle of the distribution: above 0 more noise, below 0 less. For logit_normal,
    sigmoid and inverted_parabola."""

    min_noising_strength: Share = setting(0.0, label="Min noising strength")
    """Lowest noise level that is learned from, as a share of all; 0.5 leaves out the
    half with little noise, which holds the fine details."""

    max_noising_strength: Share = setting(1.0, label="Max noising strength")
    """Highest noise level that is learned from, as a share of all."""

    timestep_shift: Annotated[Number, Field(gt=0, le=100)] = setting(
        1.0, label="Timestep shift"
    )
    """Shifts the noise levels: above 1 more noise, below 1 less. 3 is usual for FLUX at
    1024 pixels."""

    dynamic_timestep_shifting: Flag = setting(False, label="Dynamic timestep shifting")
    """Take the shift from the size of the images, as FLUX's own sampler does, in
    place of timestep_shift. Usual for FLUX."""

    offset_noise_weight: Annotated[Number, Field(ge=0, le=10)] = setting(
        0.0, label="Offset noise weight"
    )
    """Strength of noise that is the same in a whole image; 0.05 lets the model learn
    very dark and very bright images."""

    mse_strength: Strength = setting(1.0, label="MSE strength")
    """Share of the squared error in the loss. Leave it alone as a beginner."""

    mae_strength: Strength = setting(0.0, label="MAE strength")
    """Share of the absolute error in the loss; less sensitive to outliers."""

    huber_strength: Strength = setting(0.0, label="Huber strength")
    """Share of the Huber loss: squared for small errors, absolute for those above
    huber_delta."""

    huber_delta: Annotated[Number, Field(gt=0, le=1000)] = setting(
        1.0, label="Huber delta"
    )
    """Error at which the Huber loss goes over from squared to absolute."""

    loss_weight_fn: LossWeight = setting("constant", label="Loss weight function")
    """Weight of the noise levels in the loss. min_snr_gamma and debiased_estimation:
    for SDXL and SD 1.5; sigma (more weight on much noise): for FLUX."""

    loss_weight_strength: Annotated[Number, Field(gt=0, le=1000)] = setting(
        5.0, label="Gamma"
    )
    """Gamma of min_snr_gamma; a lower one holds the levels of little noise back
    more."""

    unmasked_weight: Share = setting(0.1, label="Unmasked weight")
    """Weight of what lies outside the mask of an image that has one."""

    normalize_masked_area_loss: Flag = setting(
        False, label="Normalize masked area loss"
    )
    """Make images with small and large masks count alike."""

    guidance_scale: Annotated[Number, Field(ge=0, le=100)] = setting(
        1.0, label="Guidance scale"
    )
    """Guidance that FLUX dev is told during training."""
