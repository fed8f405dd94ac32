"""Base class for SDXL and SD 1.5: a U-Net with a discrete noise schedule."""

from __future__ import annotations

from typing import Any

import diffusers
import torch
from torch import Tensor, nn

from .._exceptions import ModelError
from ..checkpoints.facts import InFiles
from ..checkpoints.fits import Fit, latents_fit, width_of
from ..checkpoints.header import Header
from ..checkpoints.layouts import LDM_UNET, LDM_VAE
from ..checkpoints.source import ModelSource
from .diffusion import signal_to_noise
from .pipeline_family import StockFamily
from .protocol import Batch, Prediction

__all__ = ["UNET_FILES", "UNetFamily", "unet_fits", "v_prediction_marks"]

_UNET = diffusers.UNet2DConditionModel

UNET_FILES = {
    "unet": InFiles(_UNET, ("model.diffusion_model.",), LDM_UNET),
    "vae": InFiles(diffusers.AutoencoderKL, ("first_stage_model.", "vae."), LDM_VAE),
}
"""Layouts of U-Net and VAE in the original checkpoints."""


def unet_fits(*encoders: str) -> tuple[Fit, ...]:
    """Return the constraints between U-Net, VAE and text encoders."""
    widths = [(encoder, "hidden_size") for encoder in encoders]
    return (
        latents_fit("unet"),
        width_of("unet", "cross_attention_dim", encoders[0], *widths),
    )


def v_prediction_marks(known: dict[str, Any], header: Header) -> dict[str, Any]:
    """Return the settings of the scheduler, with the prediction type of a file."""
    if not header.has("v_pred"):
        return known
    changed = {**known, "prediction_type": "v_prediction"}
    if header.has("ztsnr"):
        changed |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return changed


class UNetFamily(StockFamily):
    """Family with a U-Net that predicts the noise or the velocity."""

    component = "unet"
    denoiser_class = _UNET
    prediction_type: str

    def __init__(
        self, source: ModelSource, weight_dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__(source, weight_dtype, device)
        self.prediction_type = self._schedule.config.prediction_type

    def _conditions(self, batch: Batch) -> dict[str, Any]:
        """Return the additional arguments of the U-Net."""
        return {}

    def _training_schedule(self) -> Any:
        schedule = self._source.load("scheduler", diffusers.DDPMScheduler)
        kind = schedule.config.prediction_type
        if kind not in ("epsilon", "v_prediction"):
            raise ModelError(
                f"The base model {self._source.name} has prediction type {kind!r}, "
                "but only 'epsilon' and 'v_prediction' are supported."
            )
        return schedule

    # Denoising -----------------------------------------------------------------------

    def timesteps_at(self, places: Tensor) -> Tensor:
        """Return integer timesteps from 0 to timesteps - 1."""
        return (places.double() * self.timesteps).long()

    def signal_to_noise(self, timesteps: Tensor) -> Tensor:
        """Return the signal-to-noise ratios (of power)."""
        return signal_to_noise(self._schedule.alphas_cumprod, timesteps)

    def resolution_shift(self, height: int, width: int) -> float:
        """Return 1, because the noise schedule does not depend on the size."""
        return 1.0

    def predict(
        self,
        denoiser: nn.Module,
        batch: Batch,
        noise: Tensor,
        timesteps: Tensor,
        input_noise: Tensor | None = None,
    ) -> Prediction:
        """Predict the noise, or the velocity for v-prediction models."""
        latents = batch["latents"]
        added = noise if input_noise is None else input_noise
        noisy = self._schedule.add_noise(latents, added, timesteps)
        predicted = denoiser(
            noisy.to(self._dtype),
            timesteps,
            encoder_hidden_states=batch["embeds"].to(self._dtype),
            **self._conditions(batch),
        ).sample
        if self.prediction_type == "v_prediction":
            target = self._schedule.get_velocity(latents, noise, timesteps)
        else:
            target = noise
        return Prediction(predicted.float(), target)
