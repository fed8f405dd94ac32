"""FLUX.1 (dev, schnell): CLIP and T5, a VAE and a transformer that is trained."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import diffusers
import torch
import transformers
from PIL import Image
from torch import Tensor, nn

from .._exceptions import ModelError
from ..data.framing import Frame
from .base import Batch, Prediction, SampleRequest, evaluating
from .facts import FamilyFacts
from .flow import dynamic_shift, flow_signal_to_noise
from .flux_files import FLUX_FILES, flux_scheduler, is_flux_file
from .latents import decode_latents, encode_latents, picture_of
from .source import ModelSource
from .text_training import TrainableText

__all__ = ["Flux"]

# Its annotations say that no part may be missing; it is made for parts that are.
_PIPELINE: Any = diffusers.FluxPipeline
_TRANSFORMER = diffusers.FluxTransformer2DModel
_TEXT_MODELS: dict[str, Any] = {
    "text_encoder": transformers.CLIPTextModel,
    "text_encoder_2": transformers.T5EncoderModel,
}
# transformers 5 keeps the name for type checkers no longer.
_transformers: Any = transformers
_TOKENIZERS: dict[str, Any] = {
    "tokenizer": transformers.CLIPTokenizer,
    "tokenizer_2": _transformers.T5TokenizerFast,
}
_TEXT_PARTS = (*_TEXT_MODELS, *_TOKENIZERS)
# Tokens of T5 that each model was trained with.
_DEV_TOKENS, _SCHNELL_TOKENS = 512, 256


class Flux(TrainableText):
    r"""A straight flow: :math:`x_\sigma = (1 - \sigma) x_0 + \sigma n`.

    The transformer predicts :math:`n - x_0` (X. Liu et al., "Flow Straight and Fast",
    2022, arXiv:2209.03003, equation 1 with time reversed) at timestep
    :math:`1000\,\sigma`, any number. Each part is read when it is first needed; the
    VAE is always float32.
    """

    name = "flux"
    component = "transformer"
    prediction_type = "flow"
    guidance_scale = 1.0
    text_models = _TEXT_MODELS
    facts = FamilyFacts(
        name="flux",
        label="FLUX.1",
        # Fill, Control and Kontext are other models with other inputs.
        pipeline=r"Flux(Img2Img|Inpaint)?Pipeline$",
        parts=("transformer", "vae", *_TEXT_PARTS, "scheduler"),
        settings=("text_encoder_2_sequence_length",),
        files=FLUX_FILES,
        is_file=is_flux_file,
        scheduler=flux_scheduler,
        clip_padding={"tokenizer": "<|endoftext|>"},
    )

    def __init__(
        self,
        source: ModelSource,
        weight_dtype: torch.dtype,
        device: torch.device,
        *,
        text_encoder_2_sequence_length: int | None = None,
    ) -> None:
        self._source = source
        self._dtype = weight_dtype
        self.device = device
        self._shape = source.config("transformer")
        self._flow = self._flow_schedule()
        usual = _DEV_TOKENS if self._guided else _SCHNELL_TOKENS
        self._tokens = text_encoder_2_sequence_length or usual
        self.base_fingerprint = source.fingerprint(("transformer", "scheduler"))
        self.text_fingerprint = source.fingerprint(
            _TEXT_PARTS, str(weight_dtype), str(self._tokens)
        )
        self.picture_fingerprint = source.fingerprint(("vae",))
        self._vae: Any = None
        self._text: Any = None

    def _flow_schedule(self) -> Any:
        kind = self._source.config("scheduler").get("_class_name", "")
        if not kind.startswith("FlowMatch"):
            raise ModelError(
                f"The base model {self._source.name} has the scheduler {kind!r}; "
                f"FLUX.1 needs FlowMatchEulerDiscreteScheduler."
            )
        return self._source.load("scheduler", getattr(diffusers, kind))

    @property
    def _guided(self) -> bool:
        """Whether the transformer reads a guidance scale: dev does, schnell not."""
        return bool(self._shape.get("guidance_embeds", False))

    @functools.cached_property
    def denoiser(self) -> nn.Module:
        """The transformer on the device, frozen."""
        transformer = self._source.load("transformer", _TRANSFORMER, self._dtype)
        return transformer.requires_grad_(False).to(self.device)

    def skeleton(self) -> nn.Module:
        """The transformer on the meta device."""
        return self._source.skeleton("transformer", _TRANSFORMER)

    @property
    def timesteps(self) -> int:
        """Timesteps are numbers in [0, timesteps)."""
        return int(self._flow.config.num_train_timesteps)

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Compute activations twice in place of keeping them."""
        transformer: Any = self.denoiser
        if enabled:
            transformer.enable_gradient_checkpointing()
        else:
            transformer.disable_gradient_checkpointing()

    # Encoders ------------------------------------------------------------------------

    def _vae_on_device(self) -> Any:
        if self._vae is None:
            vae = self._source.load("vae", diffusers.AutoencoderKL, torch.float32)
            self._vae = vae.requires_grad_(False).eval().to(self.device)
        return self._vae

    def _text_pipeline(self) -> Any:
        """The stock pipeline with the text encoders alone."""
        if self._text is None:
            parts = {
                part: self._source.load(part, loader, self._dtype)
                .requires_grad_(False)
                .eval()
                .to(self.device)
                for part, loader in _TEXT_MODELS.items()
            }
            for part, loader in _TOKENIZERS.items():
                parts[part] = self._source.load(part, loader)
            self._text = _PIPELINE(
                vae=None, transformer=None, scheduler=self._flow, **parts
            )
        return self._text

    def encode_captions(self, captions: Sequence[str]) -> Batch:
        """``embeds (batch, 512, 4096)`` of T5 and ``pooled (batch, 768)`` of CLIP."""
        embeds, pooled, _ = self._text_pipeline().encode_prompt(
            list(captions),
            prompt_2=None,
            device=self.device,
            max_sequence_length=self._tokens,
        )
        return {"embeds": embeds, "pooled": pooled}

    @torch.no_grad()
    def encode_picture(self, pixels: Tensor, frame: Frame) -> dict[str, Tensor]:
        """``latents (16, h, w)`` float32; FLUX is not told how a picture was cut."""
        latents = encode_latents(self._vae_on_device(), pixels.to(self.device)[None])
        return {"latents": latents[0].cpu()}

    def release_encoders(self) -> None:
        """Free the VAE, and the text encoders unless they are trained."""
        self._vae = None
        self._release_text()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    # Denoising -----------------------------------------------------------------------

    def timesteps_at(self, places: Tensor) -> Tensor:
        """Timesteps of any value, float32: a place is the share of noise."""
        return (places.double() * self.timesteps).float()

    def signal_to_noise(self, timesteps: Tensor) -> Tensor:
        r"""Power of signal over power of noise, :math:`((1 - \sigma) / \sigma)^2`."""
        return flow_signal_to_noise(timesteps.double() / self.timesteps).float()

    def resolution_shift(self, height: int, width: int) -> float:
        """Shift s of the sampler at a size of the latents: u -> s u / (1 + (s - 1) u).

        1 for schnell, whose noise levels are the same at all sizes.
        """
        config = self._flow.config
        shifts = config.use_dynamic_shifting
        return dynamic_shift(height * width // 4, config) if shifts else 1.0

    def predict(
        self, denoiser: nn.Module, batch: Batch, noise: Tensor, timesteps: Tensor
    ) -> Prediction:
        """Predict the way from the picture to the noise."""
        latents, embeds = batch["latents"], batch["embeds"].to(self._dtype)
        count, channels, height, width = latents.shape
        share = (timesteps.to(latents) / self.timesteps).view(-1, 1, 1, 1)
        noisy = (1 - share) * latents + share * noise
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
        # In units of latents, so that a pixel of them is one "pixel".
        predicted = _PIPELINE._unpack_latents(tokens, height, width, 1)
        return Prediction(predicted.float(), noise - latents)

    def sample(self, request: SampleRequest) -> Image.Image:
        """Make one picture with the transformer as it is now."""
        return picture_of(self.sample_pixels(request))

    def sample_pixels(self, request: SampleRequest) -> Tensor:
        """Run the stock FluxPipeline: ``(3, height, width)`` in [-1, 1].

        ``guidance`` is the scale that dev reads; there is no second pass for a negative
        prompt. The VAE decodes in float32 whatever the transformer computes in.
        """
        vae = self._vae_on_device()
        pipeline = self._sampling_pipeline(vae)
        with torch.no_grad(), evaluating(self.denoiser):
            tokens: Any = pipeline(
                prompt_embeds=request.positive["embeds"][None].to(self.device),
                pooled_prompt_embeds=request.positive["pooled"][None].to(self.device),
                num_inference_steps=request.steps,
                guidance_scale=request.guidance,
                width=request.width,
                height=request.height,
                generator=torch.Generator("cpu").manual_seed(request.seed),
                output_type="latent",
                return_dict=False,
            )[0]
            latents = _PIPELINE._unpack_latents(
                tokens, request.height, request.width, pipeline.vae_scale_factor
            )
            return decode_latents(vae, latents.float())[0]

    def _sampling_pipeline(self, vae: Any) -> Any:
        pipeline = _PIPELINE(
            vae=vae,
            text_encoder=None,
            text_encoder_2=None,
            tokenizer=None,
            tokenizer_2=None,
            transformer=self.denoiser,
            scheduler=self._flow_schedule(),
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline
