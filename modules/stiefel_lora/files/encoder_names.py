"""Layer names of the text encoders in LoRA files."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["clip_layers", "t5_layers"]

# CLIP ViT-L has 12 layers, bigG 32, T5-XXL 24; a higher limit costs nothing.
_MAX_LAYERS = 48

_CLIP_LAYER = (
    *(f"self_attn.{leaf}_proj" for leaf in ("q", "k", "v", "out")),
    *("mlp.fc1", "mlp.fc2"),
)
_T5_LAYER = (
    *(f"layer.0.SelfAttention.{leaf}" for leaf in ("q", "k", "v", "o")),
    *(f"layer.1.DenseReluDense.{leaf}" for leaf in ("wi", "wi_0", "wi_1", "wo")),
)


def clip_layers() -> Iterator[str]:
    """Yield the linear layers of ``CLIPTextModel``, with the prefix ``text_model``."""
    yield "text_projection"
    for layer in range(_MAX_LAYERS):
        yield from (f"text_model.encoder.layers.{layer}.{leaf}" for leaf in _CLIP_LAYER)


def t5_layers() -> Iterator[str]:
    """Yield the names of the linear layers of ``T5EncoderModel``."""
    for layer in range(_MAX_LAYERS):
        yield from (f"encoder.block.{layer}.{leaf}" for leaf in _T5_LAYER)
