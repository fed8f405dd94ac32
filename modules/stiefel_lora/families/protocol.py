"""What training asks of a model family."""

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
whatever else the family's encoders returned."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What the denoiser said and what it should have said, both float32.

    Both have the shape of the latents; what a difference costs is training's business
    (``training.loss``).
    """

    predicted: Tensor
    target: Tensor


@dataclasses.dataclass(frozen=True)
class SampleRequest:
    """One sample image with its prompt already encoded.

    ``positive`` and ``negative`` are what ``Family.encode_caption`` returned; without
    ``negative`` the model's own empty prompt takes its place.
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
    """What tells it from other families."""

    component: str
    """Part of the pipeline that is trained, and the prefix of its keys in files."""

    base_fingerprint: str
    """Hash of the denoiser's weights and settings: the same wherever the folder is."""

    text_fingerprint: str
    """The same of the text encoders and tokenizers."""

    image_fingerprint: str
    """The same of the VAE."""

    prediction_type: str
    """What the denoiser predicts: ``epsilon``, ``v_prediction`` or ``flow``."""

    text_models: ClassVar[Mapping[str, Any]]
    """Text encoders by part, with their classes."""

    trained_text: Sequence[str]
    """Text encoders that were asked for with ``text_encoder``."""

    guidance_scale: float
    """What a guidance-distilled denoiser is told while it trains and is measured;
    others do not look at it."""

    @property
    def denoiser(self) -> nn.Module:
        """The trained part, loaded at the first use, on the device, frozen."""
        ...

    def skeleton(self) -> nn.Module:
        """The trained part without its numbers (meta device), to look at its layers."""
        ...

    @property
    def timesteps(self) -> int:
        """Number of noise levels; a timestep is 0 .. timesteps - 1."""
        ...

    def text_skeleton(self, part: str) -> nn.Module:
        """A text encoder without its numbers (meta device)."""
        ...

    def text_encoder(self, part: str) -> nn.Module:
        """A text encoder to be trained: on the device, frozen, and never released."""
        ...

    def encode_captions(
        self, captions: Sequence[str], known: Batch | None = None
    ) -> Batch:
        """Encode captions on the device, with gradients where they are asked for.

        With ``known``, the captions as they were encoded before training, only the
        encoders that are trained are asked.
        """
        ...

    def encode_caption(
        self, caption: str, known: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Encode one caption; ``known`` is what this returned before training."""
        ...

    def encode_image(self, pixels: Tensor, frame: Frame) -> dict[str, Tensor]:
        """Encode ``(3, height, width)`` pixels in [-1, 1]: ``latents`` and more."""
        ...

    def release_encoders(self) -> None:
        """Free the text encoders and the VAE; they are loaded again when needed."""
        ...

    def timesteps_at(self, places: Tensor) -> Tensor:
        """Timesteps at ``places`` (batch,) in [0, 1), 0 without noise.

        Whole numbers for a schedule of single steps, any numbers for a flow.
        """
        ...

    def signal_to_noise(self, timesteps: Tensor) -> Tensor:
        """Power of signal over power of noise at ``timesteps``, ``(batch,)``."""
        ...

    def resolution_shift(self, height: int, width: int) -> float:
        """Shift of the noise levels at a size of the latents, 1 where there is none.

        Places u become s u / (1 + (s - 1) u).
        """
        ...

    def predict(
        self, denoiser: nn.Module, batch: Batch, noise: Tensor, timesteps: Tensor
    ) -> Prediction:
        """Noise the latents and let the denoiser predict.

        Args:
            denoiser: ``self.denoiser``, perhaps wrapped for mixed precision.
            batch: on the device.
            noise: like ``batch["latents"]``.
            timesteps: ``(batch,)``, from ``timesteps_at``.
        """
        ...

    def sample(self, request: SampleRequest) -> Image.Image:
        """Make one image with the denoiser as it is now."""
        ...

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Compute activations twice in place of keeping them."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        ...


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode for a while."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)
