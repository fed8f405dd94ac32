"""What SDXL and SD 1.5 have in common: a U-Net that denoises step by step."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

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
from .layouts import LDM_UNET, LDM_VAE
from .source import ModelSource
from .text_training import TrainableText

__all__ = ["UNET_FILES", "UNetFamily", "v_prediction_marks"]

_UNET = diffusers.UNet2DConditionModel

UNET_FILES = {
    "unet": InFiles(_UNET, ("model.diffusion_model.",), LDM_UNET),
    "vae": InFiles(diffusers.AutoencoderKL, ("first_stage_model.", "vae."), LDM_VAE),
}
"""How U-Net and VAE lie in the files of CompVis and Stability AI."""


def v_prediction_marks(known: dict[str, Any], header: Header) -> dict[str, Any]:
    """Marks that files of models with v-prediction carry, as ComfyUI reads them."""
    if not header.has("v_pred"):
        return known
    changed = {**known, "prediction_type": "v_prediction"}
    if header.has("ztsnr"):
        changed |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return changed


class UNetFamily(TrainableText):
    """Each part is read when it is first needed.

    U-Net and text encoders hold ``weight_dtype``; the VAE is always float32, since
    SDXL's own overflows in float16. A family names its parts and says what its
    captions become.
    """

    component = "unet"
    guidance_scale = 1.0

    name: str
    facts: FamilyFacts
    text_models: ClassVar[Mapping[str, Any]]
    """Text encoders by part, with their classes; each has its tokenizer."""

    pipeline: ClassVar[Any]
    """Stock pipeline; its parts are handed over one by one, absent ones as None."""

    def __init__(
        self, source: ModelSource, weight_dtype: torch.dtype, device: torch.device
    ) -> None:
        self._source = source
        self._dtype = weight_dtype
        self.device = device
        text = (*self.text_models, *self._tokenizers())
        self.base_fingerprint = source.fingerprint(("unet", "scheduler"))
        self.text_fingerprint = source.fingerprint(text, str(weight_dtype))
        self.picture_fingerprint = source.fingerprint(("vae",))
        self._noise = self._noise_schedule()
        self.prediction_type: str = self._noise.config.prediction_type
        self._vae: Any = None
        self._text: Any = None

    def _tokenizers(self) -> list[str]:
        return [part.replace("text_encoder", "tokenizer") for part in self.text_models]

    # What the families differ in ------------------------------------------------------

    def _about_frame(self, frame: Frame) -> dict[str, Tensor]:
        """What the U-Net is told of a picture beside its latents."""
        return {}

    def _conditions(self, batch: Batch) -> dict[str, Any]:
        """Further arguments of the U-Net."""
        return {}

    def _prompts(self, request: SampleRequest) -> dict[str, Any]:
        """Encoded prompts as the stock pipeline takes them."""
        raise NotImplementedError

    # Loading ------------------------------------------------------------------------

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
                for part, loader in self.text_models.items()
            }
            for part in self._tokenizers():
                parts[part] = self._source.load(part, transformers.CLIPTokenizer)
            self._text = self._pipeline(scheduler=self._noise, **parts)
        return self._text

    def _pipeline(self, **parts: Any) -> Any:
        absent = dict.fromkeys(("vae", "unet", *self.text_models, *self._tokenizers()))
        return self.pipeline(**{**absent, **parts})

    @torch.no_grad()
    def encode_picture(self, pixels: Tensor, frame: Frame) -> dict[str, Tensor]:
        """``latents (4, h, w)`` float32, and what else the U-Net is told."""
        latents = encode_latents(self._vae_on_device(), pixels.to(self.device)[None])
        return {"latents": latents[0].cpu(), **self._about_frame(frame)}

    def release_encoders(self) -> None:
        """Free the text encoders and the VAE."""
        self._vae = None
        self._release_text()
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
            **self._conditions(batch),
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
        """Run the stock pipeline: ``(3, height, width)`` in [-1, 1].

        The VAE decodes in float32 whatever the U-Net computes in.
        """
        vae = self._vae_on_device()
        prompts = self._prompts(request)
        pipeline = self._pipeline(
            vae=vae, unet=self.denoiser, scheduler=self._sampling_schedule()
        )
        pipeline.set_progress_bar_config(disable=True)
        with torch.no_grad(), evaluating(self.denoiser):
            latents: Any = pipeline(
                **prompts,
                num_inference_steps=request.steps,
                guidance_scale=request.guidance,
                width=request.width,
                height=request.height,
                generator=torch.Generator("cpu").manual_seed(request.seed),
                output_type="latent",
                return_dict=False,
            )[0]
            return decode_latents(vae, latents.float())[0]

    def _sampling_schedule(self) -> Any:
        kind = self._source.config("scheduler")["_class_name"]
        return self._source.load("scheduler", getattr(diffusers, kind))

    def _as_batch(self, tensor: Tensor) -> Tensor:
        return tensor[None].to(self.device)
