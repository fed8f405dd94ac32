"""Stable Diffusion XL: two CLIP text encoders, a VAE and a U-Net that is trained."""

from __future__ import annotations

import functools
from typing import Any

import diffusers
import torch
import transformers
from PIL import Image
from torch import Tensor, nn

from .._exceptions import ModelError
from ..data.framing import Frame
from .base import Batch, Prediction, SampleRequest, evaluating
from .diffusion import signal_to_noise
from .facts import FamilyFacts, InFiles
from .header import Header
from .latents import decode_latents, encode_latents, picture_of
from .layouts import CLIP, LDM_UNET, LDM_VAE, OPEN_CLIP
from .source import ModelSource

__all__ = ["Sdxl"]

# Its annotations say that no part may be missing; it is made for parts that are.
_PIPELINE: Any = diffusers.StableDiffusionXLPipeline
_UNET = diffusers.UNet2DConditionModel
_TEXT_PARTS = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")


def _is_file(header: Header) -> bool:
    return any(
        header.has(f"{prefix}{name}")
        for prefix in ("model.diffusion_model.", "")
        for name in ("label_emb.0.0.weight", "add_embedding.linear_1.weight")
    )


def _scheduler(known: dict[str, Any], header: Header) -> dict[str, Any]:
    """Marks that files of models with v-prediction carry, as ComfyUI reads them."""
    if not header.has("v_pred"):
        return known
    changed = {**known, "prediction_type": "v_prediction"}
    if header.has("ztsnr"):
        changed |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return changed


