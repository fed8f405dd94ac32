"""Operations of the transformer of FLUX.1 (FluxTransformer2DModel of diffusers)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..families.flux_record import t5_tokens
from .steps import Architecture, Kept, Layer, Norm, Step, Unit

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["FLUX", "flux_steps"]

Config = Mapping[str, Any]


def flux_steps(
    config: Config, side: int, text_tokens: int = 512, *, conditioned: bool = False
) -> list[Step | Unit]:
    """List the operations of a FLUX transformer in the order of computation.

    Args:
        config: content of ``config.json`` of the transformer.
        side: height and width of the latents. A token consists of 2 x 2 latents.
        text_tokens: number of tokens of an encoded caption.
        conditioned: whether CLIP is trained. Scales, shifts and gates depend on its
            output, so additional tensors are stored for the backward pass.
    """
    return list(_Walk(config, max(1, side // 2) ** 2, text_tokens, conditioned).steps())


class _Walk:
    def __init__(
        self, config: Config, tokens: int, text_tokens: int, conditioned: bool
    ) -> None:
        self.config = config
        self.heads: int = config["num_attention_heads"]
        self.head: int = config["attention_head_dim"]
        self.width = self.heads * self.head
        self.tokens, self.text = tokens, text_tokens
        self.conditioned = conditioned

    def steps(self) -> list[Step | Unit]:
        config, width = self.config, self.width
        return [
            Layer("x_embedder", width, config["in_channels"], self.tokens),
            *self._embeddings(),
            Layer("context_embedder", width, config["joint_attention_dim"], self.text),
            *(self._double(i) for i in range(config["num_layers"])),
            *(self._single(i) for i in range(config["num_single_layers"])),
            Layer("norm_out.linear", 2 * width, width, 1),
            *self._scaled_norm(self.tokens),
            Layer("proj_out", config["in_channels"], width, self.tokens),
        ]

    def _embeddings(self) -> list[Step]:
        names = {"timestep_embedder": 256}
        if self.config.get("guidance_embeds"):
            names["guidance_embedder"] = 256
        names["text_embedder"] = self.config["pooled_projection_dim"]
        return [
            Layer(f"time_text_embed.{name}.linear_{number}", self.width, inputs, 1)
            for name, entering in names.items()
            for number, inputs in ((1, entering), (2, self.width))
        ]

    def _scaled_norm(self, places: int) -> list[Step]:
        scaled = [Kept(self.width * places, exact=True)] if self.conditioned else []
        return [Norm(self.width, places, 0), *scaled]

    def _gate(self, places: int) -> list[Step]:
        return [Kept(self.width * places)] if self.conditioned else []

    def _attention(self, names: list[str], prefix: str, places: int) -> list[Step]:
        """List the operations of the attention of one stream (image or text)."""
        width = self.width
        layers = [
            Layer(f"{prefix}.{name}", width, width, places, shares=index > 0)
            for index, name in enumerate(names)
        ]
        norm = Norm(width, places, self.head, exact=False)
        return [*layers, norm, norm, Kept(4 * width * places)]

    def _double(self, index: int) -> Unit:
        prefix, width = f"transformer_blocks.{index}", self.width
        own, added = (
            ["to_q", "to_k", "to_v"],
            ["add_q_proj", "add_k_proj", "add_v_proj"],
        )
        streams = (
            ("norm1", own, "to_out.0", "ff", self.tokens),
            ("norm1_context", added, "to_add_out", "ff_context", self.text),
        )
        steps: list[Step] = []
        for norm, names, out, ff, places in streams:
            steps += [
                Layer(f"{prefix}.{norm}.linear", 6 * width, width, 1),
                *self._scaled_norm(places),
                *self._attention(names, f"{prefix}.attn", places),
                Layer(f"{prefix}.attn.{out}", width, width, places),
                *self._gate(places),
                *self._scaled_norm(places),
                Layer(f"{prefix}.{ff}.net.0.proj", 4 * width, width, places),
                Kept(4 * width * places),
                Layer(f"{prefix}.{ff}.net.2", width, 4 * width, places),
                *self._gate(places),
            ]
        return Unit(width * (self.tokens + self.text), tuple(steps))

    def _single(self, index: int) -> Unit:
        prefix, width = f"single_transformer_blocks.{index}", self.width
        places = self.tokens + self.text
        steps: tuple[Step, ...] = (
            Layer(f"{prefix}.norm.linear", 3 * width, width, 1),
            *self._scaled_norm(places),
            Layer(f"{prefix}.proj_mlp", 4 * width, width, places),
            Kept(4 * width * places),
            *self._attention(["to_q", "to_k", "to_v"], f"{prefix}.attn", places),
            Layer(f"{prefix}.proj_out", width, 5 * width, places),
            *self._gate(places),
        )
        return Unit(width * places, steps)


def _walk(config: TrainConfig, transformer: Config, side: int) -> list[Step | Unit]:
    tokens = t5_tokens(transformer, config.text_encoder_2_sequence_length)
    conditioned = "text_encoder" in config.text_encoder_rates
    return flux_steps(transformer, side, tokens, conditioned=conditioned)


def _caption_numbers(config: TrainConfig, transformer: Config) -> int:
    tokens = t5_tokens(transformer, config.text_encoder_2_sequence_length)
    return tokens * transformer["joint_attention_dim"]


FLUX = Architecture(_walk, _caption_numbers)
