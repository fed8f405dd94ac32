"""FLUX.1 (dev, schnell): CLIP, T5, a VAE and the trained transformer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor, nn

from .._exceptions import ModelError
from ..checkpoints.facts import FamilyFacts
from ..checkpoints.fits import latents_fit, width_of
from ..checkpoints.source import ModelSource
from ..checkpoints.tokens import Caption
from .flow import dynamic_shift, flow_signal_to_noise
from .flux_files import FLUX_FILES, flux_scheduler, is_flux_file
from .flux_record import RECORD, is_guided, t5_tokens
from .pipeline_family import StockFamily
from .protocol import Batch, Prediction, SampleRequest

__all__ = ["Flux"]

# Its annotations require all parts, but it accepts None for missing ones.
_PIPELINE: Any = diffusers.FluxPipeline
_TEXT_MODELS: dict[str, Any] = {
    "text_encoder": transformers.CLIPTextModel,
    "text_encoder_2": transformers.T5EncoderModel,
}
# transformers 5 no longer exports the name to type checkers.
_transformers: Any = transformers
_TOKENIZERS: dict[str, Any] = {
    "tokenizer": transformers.CLIPTokenizer,
    "tokenizer_2": _transformers.T5TokenizerFast,
}


class Flux(StockFamily):
    r"""FLUX.1, a rectified flow model: :math:`x_\sigma = (1 - \sigma) x_0 + \sigma n`.

    The transformer predicts :math:`n - x_0` (X. Liu et al., "Flow Straight and Fast",
    2022, arXiv:2209.03003, equation 1 with time reversed) at timestep
    :math:`1000\,\sigma`.
    """

    name = RECORD.name
    component = "transformer"
    prediction_type = "flow"
    denoiser_class = diffusers.FluxTransformer2DModel
    text_models = _TEXT_MODELS
    tokenizers = _TOKENIZERS
    pipeline = _PIPELINE
    facts = FamilyFacts(
        record=RECORD,
        # Fill, Control and Kontext are different models with other inputs.
        pipeline=r"Flux(Img2Img|Inpaint)?Pipeline$",
        parts=("transformer", "vae", *_TEXT_MODELS, *_TOKENIZERS, "scheduler"),
        settings=("text_encoder_2_sequence_length",),
        files=FLUX_FILES,
        is_file=is_flux_file,
        scheduler=flux_scheduler,
        tokenizers=_TOKENIZERS,
        fits=(
            latents_fit("transformer", patch=2),
            width_of(
                "transformer",
                "joint_attention_dim",
                "text_encoder_2",
                ("text_encoder_2", "d_model"),
            ),
            width_of(
                "transformer",
                "pooled_projection_dim",
                "text_encoder",
                ("text_encoder", "hidden_size"),
            ),
        ),
        clip_padding={"tokenizer": "<|endoftext|>"},
        sources={
            "tokenizer_2": (
                "Single-file checkpoints do not contain the T5 "
                "tokenizer. It is in the folder tokenizer_2 of any "
                "FLUX.1 model, and in google/t5-v1_1-xxl on the "
                "Hugging Face Hub"
            )
        },
    )

    def __init__(
        self,
        source: ModelSource,
        weight_dtype: torch.dtype,
        device: torch.device,
        *,
        text_encoder_2_sequence_length: int | None = None,
    ) -> None:
        self._shape = source.config("transformer")
        self._tokens_read = t5_tokens(self._shape, text_encoder_2_sequence_length)
        super().__init__(source, weight_dtype, device, str(self._tokens_read))

    def _training_schedule(self) -> Any:
        kind = self._source.config("scheduler").get("_class_name", "")
        if not kind.startswith("FlowMatch"):
            raise ModelError(
                f"The base model {self._source.name} has the scheduler {kind!r}, "
                "but FLUX.1 requires FlowMatchEulerDiscreteScheduler."
            )
        return self._sampling_schedule()

    @property
    def _guided(self) -> bool:
        """Return whether the transformer has a guidance input (dev, not schnell)."""
        return is_guided(self._shape)

    def _encode_text(self, part: str, captions: Sequence[Caption]) -> Batch:
        """Return ``pooled`` of CLIP, ``(batch, 768)``, or ``embeds`` of T5.

        The shape of ``embeds`` is ``(batch, 512, 4096)``.
        """
        if part == "text_encoder":
            found = self._encoder(part)(self._tokens(part, captions))
            return {"pooled": found.pooler_output}
        tokens = self._tokens(part, captions, self._tokens_read)
        return {"embeds": self._encoder(part)(tokens).last_hidden_state}

    @property
    def caption_limit(self) -> int:
        """Number of T5 tokens of a caption that are used, without the last one."""
        return self._tokens_read - 1

    @property
    def _limiting_part(self) -> str:
        # CLIP reads 75 tokens, but only its pooled output is used.
        return "text_encoder_2"

    # Denoising -----------------------------------------------------------------------

    def timesteps_at(self, places: Tensor) -> Tensor:
        """Return the timesteps in float32 for noise levels in [0, 1)."""
        return (places.double() * self.timesteps).float()

    def signal_to_noise(self, timesteps: Tensor) -> Tensor:
        r"""Return the signal-to-noise ratio :math:`((1 - \sigma) / \sigma)^2`."""
        return flow_signal_to_noise(timesteps.double() / self.timesteps).float()

    def resolution_shift(self, height: int, width: int) -> float:
        """Return the shift s of the sampler for a size of the latents.

        For schnell, the shift is always 1.
        """
        config = self._schedule.config
        shifts = config.use_dynamic_shifting
        return dynamic_shift(height * width // 4, config) if shifts else 1.0

    def predict(
        self,
        denoiser: nn.Module,
        batch: Batch,
        noise: Tensor,
        timesteps: Tensor,
        input_noise: Tensor | None = None,
    ) -> Prediction:
        """Predict the velocity from the image to the noise."""
        latents, embeds = batch["latents"], batch["embeds"].to(self._dtype)
        count, channels, height, width = latents.shape
        share = (timesteps.to(latents) / self.timesteps).view(-1, 1, 1, 1)
        added = noise if input_noise is None else input_noise
        noisy = (1 - share) * latents + share * added
        guidance = None
        if self._guided:
            guidance = torch.full((count,), self.guidance_scale, device=latents.device)
        tokens = denoiser(
            hidden_states=_PIPELINE._pack_latents(
                noisy.to(self._dtype), count, channels, height, width
            ),
            timestep=share.flatten(),
            guidance=guidance,
            pooled_projections=batch["pooled"].to(self._dtype),
            encoder_hidden_states=embeds,
            txt_ids=embeds.new_zeros(embeds.shape[1], 3),
            img_ids=_PIPELINE._prepare_latent_image_ids(
                count, height // 2, width // 2, embeds.device, embeds.dtype
            ),
        ).sample
        # The unpacking expects pixels; with latents as unit, one latent is one "pixel".
        predicted = _PIPELINE._unpack_latents(tokens, height, width, 1)
        return Prediction(predicted.float(), noise - latents)

    def _prompts(self, request: SampleRequest) -> dict[str, Any]:
        """Return the encoded prompts. Negative prompts are not used."""
        return {
            "prompt_embeds": self._as_batch(request.positive["embeds"]),
            "pooled_prompt_embeds": self._as_batch(request.positive["pooled"]),
        }

    def _unpacked(self, latents: Tensor, request: SampleRequest, scale: int) -> Tensor:
        return _PIPELINE._unpack_latents(latents, request.height, request.width, scale)
