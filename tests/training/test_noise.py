"""Noise and the noise levels that are drawn."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from helpers.families import open_sdxl
from stiefel_lora.config import parse_config
from stiefel_lora.families.flow import dynamic_shift
from stiefel_lora.training.loss.noise import (
    NoiseSettings,
    NoiseSource,
    make_noise_source,
)
from stiefel_lora.training.loss.timesteps import DISTRIBUTIONS, PlaceDraw, shifted

MANY = torch.zeros(20_000, 4, 2, 2)


def places(draw: PlaceDraw, seed: int = 0) -> torch.Tensor:
    return draw.draw(MANY, torch.Generator().manual_seed(seed))


def share_below(found: torch.Tensor, level: float) -> float:
    return float((found < level).double().mean())


def test_defaults_are_whole_steps_drawn_as_ever(tiny_sdxl: Path) -> None:
    """The numbers of earlier versions: torch.randn, then torch.randint."""
    source = make_noise_source(parse_config({"seed": 7}), open_sdxl(tiny_sdxl))
    generator = torch.Generator().manual_seed(7)
    for size in (2, 500):
        latents = torch.zeros(size, 4, 3, 3)
        noise, timesteps = source.draw(latents)
        assert torch.equal(noise, torch.randn(latents.shape, generator=generator))
        expected = torch.randint(1000, (size,), generator=generator)
        assert timesteps.dtype == torch.int64
        assert torch.equal(timesteps, expected)


def test_every_level_of_every_schedule_can_be_drawn() -> None:
    for levels in (1, 7, 1000):
        exact = (torch.arange(levels).double() + 0.5) / levels
        assert torch.equal((exact * levels).long(), torch.arange(levels))


def test_noise_continues_from_its_state() -> None:
    latents = torch.zeros(2, 4, 3, 3)
    draw = PlaceDraw(1000, "sigmoid", weight=3.0)
    settings = NoiseSettings(offset_weight=0.1)
    source = NoiseSource(5, draw, lambda u: u, settings)
    source.draw(latents)
    state = source.state()
    first = source.draw(latents)
    other = NoiseSource(6, draw, lambda u: u, settings)
    other.restore(state)
    second = other.draw(latents)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_offset_noise_is_one_number_a_channel() -> None:
    latents = torch.zeros(400, 4, 8, 8)
    plain = NoiseSource(1, PlaceDraw(1000), lambda u: u)
    settings = NoiseSettings(offset_weight=0.5)
    offset = NoiseSource(1, PlaceDraw(1000), lambda u: u, settings)
    added = offset.draw(latents)[0] - plain.draw(latents)[0]
    # One rounding of a sum of size 4.
    assert float(added.std((2, 3)).max()) < 1e-6
    # 1,600 draws: three standard errors are 0.027.
    assert float(added[:, :, 0, 0].std()) == pytest.approx(0.5, abs=0.03)


# Quantiles of the formulas in timesteps.py; 20,000 draws are within 0.011 (3 sigma).
@pytest.mark.parametrize(
    ("draw", "level", "expected"),
    [
        (PlaceDraw(1000), 0.3, 0.3),
        (PlaceDraw(1000, "logit_normal"), 0.5, 0.5),
        # P(x < -1) of a standard normal; a place of 0.2689 is sigmoid(-1).
        (PlaceDraw(1000, "logit_normal"), 1 / (1 + math.e), 0.1587),
        (PlaceDraw(1000, "logit_normal", bias=1.0), 0.5, 0.1587),
        (PlaceDraw(1000, "logit_normal", weight=1.0), 1 / (1 + math.e**2), 0.1587),
        (PlaceDraw(1000, "heavy_tail"), 0.3, 0.3),
        # v = 1/2: u = 1/2 - w (1/2 - 1/2).
        (PlaceDraw(1000, "heavy_tail", weight=1.0), 0.5, 0.5),
        # tan(pi v / 2) + 1 = 4 at u = 3/4.
        (PlaceDraw(1000, "cos_map"), 0.75, 2 / math.pi * math.atan(3)),
        (PlaceDraw(1000, "sigmoid"), 0.3, 0.3),
        # Integral of sigmoid(w x) over [-1/2, 0] of that over [-1/2, 1/2] (= 1/2).
        (
            PlaceDraw(1000, "sigmoid", weight=10.0),
            0.5,
            2 * (math.log(2) - math.log1p(math.exp(-5))) / 10,
        ),
        (PlaceDraw(1000, "inverted_parabola"), 0.3, 0.3),
        # 2 - 8 x^2 over [-1/2, -1/4] of that over [-1/2, 1/2]: 5/32.
        (PlaceDraw(1000, "inverted_parabola", weight=8.0), 0.25, 5 / 32),
        (PlaceDraw(1000, low=0.5), 0.75, 0.5),
        (PlaceDraw(1000, high=0.5), 0.25, 0.5),
        # s u / (1 + (s - 1) u) = 3/4 at u = 1/2 and s = 3.
        (PlaceDraw(1000, shift=lambda h, w: 3.0), 0.75, 0.5),
    ],
)
def test_distributions_have_their_quantiles(
    draw: PlaceDraw, level: float, expected: float
) -> None:
    assert share_below(places(draw), level) == pytest.approx(expected, abs=0.011)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize(("weight", "bias"), [(0, 0), (100, 100), (-100, -100)])
def test_places_stay_inside_whatever_is_asked(
    name: str, weight: float, bias: float
) -> None:
    for shift in (1.0, 100.0, 0.01):
        draw = PlaceDraw(
            10, name, weight, bias, low=0.2, high=1.0, shift=lambda h, w, s=shift: s
        )
        found = places(draw)
        assert bool(found.isfinite().all())
        assert float(found.max()) < 1
        lowest = shifted(torch.tensor(0.2, dtype=torch.float64), shift)
        assert float(found.min()) >= float(lowest)


def test_range_leaves_out_timesteps(tiny_sdxl: Path) -> None:
    config = parse_config({"min_noising_strength": 0.2, "max_noising_strength": 0.4})
    _, timesteps = make_noise_source(config, open_sdxl(tiny_sdxl)).draw(MANY)
    assert (int(timesteps.min()), int(timesteps.max())) == (200, 399)


def test_dynamic_shift_is_that_of_the_scheduler() -> None:
    """The stock pipeline's own function, at the sizes it is made for and between."""
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    sigmas = torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    for tokens in (16, 256, 1024, 4096):
        mu = calculate_shift(tokens)
        shift = dynamic_shift(tokens, scheduler.config)
        assert shift == pytest.approx(math.exp(mu), rel=1e-12)
        expected: Any = scheduler.time_shift(mu, 1.0, sigmas)
        assert torch.allclose(shifted(sigmas, shift), expected, rtol=1e-12)


def test_dynamic_shift_follows_the_size_of_the_latents() -> None:
    family: Any = SimpleNamespace(
        timesteps=1000,
        timesteps_at=lambda u: u * 1000,
        resolution_shift=lambda height, width: float(height),
    )
    config = parse_config(
        {
            "model_type": "flux",
            "seed": 0,
            "dynamic_timestep_shifting": True,
            "timestep_distribution": "uniform",
        }
    )
    source = make_noise_source(config, family)
    _, small = source.draw(torch.zeros(5000, 4, 1, 1))
    _, large = source.draw(torch.zeros(5000, 4, 3, 1))
    # Medians of u / 1 and of 3 u / (1 + 2 u); 5,000 draws are within 0.021 (3 sigma).
    assert share_below(small, 500) == pytest.approx(0.5, abs=0.022)
    assert share_below(large, 750) == pytest.approx(0.5, abs=0.022)
