"""A stock diffusers pipeline does with our files what the formula says (T22)."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from diffusers import (
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from stiefel_lora.files import (
    LoraFactors,
    LoraWeights,
    canonical_name,
    load_lora,
    save_kohya,
    save_peft,
)

COMPONENTS = ("unet", "text_encoder", "text_encoder_2")
# Ranks and alphas dealt out to the layers in turn. diffusers 0.42 does not apply the
# alphas of a kohya-style file layer by layer, so there the alpha is one for all.
CASES = [
    pytest.param(save_kohya, (3,), (3.0,), id="kohya-alpha-is-rank"),
    pytest.param(save_kohya, (2, 3, 4), (6.0,), id="kohya-unequal-ranks"),
    pytest.param(save_peft, (3,), (6.0,), id="peft-one-scale"),
    pytest.param(save_peft, (2, 3, 4), (1.0, 2.0, 6.0, 4.0), id="peft-all-unequal"),
]


def tiny_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16, 24),
        norm_num_groups=4,
        layers_per_block=2,
        down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * 2),
        up_block_types=(*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"),
        transformer_layers_per_block=[1, 2, 3],
        attention_head_dim=[1, 2, 3],
        cross_attention_dim=24,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=40,
    )


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionXLPipeline:
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=64,
        hidden_size=12,
        intermediate_size=20,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=8,
        projection_dim=16,
    )
    return StableDiffusionXLPipeline(
        vae=None,
        text_encoder=CLIPTextModel(config),
        text_encoder_2=CLIPTextModelWithProjection(config),
        tokenizer=None,
        tokenizer_2=None,
        unet=tiny_unet(),
        scheduler=EulerDiscreteScheduler(),
    )


def layers(pipeline, *, convolutions: bool) -> dict[str, torch.nn.Module]:
    """Canonical name -> every layer of the pipeline that a LoRA can adapt."""
    kinds = (torch.nn.Linear, *((torch.nn.Conv2d,) if convolutions else ()))
    return {
        canonical_name(component, path): module
        for component in COMPONENTS
        for path, module in getattr(pipeline, component).named_modules()
        if isinstance(module, kinds)
        if convolutions or component != "unet" or ".attentions." in path
        if path != "text_projection"
    }


def random_lora(
    modules: dict[str, torch.nn.Module],
    ranks: tuple[int, ...],
    alphas: tuple[float, ...],
) -> LoraWeights:
    random = torch.Generator().manual_seed(1)
    weights: LoraWeights = {}
    for index, (name, module) in enumerate(modules.items()):
        assert isinstance(module.weight, torch.Tensor)
        out, inside, *kernel = module.weight.shape
        rank, alpha = ranks[index % len(ranks)], alphas[index % len(alphas)]
        up = torch.randn(out, rank, *([1] * len(kernel)), generator=random)
        down = torch.randn(rank, inside, *kernel, generator=random)
        weights[name] = LoraFactors(0.1 * up, 0.3 * down, alpha)
    return weights


def outputs(pipeline) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(2)
    latents = torch.randn(2, 4, 8, 8, generator=random)
    states = torch.randn(2, 5, 24, generator=random)
    conditions = {
        "text_embeds": torch.randn(2, 16, generator=random),
        "time_ids": torch.tensor([[8.0, 8, 0, 0, 8, 8]] * 2),
    }
    tokens = torch.randint(0, 64, (2, 8), generator=random)
    with torch.no_grad():
        noise = pipeline.unet(latents, 300, states, added_cond_kwargs=conditions).sample
        hidden = [
            encoder(tokens, output_hidden_states=True).hidden_states[-2]
            for encoder in (pipeline.text_encoder, pipeline.text_encoder_2)
        ]
    return [noise, *hidden]


def merged(pipeline, weights: LoraWeights) -> list[torch.Tensor]:
    """Outputs with W + (alpha / r) B A put into a copy of the models by hand."""
    changed = {name: copy.deepcopy(getattr(pipeline, name)) for name in COMPONENTS}
    for component, model in changed.items():
        for path, module in model.named_modules():
            factors = weights.get(canonical_name(component, path))
            if factors is not None:
                product = factors.up.flatten(1) @ factors.down.flatten(1)
                delta = factors.alpha / factors.rank * product
                module.weight.data += delta.reshape(module.weight.shape)
    plain = {"vae": None, "tokenizer": None, "tokenizer_2": None}
    scheduler = EulerDiscreteScheduler()
    return outputs(StableDiffusionXLPipeline(**changed, **plain, scheduler=scheduler))


def loaded(pipeline, path, caplog) -> list[torch.Tensor]:
    """Outputs with the file loaded the way users do; no warning may be logged."""
    logger = logging.getLogger("diffusers")
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.WARNING):
            pipeline.load_lora_weights(path)
        return outputs(pipeline)
    finally:
        logger.removeHandler(caplog.handler)
        pipeline.unload_lora_weights()


def check(pipeline, path, weights, caplog) -> None:
    base, expected = outputs(pipeline), merged(pipeline, weights)
    for plain, want, got in zip(
        base, expected, loaded(pipeline, path, caplog), strict=True
    ):
        assert (want - plain).abs().max() > 1e-2
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    complaints = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert [r.getMessage() for r in complaints] == []


@pytest.mark.parametrize(("save", "ranks", "alphas"), CASES[::2])
def test_transformer_linears_and_text_encoders(
    pipeline, tmp_path, caplog, save, ranks, alphas
):
    weights = random_lora(layers(pipeline, convolutions=False), ranks, alphas)
    path = tmp_path / "lora.safetensors"
    save(path, weights, metadata={"ss_output_name": "x", "modelspec.title": "x"})
    check(pipeline, path, weights, caplog)
    for want, got in zip(
        merged(pipeline, weights), merged(pipeline, load_lora(path)), strict=True
    ):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("save", "ranks", "alphas"), CASES)
def test_every_layer_of_the_unet(pipeline, tmp_path, caplog, save, ranks, alphas):
    weights = random_lora(layers(pipeline, convolutions=True), ranks, alphas)
    path = tmp_path / "lora.safetensors"
    save(path, weights)
    check(pipeline, path, weights, caplog)
