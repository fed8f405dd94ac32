"""Text encoders that are trained, step by step, against the real classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from peft import LoraConfig
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
)

from helpers.kept import kept_bytes
from helpers.tiny_sdxl import tiny_unet
from stiefel_lora.adapters import select_text_layers
from stiefel_lora.config import parse_config
from stiefel_lora.families.text_training import checkpoint_layers
from stiefel_lora.memory.activations import Kind, activation_bytes
from stiefel_lora.memory.flux_steps import flux_steps
from stiefel_lora.memory.settings import usual_settings
from stiefel_lora.memory.steps import Step, Unit, layers_of
from stiefel_lora.memory.text import clip_steps, t5_steps
from stiefel_lora.memory.trained_text import conditioned_layers, trained_text
from stiefel_lora.memory.unet_steps import unet_steps
from stiefel_lora.memory.weight_bytes import parameters_of

BATCH, TOKENS = 2, 20
CLIP: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "max_position_embeddings": TOKENS,
    "projection_dim": 12,
    "bos_token_id": 48,
    "eos_token_id": 49,
}
OPEN_CLIP = {**CLIP, "hidden_act": "gelu"}
T5: dict[str, Any] = {
    "vocab_size": 50,
    "d_model": 32,
    "d_kv": 12,
    "d_ff": 80,
    "num_layers": 4,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "feed_forward_proj": "gated-gelu",
}
ENCODERS: dict[str, Callable[[], Any]] = {
    "clip": lambda: CLIPTextModel(CLIPTextConfig(**CLIP)),
    "open_clip": lambda: CLIPTextModelWithProjection(CLIPTextConfig(**OPEN_CLIP)),
    "t5": lambda: T5EncoderModel(T5Config(**T5)),
}
STEPS: dict[str, list[Step | Unit]] = {
    "clip": clip_steps(CLIP, projection=False),
    "open_clip": clip_steps(OPEN_CLIP, projection=True),
    "t5": t5_steps(T5, TOKENS),
}


@pytest.mark.parametrize("kind", ENCODERS)
def test_layers_and_weights_are_exactly_those_of_the_model(kind: str) -> None:
    with torch.device("meta"):
        encoder = ENCODERS[kind]()
    found = layers_of(STEPS[kind])
    # Older versions of transformers have a text_model around CLIP.
    real = {
        name.removeprefix("text_model."): tuple(module.weight.shape)
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear)
    }
    assert {n: (found[n].outputs, found[n].inputs) for n in found} == real
    assert parameters_of(STEPS[kind]) == sum(p.numel() for p in encoder.parameters())


@pytest.mark.parametrize("kind", ENCODERS)
def test_positions_are_those_of_a_real_pass(kind: str) -> None:
    encoder = ENCODERS[kind]().eval()
    seen: dict[str, int] = {}

    def watch(name: str) -> Any:
        def hook(module: Any, _: Any, output: Tensor) -> None:
            seen[name] = output.numel() // BATCH // module.weight.shape[0]

        return hook

    for name, module in encoder.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(watch(name.removeprefix("text_model.")))
    with torch.no_grad():
        asked(encoder)
    assert {n: layer.places for n, layer in layers_of(STEPS[kind]).items()} == seen


@pytest.mark.parametrize(
    ("family", "weights"),
    [
        ("sdxl", [123_060_480, 694_659_840]),
        ("sd15", [123_060_480]),
        ("flux", [123_060_480, 4_762_310_656]),
    ],
)
def test_the_usual_encoders_have_their_real_size(
    family: str, weights: list[int]
) -> None:
    """Numbers of the published checkpoints."""
    both = {"train_text_encoder": True, "train_text_encoder_2": len(weights) == 2}
    config = parse_config({"model_type": family, **both})
    found = trained_text(config, usual_settings(family))
    assert [parameters_of(text.steps) for text in found] == weights


def with_lora(model: Any, targets: Sequence[str]) -> Any:
    model.requires_grad_(False)
    model.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=list(targets)))
    return model


def asked(encoder: Any) -> Any:
    tokens = torch.arange(BATCH * TOKENS).view(BATCH, TOKENS) % 40
    tokens[:, -1] = 49
    return encoder(tokens)


def largest_unit(steps: Sequence[Step | Unit], kind: Kind) -> int:
    """Bytes that a single block keeps."""
    plain = dataclasses.replace(kind, checkpointing=False)
    units = [step for step in steps if isinstance(step, Unit)]
    return activation_bytes(units[:2], plain) - activation_bytes(units[:1], plain)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", ENCODERS)
def test_activations_are_near_those_that_autograd_keeps(
    name: str, checkpointing: bool
) -> None:
    """In float32, as a CPU computes; within a tenth.

    With checkpointing, the largest layer, which is there for a moment only, is left out
    of both; T5's bias is kept once and counted for each of two captions.
    """
    encoder, steps = ENCODERS[name]().eval(), STEPS[name]
    layers = select_text_layers(encoder, family="sd15", part="text_encoder")
    with_lora(encoder, layers)
    targets = set(layers_of(steps)) - {"text_projection"}
    kind = Kind(dict.fromkeys(targets, 4), BATCH, 4, checkpointing)
    estimate = activation_bytes(steps, kind)
    if checkpointing:
        checkpoint_layers(encoder)
        estimate -= largest_unit(steps, kind)
    measured = kept_bytes(encoder, lambda: asked(encoder))
    print(f"{name}: estimate {estimate:,}, autograd keeps {measured:,}")
    bias = 4 * T5["num_heads"] * TOKENS**2 if name == "t5" else 0
    assert 0.9 * measured <= estimate <= 1.1 * measured + bias


def test_what_nothing_reads_is_not_kept() -> None:
    """SDXL reads the states before the last layer: three of four layers count."""
    encoder = ENCODERS["clip"]()
    layers = select_text_layers(encoder, family="sdxl", part="text_encoder")
    config = parse_config({"train_text_encoder": True, "lora_rank": 4})
    (text,) = trained_text(config, {"text_encoder": CLIP})
    assert {target.name for target in text.targets} == {
        name.removeprefix("text_model.") for name in layers
    }
    shorter = CLIPTextModel(CLIPTextConfig(**{**CLIP, "num_hidden_layers": 3})).eval()
    with_lora(shorter, layers)
    measured = kept_bytes(shorter, lambda: asked(shorter))
    estimate = text.activation_bytes(Kind({}, BATCH, 4, checkpointing=False))
    assert 0.9 * measured <= estimate <= 1.1 * measured


SIDE = 16
DENOISERS: dict[str, tuple[str, Callable[[], Any]]] = {
    "sdxl": ("text_encoder_2", tiny_unet),
    "sd15": ("text_encoder", tiny_unet),
    "flux": (
        "text_encoder",
        lambda: FluxTransformer2DModel(
            in_channels=16,
            num_layers=2,
            num_single_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=24,
            pooled_projection_dim=20,
            axes_dims_rope=(4, 6, 6),
        ),
    ),
}


def conditioned(name: str, model: Any) -> Tensor:
    """A pass with gradients to the output of the trained encoder."""
    config, time = model.config, torch.ones(BATCH)
    if name == "flux":
        side = SIDE // 2
        return model(
            hidden_states=torch.randn(BATCH, side * side, config.in_channels),
            encoder_hidden_states=torch.randn(
                BATCH, TOKENS, config.joint_attention_dim
            ),
            pooled_projections=torch.randn(BATCH, 20, requires_grad=True),
            timestep=time,
            img_ids=torch.zeros(side * side, 3),
            txt_ids=torch.zeros(TOKENS, 3),
        ).sample
    width = config.projection_class_embeddings_input_dim
    pooled = torch.randn(BATCH, width - 6 * config.addition_time_embed_dim)
    added = {"text_embeds": pooled, "time_ids": torch.zeros(BATCH, 6)}
    pooled.requires_grad_(name == "sdxl")
    text = torch.randn(BATCH, TOKENS, config.cross_attention_dim, requires_grad=True)
    latents = torch.randn(BATCH, 4, SIDE, SIDE)
    found = model(latents, time, encoder_hidden_states=text, added_cond_kwargs=added)
    return found.sample


@pytest.mark.parametrize("name", DENOISERS)
def test_a_denoiser_keeps_more_for_the_gradients_of_its_text(name: str) -> None:
    """Within a fifth of what autograd keeps, and more than without trained text.

    The LoRA begins in the middle: what is before it, and FLUX's scales and gates, are
    kept for the text encoder alone. Not SD 1.5's own UNet, but its layers are.
    """
    part, make = DENOISERS[name]
    model = make()
    family = {"model_type": name, f"train_{part}": True}
    config = parse_config(family)
    if name == "flux":
        modulated, plain = (
            flux_steps(dict(model.config), SIDE, TOKENS, conditioned=conditioned)
            for conditioned in (True, False)
        )
        pieces = ("attn.", "ff", "proj_mlp")
    else:
        modulated = plain = unet_steps(dict(model.config), SIDE, TOKENS)
        pieces = ("up_blocks.1.attentions",)
    targets = [n for n in layers_of(plain) if any(p in n for p in pieces)]
    with_lora(model, targets).train()
    without = Kind(dict.fromkeys(targets, 4), BATCH, 4, checkpointing=False)
    kind = dataclasses.replace(
        without, conditioned=conditioned_layers(config, modulated)
    )
    estimate = activation_bytes(modulated, kind)
    measured = kept_bytes(model, lambda: conditioned(name, model))
    print(f"{name}: estimate {estimate:,}, autograd keeps {measured:,}")
    assert 0.8 * measured <= estimate <= 1.25 * measured
    assert estimate > 1.2 * activation_bytes(plain, without)
