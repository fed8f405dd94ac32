"""Multires, adaptive offset and perturbation noise, by formulas written again here."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline
from torch import nn

from helpers.families import open_flux, open_sdxl
from helpers.fixtures import StopAfter
from helpers.runs import assert_same_factors, tiny_config, tiny_flux_config
from stiefel_lora.config import parse_config, remarks
from stiefel_lora.config.relevance import settings_without_effect
from stiefel_lora.training.loss.noise import NoiseSettings, NoiseSource
from stiefel_lora.training.loss.timesteps import PlaceDraw
from stiefel_lora.training.trainer import train

LATENTS = torch.zeros(3, 4, 24, 40)


def source_of(seed: int = 1, **settings: Any) -> NoiseSource:
    return NoiseSource(seed, PlaceDraw(1000), lambda u: u, NoiseSettings(**settings))


def begun(latents: torch.Tensor, seed: int = 1) -> tuple[torch.Generator, torch.Tensor]:
    """Generator after the draws that every run makes, and the plain noise."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(latents.shape, generator=generator)
    torch.randint(1000, (len(latents),), generator=generator)
    return generator, noise


@pytest.mark.parametrize(("iterations", "discount"), [(1, 0.3), (4, 0.3), (64, 0.8)])
def test_multires_noise_is_a_normalized_sum_of_resolutions(
    iterations: int, discount: float
) -> None:
    found, _ = source_of(
        multires_iterations=iterations, multires_discount=discount
    ).draw(LATENTS)
    generator, expected = begun(LATENTS)
    enlarge = nn.Upsample(size=(24, 40), mode="bilinear")
    for k in range(iterations):
        ratio = 2 + 2 * torch.rand((), generator=generator).item()
        height, width = (max(1, int(side / ratio**k)) for side in (24, 40))
        coarse = torch.randn(3, 4, height, width, generator=generator)
        expected = expected + enlarge(coarse) * discount**k
        if height == 1 or width == 1:
            break
    assert torch.allclose(found, expected / expected.std(), atol=1e-6)
    assert float(found.std()) == pytest.approx(1, abs=1e-5)
    # A second resolution is common to neighboring latents.
    if iterations > 1:
        products = found[..., 1:] * found[..., :-1]
        assert float(products.mean()) > 0.02


def test_the_offset_depends_on_the_mean_of_each_channel() -> None:
    means = torch.tensor([-2.0, 0.0, 0.5, 4.0]).view(1, 4, 1, 1)
    latents = means.expand(3, 4, 8, 8)
    for scale, expected in (
        (0.1, [0.25, 0.05, 0.1, 0.45]),
        (-0.05, [0, 0.05, 0.025, 0]),
    ):
        source = source_of(offset_weight=0.05, adaptive_scale=scale)
        found, _ = source.draw(latents)
        generator, noise = begun(latents)
        level = torch.randn(3, 4, 1, 1, generator=generator)
        weights = torch.tensor(expected).view(1, 4, 1, 1)
        assert torch.allclose(found, noise + weights * level, atol=1e-6)


def test_a_random_strength_is_one_number_a_batch() -> None:
    source = source_of(offset_weight=0.5, offset_random_strength=True)
    found, _ = source.draw(LATENTS)
    generator, noise = begun(LATENTS)
    strength = 0.5 * torch.rand((), generator=generator)
    level = torch.randn(3, 4, 1, 1, generator=generator)
    assert torch.allclose(found, noise + strength * level, atol=1e-6)
    # A uniform number from 0 to 0.5: 400 draws are within 0.022 (3 sigma).
    latents = torch.zeros(1, 4, 2, 2)
    inputs = source_of(input_gamma=0.5, input_random_strength=True)
    norms = []
    for _ in range(400):
        noise = torch.zeros(1, 4, 32, 32)
        norms.append(float((inputs.perturbed(noise) - noise).std()))
    assert sum(norms) / 400 == pytest.approx(0.25, abs=0.022)
    assert max(norms) < 0.55
    assert source_of().perturbed(latents) is None


