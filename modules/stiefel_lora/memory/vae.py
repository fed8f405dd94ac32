"""Memory of the VAE: its weights, and peaks of encoding and decoding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["decoding_bytes", "encoding_bytes", "vae_parameters"]

Config = Mapping[str, Any]
FLOAT = 4
# A layer's input, its normalized and its activated form.
HELD = 3


def vae_parameters(config: Config) -> int:
    """Return the number of parameters of an AutoencoderKL."""
    return sum(_vae_parts(config))


def encoding_bytes(config: Config, resolution: int) -> int:
    """Return the peak memory in bytes of encoding an image in float32."""
    return HELD * config["block_out_channels"][0] * resolution**2 * FLOAT


def decoding_bytes(config: Config, resolution: int) -> int:
    """Return the peak memory in bytes of decoding an image."""
    widths = config["block_out_channels"]
    return HELD * widths[min(1, len(widths) - 1)] * resolution**2 * FLOAT


def _vae_parts(config: Config) -> Iterator[int]:
    widths, depth = config["block_out_channels"], config["layers_per_block"]
    latent, colors, top = (
        config["latent_channels"],
        3,
        config["block_out_channels"][-1],
    )
    yield from _conv(colors, widths[0])
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
    yield from (2 * widths[0], *_conv(widths[0], colors))


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
