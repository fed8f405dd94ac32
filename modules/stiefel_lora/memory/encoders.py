"""Text encoders and VAE: their weights, and the VAE's largest moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = [
    "clip_parameters",
    "decoding_bytes",
    "encoding_bytes",
    "t5_parameters",
    "vae_parameters",
]

Config = Mapping[str, Any]
FLOAT = 4
# What transformers leaves out of a config.json because it is its default.
CLIP = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "max_position_embeddings": 77,
    "projection_dim": 512,
}
T5 = {
    "vocab_size": 32128,
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 2048,
    "num_layers": 6,
    "num_heads": 8,
    "relative_attention_num_buckets": 32,
}
# The input of a block's layer, its normalised and its activated form.
HELD = 3


def clip_parameters(config: Config, *, projection: bool) -> int:
    """Numbers in a CLIP text encoder, with its text projection or without."""
    config = {**CLIP, **config}
    width, inner = config["hidden_size"], config["intermediate_size"]
    attention = 4 * (width * width + width)
    ff = 2 * width * inner + inner + width
    layers = config["num_hidden_layers"] * (attention + ff + 4 * width)
    embeddings = (config["vocab_size"] + config["max_position_embeddings"]) * width
    head = config["projection_dim"] * width if projection else 0
    return embeddings + layers + 2 * width + head


def t5_parameters(config: Config) -> int:
    """Numbers in T5's encoder (gated feed-forward)."""
    config = {**T5, **config}
    width, inner = config["d_model"], config["num_heads"] * config["d_kv"]
    layer = 4 * width * inner + 3 * width * config["d_ff"] + 2 * width
    positions = config["relative_attention_num_buckets"] * config["num_heads"]
    embeddings = config["vocab_size"] * width
    return embeddings + config["num_layers"] * layer + positions + width


def vae_parameters(config: Config) -> int:
    """Numbers in an AutoencoderKL."""
    return sum(_vae_parts(config))


def encoding_bytes(config: Config, resolution: int) -> int:
    """Largest moment of the VAE's encoder on one picture, in float32."""
    return HELD * config["block_out_channels"][0] * resolution**2 * FLOAT


def decoding_bytes(config: Config, resolution: int) -> int:
    """Largest moment of its decoder: the last block begins with more channels."""
    widths = config["block_out_channels"]
    return HELD * widths[min(1, len(widths) - 1)] * resolution**2 * FLOAT


def _vae_parts(config: Config) -> Iterator[int]:
    widths, depth = config["block_out_channels"], config["layers_per_block"]
    latent, colours, top = (
        config["latent_channels"],
        3,
        config["block_out_channels"][-1],
    )
    yield from _conv(colours, widths[0])
    before = widths[0]
    for index, width in enumerate(widths):
        yield from _resnets([before] + [width] * (depth - 1), width)
        before = width
        if index < len(widths) - 1:
            yield from _conv(width, width)
    yield from 2 * [*_middle(config, top)]
    yield from (2 * top, *_conv(top, 2 * latent))
    if config.get("use_quant_conv", True):
        yield from _conv(2 * latent, 2 * latent, 1)
    if config.get("use_post_quant_conv", True):
        yield from _conv(latent, latent, 1)
    yield from _conv(latent, top)
    before = top
    for index, width in enumerate(reversed(widths)):
        yield from _resnets([before] + [width] * depth, width)
        before = width
        if index < len(widths) - 1:
            yield from _conv(width, width)
    yield from (2 * widths[0], *_conv(widths[0], colours))


def _middle(config: Config, width: int) -> Iterator[int]:
    yield from _resnets([width, width], width)
    if config.get("mid_block_add_attention", True):
        yield 2 * width + 4 * (width * width + width)


def _resnets(entering: list[int], width: int) -> Iterator[int]:
    for inputs in entering:
        yield from (2 * inputs, *_conv(inputs, width), 2 * width)
        yield from _conv(width, width)
        if inputs != width:
            yield from _conv(inputs, width, 1)


def _conv(inputs: int, outputs: int, kernel: int = 3) -> Iterator[int]:
    yield inputs * outputs * kernel * kernel + outputs