def test_perturbation_noise_is_part_of_the_noise() -> None:
    found, _ = source_of(perturbation_weight=0.5).draw(LATENTS)
    generator, noise = begun(LATENTS)
    second = torch.randn(LATENTS.shape, generator=generator)
    assert torch.allclose(found, noise + 0.5 * second, atol=1e-6)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_input_perturbation_changes_the_input_and_not_the_target(
    tiny_sdxl: Path, kind: str
) -> None:
    family = open_sdxl(tiny_sdxl)
    family.prediction_type = kind
    latents, noise, other = _normal(3, 2, 4, 4, 4)
    steps = torch.tensor([10, 900])
    share = family._schedule.alphas_cumprod[steps].view(2, 1, 1, 1)
    expected = share.sqrt() * latents + (1 - share).sqrt() * (noise + 0.1 * other)

    def denoise(noisy: torch.Tensor, *rest: Any, **more: Any) -> SimpleNamespace:
        assert torch.allclose(noisy, expected, atol=1e-6)
        return SimpleNamespace(sample=noisy)

    batch = {
        "latents": latents,
        "embeds": torch.zeros(2, 77, 8),
        "pooled": torch.zeros(2, 8),
        "time_ids": torch.zeros(2, 6, dtype=torch.int64),
    }
    denoiser: Any = denoise
    found = family.predict(denoiser, batch, noise, steps, noise + 0.1 * other)
    velocity = share.sqrt() * noise - (1 - share).sqrt() * latents
    target = noise if kind == "epsilon" else velocity
    assert torch.allclose(found.target, target, atol=1e-6)


def test_so_does_that_of_flux(tiny_flux: Path) -> None:
    family = open_flux(tiny_flux)
    latents, noise, other = _normal(3, 2, 16, 4, 4)
    share = torch.tensor([0.2, 0.9])
    level = share.view(2, 1, 1, 1)
    expected = (1 - level) * latents + level * (noise + 0.1 * other)
    pack = FluxPipeline._pack_latents

    def denoise(hidden_states: torch.Tensor, **more: Any) -> SimpleNamespace:
        assert torch.allclose(hidden_states, pack(expected, 2, 16, 4, 4), atol=1e-6)
        return SimpleNamespace(sample=hidden_states)

    batch = {
        "latents": latents,
        "embeds": torch.zeros(2, 7, 32),
        "pooled": torch.zeros(2, 32),
    }
    denoiser: Any = denoise
    found = family.predict(
        denoiser, batch, noise, family.timesteps_at(share), noise + 0.1 * other
    )
    assert torch.equal(found.target, noise - latents)


def _normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_a_run_with_all_of_them_resumes_to_the_bit(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    stop_after: StopAfter,
    family: str,
) -> None:
    model = request.getfixturevalue(f"tiny_{family}")
    build = tiny_config if family == "sdxl" else tiny_flux_config
    changes: dict[str, Any] = {
        "offset_noise_weight": 0.1,
        "offset_noise_random_strength": True,
        "adaptive_noise_scale": 0.05,
        "multires_noise_iterations": 6,
        "perturbation_noise_weight": 0.1,
        "ip_noise_gamma": 0.1,
        "ip_noise_gamma_random_strength": True,
        "steps": 3,
        "validate_every": 0,
    }
    whole = train(build(model, tmp_path, run_name="whole", **changes))
    config = build(model, tmp_path, **changes)
    with stop_after(1, "stop"):
        stopped = train(config)
    assert_same_factors(whole, train(config, resume=stopped.run_dir))


def test_settings_without_their_weight_are_remarked_and_hidden() -> None:
    settings = {
        "offset_noise_random_strength": True,
        "adaptive_noise_scale": 0.01,
        "multires_noise_discount": 0.1,
        "ip_noise_gamma_random_strength": True,
    }
    found = {remark.key: str(remark) for remark in remarks(parse_config(settings))}
    assert found["multires_noise_discount"] == (
        "multires_noise_discount: has no effect with multires_noise_iterations 0."
    )
    assert settings.keys() <= found.keys()
    used = {
        **settings,
        "offset_noise_weight": 0.1,
        "multires_noise_iterations": 6,
        "ip_noise_gamma": 0.1,
    }
    assert not settings.keys() & {remark.key for remark in remarks(parse_config(used))}
    for data, hidden in ((settings, set(settings)), (used, set())):
        config = parse_config(data)
        idle = settings_without_effect(lambda key, c=config: getattr(c, key))
        assert idle & settings.keys() == hidden
