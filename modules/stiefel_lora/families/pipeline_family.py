"""Base class for families that use the components of a diffusers pipeline."""

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
from .samplers import sampler_of, with_sampler
from .text_training import TrainableText

__all__ = ["StockFamily"]


class StockFamily(TrainableText):
    """Base class for families. Each component is loaded when it is first used.

    The dtype of the denoiser and text encoders is ``weight_dtype``. The VAE is always
    in float32, because that of SDXL overflows in float16. Subclasses define the
    components and the inputs of the denoiser.

    Args:
        source: source of the components.
        weight_dtype: dtype of denoiser and text encoders.
        device: device of all components.
        text_settings: other settings that affect the encoded captions.
    """

    guidance_scale = 1.0
    divides_denoiser = False

    name: str
    facts: FamilyFacts
    component: ClassVar[str]
    denoiser_class: ClassVar[Any]

    pipeline: ClassVar[Any]
    """Pipeline class of diffusers. Missing components are None."""

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
        self.own_sampler = sampler_of(source.config("scheduler")["_class_name"])
        self._schedule = self._training_schedule()
        self._vae: Any = None

    # Differences between families ---------------------------------------------------

    def _training_schedule(self) -> Any:
        """Return the noise scheduler for training."""
        raise NotImplementedError

    def _about_frame(self, frame: Frame) -> dict[str, Tensor]:
        """Return additional inputs of the denoiser for the size of an image."""
        return {}

    def _prompts(self, request: SampleRequest) -> dict[str, Any]:
        """Return the encoded prompts as arguments of the pipeline."""
        raise NotImplementedError

    def _unpacked(self, latents: Tensor, request: SampleRequest, scale: int) -> Tensor:
        """Convert the output of the pipeline to latents ``(1, channels, h, w)``.

        ``scale`` is the number of pixels per latent in each dimension.
        """
        return latents

    # Loading ------------------------------------------------------------------------

    @functools.cached_property
    def denoiser(self) -> nn.Module:
        """Denoiser with frozen weights, on the device unless it is divided."""
        model = self._source.load(self.component, self.denoiser_class, self._dtype)
        model.requires_grad_(False)
        return model if self.divides_denoiser else model.to(self.device)

    def skeleton(self) -> nn.Module:
        """Return the denoiser on the meta device."""
        return self._source.skeleton(self.component, self.denoiser_class)

    @property
    def timesteps(self) -> int:
        """Number of timesteps of the noise schedule."""
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
        """Encode an image to ``latents`` ``(channels, h, w)`` and other inputs."""
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
        """Generate an image with the current weights."""
        return image_of(self.sample_pixels(request))

    def sample_pixels(self, request: SampleRequest) -> Tensor:
        """Generate an image ``(3, height, width)`` in [-1, 1] with the pipeline.

        The VAE decodes in float32.
        """
        vae = self._vae_on_device()
        prompts = self._prompts(request)
        own = {self.component: self.denoiser}
        schedule = with_sampler(self._sampling_schedule(), request.sampler)
        pipeline = self._pipeline(vae=vae, scheduler=schedule, **own)
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
