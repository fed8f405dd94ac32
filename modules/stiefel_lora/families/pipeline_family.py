"""Base of families that use the parts of a stock diffusers pipeline."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import diffusers
import torch
from PIL import Image
from torch import Tensor, nn

from ..checkpoints.facts import FamilyFacts
from ..checkpoints.source import ModelSource
from ..data.framing import Frame
from .latents import decode_latents, encode_latents, image_of
from .protocol import SampleRequest, evaluating
from .text_training import TrainableText

__all__ = ["StockFamily"]


class StockFamily(TrainableText):
    """Base of families. Each part is loaded when it is first needed.

    Denoiser and text encoders have ``weight_dtype``. The VAE is always float32, since
    SDXL's overflows in float16. A family defines its parts and the inputs of its
    denoiser.

    Args:
        source: source of the parts.
        weight_dtype: dtype of denoiser and text encoders.
        device: device of all parts.
        text_settings: other settings that affect the encoded captions.
    """

    guidance_scale = 1.0

    name: str
    facts: FamilyFacts
    component: ClassVar[str]
    denoiser_class: ClassVar[Any]

    pipeline: ClassVar[Any]
    """Stock pipeline class. Parts are passed one by one, absent ones as None."""

    def __init__(
        self,
        source: ModelSource,
        weight_dtype: torch.dtype,
        device: torch.device,
        *text_settings: str,
    ) -> None:
        super().__init__(source, weight_dtype, device)
        text = (*self.text_models, *self.tokenizers)
        self.base_fingerprint = source.fingerprint((self.component, "scheduler"))
        self.text_fingerprint = source.fingerprint(
            text, str(weight_dtype), *text_settings
        )
        self.image_fingerprint = source.fingerprint(("vae",))
        self._schedule = self._training_schedule()
        self._vae: Any = None

    # Differences between families ---------------------------------------------------

    def _training_schedule(self) -> Any:
        """Return the checked noise schedule of training."""
        raise NotImplementedError

    def _about_frame(self, frame: Frame) -> dict[str, Tensor]:
        """Return the inputs of the denoiser for an image besides its latents."""
        return {}

    def _prompts(self, request: SampleRequest) -> dict[str, Any]:
        """Return the encoded prompts in the form that the stock pipeline takes."""
        raise NotImplementedError

    def _unpacked(self, latents: Tensor, request: SampleRequest, scale: int) -> Tensor:
        """Convert output of the stock pipeline to ``(1, channels, h, w)`` latents.

        ``scale`` is the number of pixels per latent along a side.
        """
        return latents

    # Loading ------------------------------------------------------------------------

    @functools.cached_property
    def denoiser(self) -> nn.Module:
        """The trained part on the device, frozen."""
        model = self._source.load(self.component, self.denoiser_class, self._dtype)
        return model.requires_grad_(False).to(self.device)

    def skeleton(self) -> nn.Module:
        """Return the denoiser on the meta device."""
        return self._source.skeleton(self.component, self.denoiser_class)

    @property
    def timesteps(self) -> int:
        """Number of noise levels. Timesteps are below it."""
        return int(self._schedule.config.num_train_timesteps)

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Recompute activations in the backward pass instead of storing them."""
        denoiser: Any = self.denoiser
        if enabled:
            denoiser.enable_gradient_checkpointing()
        else:
            denoiser.disable_gradient_checkpointing()

    def _sampling_schedule(self) -> Any:
        kind = self._source.config("scheduler")["_class_name"]
        return self._source.load("scheduler", getattr(diffusers, kind))

    def _vae_on_device(self) -> Any:
        if self._vae is None:
            # Always float32: SDXL's VAE overflows in float16.
            vae = self._source.load("vae", diffusers.AutoencoderKL, torch.float32)
            self._vae = vae.requires_grad_(False).eval().to(self.device)
        return self._vae

    def _pipeline(self, **parts: Any) -> Any:
        # Missing parts must be passed as None: the constructors have no defaults for
        # them.
        names = ("vae", self.component, *self.text_models, *self.tokenizers)
        return self.pipeline(**{**dict.fromkeys(names), **parts})

    def _as_batch(self, tensor: Tensor) -> Tensor:
        return tensor[None].to(self.device)

    # Images -----------------------------------------------------------------------

    @torch.no_grad()
    def encode_image(self, pixels: Tensor, frame: Frame) -> dict[str, Tensor]:
        """``latents (channels, h, w)`` float32 and other inputs of the denoiser."""
        latents = encode_latents(self._vae_on_device(), pixels.to(self.device)[None])
        return {"latents": latents[0].cpu(), **self._about_frame(frame)}

    def release_encoders(self) -> None:
        """Free the VAE, and the text encoders unless they are trained."""
        self._vae = None
        self._release_text()
        if self.device.type == "cuda":
            # Return the memory to the device, since the denoiser needs larger blocks.
            torch.cuda.empty_cache()

    def sample(self, request: SampleRequest) -> Image.Image:
        """Generate one image with the current denoiser."""
        return image_of(self.sample_pixels(request))

    def sample_pixels(self, request: SampleRequest) -> Tensor:
        """Run the stock pipeline: ``(3, height, width)`` in [-1, 1].

        The VAE decodes in float32 whatever the denoiser computes in.
        """
        vae = self._vae_on_device()
        prompts = self._prompts(request)
        own = {self.component: self.denoiser}
        pipeline = self._pipeline(vae=vae, scheduler=self._sampling_schedule(), **own)
        pipeline.set_progress_bar_config(disable=True)
        with torch.no_grad(), evaluating(self.denoiser):
            found: Any = pipeline(
                **prompts,
                num_inference_steps=request.steps,
                guidance_scale=request.guidance,
                width=request.width,
                height=request.height,
                generator=torch.Generator("cpu").manual_seed(request.seed),
                output_type="latent",
                return_dict=False,
            )[0]
            latents = self._unpacked(found, request, pipeline.vae_scale_factor)
            return decode_latents(vae, latents.float())[0]
