"""Text encoders that are trained: they stay, and captions go through them each step."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from .base import Batch
from .source import ModelSource

__all__ = ["TrainableText", "checkpoint_layers"]


class TrainableText:
    """What families do alike with their text encoders.

    A family sets ``_text`` to None, makes it in ``_text_pipeline``, and says in
    ``encode_captions`` what its denoiser is given.
    """

    text_models: ClassVar[Mapping[str, Any]]
    """Text encoders by part, with their classes."""

    unread_layers: ClassVar[Mapping[str, int]] = {}
    """How many of an encoder's last layers the denoiser is never told of."""

    _source: ModelSource
    _text: Any
    _keeps_text = False

    def _text_pipeline(self) -> Any:
        raise NotImplementedError

    def encode_captions(self, captions: Sequence[str]) -> Batch:
        """Encode captions on the device, with gradients where they are asked for."""
        raise NotImplementedError

    @torch.no_grad()
    def encode_caption(self, caption: str) -> dict[str, Tensor]:
        """One caption by itself, on the CPU and without the batch dimension.

        What is longer than the tokens of an encoder is cut off and said in the log.
        """
        found = self.encode_captions([caption])
        return {name: value[0].cpu() for name, value in found.items()}

    def text_skeleton(self, part: str) -> nn.Module:
        """A text encoder on the meta device."""
        return self._source.skeleton(part, self.text_models[part])

    def text_encoder(self, part: str) -> nn.Module:
        """A text encoder on the device, frozen, that is not released any more."""
        self._keeps_text = True
        return getattr(self._text_pipeline(), part)

    def _release_text(self) -> None:
        if not self._keeps_text:
            self._text = None


def checkpoint_layers(encoder: nn.Module) -> None:
    """Let the layers of a text encoder compute their activations twice.

    transformers asks whether a layer trains. Only the layer itself says so, not what
    it is made of: dropout stays off, and there is no random state to keep.
    """
    again = functools.partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
    layers: list[Any] = [
        layer
        for layer in encoder.modules()
        if isinstance(layer, GradientCheckpointingLayer)
    ]
    for layer in layers:
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = again
        layer.training = True
