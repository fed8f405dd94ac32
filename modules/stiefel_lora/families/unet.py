"""Base class for SDXL and SD 1.5: a U-Net with a discrete noise schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import diffusers
import torch
from torch import Tensor, nn

from .._exceptions import ConfigError, ModelError
from ..checkpoints.facts import InFiles
from ..checkpoints.fits import Fit, latents_fit, width_of
from ..checkpoints.header import Header
from ..checkpoints.layouts import LDM_UNET, LDM_VAE
from ..checkpoints.source import ModelSource
from ..checkpoints.supplied_parts import ZERO_TERMINAL_SNR
from ..checkpoints.tokens import Caption, token_weights
from .clip_chunks import CHUNK, into_chunks, joined_chunks
from .diffusion import signal_to_noise
from .pipeline_family import StockFamily
from .prompt_weighting import weighted_states
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
        changed |= ZERO_TERMINAL_SNR
    return changed


class UNetFamily(StockFamily):
    """Family with a U-Net that predicts the noise or the velocity."""

    component = "unet"
    denoiser_class = _UNET
    prediction_type: str

    last_state: ClassVar[int]
    """Index of the hidden states of the text encoders that the model was trained with,
    such as -1 for those of the last layer."""

    def __init__(
        self,
        source: ModelSource,
        weight_dtype: torch.dtype,
        device: torch.device,
        *,
        text_encoder_layer_skip: int = 0,
        text_encoder_2_layer_skip: int = 0,
        max_token_length: int = CHUNK,
    ) -> None:
        skips = (text_encoder_layer_skip, text_encoder_2_layer_skip)
        self._skips = dict(zip(self.text_models, skips, strict=False))
        self._chunks = max_token_length // CHUNK
        for part, skip in self._skips.items():
            self._check_skip(source, part, skip)
            self._check_length(source, part, max_token_length)
        # Without these settings, the caches of before they existed stay valid.
        settings = [f"skip {skip} of {p}" for p, skip in self._skips.items() if skip]
        if self._chunks > 1:
            settings.append(f"{self._chunks} chunks")
        super().__init__(source, weight_dtype, device, *settings)
        self.prediction_type = self._schedule.config.prediction_type

    def _check_skip(self, source: ModelSource, part: str, skip: int) -> None:
        """Check that at least one layer of a text encoder remains.

        Raises:
            ConfigError: If all layers would be skipped.
        """
        config = source.config(part) if skip else {}
        layers = config.get("text_config", config).get("num_hidden_layers")
        most = (layers or 0) + self.last_state
        if layers is not None and skip > most:
            raise ConfigError(
                f"{part}_layer_skip: must be at most {most} for the {part} of "
                f"{source.name}, which has {layers} layers, but got {skip}."
            )

    def _check_length(self, source: ModelSource, part: str, length: int) -> None:
        """Check that a text encoder has a position for each token of a chunk.

        Raises:
            ConfigError: If captions are split into chunks that are too long for it.
        """
        config = source.config(part) if self._chunks > 1 else {}
        found = config.get("text_config", config).get("max_position_embeddings")
        if found is not None and found < CHUNK + 2:
            raise ConfigError(
                f"max_token_length: must be {CHUNK} for the {part} of {source.name}, "
                f"which has {found} positions instead of the {CHUNK + 2} of a chunk, "
                f"but got {length}."
            )

    def _clip_output(
        self, part: str, captions: Sequence[Caption]
    ) -> tuple[Tensor, Any]:
        """Encode captions with CLIP.

        Returns:
            The hidden states ``(batch, tokens, width)`` of the layer that is used,
            without the final normalization unless it is the last layer and none are
            skipped, and the whole output of the encoder, of all chunks.
        """
        tokens = self._tokens(part, captions, self._length)
        if self._chunks > 1:
            tokenizer = self._tokenizer(part)
            tokens = into_chunks(tokens, tokenizer.eos_token_id, tokenizer.pad_token_id)
        layer = self.last_state - self._skips[part]
        output = self._encoder(part)(tokens, output_hidden_states=layer != -1)
        # Unlike the last of hidden_states, last_hidden_state is normalized.
        found = output.last_hidden_state if layer == -1 else output.hidden_states[layer]
        return self._whole(found), output

    def _encoded(self, part: str, captions: Sequence[Caption]) -> Batch:
        """Encode captions, and apply the weights of prompts to the hidden states.

        The pooled output does not depend on weights, as in sd-scripts.
        """
        found = super()._encoded(part, captions)
        weights = token_weights(self._tokenizer(part), captions, self._length)
        if weights is not None:
            # All of them are captions, or all of them are prompts.
            keeps_mean = all(isinstance(c, str) or c.keeps_mean for c in captions)
            found["embeds"] = weighted_states(
                found["embeds"], weights, keeps_mean=keeps_mean
            )
        return found

    @property
    def caption_limit(self) -> int:
        """Number of CLIP tokens of a caption that are used."""
        return self._chunks * CHUNK

    @property
    def _length(self) -> int | None:
        return None if self._chunks == 1 else self._chunks * CHUNK + 2

    def _whole(self, states: Tensor) -> Tensor:
        return states if self._chunks == 1 else joined_chunks(states, self._chunks)

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
