"""Interface of a model family to training."""

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
    from ..data.framing import Frame

__all__ = ["Batch", "Family", "Prediction", "SampleRequest", "evaluating"]

Batch: TypeAlias = dict[str, Tensor]
"""Encoded images and captions, stacked: ``latents (batch, channels, h, w)`` and
everything else that the family's encoders return."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Model prediction and target, both float32.

    Both have the shape of the latents. The loss between them is computed in
    ``training.loss``.
    """

    predicted: Tensor
    target: Tensor


@dataclasses.dataclass(frozen=True)
class SampleRequest:
    """One sample image with its encoded prompt.

    ``positive`` and ``negative`` are results of ``Family.encode_caption``. Without
    ``negative``, the model's own unconditional prompt is used.
    """

    positive: dict[str, Tensor]
    negative: dict[str, Tensor] | None
    seed: int
    steps: int
    guidance: float
    width: int
    height: int


class Family(Protocol):
    """A base model: encoders, a denoiser that LoRA goes into, and its sampler.

    ``encode_*`` work on one item, on the family's device, and return CPU tensors
    without the batch dimension.
    """

    name: str
    """Name of the family in configurations and files."""

    facts: FamilyFacts
    """Record of the differences from other families."""

    component: str
    """Trained part of the pipeline, also the prefix of its keys in files."""

    base_fingerprint: str
    """Hash of the denoiser's weights and settings, independent of their location."""

    text_fingerprint: str
    """Hash of the text encoders and tokenizers."""

    image_fingerprint: str
    """Hash of the VAE."""

    prediction_type: str
    """Prediction of the denoiser: ``epsilon``, ``v_prediction`` or ``flow``."""

    text_models: ClassVar[Mapping[str, Any]]
    """Text encoders by part, with their classes."""

    trained_text: Sequence[str]
    """Text encoders that ``text_encoder`` has opened for training."""

    guidance_scale: float
    """Guidance input of a guidance-distilled denoiser in training and validation;
    other denoisers ignore it."""

    @property
    def denoiser(self) -> nn.Module:
        """The trained part on the device, frozen. Loaded on first use."""
        ...

    def skeleton(self) -> nn.Module:
        """Return the trained part on the meta device, to inspect its layers."""
        ...

    @property
    def timesteps(self) -> int:
        """Number of noise levels; a timestep is 0 .. timesteps - 1."""
        ...

    def text_skeleton(self, part: str) -> nn.Module:
        """Return a text encoder on the meta device."""
        ...

    def text_encoder(self, part: str) -> nn.Module:
        """A text encoder to be trained: on the device, frozen, and never released."""
        ...

    def encode_captions(
        self, captions: Sequence[str], known: Batch | None = None
    ) -> Batch:
        """Encode captions on the device, with gradients if enabled.

        ``known`` are the same captions as encoded before training. With it, only the
        trained encoders are run.
        """
        ...

    def encode_caption(
        self, caption: str, known: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Encode one caption. ``known`` is the result from before training."""
        ...

    def encode_image(self, pixels: Tensor, frame: Frame) -> dict[str, Tensor]:
        """Encode ``(3, height, width)`` pixels in [-1, 1]: ``latents`` and more."""
        ...

    def release_encoders(self) -> None:
        """Free the text encoders and the VAE. They are loaded again when needed."""
        ...

    def timesteps_at(self, places: Tensor) -> Tensor:
        """Timesteps at ``places`` (batch,) in [0, 1), where 0 is without noise.

        Integers for a discrete schedule, any numbers for a flow.
        """
        ...

    def signal_to_noise(self, timesteps: Tensor) -> Tensor:
        """Signal-to-noise ratio of the power at ``timesteps``, ``(batch,)``."""
        ...

    def resolution_shift(self, height: int, width: int) -> float:
        """Shift of the noise levels for a size of the latents, or 1 if there is none.

        Places u become s u / (1 + (s - 1) u).
        """
        ...

    def predict(
        self, denoiser: nn.Module, batch: Batch, noise: Tensor, timesteps: Tensor
    ) -> Prediction:
        """Add noise to the latents and run the denoiser.

        Args:
            denoiser: ``self.denoiser``, possibly wrapped for mixed precision.
            batch: batch on the device.
            noise: same shape as ``batch["latents"]``.
            timesteps: ``(batch,)``, from ``timesteps_at``.
        """
        ...

    def sample(self, request: SampleRequest) -> Image.Image:
        """Generate one image with the current denoiser."""
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
    """Put a module into evaluation mode temporarily."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)
