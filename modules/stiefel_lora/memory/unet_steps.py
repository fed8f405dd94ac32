"""Operations of the U-Net of SDXL and SD 1.5 (UNet2DConditionModel of diffusers)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .steps import Architecture, Kept, Layer, Norm, Step, Unit

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["UNET", "unet_steps"]

Config = Mapping[str, Any]
CLIP_TOKENS = 77


def unet_steps(
    config: Config, side: int, text_tokens: int = CLIP_TOKENS
) -> list[Step | Unit]:
    """List the operations of a U-Net in the order of computation.

    Args:
        config: content of ``config.json`` of the U-Net.
        side: height and width of the latents.
        text_tokens: number of tokens of an encoded caption.
    """
    return list(_Walk(config, side, text_tokens).steps())


class _Walk:
    def __init__(self, config: Config, side: int, text_tokens: int) -> None:
        self.config = config
        self.widths: list[int] = list(config["block_out_channels"])
        self.depth: int = config.get("layers_per_block", 2)
        self.text_width: int = config["cross_attention_dim"]
        self.text_tokens = text_tokens
        self.linear = bool(config.get("use_linear_projection"))
        blocks = config.get("transformer_layers_per_block", 1)
        levels = len(self.widths)
        self.blocks = [blocks] * levels if isinstance(blocks, int) else list(blocks)
        self.places = [max(1, side >> level) ** 2 for level in range(levels)]

    def steps(self) -> list[Step | Unit]:
        first, levels = self.widths[0], len(self.widths)
        found = self._embeddings()
        inputs = self.config.get("in_channels", 4)
        found.append(_conv("conv_in", inputs, first, self.places[0]))
        skips, width = [first], first
        for level, kind in enumerate(self.config["down_block_types"]):
            prefix = f"down_blocks.{level}"
            found += self._level(
                prefix, level, kind, [width] + [self.widths[level]] * (self.depth - 1)
            )
            width = self.widths[level]
            skips += [width] * self.depth
            if level < levels - 1:
                place = self.places[level + 1]
                name = f"{prefix}.downsamplers.0.conv"
                found.append(_conv(name, width, width, place, stride=2))
                skips.append(width)
        found += self._middle(width)
        for step, kind in enumerate(self.config["up_block_types"]):
            level = levels - 1 - step
            prefix = f"up_blocks.{step}"
            entering = []
            for _ in range(self.depth + 1):
                entering.append(width + skips.pop())
                width = self.widths[level]
            found += self._level(prefix, level, kind, entering)
            if level:
                name = f"{prefix}.upsamplers.0.conv"
                found.append(_conv(name, width, width, self.places[level - 1]))
        found.append(Norm(first, self.places[0], 2 * first))
        found.append(Kept(first * self.places[0], exact=True))
        outputs = self.config.get("out_channels", 4)
        found.append(_conv("conv_out", first, outputs, self.places[0]))
        return found

    def _embeddings(self) -> list[Step | Unit]:
        first = self.widths[0]
        pairs = [("time_embedding", first)]
        if self.config.get("addition_embed_type") == "text_time":
            width = self.config["projection_class_embeddings_input_dim"]
            pairs.append(("add_embedding", width))
        return [
            Layer(f"{name}.linear_{number}", 4 * first, inputs, 1)
            for name, width in pairs
            for number, inputs in ((1, width), (2, 4 * first))
        ]

    def _level(
        self, prefix: str, level: int, kind: str, entering: list[int]
    ) -> list[Step | Unit]:
        found: list[Step | Unit] = []
        for index, width in enumerate(entering):
            found.append(self._resnet(f"{prefix}.resnets.{index}", level, width))
            if "CrossAttn" in kind:
                name = f"{prefix}.attentions.{index}"
                found += self._attention(name, level, self.blocks[level])
        return found

    def _middle(self, width: int) -> list[Step | Unit]:
        level = len(self.widths) - 1
        return [
            self._resnet("mid_block.resnets.0", level, width),
            *self._attention("mid_block.attentions.0", level, self.blocks[-1]),
            self._resnet("mid_block.resnets.1", level, width),
        ]

    def _resnet(self, name: str, level: int, entering: int) -> Unit:
        width, places = self.widths[level], self.places[level]
        steps: list[Step] = [
            Norm(entering, places, 2 * entering),
            Kept(entering * places, exact=True),
            _conv(f"{name}.conv1", entering, width, places),
            Layer(f"{name}.time_emb_proj", width, 4 * self.widths[0], 1),
            Norm(width, places, 2 * width),
            Kept(width * places, exact=True),
            _conv(f"{name}.conv2", width, width, places),
        ]
        if entering != width:
            steps.append(_conv(f"{name}.conv_shortcut", entering, width, places, 1))
        return Unit(entering * places, tuple(steps), repeated=False)

    def _attention(self, name: str, level: int, blocks: int) -> list[Step | Unit]:
        width, places = self.widths[level], self.places[level]
        kernel = 0 if self.linear else 1
        return [
            Norm(width, places, 2 * width),
            Layer(f"{name}.proj_in", width, width, places, kernel),
            *(
                self._block(f"{name}.transformer_blocks.{index}", width, places)
                for index in range(blocks)
            ),
            Layer(f"{name}.proj_out", width, width, places, kernel),
        ]

    def _block(self, name: str, width: int, places: int) -> Unit:
        tokens, text = self.text_tokens, self.text_width

        def norm() -> Norm:
            return Norm(width, places, 2 * width)

        def layer(part: str, inputs: int, at: int = places, *, shares: bool) -> Layer:
            full = f"{name}.{part}"
            return Layer(full, width, inputs, at, bias=False, shares=shares)

        steps: tuple[Step, ...] = (
            norm(),
            layer("attn1.to_q", width, shares=False),
            layer("attn1.to_k", width, shares=True),
            layer("attn1.to_v", width, shares=True),
            # Query, key, value and result of the attention.
            Kept(4 * width * places),
            Layer(f"{name}.attn1.to_out.0", width, width, places),
            norm(),
            layer("attn2.to_q", width, shares=False),
            layer("attn2.to_k", text, tokens, shares=True),
            layer("attn2.to_v", text, tokens, shares=True),
            Kept(2 * width * (places + tokens)),
            Layer(f"{name}.attn2.to_out.0", width, width, places),
            norm(),
            Layer(f"{name}.ff.net.0.proj", 8 * width, width, places),
            # GEGLU: both halves and the activated one.
            Kept(12 * width * places),
            Layer(f"{name}.ff.net.2", width, 4 * width, places),
        )
        return Unit(width * places, steps)


def _conv(
    name: str, inputs: int, outputs: int, places: int, kernel: int = 3, stride: int = 1
) -> Layer:
    return Layer(name, outputs, inputs * kernel * kernel, places, kernel, stride=stride)


def _walk(config: TrainConfig, unet: Config, side: int) -> list[Step | Unit]:
    return unet_steps(unet, side, _tokens(config))


def _caption_numbers(config: TrainConfig, unet: Config) -> int:
    width: int = unet["cross_attention_dim"]
    return _tokens(config) * width


def _tokens(config: TrainConfig) -> int:
    return config.max_token_length + 2


UNET = Architecture(_walk, _caption_numbers)