class Sdxl:
    """Each part is read when it is first needed.

    U-Net and text encoders hold ``weight_dtype``; the VAE is always float32, since
    SDXL's own overflows in float16.
    """

    name = "sdxl"
    component = "unet"
    guidance_scale = 1.0
    facts = FamilyFacts(
        name="sdxl",
        label="SDXL",
        pipeline="StableDiffusionXL",
        parts=("unet", "vae", *_TEXT_PARTS, "scheduler"),
        files={
            "unet": InFiles(_UNET, ("model.diffusion_model.",), LDM_UNET),
            "vae": InFiles(
                diffusers.AutoencoderKL, ("first_stage_model.", "vae."), LDM_VAE
            ),
            "text_encoder": InFiles(
                transformers.CLIPTextModel,
                ("conditioner.embedders.0.transformer.",),
                CLIP,
            ),
            "text_encoder_2": InFiles(
                transformers.CLIPTextModelWithProjection,
                ("conditioner.embedders.1.model.",),
                OPEN_CLIP,
            ),
        },
        is_file=_is_file,
        scheduler=_scheduler,
        clip_padding={"tokenizer": "<|endoftext|>", "tokenizer_2": "!"},
    )

    def __init__(
        self, source: ModelSource, weight_dtype: torch.dtype, device: torch.device
    ) -> None:
        self._source = source
        self._dtype = weight_dtype
        self.device = device
        self.base_fingerprint = source.fingerprint(("unet", "scheduler"))
        self.text_fingerprint = source.fingerprint(_TEXT_PARTS, str(weight_dtype))
        self.picture_fingerprint = source.fingerprint(("vae",))
        self._noise = self._noise_schedule()
        self.prediction_type: str = self._noise.config.prediction_type
        self._vae: Any = None
        self._text: Any = None

    def _noise_schedule(self) -> Any:
        schedule = self._source.load("scheduler", diffusers.DDPMScheduler)
        kind = schedule.config.prediction_type
        if kind not in ("epsilon", "v_prediction"):
            raise ModelError(
                f"The base model {self._source.name} predicts {kind!r}; training knows "
                f"'epsilon' and 'v_prediction'."
            )
        return schedule

    @functools.cached_property
    def denoiser(self) -> nn.Module:
        """The U-Net on the device, frozen."""
        unet = self._source.load("unet", _UNET, self._dtype)
        return unet.requires_grad_(False).to(self.device)

    def skeleton(self) -> nn.Module:
        """The U-Net on the meta device."""
        return self._source.skeleton("unet", _UNET)

    @property
    def timesteps(self) -> int:
        """Number of noise levels."""
        return int(self._noise.config.num_train_timesteps)

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Compute activations twice in place of keeping them."""
        unet: Any = self.denoiser
        if enabled:
            unet.enable_gradient_checkpointing()
        else:
            unet.disable_gradient_checkpointing()

    # Encoders ------------------------------------------------------------------------

    def _vae_on_device(self) -> Any:
        if self._vae is None:
            vae = self._source.load("vae", diffusers.AutoencoderKL, torch.float32)
            self._vae = vae.requires_grad_(False).eval().to(self.device)
        return self._vae

    def _text_pipeline(self) -> Any:
        """The stock pipeline with the text encoders alone."""
        if self._text is None:
            models = {
                "text_encoder": transformers.CLIPTextModel,
                "text_encoder_2": transformers.CLIPTextModelWithProjection,
            }
            parts = {
                part: self._source.load(part, loader, self._dtype)
                .requires_grad_(False)
                .eval()
                .to(self.device)
                for part, loader in models.items()
            }
            for part in ("tokenizer", "tokenizer_2"):
                parts[part] = self._source.load(part, transformers.CLIPTokenizer)
            self._text = _PIPELINE(vae=None, unet=None, scheduler=self._noise, **parts)
        return self._text

    @torch.no_grad()
    def encode_caption(self, caption: str) -> dict[str, Tensor]:
        """``embeds (77, 2048)`` and ``pooled (1280,)`` (SDXL's own sizes).

        The penultimate hidden states of both encoders side by side, and the projected
        output of the second. CLIP reads 77 tokens; the rest of a caption is cut off
        and said in the log.
        """
        embeds, _, pooled, _ = self._text_pipeline().encode_prompt(
            caption, device=self.device, do_classifier_free_guidance=False
        )
        return {"embeds": embeds[0].cpu(), "pooled": pooled[0].cpu()}

    @torch.no_grad()
    def encode_picture(self, pixels: Tensor, frame: Frame) -> dict[str, Tensor]:
        """``latents (4, h, w)`` float32 and the six ``time_ids`` int64."""
        latents = encode_latents(self._vae_on_device(), pixels.to(self.device)[None])
        return {
            "latents": latents[0].cpu(),
            "time_ids": torch.tensor(frame.time_ids, dtype=torch.int64),
        }

    def release_encoders(self) -> None:
        """Free the text encoders and the VAE."""
        self._vae = self._text = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    # Denoising -----------------------------------------------------------------------

    def timesteps_at(self, places: Tensor) -> Tensor:
        """Whole timesteps 0 .. timesteps - 1."""
        return (places.double() * self.timesteps).long()

    def signal_to_noise(self, timesteps: Tensor) -> Tensor:
        """Power of signal over power of noise."""
        return signal_to_noise(self._noise.alphas_cumprod, timesteps)

    def resolution_shift(self, height: int, width: int) -> float:
        """1: the schedule is the same for all sizes."""
        return 1.0

    def predict(
        self, denoiser: nn.Module, batch: Batch, noise: Tensor, timesteps: Tensor
    ) -> Prediction:
        """Predict the noise, or the velocity where the model was made for it."""
        latents = batch["latents"]
        noisy = self._noise.add_noise(latents, noise, timesteps)
        predicted = denoiser(
            noisy.to(self._dtype),
            timesteps,
            encoder_hidden_states=batch["embeds"].to(self._dtype),
            added_cond_kwargs={
                "text_embeds": batch["pooled"].to(self._dtype),
                "time_ids": batch["time_ids"].to(self._dtype),
            },
        ).sample
        if self.prediction_type == "v_prediction":
            target = self._noise.get_velocity(latents, noise, timesteps)
        else:
            target = noise
        return Prediction(predicted.float(), target)

    def sample(self, request: SampleRequest) -> Image.Image:
        """Make one picture with the U-Net as it is now."""
        return picture_of(self.sample_pixels(request))

    def sample_pixels(self, request: SampleRequest) -> Tensor:
        """Run the stock StableDiffusionXLPipeline: ``(3, height, width)`` in [-1, 1].

        The VAE decodes in float32 whatever the U-Net computes in.
        """
        vae = self._vae_on_device()
        pipeline = self._sampling_pipeline(vae)
        negative: dict[str, Any] = {}
        if request.guidance > 1:
            # Without a negative prompt SDXL takes zeros, not the encoded empty text.
            given = request.negative or {
                name: torch.zeros_like(value)
                for name, value in request.positive.items()
            }
            negative = {
                "negative_prompt_embeds": given["embeds"][None].to(self.device),
                "negative_pooled_prompt_embeds": given["pooled"][None].to(self.device),
            }
        with torch.no_grad(), evaluating(self.denoiser):
            latents: Any = pipeline(
                prompt_embeds=request.positive["embeds"][None].to(self.device),
                pooled_prompt_embeds=request.positive["pooled"][None].to(self.device),
                **negative,
                num_inference_steps=request.steps,
                guidance_scale=request.guidance,
                width=request.width,
                height=request.height,
                generator=torch.Generator("cpu").manual_seed(request.seed),
                output_type="latent",
                return_dict=False,
            )[0]
            return decode_latents(vae, latents.float())[0]

    def _sampling_pipeline(self, vae: Any) -> Any:
        kind = self._source.config("scheduler")["_class_name"]
        scheduler = self._source.load("scheduler", getattr(diffusers, kind))
        pipeline = _PIPELINE(
            vae=vae,
            text_encoder=None,
            text_encoder_2=None,
            tokenizer=None,
            tokenizer_2=None,
            unet=self.denoiser,
            scheduler=scheduler,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline
