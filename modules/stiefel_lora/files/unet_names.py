"""Layer names of U-Net blocks in diffusers and the original checkpoints."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["RESNET", "transformer_leaves"]

# SDXL has up to 10 transformer blocks in a row; a higher limit costs nothing and covers
# derived models.
_MAX_DEPTH = 32

RESNET = {
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
"""Layers of a ResNet block: original names by diffusers name."""

_TRANSFORMER_BLOCK = (
    *(f"attn{n}.{leaf}" for n in (1, 2) for leaf in ("to_q", "to_k", "to_v")),
    *(f"attn{n}.to_out.0" for n in (1, 2)),
    "ff.net.0.proj",
    "ff.net.2",
)


def transformer_leaves() -> Iterator[str]:
    """Return the layers of a spatial transformer, which have the same names in both."""
    yield from ("proj_in", "proj_out")
    for depth in range(_MAX_DEPTH):
        yield from (f"transformer_blocks.{depth}.{leaf}" for leaf in _TRANSFORMER_BLOCK)
