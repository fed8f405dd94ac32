"""The loss of an image: elementwise losses, masks, weights of noise levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from helpers.families import open_sdxl
from helpers.runs import factors_of, tiny_config
from stiefel_lora import ConfigError
from stiefel_lora.config import parse_config, remarks
from stiefel_lora.families import Prediction
from stiefel_lora.families.flow import flow_signal_to_noise
from stiefel_lora.training.loss.denoising_loss import (
    Objective,
    image_losses,
    make_objective,
)
from stiefel_lora.training.loss.level_weights import (
    debiased_estimation,
    min_snr_gamma,
    sigma,
)
from stiefel_lora.training.trainer import train

Factors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def plain_factors(tiny_sdxl: Path, tmp_path_factory: pytest.TempPathFactory) -> Factors:
    root = tmp_path_factory.mktemp("plain")
    return factors_of(train(tiny_config(tiny_sdxl, root, steps=1)))


def prediction(seed: int = 0) -> Prediction:
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, 3, 4, 8, 8, generator=generator)
    return Prediction(first, second)


def losses(batch: dict[str, torch.Tensor], **settings: Any) -> torch.Tensor:
    return Objective(**settings).losses(prediction(), batch, None)


def test_the_default_is_the_plain_squared_error_to_the_bit() -> None:
    objective = make_objective(parse_config({}), "epsilon")
    assert not objective.needs_levels
    found = prediction()
    assert torch.equal(objective.losses(found, {}, None), image_losses(found))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"mse_strength": 0, "mae_strength": 2}, lambda p, t: 2 * (p - t).abs()),
        (
            {"mse_strength": 0, "huber_strength": 1, "huber_delta": 0.3},
            lambda p, t: functional.huber_loss(p, t, reduction="none", delta=0.3),
        ),
        (
            {"mse_strength": 0.5, "mae_strength": 0.25},
            lambda p, t: 0.5 * (p - t) ** 2 + 0.25 * (p - t).abs(),
        ),
    ],
)
def test_elementwise_losses_add_up(settings: dict[str, Any], expected: Any) -> None:
    found = prediction()
    wanted = expected(found.predicted, found.target).flatten(1).mean(1)
    # Sums of 256 numbers in another order.
    assert torch.allclose(losses({}, **settings), wanted, rtol=1e-5)


def test_the_huber_loss_is_half_the_square_and_then_a_line() -> None:
    error = torch.tensor([0.5, 3.0]).view(2, 1, 1, 1)
    objective = Objective(mse_strength=0, huber_strength=1, huber_delta=2.0)
    found = objective.losses(Prediction(error, torch.zeros_like(error)), {}, None)
    assert found.tolist() == [0.125, 4.0]


def test_masks_weigh_what_is_outside_less() -> None:
    mask = torch.zeros(3, 1, 8, 8)
    mask[:, :, :, :4] = 1
    error = (prediction().predicted - prediction().target).square()
    inside, outside = (
        error[..., :4].flatten(1).mean(1),
        error[..., 4:].flatten(1).mean(1),
    )
    found = losses({"mask": mask}, unmasked_weight=0.25)
    assert torch.allclose(found, (inside + 0.25 * outside) / 2, rtol=1e-5)
    normal = losses({"mask": mask}, unmasked_weight=0.0, normalize_masked_area=True)
    assert torch.allclose(normal, inside, rtol=1e-5)
    nothing = {"mask": torch.zeros(3, 1, 8, 8)}
    empty = losses(nothing, unmasked_weight=0.0, normalize_masked_area=True)
    assert empty.tolist() == [0, 0, 0]


def test_images_have_weights_of_their_own() -> None:
    weights = torch.tensor([1.0, 0.0, 0.5])
    assert torch.equal(losses({"loss_weight": weights}), losses({}) * weights)


def test_min_snr_has_its_own_form_for_each_prediction() -> None:
    ratio = torch.tensor([0.0, 1.0, 5.0, 20.0])
    assert min_snr_gamma(ratio, False, 5.0).tolist() == [1, 1, 1, 0.25]
    expected = [0.0, 1 / 2, 5 / 6, 5 / 21]
    assert min_snr_gamma(ratio, True, 5.0).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("weight", [min_snr_gamma, debiased_estimation])
def test_weights_mean_the_same_for_noise_and_velocity(weight: Any) -> None:
    """A model of one kind is one of the other: |e_v|^2 = |e_n|^2 (s + 1) / s."""
    ratio = torch.logspace(-2, 3, 30)
    of_noise, of_velocity = weight(ratio, False, 5.0), weight(ratio, True, 5.0)
    assert torch.allclose(of_velocity * (ratio + 1) / ratio, of_noise, rtol=1e-5)


def test_debiased_estimation_and_sigma() -> None:
    ratio = torch.tensor([4.0, 1e6])
    assert debiased_estimation(ratio, False, 5.0).tolist() == pytest.approx(
        [0.5, 1000**-0.5]
    )
    shares = torch.tensor([0.1, 0.5, 1.0])
    assert sigma(flow_signal_to_noise(shares), False, 5.0).tolist() == pytest.approx(
        shares.tolist()
    )


def test_signal_to_noise_is_that_of_diffusers(tiny_sdxl: Path) -> None:
    from diffusers import DDPMScheduler
    from diffusers.training_utils import compute_snr

    timesteps = torch.tensor([0, 10, 500, 999])
    scheduler = DDPMScheduler.from_pretrained(tiny_sdxl, subfolder="scheduler")
    found = open_sdxl(tiny_sdxl).signal_to_noise(timesteps)
    # diffusers divides roots that float32 has rounded.
    assert torch.allclose(found, compute_snr(scheduler, timesteps), rtol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"loss_weight_fn": "min_snr_gamma"},
        {"offset_noise_weight": 0.1},
        {"multires_noise_iterations": 6},
        {"perturbation_noise_weight": 0.1},
        {"ip_noise_gamma": 0.1},
        {"lora_dropout": 0.5},
        {"rank_dropout": 0.5},
        {"module_dropout": 0.5},
        {"timestep_distribution": "logit_normal"},
        {"min_noising_strength": 0.5},
        {"timestep_shift": 3.0},
        {"huber_strength": 1.0},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_each_setting_reaches_the_run(
    tiny_sdxl: Path, tmp_path: Path, plain_factors: Factors, changes: dict[str, Any]
) -> None:
    found = factors_of(train(tiny_config(tiny_sdxl, tmp_path, steps=1, **changes)))
    assert any(not torch.equal(plain_factors[name], found[name]) for name in found)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"loss_weight_fn": "sigma"},
            "loss_weight_fn: 'sigma' is not supported for model_type='sdxl'. Use "
            "constant or min_snr_gamma or debiased_estimation.",
        ),
        (
            {"dynamic_timestep_shifting": True},
            "dynamic_timestep_shifting: true has no effect for model_type='sdxl'. It "
            "is only supported for FLUX.1. Remove it.",
        ),
        (
            {"guidance_scale": 3.5},
            "guidance_scale: 3.5 has no effect for model_type='sdxl'",
        ),
        (
            {"min_noising_strength": 0.5, "max_noising_strength": 0.5},
            "min_noising_strength: must be below max_noising_strength=0.5, but got 0.5",
        ),
        (
            {"max_noising_strength": 0},
            "max_noising_strength: must be above min_noising_strength=0, but got 0",
        ),
        (
            {"mse_strength": 0},
            "mse_strength: is 0, and mae_strength and huber_strength are 0 too. Set ",
        ),
    ],
)
def test_what_has_no_effect_is_reported(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(settings)
    assert message in str(error.value)


def test_what_is_idle_beside_others_is_remarked() -> None:
    config = parse_config(
        {"noising_bias": 0.5, "huber_delta": 0.1, "loss_weight_strength": 1}
    )
    found = "\n".join(map(str, remarks(config)))
    assert "noising_bias: has no effect with timestep_distribution uniform." in found
    assert "huber_delta: has no effect with huber_strength 0." in found
    assert "loss_weight_strength: has no effect with loss_weight_fn constant." in found
