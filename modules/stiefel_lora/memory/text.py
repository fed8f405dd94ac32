"""Operations of the CLIP text encoder and the T5 encoder of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .steps import Kept, Layer, Norm, Step, Table, Unit

__all__ = ["clip_steps", "is_t5", "t5_steps"]

Config = Mapping[str, Any]
# Defaults that transformers leaves out of a config.json.
CLIP = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "max_position_embeddings": 77,
    "projection_dim": 512,
    "hidden_act": "quick_gelu",
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
# x sigmoid(1.702 x) stores both factors, torch's own gelu only its input.
ACTIVATED = {"quick_gelu": 2, "gelu": 1}
# The explicit tanh approximation of gelu stores its input, half of it, the tanh and
# 1 + tanh; the gate stores both factors.
GATED = 6


def is_t5(config: Config) -> bool:
    """Return whether a ``config.json`` belongs to a T5 encoder."""
    return "d_model" in config or config.get("model_type") == "t5"


def clip_steps(
    config: Config, *, projection: bool, chunks: int = 1
) -> list[Step | Unit]:
    """List the operations of a CLIP text encoder.

    Args:
        config: content of its ``config.json``.
        projection: whether the text encoder has a text projection.
        chunks: number of chunks of a caption.
    """
    config = {**CLIP, **config}
    width, places = config["hidden_size"], config["max_position_embeddings"]
    words = config["vocab_size"] + places
    places *= chunks
    config |= {"max_position_embeddings": places}
    head = Layer("text_projection", config["projection_dim"], width, 1, bias=False)
    return [
        Table(words * width),
        *(_clip_layer(config, i) for i in range(config["num_hidden_layers"])),
        Norm(width, places, 2 * width),
        *([head] if projection else []),
    ]


def t5_steps(config: Config, tokens: int) -> list[Step | Unit]:
    """List the operations of a T5 encoder with gated feed-forward layers.

    Args:
        config: content of its ``config.json``.
        tokens: number of tokens of a caption.
    """
    config = {**T5, **config}
    width = config["d_model"]
    positions = config["relative_attention_num_buckets"] * config["num_heads"]
    return [
        Table(config["vocab_size"] * width),
        Table(positions),
        *(_t5_block(config, i, tokens) for i in range(config["num_layers"])),
        # Position bias of one caption, shared by all blocks.
        Kept(config["num_heads"] * tokens**2),
        Norm(width, tokens, width),
    ]


def _clip_layer(config: Config, index: int) -> Unit:
    width, inner = config["hidden_size"], config["intermediate_size"]
    places = config["max_position_embeddings"]
    prefix = f"encoder.layers.{index}"
    attention = [
        Layer(f"{prefix}.self_attn.{name}", width, width, places, shares=number > 0)
        for number, name in enumerate(("q_proj", "k_proj", "v_proj"))
    ]
    steps: tuple[Step, ...] = (
        Norm(width, places, 2 * width),
        *attention,
        # Query, key, value and result of the attention.
        Kept(4 * width * places),
        Layer(f"{prefix}.self_attn.out_proj", width, width, places),
        Norm(width, places, 2 * width),
        Layer(f"{prefix}.mlp.fc1", inner, width, places),
        Kept(ACTIVATED.get(config["hidden_act"], 2) * inner * places),
        Layer(f"{prefix}.mlp.fc2", width, inner, places),
    )
    return Unit(width * places, steps)


def _t5_block(config: Config, index: int, places: int) -> Unit:
    width, inner = config["d_model"], config["num_heads"] * config["d_kv"]
    feed, prefix = config["d_ff"], f"encoder.block.{index}.layer"

    def layer(name: str, outputs: int, inputs: int, *, shares: bool = False) -> Layer:
        full = f"{prefix}.{name}"
        return Layer(full, outputs, inputs, places, bias=False, shares=shares)

    attention = "0.SelfAttention"
    steps: tuple[Step, ...] = (
        Norm(width, places, width),
        layer(f"{attention}.q", inner, width),
        layer(f"{attention}.k", inner, width, shares=True),
        layer(f"{attention}.v", inner, width, shares=True),
        Kept(4 * inner * places),
        layer(f"{attention}.o", width, inner),
        Norm(width, places, width),
        layer("1.DenseReluDense.wi_0", feed, width),
        layer("1.DenseReluDense.wi_1", feed, width, shares=True),
        Kept(GATED * feed * places),
        layer("1.DenseReluDense.wo", width, feed),
    )
    return Unit(width * places, steps)
