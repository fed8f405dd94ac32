from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from stiefel_lora.families import Prediction
from stiefel_lora.training.validation import Validation


class Images:
    """Three distinguishable latents, the middle one of another shape."""

    sizes = ((16, 16), (8, 32), (16, 16))
    encodes_text = True

    def __len__(self) -> int:
        return 3

    def batch(self, visits: Any) -> dict[str, torch.Tensor]:
        latents = [
            torch.full((4, h // 8, w // 8), float(visit.image))
            for visit in visits
            for w, h in [self.sizes[visit.image]]
        ]
        return {"latents": torch.stack(latents)}


def family_with(predict: Any) -> Any:
    return SimpleNamespace(
        device=torch.device("cpu"),
        trained_text=[],
        timesteps=1000,
        timesteps_at=lambda places: (places * 1000).long(),
        predict=predict,
    )


def measure(
    batch_size: int, count: int = 4
) -> tuple[float, list[int], list[list[float]]]:
    timesteps: list[int] = []
    noises: list[list[float]] = []

    def predict(denoiser: nn.Module, batch: Any, noise: Any, steps: Any) -> Prediction:
        assert not denoiser.training
        timesteps.extend(steps.tolist())
        noises.extend(noise.flatten(1).tolist())
        return Prediction(noise, -batch["latents"])

    family = family_with(predict)
    images: Any = Images()
    model = nn.Linear(1, 1).train()
    torch.manual_seed(batch_size)
    value = Validation(images, family, count, batch_size).loss(model)
    assert model.training
    return value, timesteps, noises


@pytest.mark.parametrize("batch_size", [2, 5, 100])
def test_every_evaluation_meets_the_same_noise(batch_size: int) -> None:
    value, timesteps, noises = measure(1)
    again, same_timesteps, same_noises = measure(batch_size)
    assert again == pytest.approx(value, rel=1e-6)
    assert timesteps == same_timesteps
    assert noises == same_noises


def test_timesteps_are_one_in_each_part_of_the_range() -> None:
    _, timesteps, noises = measure(3, count=4)
    parts = [timestep // 250 for timestep in timesteps]
    assert parts == [0, 1, 2, 3] * 3
    assert len(set(timesteps)) > 4
    assert len({sum(noise) for noise in noises}) == 12


def test_measuring_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    torch.manual_seed(1)
    family = family_with(lambda m, b, n, t: Prediction(n, b["latents"]))
    images: Any = Images()
    Validation(images, family, 2, 2).loss(nn.Identity())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("count", "edges"),
    [
        (1, []),
        (2, [0, 500, 1000]),
        (4, [0, 250, 500, 750, 1000]),
        # Of 11 timesteps, some ranges have one and others two.
        (11, [0, 90, 181, 363, 454, 545, 727, 818, 1000]),
        (16, [0, 125, 250, 375, 500, 625, 750, 875, 1000]),
    ],
)
def test_ranges_of_timesteps_add_up_to_the_loss(count: int, edges: list[int]) -> None:
    """With the error sqrt(t), the loss at timestep t is t."""
    seen: list[int] = []

    def predict(denoiser: nn.Module, batch: Any, noise: Any, steps: Any) -> Prediction:
        seen.extend(steps.tolist())
        error = steps.double().sqrt().view(-1, 1, 1, 1).expand_as(noise)
        return Prediction(error, torch.zeros_like(error))

    images: Any = Images()
    validation = Validation(images, family_with(predict), count, 3)
    loss = validation.loss(nn.Identity())
    assert loss == pytest.approx(sum(seen) / len(seen))
    assert loss == float(validation.losses(nn.Identity()).mean())
    assert len(seen) == 2 * 3 * count
    ranges = [*itertools.pairwise(edges)]
    found = validation.by_timesteps
    names = [f"validation/timesteps_{low:03d}-{high - 1:03d}" for low, high in ranges]
    assert list(found) == names
    weights = []
    for (low, high), value in zip(ranges, found.values(), strict=True):
        inside = [step for step in seen[: 3 * count] if low <= step < high]
        assert value == pytest.approx(sum(inside) / len(inside))
        weights.append(len(inside) / (3 * count))
    if ranges:
        products = [w * v for w, v in zip(weights, found.values(), strict=True)]
        assert sum(products) == pytest.approx(loss)
