from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline

from helpers.families import open_flux
from helpers.tiny_flux import build_tiny_flux
from stiefel_lora import ModelError
from stiefel_lora.config import parse_config
from stiefel_lora.data.framing import Frame
from stiefel_lora.families import SampleRequest, check_model
from stiefel_lora.families.flux import Flux
from stiefel_lora.training.loss.denoising_loss import image_losses

FRAME = Frame((200, 100), (64, 32), 16, 0, (32, 32))


@pytest.fixture(scope="module")
def family(tiny_flux: Path) -> Flux:
    return open_flux(tiny_flux)


@pytest.fixture(scope="module")
def schnell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "schnell"
    return build_tiny_flux(folder, guidance=False)


@pytest.fixture(scope="module")
def pipeline(tiny_flux: Path) -> FluxPipeline:
    return FluxPipeline.from_pretrained(tiny_flux)


def test_captions_are_encoded_as_the_stock_pipeline_does(
    family: Flux, pipeline: FluxPipeline
) -> None:
    found = family.encode_caption("a thing")
    with torch.no_grad():
        embeds, pooled, _ = pipeline.encode_prompt("a thing", None)
    assert found["embeds"].shape == (512, 32)
    # Two copies of the weights lie at other addresses, so sums may round differently.
    assert torch.allclose(found["embeds"], embeds[0], atol=1e-5)
    assert torch.allclose(found["pooled"], pooled[0], atol=1e-5)


def test_schnell_reads_256_tokens_and_a_setting_wins(
    tiny_flux: Path, schnell: Path
) -> None:
    assert len(open_flux(schnell).encode_caption("x")["embeds"]) == 256
    short = open_flux(tiny_flux, text_encoder_2_sequence_length=64)
    assert len(short.encode_caption("x")["embeds"]) == 64
    assert short.text_fingerprint != open_flux(tiny_flux).text_fingerprint


def test_images_become_shifted_and_scaled_latents(family: Flux) -> None:
    pixels = torch.rand(3, 32, 32) * 2 - 1
    found = family.encode_image(pixels, FRAME)
    assert list(found) == ["latents"]
    mean = family._vae_on_device().encode(pixels[None]).latent_dist.mean[0]
    assert torch.allclose(found["latents"], (mean - 0.1159) * 0.3611, atol=1e-6)


@pytest.mark.parametrize("guided", [True, False])
def test_loss_is_the_error_of_the_way_from_image_to_noise(
    tiny_flux: Path, schnell: Path, guided: bool
) -> None:
    family = open_flux(tiny_flux if guided else schnell)
    family.guidance_scale = 3.5
    latents, noise = torch.randn(2, 16, 4, 6), torch.randn(2, 16, 4, 6)
    share = torch.tensor([0.25, 0.9])
    pack = FluxPipeline._pack_latents

    class Perfect(torch.nn.Module):
        def forward(self, hidden_states: Any, **given: Any) -> SimpleNamespace:
            level = share.view(2, 1, 1, 1)
            expected = (1 - level) * latents + level * noise
            assert torch.allclose(hidden_states, pack(expected, 2, 16, 4, 6), atol=1e-6)
            assert torch.allclose(given["timestep"], share)
            assert given["img_ids"].tolist() == [
                [0, y, x] for y in (0, 1) for x in range(3)
            ]
            assert given["txt_ids"].shape == (7, 3)
            assert not given["txt_ids"].any()
            if guided:
                assert given["guidance"].tolist() == [3.5, 3.5]
            else:
                assert given["guidance"] is None
            wrong = torch.tensor([0.0, 0.5]).view(2, 1, 1, 1)
            return SimpleNamespace(sample=pack(noise - latents + wrong, 2, 16, 4, 6))

    batch = {
        "latents": latents,
        "embeds": torch.zeros(2, 7, 32),
        "pooled": torch.zeros(2, 32),
    }
    found = family.predict(Perfect(), batch, noise, family.timesteps_at(share))
    assert torch.allclose(image_losses(found), torch.tensor([0.0, 0.25]), atol=1e-6)


def test_places_are_shares_of_noise_and_not_rounded(family: Flux) -> None:
    places = torch.tensor([0.0, 0.12345, 0.999], dtype=torch.float64)
    assert torch.allclose(family.timesteps_at(places).double(), places * 1000)
    found = family.signal_to_noise(torch.tensor([500.0, 200.0]))
    assert found.tolist() == pytest.approx([1.0, 16.0])


def test_shift_is_that_of_the_stock_sampler(family: Flux, pipeline: Any) -> None:
    shift = family.resolution_shift(128, 128)
    assert shift == pytest.approx(math.exp(1.15))
    plain = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)
    pipeline.scheduler.set_timesteps(sigmas=plain.numpy(), mu=1.15)
    ours = shift * plain / (1 + (shift - 1) * plain)
    assert torch.allclose(pipeline.scheduler.sigmas[:-1].double(), ours)


def test_schnell_has_no_shift(schnell: Path) -> None:
    assert open_flux(schnell).resolution_shift(128, 128) == 1.0


@pytest.mark.parametrize(("kind", "guidance"), [("dev", 3.5), ("schnell", 1.0)])
def test_samples_are_those_of_the_stock_pipeline(
    tiny_flux: Path, schnell: Path, kind: str, guidance: float
) -> None:
    folder = tiny_flux if kind == "dev" else schnell
    family, pipeline = open_flux(folder), FluxPipeline.from_pretrained(folder)
    request = SampleRequest(
        family.encode_caption("a thing"), None, 3, 2, guidance, 64, 32
    )
    theirs = pipeline(
        "a thing",
        num_inference_steps=2,
        guidance_scale=guidance,
        width=64,
        height=32,
        generator=torch.Generator("cpu").manual_seed(3),
        max_sequence_length=512 if kind == "dev" else 256,
    ).images[0]
    # Two copies of the weights lie at other addresses, so sums may round differently
    # and a value on the edge of two gray levels may fall to either side.
    gap = np.abs(np.asarray(family.sample(request), int) - np.asarray(theirs, int))
    assert gap.max() <= 1
    assert (gap > 0).mean() < 0.01


def test_skeleton_has_the_layers_and_no_numbers(family: Flux) -> None:
    skeleton = family.skeleton()
    assert all(parameter.is_meta for parameter in skeleton.parameters())
    names = [name for name, _ in skeleton.named_modules()]
    assert names == [name for name, _ in family.denoiser.named_modules()]


def test_a_model_with_other_inputs_is_refused(tiny_flux: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_flux, tmp_path / "model"))
    config = parse_config({"model_type": "flux", "base_model_name": str(folder)})
    assert check_model(config) is not None
    index = folder / "model_index.json"
    changed = json.loads(index.read_text()) | {"_class_name": "FluxFillPipeline"}
    index.write_text(json.dumps(changed))
    with pytest.raises(ModelError, match="a model of another architecture"):
        check_model(config)


def test_another_scheduler_is_refused(tiny_flux: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_flux, tmp_path / "model"))
    settings = folder / "scheduler" / "scheduler_config.json"
    settings.write_text('{"_class_name": "DDPMScheduler"}')
    with pytest.raises(ModelError, match="has the scheduler 'DDPMScheduler'"):
        open_flux(folder)
