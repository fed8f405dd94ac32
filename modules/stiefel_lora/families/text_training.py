"""Training of text encoders, which encode captions in every step."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from ..checkpoints.source import ModelSource
from ..checkpoints.tokens import Caption, token_counts, tokens_of
from .protocol import Batch

__all__ = ["TrainableText", "checkpoint_layers"]


class TrainableText:
    """Base class for model families with trainable text encoders.

    Subclasses define ``_encode_text``, which returns the outputs of a text encoder.
    Encoders are loaded on first use.

    Args:
        source: source of the components.
        weight_dtype: dtype of the encoders and their outputs.
        device: device of the encoders.
    """

    text_models: ClassVar[Mapping[str, Any]]
    """Classes of the text encoders, by component name."""

    tokenizers: ClassVar[Mapping[str, Any]]
    """Classes of the tokenizers by component name, in the order of the encoders."""

    def __init__(
        self, source: ModelSource, weight_dtype: torch.dtype, device: torch.device
    ) -> None:
        self._source = source
        self._dtype = weight_dtype
        self.device = device
        self.trained_text: list[str] = []
        self.stopped_text: set[str] = set()
        self._encoders: dict[str, Any] = {}
        self._tokenizers: dict[str, Any] = {}

    def _encode_text(self, part: str, captions: Sequence[Caption]) -> Batch:
        """Return the outputs of a text encoder for captions."""
        raise NotImplementedError

    def _joined(self, encoded: Mapping[str, Batch], known: Batch) -> Batch:
        """Return the outputs of all encoders, with ``known`` for frozen encoders."""
        merged = {n: t for batch in encoded.values() for n, t in batch.items()}
        return {**known, **merged}

    def encode_captions(
        self, captions: Sequence[Caption], known: Batch | None = None
    ) -> Batch:
        """Encode captions on the device, with gradients if enabled.

        Args:
            captions: captions as text, or weighted prompts.
            known: stacked encodings of the same captions from before training. If
                given, only the trained encoders are used.
        """
        # Outputs of frozen encoders do not change during training, so known ones are
        # reused.
        parts = self.text_models if known is None else self.trained_text
        encoded = {part: self._encoded(part, captions) for part in parts}
        return self._joined(encoded, known or {})

    def _encoded(self, part: str, captions: Sequence[Caption]) -> Batch:
        learns = torch.is_grad_enabled() and part not in self.stopped_text
        with torch.set_grad_enabled(learns):
            found = self._encode_text(part, captions)
            return {name: value.to(self._dtype) for name, value in found.items()}

    @torch.no_grad()
    def encode_caption(
        self, caption: Caption, known: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Encode a caption. The result is on the CPU and has no batch dimension.

        Captions that exceed the token limit of an encoder are truncated, and a message
        is logged.

        Args:
            caption: caption as text, or a weighted prompt.
            known: encoding of the caption from before training. If given, only the
                trained encoders are used.
        """
        batch = None
        if known is not None:
            batch = {name: value[None].to(self.device) for name, value in known.items()}
        found = self.encode_captions([caption], batch)
        return {name: value[0].cpu() for name, value in found.items()}

    def text_skeleton(self, part: str) -> nn.Module:
        """Return a text encoder on the meta device."""
        return self._source.skeleton(part, self.text_models[part])

    def text_encoder(self, part: str) -> nn.Module:
        """Return a text encoder for training, on the device with frozen weights."""
        if part not in self.trained_text:
            self.trained_text.append(part)
        return self._encoder(part)

    def _encoder(self, part: str) -> Any:
        if part not in self._encoders:
            found = self._source.load(part, self.text_models[part], self._dtype)
            self._encoders[part] = found.requires_grad_(False).eval().to(self.device)
        return self._encoders[part]

    @property
    def caption_limit(self) -> int:
        """Number of tokens of a caption that are used, without first and last ones."""
        raise NotImplementedError

    def caption_tokens(self, captions: Sequence[str]) -> list[int]:
        """Return the numbers of tokens of captions, of which the limit is used."""
        return token_counts(self._tokenizer(self._limiting_part), captions)

    @property
    def _limiting_part(self) -> str:
        """Text encoder whose limit is that of captions."""
        return "text_encoder"

    def _tokens(
        self, part: str, captions: Sequence[Caption], length: int | None = None
    ) -> Tensor:
        """Return the tokens of captions for an encoder, on the device."""
        return tokens_of(self._tokenizer(part), captions, length).to(self.device)

    def _tokenizer(self, part: str) -> Any:
        if part not in self._tokenizers:
            name = dict(zip(self.text_models, self.tokenizers, strict=True))[part]
            self._tokenizers[part] = self._source.load(name, self.tokenizers[name])
        return self._tokenizers[part]

    def _release_text(self) -> None:
        """Free the encoders that are not trained."""
        kept = self.trained_text
        self._encoders = {part: self._encoders[part] for part in kept}


def checkpoint_layers(encoder: nn.Module) -> None:
    """Enable gradient checkpointing of a text encoder.

    transformers only uses it for layers in training mode. This mode is set for the
    layers themselves, but not for their submodules, so that dropout remains disabled.
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
