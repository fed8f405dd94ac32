"""Interface of a model family."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from PIL import Image

    from ..checkpoints.facts import FamilyFacts
    from ..checkpoints.tokens import Caption
    from ..data.framing import Frame

__all__ = ["Batch", "Family", "Prediction", "SampleRequest", "evaluating"]

Batch: TypeAlias = dict[str, Tensor]
"""Batch of encoded images and captions.

It contains ``latents`` ``(batch, channels, h, w)`` and other outputs of the encoders.
"""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Model prediction and target, both float32.

    Both have the shape of the latents. The loss is computed in ``training.loss``.
    """

    predicted: Tensor
    target: Tensor


@dataclasses.dataclass(frozen=True)
class SampleRequest:
    """Settings of a sample image, with its encoded prompts.

    ``positive`` and ``negative`` are results of ``Family.encode_caption``. If
    ``negative`` is None, the unconditional prompt of the model is used.
    """

    positive: dict[str, Tensor]
    negative: dict[str, Tensor] | None
    seed: int
    steps: int
    guidance: float
    width: int
    height: int
    sampler: str | None = None
    """Name of the sampler. None for the one of the model."""


class Family(Protocol):
    """Interface of a base model: encoders, denoiser and sampler.

    The ``encode_*`` methods encode a single item and return CPU tensors without the
    batch dimension.
    """

    name: str
    """Name of the family in configurations and files."""

    facts: FamilyFacts
    """Record of the family."""

    component: str
    """Name of the denoiser, which is also the prefix of keys in LoRA files."""

    base_fingerprint: str
    """Hash of the weights and settings of the denoiser."""

    text_fingerprint: str
    """Hash of the text encoders and tokenizers."""

    image_fingerprint: str
    """Hash of the VAE."""

    prediction_type: str
    """Prediction type: ``epsilon``, ``v_prediction`` or ``flow``."""

    own_sampler: str
    """Name of the sampler of the model."""

    text_models: ClassVar[Mapping[str, Any]]
    """Classes of the text encoders, by component name."""

    trained_text: Sequence[str]
    """Text encoders that were opened for training."""

    stopped_text: set[str]
    """Trained text encoders that are no longer trained from the current step on."""

    guidance_scale: float
    """Guidance input of a guidance-distilled denoiser in training and validation."""

    divides_denoiser: bool
    """Whether the denoiser is loaded on the CPU, because its weights are divided among
    processes before they are moved to the device. Set before it is loaded."""

    @property
    def denoiser(self) -> nn.Module:
        """Denoiser on the device, with frozen weights. It is loaded on first use."""
        ...

    def skeleton(self) -> nn.Module:
        """Return the denoiser on the meta device, to inspect its layers."""
        ...

    @property
    def timesteps(self) -> int:
        """Number of timesteps. They are numbered from 0 to timesteps - 1."""
        ...

    def text_skeleton(self, part: str) -> nn.Module:
        """Return a text encoder on the meta device."""
        ...

    def text_encoder(self, part: str) -> nn.Module:
        """Return a text encoder for training, on the device with frozen weights."""
        ...

    def encode_captions(
        self, captions: Sequence[Caption], known: Batch | None = None
    ) -> Batch:
        """Encode captions on the device, with gradients if enabled.

        ``known`` contains encodings of the same captions from before training. If
        given, only trained text encoders are used.
        """
        ...

    def encode_caption(
        self, caption: Caption, known: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Encode a caption, or a weighted prompt for families with CLIP states.

        ``known`` is its encoding from before training.
        """
        ...

    @property
    def caption_limit(self) -> int:
        """Number of tokens of a caption that are used, without first and last ones."""
        ...

    def caption_tokens(self, captions: Sequence[str]) -> list[int]:
        """Return the numbers of tokens of captions, of which the limit is used."""
        ...

    def encode_image(self, pixels: Tensor, frame: Frame) -> dict[str, Tensor]:
        """Encode pixels ``(3, height, width)`` in [-1, 1].

        The result contains ``latents`` and other inputs of the denoiser.
        """
        ...

    def release_encoders(self) -> None:
        """Free the text encoders and the VAE. They are loaded again on next use."""
        ...

    def timesteps_at(self, places: Tensor) -> Tensor:
        """Convert noise levels ``(batch,)`` in [0, 1) to timesteps.

        Timesteps are integers for discrete schedules, and floats for flow models.
        """
        ...

    def signal_to_noise(self, timesteps: Tensor) -> Tensor:
        """Return the signal-to-noise ratios (of power) for timesteps ``(batch,)``."""
        ...

    def resolution_shift(self, height: int, width: int) -> float:
        """Return the shift s of the noise levels for a size of the latents.

        A noise level u becomes s u / (1 + (s - 1) u). The shift is 1 for models without
        a shift.
        """
        ...

    def predict(
        self,
        denoiser: nn.Module,
        batch: Batch,
        noise: Tensor,
        timesteps: Tensor,
        input_noise: Tensor | None = None,
    ) -> Prediction:
        """Add noise to the latents and run the denoiser.

        Args:
            denoiser: ``self.denoiser``, possibly wrapped for mixed precision.
            batch: batch on the device.
            noise: noise with the shape of ``batch["latents"]``.
            timesteps: timesteps ``(batch,)``, see :meth:`timesteps_at`.
            input_noise: noise to add to the latents, if it differs from that of the
                target.
        """
        ...

    def sample(self, request: SampleRequest) -> Image.Image:
        """Generate an image with the current weights."""
        ...

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Recompute activations in the backward pass instead of storing them."""
        ...

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        ...


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Use a module in evaluation mode inside a ``with`` block."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)
