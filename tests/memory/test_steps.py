"""The steps of each architecture against the real classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel, UNet2DConditionModel
from torch import Tensor, nn

from helpers.kept import kept_bytes
from helpers.tiny_sdxl import tiny_unet
from stiefel_lora.memory.activations import Kind, activation_bytes
from stiefel_lora.memory.flux_steps import flux_steps
from stiefel_lora.memory.settings import usual_settings
from stiefel_lora.memory.steps import Step, Unit, layers_of
from stiefel_lora.memory.unet_steps import unet_steps
from stiefel_lora.memory.vae import vae_parameters
from stiefel_lora.memory.weight_bytes import parameters_of

SIDE, TOKENS, BATCH = 16, 12, 2
LEVELS = ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D")


def sd15_unet() -> UNet2DConditionModel:
    """Convolutions around the attention, and no size conditioning, as in SD 1.5."""
    return UNet2DConditionModel(
        block_out_channels=(16, 32, 32),
        layers_per_block=1,
        down_block_types=LEVELS,
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=4,
        norm_num_groups=8,
        cross_attention_dim=24,
    )


def flux_transformer() -> FluxTransformer2DModel:
    return FluxTransformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=24,
        pooled_projection_dim=20,
        guidance_embeds=True,
        axes_dims_rope=(4, 6, 6),
    )


MODELS = {"sdxl": tiny_unet, "sd15": sd15_unet, "flux": flux_transformer}


def steps_of_model(name: str, model: Any) -> list[Step | Unit]:
    walk = flux_steps if name == "flux" else unet_steps
    return walk(dict(model.config), SIDE, TOKENS)


def forward(name: str, model: Any) -> Tensor:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    config, time = model.config, torch.ones(BATCH)
    if name == "flux":
        side = SIDE // 2
        return model(
            hidden_states=draw(BATCH, side * side, config.in_channels),
            encoder_hidden_states=draw(BATCH, TOKENS, config.joint_attention_dim),
            pooled_projections=draw(BATCH, config.pooled_projection_dim),
            timestep=time,
            guidance=time,
            img_ids=torch.zeros(side * side, 3),
            txt_ids=torch.zeros(TOKENS, 3),
        ).sample
    added: dict[str, Any] = {}
    if name == "sdxl":
        width = config.projection_class_embeddings_input_dim
        ids = 6 * config.addition_time_embed_dim
        added = {
            "added_cond_kwargs": {
                "text_embeds": draw(BATCH, width - ids),
                "time_ids": torch.zeros(BATCH, 6),
            }
        }
    text = draw(BATCH, TOKENS, config.cross_attention_dim)
    latents = draw(BATCH, 4, SIDE, SIDE)
    return model(latents, time, encoder_hidden_states=text, **added).sample


@pytest.mark.parametrize("name", MODELS)
def test_layers_and_weights_are_exactly_those_of_the_model(name: str) -> None:
    with torch.device("meta"):
        model = MODELS[name]()
    steps = steps_of_model(name, model)
    real = {
        layer: (module.weight.shape[0], module.weight[0].numel())
        for layer, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }
    found = layers_of(steps)
    assert {n: (found[n].outputs, found[n].inputs) for n in found} == real
    assert parameters_of(steps) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("family", "layers", "weights"),
    [
        ("sdxl", 794, 2_567_463_684),
        ("sd15", 282, 859_520_964),
        ("flux", 504, 11_901_408_320),
    ],
)
def test_the_usual_models_have_their_real_size(
    family: str, layers: int, weights: int
) -> None:
    """Numbers of the published checkpoints' denoisers."""
    settings = usual_settings(family)
    if family == "flux":
        steps = flux_steps(settings["transformer"], side=128)
    else:
        steps = unet_steps(settings["unet"], side=128)
    assert len(layers_of(steps)) == layers
    assert parameters_of(steps) == weights


def places_of(name: str, model: Any) -> dict[str, int]:
    """Positions of one image at each layer, counted while the model computes."""
    seen: dict[str, int] = {}

    def watch(layer: str) -> Any:
        def hook(module: Any, _: Any, output: Tensor) -> None:
            width = module.weight.shape[0]
            seen[layer] = output.numel() // BATCH // width

        return hook

    for layer, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.register_forward_hook(watch(layer))
    with torch.no_grad():
        forward(name, model)
    return seen


@pytest.mark.parametrize("name", MODELS)
def test_positions_are_those_of_a_real_pass(name: str) -> None:
    model = MODELS[name]()
    counted = places_of(name, model)
    found = {
        n: layer.places for n, layer in layers_of(steps_of_model(name, model)).items()
    }
    assert found == counted


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_activations_are_near_those_that_autograd_keeps(
    name: str, checkpointing: bool
) -> None:
    """In float32, as a CPU computes. Within a fifth without checkpointing.

    With it, autograd keeps the inputs of the units; the largest unit, which is there
    for a moment only, is left out of both.
    """
    from peft import LoraConfig

    model: Any = MODELS[name]()
    model.requires_grad_(False)
    steps = steps_of_model(name, model)
    pieces = ("attn", "ff", "proj_mlp")
    targets = [n for n in layers_of(steps) if any(p in n for p in pieces)]
    model.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=targets))
    model.train()
    if checkpointing:
        model.enable_gradient_checkpointing()
    kind = Kind(dict.fromkeys(targets, 4), BATCH, 4, checkpointing)
    estimate = activation_bytes(steps, kind)
    if checkpointing:
        bare = [Unit(unit.inputs, ()) for unit in steps if isinstance(unit, Unit)]
        assert estimate >= activation_bytes(bare, kind)
    measured = kept_bytes(model, lambda: forward(name, model))
    print(f"{name}: estimate {estimate:,}, autograd keeps {measured:,}")
    if checkpointing:
        assert measured <= 1.2 * estimate
    else:
        assert 0.8 * measured <= estimate <= 1.25 * measured


def numbers(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("quant", [True, False])
def test_the_vae_has_that_many_numbers(quant: bool) -> None:
    vae = AutoencoderKL(
        block_out_channels=(8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=2,
        norm_num_groups=4,
        latent_channels=6,
        use_quant_conv=quant,
        use_post_quant_conv=quant,
    )
    assert vae_parameters(dict(vae.config)) == numbers(vae)
