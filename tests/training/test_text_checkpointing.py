"""Layers of text encoders computed twice: same gradients, fewer activations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
)

from helpers.kept import kept_bytes
from stiefel_lora.adapters import add_lora, pairs_of, select_text_layers
from stiefel_lora.families.text_training import checkpoint_layers
from stiefel_lora.methods import CATALOGUE

CLIP: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 32,
    "projection_dim": 12,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "max_position_embeddings": 9,
    "bos_token_id": 48,
    "eos_token_id": 49,
}
T5: dict[str, Any] = {
    "vocab_size": 50,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 4,
    "num_heads": 2,
    "feed_forward_proj": "gated-gelu",
    "dropout_rate": 0.5,
}
ENCODERS: dict[str, Any] = {
    "clip": lambda: CLIPTextModel(CLIPTextConfig(**CLIP)),
    "open_clip": lambda: CLIPTextModelWithProjection(CLIPTextConfig(**CLIP)),
    "t5": lambda: T5EncoderModel(T5Config(**T5)),
}

# Three captions, each with its end.
TOKENS = torch.cat([torch.arange(24).view(3, 8), torch.full((3, 1), 49)], dim=1)


def encoder_of(kind: str) -> Any:
    """With a LoRA that moved, in evaluation mode."""
    torch.manual_seed(0)
    encoder = ENCODERS[kind]().eval()
    targets = select_text_layers(encoder, family="sd15", part="text_encoder")
    method = CATALOGUE["stiefel_lora"]
    add_lora(encoder, rank=4, alpha=4, targets=targets, method=method, seed=0)
    for pair in pairs_of(encoder):
        nn.init.normal_(pair.down)
    return encoder


def gradients_of(encoder: Any) -> dict[str, Tensor]:
    found = encoder(TOKENS, output_hidden_states=True)
    (found[0].square().sum() + found.hidden_states[-2].square().sum()).backward()
    return {n: p.grad for n, p in encoder.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("kind", ENCODERS)
def test_gradients_keep_their_bits_and_nothing_is_drawn(kind: str) -> None:
    plain, again = encoder_of(kind), encoder_of(kind)
    checkpoint_layers(again)
    expected = gradients_of(plain)
    before = torch.get_rng_state()
    found = gradients_of(again)
    assert torch.equal(before, torch.get_rng_state())
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert all(gradient.any() for gradient in found.values())


@pytest.mark.parametrize("kind", ENCODERS)
def test_little_is_kept(kind: str) -> None:
    """The inputs of four layers, in place of all that is in them."""
    plain, again = encoder_of(kind), encoder_of(kind)
    checkpoint_layers(again)
    kept = [
        kept_bytes(encoder, lambda e=encoder: e(TOKENS)) for encoder in (plain, again)
    ]
    assert kept[1] < kept[0] / 5, kept
