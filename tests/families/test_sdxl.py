from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from helpers.families import open_sdxl
from stiefel_lora import ModelError
from stiefel_lora.data.framing import Frame
from stiefel_lora.families import SampleRequest
from stiefel_lora.families.latents import decode_latents, encode_latents
from stiefel_lora.families.sdxl import Sdxl
from stiefel_lora.training.loss.denoising_loss import image_losses

FRAME = Frame((200, 100), (64, 32), 16, 0, (32, 32))


@pytest.fixture(scope="module")
def family(tiny_sdxl: Path) -> Sdxl:
    return open_sdxl(tiny_sdxl)


@pytest.fixture(scope="module")
def pipeline(tiny_sdxl: Path) -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline.from_pretrained(tiny_sdxl)


def test_captions_are_encoded_as_the_stock_pipeline_does(
    family: Sdxl, pipeline: StableDiffusionXLPipeline
) -> None:
    found = family.encode_caption("a thing")
    embeds, _, pooled, _ = pipeline.encode_prompt(
        "a thing", do_classifier_free_guidance=False
    )
    assert torch.equal(found["embeds"], embeds[0])
    assert torch.equal(found["pooled"], pooled[0])


def test_images_become_scaled_latents_and_time_ids(family: Sdxl) -> None:
    pixels = torch.rand(3, 32, 32) * 2 - 1
    found = family.encode_image(pixels, FRAME)
    vae = family._vae_on_device()
    mean = vae.encode(pixels[None]).latent_dist.mean[0]
    assert torch.allclose(found["latents"], mean * 0.13025, atol=1e-6)
    assert found["time_ids"].tolist() == [100, 200, 0, 16, 32, 32]


def test_means_and_deviations_of_latents_are_applied(family: Sdxl) -> None:
    vae = family._vae_on_device()
    pixels = torch.rand(1, 3, 32, 32) * 2 - 1
    plain = encode_latents(vae, pixels) / vae.config.scaling_factor
    vae.register_to_config(latents_mean=[0.5] * 4, latents_std=[2.0] * 4)
    try:
        latents = encode_latents(vae, pixels)
        assert torch.allclose(latents, (plain - 0.5) / 2 * 0.13025, atol=1e-6)
        back = decode_latents(vae, latents)
        assert torch.allclose(back, vae.decode(plain).sample, atol=1e-4)
    finally:
        vae.register_to_config(latents_mean=None, latents_std=None)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_loss_is_the_error_of_what_the_model_predicts(
    family: Sdxl, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(family, "prediction_type", kind)
    latents, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    steps = torch.tensor([10, 900])
    alphas = family._schedule.alphas_cumprod[steps].view(2, 1, 1, 1)
    target = noise
    if kind == "v_prediction":
        target = alphas.sqrt() * noise - (1 - alphas).sqrt() * latents

    class Perfect(torch.nn.Module):
        def forward(self, noisy, timesteps, encoder_hidden_states, added_cond_kwargs):
            expected = alphas.sqrt() * latents + (1 - alphas).sqrt() * noise
            assert torch.allclose(noisy, expected, atol=1e-6)
            assert torch.equal(timesteps, steps)
            wrong = torch.tensor([0.0, 0.5]).view(2, 1, 1, 1)
            return SimpleNamespace(sample=target + wrong)

    batch = {
        "latents": latents,
        "embeds": torch.zeros(2, 77, 40),
        "pooled": torch.zeros(2, 24),
        "time_ids": torch.zeros(2, 6, dtype=torch.int64),
    }
    found = family.predict(Perfect(), batch, noise, steps)
    losses = image_losses(found)
    assert torch.allclose(losses, torch.tensor([0.0, 0.25]), atol=1e-6)


@pytest.mark.parametrize(
    ("negative", "guidance"), [(None, 5.0), ("dull", 3.0), (None, 1.0)]
)
def test_samples_are_those_of_the_stock_pipeline(
    family: Sdxl,
    pipeline: StableDiffusionXLPipeline,
    negative: str | None,
    guidance: float,
) -> None:
    request = SampleRequest(
        positive=family.encode_caption("a thing"),
        negative=family.encode_caption(negative) if negative else None,
        seed=3,
        steps=2,
        guidance=guidance,
        width=32,
        height=32,
    )
    ours = family.sample(request)
    theirs = pipeline(
        "a thing",
        negative_prompt=negative,
        num_inference_steps=2,
        guidance_scale=guidance,
        width=32,
        height=32,
        generator=torch.Generator("cpu").manual_seed(3),
    ).images[0]
    # Two copies of the weights lie at other addresses, so sums may round differently
    # and a value on the edge of two gray levels may fall to either side.
    gap = np.abs(np.asarray(ours, int) - np.asarray(theirs, int))
    assert gap.max() <= 1
    assert (gap > 0).mean() < 0.01


def test_skeleton_has_the_layers_and_no_numbers(family: Sdxl) -> None:
    skeleton = family.skeleton()
    assert all(parameter.is_meta for parameter in skeleton.parameters())
    names = [name for name, _ in skeleton.named_modules()]
    assert names == [name for name, _ in family.denoiser.named_modules()]


def test_base_is_frozen_and_in_its_dtype(tiny_sdxl: Path) -> None:
    unet = open_sdxl(tiny_sdxl, torch.bfloat16).denoiser
    assert {parameter.dtype for parameter in unet.parameters()} == {torch.bfloat16}
    assert not any(parameter.requires_grad for parameter in unet.parameters())


def test_damaged_weights_name_the_part(tiny_sdxl: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_sdxl, tmp_path / "model"))
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="The unet of the base model"):
        _ = open_sdxl(folder).denoiser
